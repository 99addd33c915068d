"""Which packets of an H.264 or H.265 stream need no decoding when only some of its frames are used.

Two kinds of frames can be left out without a trace in the others: those that no other frame refers to
(B-frames, the upper layer of "SVC"), and all up to a key frame, if none of them is used. Both are read from
the headers of the NAL units: ITU-T H.264, 7.4.1 (nal_ref_idc, nal_unit_type) and H.265, 7.4.2.2.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, TypeAlias

from av.video.codeccontext import VideoCodecContext

from maskwatch.live.capture.frame import Wanted

PacketKind: TypeAlias = Literal["key", "disposable", "reference", "parameters"]
"""Refers to no earlier packet, nor does a later one to a packet before it; is referred to by none; may be
referred to; holds parameters that later packets may need."""

_START_CODE = b"\0\0\1"
_MOST_HELD = 500  # packets, so that memory stays bounded


class PacketFilter:
    """Holds back packets until it is known whether they need to be decoded.

    Args:
        codec: of the stream; "h264" or "hevc".
    """

    CODECS = frozenset(["h264", "hevc"])

    def __init__(self, codec: VideoCodecContext) -> None:
        self._codec = codec
        self._length_bytes = _length_bytes(codec)
        self._held: list[Any] = []
        self._key_s: float | None = None
        self._interval_s: float | None = None

    def pick(self, packet: Any, now_s: float, wanted: Wanted) -> list[Any]:
        """The packets to decode now: none, or this one after those held back that it may refer to.

        Args:
            packet: of PyAV.
            now_s: when it arrived, in seconds of any clock that does not go back.
        """
        kind = packet_kind(bytes(packet), self._codec.name, self._length_bytes)
        if kind == "key":
            self._held.clear()
            self._interval_s = None if self._key_s is None else now_s - self._key_s
            self._key_s = now_s
        if kind == "disposable" and not wanted():
            return []
        if kind != "parameters" and self._can_wait(now_s, wanted):
            self._held.append(packet)
            return []
        picked, self._held = [*self._held, packet], []
        return picked

    def _can_wait(self, now_s: float, wanted: Wanted) -> bool:
        """Whether the next key frame probably arrives before a frame is wanted."""
        # A decoder that sorts frames returns a key frame only after some more.
        if self._key_s is None or self._interval_s is None or self._codec.has_b_frames:
            return False
        key_in_s = self._key_s + self._interval_s - now_s
        return key_in_s > 0 and len(self._held) < _MOST_HELD and not wanted(key_in_s)


def packet_kind(data: bytes, codec: str, length_bytes: int = 0) -> PacketKind:
    """What other packets have to do with this one.

    Args:
        data: of the packet.
        codec: "h264" or "hevc".
        length_bytes: of the length before each NAL unit; 0 for start codes between them.
    """
    slices: list[PacketKind] = []
    parameters = False
    for unit in nal_units(data, length_bytes):
        if codec == "h264":
            unit_type, starts = unit[0] & 31, unit[1:2] >= b"\x80"  # first_mb_in_slice is 0
            if 1 <= unit_type <= 5:
                kind: PacketKind = "reference" if unit[0] & 0x60 else "disposable"
                # Where none before it starts the picture, this is the rest of one that a sender split up.
                slices.append("key" if unit_type == 5 and (slices or starts) else kind)
            parameters |= unit_type in (7, 8, 13, 15)
        else:
            unit_type, starts = unit[0] >> 1 & 63, unit[2:3] >= b"\x80"  # first_slice_segment_in_pic_flag
            if unit_type < 32:
                # What no frame of its layer refers to may still be referred to from a higher one.
                slices.append("key" if unit_type in (19, 20) and (slices or starts) else "reference")
            parameters |= unit_type in (32, 33, 34)
    whole = slices[0] if slices and len(set(slices)) == 1 else "reference"
    return "parameters" if parameters and whole != "key" else whole


def nal_units(data: bytes, length_bytes: int = 0) -> Iterator[bytes]:
    """The first three bytes of each NAL unit: its header, and the beginning of what follows."""
    at = 0
    while length_bytes and at + length_bytes < len(data):
        at += length_bytes
        yield data[at : at + 3]
        at += int.from_bytes(data[at - length_bytes : at])
    while not length_bytes and (at := data.find(_START_CODE, at)) >= 0:
        at += len(_START_CODE)
        if at < len(data):
            yield data[at : at + 3]


def _length_bytes(codec: VideoCodecContext) -> int:
    """By the parameters of the stream, which begin with a version number where units have lengths."""
    extradata, at = codec.extradata or b"", 4 if codec.name == "h264" else 21
    return (extradata[at] & 3) + 1 if len(extradata) > at and extradata[0] == 1 else 0
