"""Streams, files and pipes, read with PyAV.

PyAV and not OpenCV: it has time limits for opening and for each read, so that a dead server cannot hang a
thread; it reports why something failed, and timestamps; and it returns the frame as the decoder left it, so
that only frames that are taken are converted to RGB.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
from av.codec.context import Flags as CodecFlags
from av.codec.hwaccel import HWAccel
from av.error import FFmpegError
from av.video.frame import VideoFrame

from maskwatch._version import __version__
from maskwatch.live.capture.frame import RawFrame, Reader, ReadError, Wanted
from maskwatch.live.capture.hwaccel import hwaccel_of
from maskwatch.live.capture.packets import PacketFilter
from maskwatch.live.capture.pipe import Pipe
from maskwatch.live.capture.settings import CaptureSettings
from maskwatch.live.capture.source_spec import SourceSpec
from maskwatch.media.video_decoder import (
    MediaClock,
    VideoDecoder,
    demux,
    header_duration_s,
    seconds,
    video_stream,
)

HTTP_OPTIONS = {"user_agent": f"maskwatch/{__version__}"}
_OPTIONS: dict[str, dict[str, str]] = {
    # No buffering; max_delay: microseconds within which packets over UDP are put back in order.
    "rtsp": {"fflags": "nobuffer", "max_delay": "200000", "allowed_media_types": "video"},
    # HLS from its newest segment, not from the third before it.
    "http": {"fflags": "nobuffer", "live_start_index": "-1", **HTTP_OPTIONS},
    "video_url": HTTP_OPTIONS,
}
_ANALYSED = {"analyzeduration": "1000000"}  # microseconds of a stream that may be read to probe it
_LIVE_KINDS = frozenset(["rtsp", "http", "pipe"])


class AvReader(Reader):
    """An open stream, file or pipe.

    Args:
        pipe: standard input, where that is the source.

    Raises:
        ReadError: it cannot be opened.
    """

    def __init__(self, spec: SourceSpec, settings: CaptureSettings, pipe: Pipe | None = None) -> None:
        self._spec = spec
        self._stall_s = settings.stall_s
        self._container = self._open(settings, pipe)
        stream = video_stream(self._container)
        if stream is None:
            self._container.close()
            raise ReadError("there is no video in it")
        self._index = stream.index
        self._codec = stream.codec_context
        live = spec.kind in _LIVE_KINDS
        # Decoding frames in several threads would hold back as many frames as there are threads.
        self._codec.thread_type = "SLICE"
        self._file: tuple[MediaClock, VideoDecoder] | None = None
        if not live:
            path = Path(spec.address) if spec.kind == "file" else None
            self._file = MediaClock(self._container, stream), VideoDecoder(path, stream)
            self.duration_s = header_duration_s(self._container)
        if live and self._container.format.name != "hls":
            self._codec.flags |= CodecFlags.low_delay
        # A stream with a length, and HLS, come as fast as the network lets them.
        has_length = bool(self._container.duration) and spec.kind != "rtsp"
        self.finite = has_length or spec.kind in ("file", "pipe")
        self.bursts = spec.kind == "http" and (has_length or self._container.format.name == "hls")
        filtered = live and not self.bursts and self._codec.name in PacketFilter.CODECS
        self._filter = PacketFilter(self._codec) if filtered else None

    def _open(self, settings: CaptureSettings, pipe: Pipe | None) -> av.container.InputContainer:
        target: Any = self._spec.address if pipe is None else pipe
        if self._spec.kind == "file":
            # Absolute, since FFmpeg would take the beginning of 08:15:04.mp4 for a protocol.
            target = str(Path(target).absolute())
        options = dict(_OPTIONS.get(self._spec.kind, {}))
        if self._spec.kind in _LIVE_KINDS:
            options |= _ANALYSED
        if self._spec.kind == "rtsp":
            options["rtsp_transport"] = settings.rtsp_transport
        try:
            hwaccel = hwaccel_of(settings.hwaccel)
            return open_media(self._spec, target, options, self._stall_s, hwaccel=hwaccel)
        except ReadError:
            if pipe is not None and pipe.empty:
                raise ReadError("no data arrived") from None
            raise

    def frames(self, wanted: Wanted) -> Iterator[RawFrame | None]:
        last = time.monotonic()
        for packet in packets(self._container, self._spec, self._stall_s):
            picked = self._pick(packet, wanted) if packet.stream_index == self._index else None
            if picked == []:
                last = time.monotonic()
                yield None
                continue
            for earlier in picked[:-1] if picked else ():
                self._decode(earlier)  # only for the frames that refer to it
            for frame in self._decode(packet) if picked else ():
                pts_s = self._file[0].time_s(frame) if self._file else seconds(frame.pts, frame.time_base)
                yield RawFrame.of_av(frame, pts_s, is_key=self._filter is not None and frame.key_frame)
                last = time.monotonic()
            if time.monotonic() - last > self._stall_s and self._spec.kind in ("rtsp", "http"):
                raise ReadError(f"data, but no picture for {self._stall_s:g} s")
        if self._file is not None and (fault := self._file[1].damage()):
            raise ReadError(fault)

    def _pick(self, packet: Any, wanted: Wanted) -> list[Any]:
        """The packets to decode now: none, or this one after those that it may refer to."""
        if not packet.size:
            return [packet]
        if self._filter is not None:
            return self._filter.pick(packet, time.monotonic(), wanted)
        return [packet] if not self._codec.codec.intra_only or wanted() else []

    def _decode(self, packet: Any) -> list[VideoFrame]:
        if self._file is not None:
            return self._file[1].decode(packet)
        if packet.is_corrupt and self._codec.codec.intra_only:
            return []  # half a picture; what is missing would be that of an older one, or black
        try:
            return list(packet.decode())
        except FFmpegError:  # a broken packet; the next ones may be whole
            return []

    def close(self) -> None:
        self._container.close()


def open_media(
    spec: SourceSpec,
    target: Any,
    options: dict[str, str],
    stall_s: float,
    format: str | None = None,
    hwaccel: HWAccel | None = None,
) -> av.container.InputContainer:
    """Opens an address, a path or a file-like object.

    Args:
        spec: for the reason of a failure.
        format: of FFmpeg, such as "data" for the bytes as they are; None detects it.
        hwaccel: decodes on a device.

    Raises:
        ReadError: it cannot be opened.
    """
    # A pipe has its own time limit; PyAV's does not apply to reads in Python.
    limit = None if spec.kind == "pipe" else (stall_s, stall_s)
    with _read_errors(spec, stall_s, "no answer"):
        container: av.container.InputContainer = av.open(
            target, "r", format, options=options, timeout=limit, metadata_errors="replace", hwaccel=hwaccel
        )
    return container


def packets(container: av.container.InputContainer, spec: SourceSpec, stall_s: float) -> Iterator[Any]:
    """The packets of an open container.

    Raises:
        ReadError: it broke off.
    """
    demuxed = demux(container)
    while True:
        with _read_errors(spec, stall_s, "no frame"):
            packet = next(demuxed, None)
        if packet is None:
            return
        yield packet


@contextlib.contextmanager
def _read_errors(spec: SourceSpec, stall_s: float, silence: str) -> Iterator[None]:
    """Turns the errors of a call of PyAV into `ReadError`; `silence` is the reason where it took too long."""
    began_s = time.monotonic()
    try:
        yield
    except (FFmpegError, OSError, ValueError) as error:
        stalled = time.monotonic() - began_s >= stall_s and spec.kind != "pipe"
        raise ReadError(f"{silence} for {stall_s:g} s" if stalled else _reason(spec, error)) from None


def _reason(spec: SourceSpec, error: Exception) -> str:
    """Why a call of PyAV failed, without the address, which may hold a password."""
    if isinstance(error, av.error.InvalidDataError):
        return "the data is not a readable video"
    if isinstance(error, EOFError):
        return "it ended before the first picture"
    if getattr(error, "errno", None) == errno.EIO and spec.host:  # FFmpeg reports no more
        if _host_known(spec.host):
            return "the connection broke off"
        if spec.host not in spec.shown:  # it may be a part of a password
            return "the host name is not known; write @, / and ? of a password as %40, %2F and %3F"
        return f"the host name {spec.host} is not known"
    return str(getattr(error, "strerror", None) or type(error).__name__)


def _host_known(host: str) -> bool:
    try:
        socket.getaddrinfo(host, None)
    except OSError:
        return False
    return True
