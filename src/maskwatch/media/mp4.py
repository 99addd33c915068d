"""Frames → an MP4 file that browsers play."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, cast

import av
import numpy as np
from av.codec.context import Flags as CodecFlags
from av.video.frame import PictureType

from maskwatch.errors import OutputError
from maskwatch.media.images import UInt8Array

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.video.stream import VideoStream

# The first that this FFmpeg has: H.264 plays everywhere, VP9 in all browsers but older ones of Apple.
_ENCODERS = {
    "libx264": {"preset": "veryfast", "crf": "23", "forced-idr": "1"},
    "libopenh264": {"b": "4000000"},
    "libvpx-vp9": {"crf": "33", "b": "0", "deadline": "realtime", "cpu-used": "8"},
}
_TICKS = 90_000  # per second: the usual clock of video, for nearly all frame rates
_KEY_EVERY_S = 2.0  # also the longest loss when the program is killed

# A complete file begins with its index, so that a browser can start before it has all of it.
_WHOLE = "faststart"
# A growing file is readable at any time, and gets an index at its end. Source: FFmpeg's documentation of its
# MP4 muxer, hybrid_fragmented.
_GROWING = "hybrid_fragmented+frag_keyframe"


class Mp4Writer:
    """Writes frames (H, W, 3) RGB to an MP4 file, each with its own time. Call `close` at the end.

    Args:
        path: the file; one that exists is replaced.
        fps: the nominal frame rate; times may differ from it.
        size_wh: of every frame, in pixels. An odd side gets one more row or column.
        growing: True for a file that can be played at any time, up to the last seconds, even if the program
            is killed. False for one that is complete only when closed.
        shown: name for messages; None for `path`.

    Raises:
        OutputError: the file cannot be written, or FFmpeg has no encoder for it.
    """

    def __init__(
        self,
        path: Path,
        fps: float,
        size_wh: tuple[int, int],
        *,
        growing: bool = False,
        shown: Path | None = None,
    ) -> None:
        self._shown, self.size_wh = shown or path, size_wh
        self._last_tick, self._key_tick = -1, 0
        self._waiting: av.VideoFrame | None = None
        self._last_duration = round(_TICKS / fps)
        name = encoder_name()
        with self._named():
            self._file: OutputContainer = av.open(
                os.path.abspath(path),  # noqa: PTH100, keeps ".."; a relative "a:b.mp4" would be taken for a URL
                "w",
                format="mp4",
                # A growing file goes to the disk at once, not when a buffer is full.
                options={"movflags": _GROWING if growing else _WHOLE, "flush_packets": str(int(growing))},
            )
            try:
                self._stream = self._open_stream(name, fps, growing)
                self._file.start_encoding()  # here, so that an error shows before the first frame
            except BaseException:
                self._file.close()
                raise

    def add(self, image_rgb: UInt8Array, time_s: float, duration_s: float | None = None) -> None:
        """Appends a frame at `time_s` seconds from the beginning of the file. Raises `OutputError`.

        A frame that is not later than the one before follows it at once. Each is shown until the next one,
        the last for `duration_s` seconds, by default as long as the one before it.
        """
        if image_rgb.shape[1::-1] != self.size_wh:
            raise ValueError(f"a frame of {image_rgb.shape[1::-1]} in a video of {self.size_wh}")
        frame = av.VideoFrame.from_ndarray(_even(image_rgb), format="rgb24")
        before = self._last_tick
        self._last_tick = max(round(time_s * _TICKS), before + 1)
        frame.pts, frame.time_base = self._last_tick, Fraction(1, _TICKS)
        if self._last_tick - self._key_tick >= _KEY_EVERY_S * _TICKS:  # in time, since frames may be dropped
            frame.pict_type = PictureType.I
            self._key_tick = self._last_tick
        waiting, self._waiting = self._waiting, frame
        if waiting is not None:
            waiting.duration = self._last_tick - before
            self._last_duration = min(waiting.duration, _TICKS)
            with self._named():
                self._file.mux(self._stream.encode(waiting))
        if duration_s:
            self._last_duration = max(1, round(duration_s * _TICKS))

    def close(self) -> None:
        """Writes the last frame and closes the file. Raises `OutputError`."""
        with self._named(), contextlib.closing(self._file):
            if self._waiting is not None:
                self._waiting.duration = self._last_duration
                self._file.mux(self._stream.encode(self._waiting))
            self._file.mux(self._stream.encode(None))

    def _open_stream(self, name: str, fps: float, growing: bool) -> VideoStream:
        rate = Fraction(fps).limit_denominator(1001)
        stream = cast("VideoStream", self._file.add_stream(name, rate=rate))
        stream.width, stream.height = (side + side % 2 for side in self.size_wh)
        stream.pix_fmt = "yuv420p"  # the one that all browsers play
        context = stream.codec_context
        context.time_base = Fraction(1, _TICKS)
        context.gop_size = max(1, round(_KEY_EVERY_S * fps))
        context.colorspace, context.color_range = 5, 1  # BT.601, 16 to 235: how swscale converts RGB
        # The muxer takes the duration of the last frame from the encoder, and computes that of the file in
        # the order of encoding, which would be wrong with B-frames and a varying rate.
        context.flags |= CodecFlags.frame_duration
        context.max_b_frames = 0
        context.options = dict(_ENCODERS[name])
        if growing and name == "libx264":
            context.options |= {"tune": "zerolatency"}  # a crash loses the frames that x264 holds back
        return stream

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except av.FFmpegError as error:
            width, height = self.size_wh
            raise OutputError(
                f"{self._shown}: a video of {width}x{height} cannot be written here ({error.strerror}); "
                "write somewhere else, or free space on the disk"
            ) from None


def encoder_name() -> str:
    """The best encoder in this FFmpeg; raises `OutputError` where it has none that browsers play."""
    for name in _ENCODERS:
        if name in av.codecs_available:
            return name
    raise OutputError(
        f"the FFmpeg of this machine's PyAV has none of the encoders {', '.join(_ENCODERS)}; "
        "run: pip install --force-reinstall av"
    )


def _even(image_rgb: UInt8Array) -> UInt8Array:
    """Repeats the last row or column to make an odd side even: colour is stored for 2 × 2 pixels."""
    height, width = image_rgb.shape[:2]
    return np.pad(image_rgb, ((0, height % 2), (0, width % 2), (0, 0)), "edge")
