"""What all readers of videos share: the time and orientation of frames, and the damage of files."""

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
"""Of videos without a valid rate in the header."""

# A larger step between timestamps means a discontinuity: two recordings in one file, or a clock that was set.
# Smaller steps back are jitter, shorter gaps are pauses.
_BACK_S = 1.0
_AHEAD_S = 30 * 3600.0  # FFmpeg's default, -dts_error_threshold
# MPEG's 33-bit clock at 90 kHz wraps after 26.5 hours, and FFmpeg takes each step back for that. So a step
# ahead of half of it or more is a clock that started again.
_MPEG_AHEAD_S = 2**32 / 90_000

_FLUSH_TRIES = 64
# FFmpeg opens any text file as a video of a terminal.
_TEXT_FORMATS = frozenset(["tty", "bin", "xbin", "adf", "idf"])
_FORMATS_WITH_FRAME_COUNT = frozenset(["avi", "mov,mp4,m4a,3gp,3g2,mj2"])
# They store no presentation timestamps; FFmpeg guesses them from the decoding timestamps, which are in order.
_FORMATS_WITHOUT_PTS = frozenset(["avi", "asf"])
_MPEG_FORMATS = frozenset(["mpegts", "mpeg"])


def video_stream(container: InputContainer) -> VideoStream | None:
    """The best video stream of a container; None without any that can be decoded."""
    stream = container.streams.best("video")
    if container.format.name in _TEXT_FORMATS or not isinstance(stream, VideoStream):
        return None
    return None if stream.codec_context is None else stream


def demux(container: InputContainer, *streams: VideoStream) -> Iterator[Packet[Any]]:
    """The packets of some streams, or of all.

    Skips streams that begin later, as in recordings of broadcasts; PyAV raises an `IndexError` for them.
    """
    while True:
        try:
            yield from container.demux(*streams)
            return
        except IndexError:
            continue


def frame_rate(stream: VideoStream) -> float:
    """Average or nominal frames per second by the header; 25 where it has no valid one."""
    return _first_valid_rate(stream.average_rate, stream.guessed_rate)


def _first_valid_rate(*rates: Fraction | None) -> float:
    return next((float(rate) for rate in rates if rate and 0 < rate <= 1000), DEFAULT_FPS)


def _ahead_s(container: InputContainer) -> float:
    """The smallest step ahead, in seconds, that counts as a discontinuity."""
    return _MPEG_AHEAD_S if container.format.name in _MPEG_FORMATS else _AHEAD_S


def header_duration_s(container: InputContainer) -> float | None:
    """Duration in seconds by the header, which may be wrong; None where it has none."""
    length_s = (container.duration or 0) / 1e6
    return length_s if 0 < length_s < _ahead_s(container) else None


class MediaClock:
    """Converts the container's timestamps to seconds from the beginning of the video, never decreasing.

    The beginning is the container's start time, as in players and ffmpeg, so a frame need not be at 0 s.
    """

    def __init__(self, container: InputContainer, stream: VideoStream) -> None:
        self._uses_dts = container.format.name in _FORMATS_WITHOUT_PTS
        # Before 0 there is only what an audio decoder needs to start.
        self._origin_s = max(0.0, (container.start_time or 0) / 1e6)
        # Without timestamps the average rate is only FFmpeg's default.
        self._step_s = 1 / _first_valid_rate(stream.guessed_rate, stream.average_rate)
        self._ahead_s = _ahead_s(container)
        self._last_s: float | None = None
        self._stamped = False

    def time_s(self, frame: VideoFrame) -> float:
        """Seconds from the beginning; call it once for each frame, in order."""
        stamps = (frame.pts, frame.dts)
        if self._uses_dts:  # the last frames have none
            stamps = (frame.dts, frame.pts if self._last_s is None else None)
        stamp_s = seconds(next((one for one in stamps if one is not None), None), frame.time_base)
        return self.from_stamp(stamp_s)

    def from_stamp(self, stamp_s: float | None) -> float:
        """The same for a timestamp in seconds; None for a frame without one, which follows the last one."""
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
        """Duration of a frame in seconds by the container, or by the rate."""
        shown_s = seconds(frame.duration or None, frame.time_base)
        return shown_s if shown_s is not None and 0 < shown_s < _AHEAD_S else self._step_s


class VideoDecoder:
    """Decodes the packets of a video file; at the end, `damage` reports what could not be read.

    Args:
        path: of the file; None for one that is not on this machine.
        stream: its video.
    """

    def __init__(self, path: Path | None, stream: VideoStream) -> None:
        self._path, self._stream = path, stream
        # In others, FFmpeg counts the frames that it finds.
        self._has_count = stream.container.format.name in _FORMATS_WITH_FRAME_COUNT
        # With frame threading, an error silently loses the frames around it.
        stream.codec_context.thread_type = "SLICE"
        self._packets = self._frames = self._broken = 0
        self._torn = False
        self._error: str | None = None

    def frames(self, container: InputContainer) -> Iterator[VideoFrame]:
        """All frames of the file, in the order of display."""
        packets = demux(container, self._stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except (FFmpegError, OSError) as error:
                # What FFmpeg takes for an unknown format is damage, too.
                reason = "" if isinstance(error, PatchWelcomeError) else getattr(error, "strerror", None)
                self._error = f" ({reason})" if reason else ""
                return
            yield from self.decode(packet)

    def decode(self, packet: Packet[Any]) -> list[VideoFrame]:
        """The frames that are complete with this packet, in the order of display."""
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
                # Before the first frame this is no damage: a recording may begin between two key frames.
                self._broken += self._frames > 0
                if packet.size:
                    break
        if packet.size:
            self._packets += 1
            self._torn = packet.is_corrupt
        self._torn |= any(frame.is_corrupt for frame in frames[-1:])
        self._frames += len(frames)
        return frames

    def damage(self) -> str | None:
        """What was missing or broken, for a message, after all frames have been read; None if nothing was."""
        if not self._frames:
            return "none of its frames can be decoded"
        if self._error is not None:
            return f"broken video, unreadable after {self._frames} frames{self._error}"
        promised = self._stream.frames if self._has_count else 0
        truncated = self._torn or (self._path is not None and is_truncated(self._path))
        if truncated and not 0 < promised <= self._packets - self._torn:
            if promised > self._frames:
                return f"broken video, only {self._frames} of {promised} frames could be read"
            return f"broken video, it is cut off after {self._frames} frames"
        if self._broken:
            return f"broken video, {self._broken} of {self._packets} frames cannot be decoded"
        return None


@dataclass(frozen=True)
class DisplayTransform:
    """How to bring a frame upright: transpose it, then mirror it left to right, then top to bottom."""

    transpose: bool = False
    mirror: bool = False
    flip: bool = False

    @classmethod
    def of(cls, frame: VideoFrame) -> DisplayTransform:
        """That of the file's display matrix, to the nearest quarter turn."""
        matrix: Any = frame.side_data.get("DISPLAYMATRIX")
        if matrix is None:
            return cls()
        a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].astype(float)
        if abs(a) + abs(d) >= abs(b) + abs(c):
            return cls(False, bool(a < 0), bool(d < 0))
        return cls(True, bool(c < 0), bool(b < 0))

    def size_wh(self, frame: VideoFrame) -> tuple[int, int]:
        """Width and height after the transform, in pixels."""
        return (frame.height, frame.width) if self.transpose else (frame.width, frame.height)

    def to_rgb(self, frame: VideoFrame) -> UInt8Array:
        """The transformed frame, uint8 (H, W, 3)."""
        image_rgb = frame.to_ndarray(format="rgb24")
        if self.transpose:
            image_rgb = image_rgb.swapaxes(0, 1)
        if self.mirror:
            image_rgb = image_rgb[:, ::-1]
        if self.flip:
            image_rgb = image_rgb[::-1]
        return np.ascontiguousarray(image_rgb, np.uint8)


def seconds(ticks: int | None, base: Fraction | None) -> float | None:
    """Ticks of a time base in seconds; None where either is missing or the result is not finite."""
    if ticks is None or base is None:
        return None
    value = float(ticks * base)
    return value if math.isfinite(value) else None
