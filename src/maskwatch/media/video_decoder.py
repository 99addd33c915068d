"""What the readers of videos share: a frame's time, which way up it is, and whether all could be read."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from av.container import InputContainer
from av.error import EOFError as EndOfFile
from av.error import FFmpegError, PatchWelcomeError
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from maskwatch.media.containers import is_truncated
from maskwatch.media.images import UInt8Array

DEFAULT_FPS = 25.0
"""Of videos whose header gives no sensible rate."""

# Timestamps that go further back or ahead belong to something new: two recordings in one file, or a clock
# that was set. Smaller steps back are trembling, shorter gaps are pauses.
_BACK_S = 1.0
_AHEAD_S = 30 * 3600.0  # FFmpeg's own default, -dts_error_threshold
# The 33 bits of MPEG's clock at 90 kHz come round after 26.5 hours, and FFmpeg takes each step back for that.
# So half a round ahead or more is a clock that started again.
_MPEG_AHEAD_S = 2**32 / 90_000

_FLUSH_TRIES = 64
# FFmpeg shows any text file as a video of a terminal in which it is typed.
_TEXTS = frozenset(["tty", "bin", "xbin", "adf", "idf"])
_WITH_A_COUNT = frozenset(["avi", "mov,mp4,m4a,3gp,3g2,mj2"])
# They store no times of display. FFmpeg guesses them from those of decoding, which are in order.
_OF_DECODING = frozenset(["avi", "asf"])
_OF_33_BITS = frozenset(["mpegts", "mpeg"])


def video_stream(container: InputContainer) -> VideoStream | None:
    """The video of an opened file or stream; None where there is none, or none that can be decoded."""
    stream = container.streams.best("video")
    if container.format.name in _TEXTS or not isinstance(stream, VideoStream):
        return None
    return None if stream.codec_context is None else stream


def demux(container: InputContainer, *streams: VideoStream) -> Iterator[Packet[Any]]:
    """The packets of some streams, or of all. Those of streams that begin later are passed over.

    Recordings of broadcasts have such streams; PyAV does not know them and raises an `IndexError`.
    """
    while True:
        try:
            yield from container.demux(*streams)
            return
        except IndexError:
            continue


def frame_rate(stream: VideoStream) -> float:
    """Frames per second as the header says, usually or on average; 25 where it says nothing sensible."""
    return _sensible(stream.average_rate, stream.guessed_rate)


def _sensible(*rates: Fraction | None) -> float:
    return next((float(rate) for rate in rates if rate and 0 < rate <= 1000), DEFAULT_FPS)


def _ahead_s(container: InputContainer) -> float:
    """From here on a step ahead in a container's timestamps is none, in seconds."""
    return _MPEG_AHEAD_S if container.format.name in _OF_33_BITS else _AHEAD_S


def header_duration_s(container: InputContainer) -> float | None:
    """Seconds from beginning to end as the header says, which may be wrong; None where it says nothing."""
    length_s = (container.duration or 0) / 1e6
    return length_s if 0 < length_s < _ahead_s(container) else None


class MediaClock:
    """The container's timestamps → seconds from the beginning of the video, which never go back.

    The beginning is the container's own, as players and ffmpeg count: where a recording starts at 10 s, or
    sound comes before the first picture, the first frame need not stand at 0, but most do.

    Args:
        container, stream: opened for reading.
    """

    def __init__(self, container: InputContainer, stream: VideoStream) -> None:
        self._decoding_times = container.format.name in _OF_DECODING
        # Before 0 lies only what a decoder of sound needs to get going.
        self._origin_s = max(0.0, (container.start_time or 0) / 1e6)
        # Where stamps are missing the average, of which FFmpeg knows no more, is its own default.
        self._step_s = 1 / _sensible(stream.guessed_rate, stream.average_rate)
        self._ahead_s = _ahead_s(container)
        self._last_s: float | None = None
        self._stamped = False

    def time_s(self, frame: VideoFrame) -> float:
        """Seconds from the beginning; call it once for each frame, in order."""
        stamps = (frame.pts, frame.dts)
        if self._decoding_times:  # which the frames at the end lack
            stamps = (frame.dts, frame.pts if self._last_s is None else None)
        stamp_s = seconds(next((one for one in stamps if one is not None), None), frame.time_base)
        return self.from_stamp(stamp_s)

    def from_stamp(self, stamp_s: float | None) -> float:
        """The same for a timestamp in seconds; None for a frame without any, which follows the last one."""
        following = 0.0 if self._last_s is None else self._last_s + self._step_s
        if stamp_s is None:
            self._last_s = following
            return following
        if not self._stamped:
            self._stamped = True
            self._origin_s = min(self._origin_s, stamp_s - following)
        elif not -_BACK_S <= stamp_s - self._origin_s - (self._last_s or 0.0) <= self._ahead_s:
            self._origin_s = stamp_s - following
        self._last_s = max(stamp_s - self._origin_s, self._last_s or 0.0)
        return self._last_s

    def length_s(self, frame: VideoFrame) -> float:
        """How long a frame is shown, as the container says, or as the rate does."""
        shown_s = seconds(frame.duration or None, frame.time_base)
        return shown_s if shown_s is not None and 0 < shown_s < _AHEAD_S else self._step_s


class VideoDecoder:
    """Decodes the packets of a file's video, and knows at the end whether all of it was there.

    Args:
        path: of the file; None for one that is not on this machine.
        stream: of an opened file.
    """

    def __init__(self, path: Path | None, stream: VideoStream) -> None:
        self._path, self._stream = path, stream
        # In others FFmpeg counts itself what is there.
        self._counted = stream.container.format.name in _WITH_A_COUNT
        # With a thread for each frame, an error silently loses whole frames around it.
        stream.codec_context.thread_type = "SLICE"
        self._packets = self._frames = self._broken = 0
        self._torn = False
        self._error: str | None = None

    def frames(self, container: InputContainer) -> Iterator[VideoFrame]:
        """All frames of a file, in the order in which they are shown."""
        packets = demux(container, self._stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except (FFmpegError, OSError) as error:
                # What FFmpeg takes for a format that it does not know is damage as well.
                reason = "" if isinstance(error, PatchWelcomeError) else getattr(error, "strerror", None)
                self._error = f" ({reason})" if reason else ""
                return
            yield from self.decode(packet)

    def decode(self, packet: Packet[Any]) -> list[VideoFrame]:
        """The frames that are complete with this packet, in the order in which they are shown."""
        frames: list[VideoFrame] = []
        half = packet.is_corrupt and self._stream.codec_context.codec.intra_only
        self._broken += half and self._frames > 0
        for _ in range(0 if half else _FLUSH_TRIES):
            try:
                frames += packet.decode()
                break
            except EndOfFile:
                break
            except FFmpegError:
                # Before the first frame it is no loss: a recording may begin between two key frames.
                self._broken += self._frames > 0
                if packet.size:
                    break
        if packet.size:
            self._packets += 1
            self._torn = packet.is_corrupt
        self._torn |= any(frame.is_corrupt for frame in frames[-1:])
        self._frames += len(frames)
        return frames

    def fault(self) -> str | None:
        """What is wrong with a file of which all has been read, in a few words; None for a whole one."""
        if not self._frames:
            return "none of its frames can be decoded"
        if self._error is not None:
            return f"broken video, it cannot be read on after {self._frames} frames{self._error}"
        promised = self._stream.frames if self._counted else 0
        if (self._torn or self._cut_off()) and not 0 < promised <= self._packets - self._torn:
            if promised > self._frames:
                return f"broken video, only {self._frames} of {promised} frames could be read"
            return f"broken video, it is cut off after {self._frames} frames"
        if self._broken:
            return f"broken video, {self._broken} of {self._packets} frames cannot be decoded"
        return None

    def _cut_off(self) -> bool:
        return self._path is not None and is_truncated(self._path)


@dataclass(frozen=True)
class DisplayTransform:
    """How a frame lies before it is shown: across a diagonal, then mirrored left to right, top to bottom."""

    transposed: bool = False
    mirrored: bool = False
    upside_down: bool = False

    @classmethod
    def of(cls, frame: VideoFrame) -> DisplayTransform:
        """As the file says, to the nearest quarter."""
        matrix: Any = frame.side_data.get("DISPLAYMATRIX")
        if matrix is None:
            return cls()
        a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].astype(float)
        if abs(a) + abs(d) >= abs(b) + abs(c):
            return cls(False, bool(a < 0), bool(d < 0))
        return cls(True, bool(c < 0), bool(b < 0))

    def size_wh(self, frame: VideoFrame) -> tuple[int, int]:
        """Width and height as shown, in pixels."""
        return (frame.height, frame.width) if self.transposed else (frame.width, frame.height)

    def to_rgb(self, frame: VideoFrame) -> UInt8Array:
        """uint8 (H, W, 3), the way up in which it is shown."""
        image_rgb = frame.to_ndarray(format="rgb24")
        if self.transposed:
            image_rgb = image_rgb.swapaxes(0, 1)
        if self.mirrored:
            image_rgb = image_rgb[:, ::-1]
        if self.upside_down:
            image_rgb = image_rgb[::-1]
        return np.ascontiguousarray(image_rgb, np.uint8)


def seconds(ticks: int | None, base: Fraction | None) -> float | None:
    """Ticks of a time base in seconds; None where either is missing or makes no number."""
    if ticks is None or base is None:
        return None
    value = float(ticks * base)
    return value if math.isfinite(value) else None
