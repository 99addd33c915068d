"""Reads and writes video files and animated pictures frame by frame, in constant memory."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import av
import cv2
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.video.stream import VideoStream
from PIL import Image

from maskwatch.errors import ImageError, OutputError, SourceError
from maskwatch.media.formats import is_animated_webp
from maskwatch.media.images import UInt8Array, as_rgb
from maskwatch.media.mp4 import Mp4Writer
from maskwatch.media.video_decoder import (
    DEFAULT_FPS,
    DisplayTransform,
    MediaClock,
    VideoDecoder,
    frame_rate,
    header_duration_s,
    video_stream,
)
from maskwatch.outputs import atomic_write
from maskwatch.text import reading

_DEFAULT_DURATION_S = 0.1  # of a frame without a duration, as in browsers


@dataclass(frozen=True)
class Frame:
    """One frame of a video.

    Attributes:
        index: from 0.
        time_s: seconds from the beginning of the video, by the container's own timestamps.
        image_rgb: uint8 (H, W, 3), with its orientation applied.
        duration_s: seconds until the next frame.
    """

    index: int
    time_s: float
    image_rgb: UInt8Array
    duration_s: float = 0.0


class Video:
    """An open video file; a context manager that closes it.

    Attributes:
        fps: nominal or average frames per second; 25 where the file has none. Frames have their own times.
        duration_s: of the file's header, which may be wrong; None where it has none.

    Raises:
        SourceError: the file cannot be opened as a video.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._closed = path, False
        with reading(path, SourceError, "check its permissions"), path.open("rb") as file:
            if not file.read(1):
                raise SourceError(f"{path}: the file is empty; get a complete copy of it")
        self._webp = is_animated_webp(path)
        self.fps = DEFAULT_FPS
        self.duration_s: float | None = None
        if not self._webp:
            self._open()

    def _open(self) -> None:
        path = self.path
        try:
            # A relative "a:b.mp4" would be taken for an address.
            self._container = av.open(os.path.abspath(path), "r", metadata_errors="replace")  # noqa: PTH100
        except (FFmpegError, OSError, ValueError):
            raise SourceError(
                f"{path}: neither a picture nor a video that can be read; "
                "get a complete copy of it, or convert it to JPEG or MP4"
            ) from None
        stream = video_stream(self._container)
        if stream is None:
            self._container.close()
            raise SourceError(f"{path}: there is no video in it that can be decoded; convert it to MP4")
        self._stream, self.fps = stream, frame_rate(stream)
        self.duration_s = header_duration_s(self._container)

    def __enter__(self) -> Video:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file, and ends a running iterator of `frames`."""
        self._closed = True
        if not self._webp:
            self._container.close()

    def opened(self) -> tuple[InputContainer, VideoStream] | tuple[None, None]:
        """The open container and its video, for readers of a part of it; None for an animated WebP."""
        return (None, None) if self._webp else (self._container, self._stream)

    def frames(self) -> Iterator[Frame]:
        """The frames in the order of display; may be called once.

        Raises:
            SourceError: after the last readable frame, when the file is truncated or damaged.
        """
        if not self._webp:
            yield from self._decoded()
            return
        for index, (time_s, duration_s, image_rgb) in enumerate(webp_frames(self.path)):
            if self._closed:
                return
            yield Frame(index, time_s, image_rgb, duration_s)

    def batches(self, size: int) -> Iterator[list[Frame]]:
        """The frames in lists of `size`; the last may be shorter. Raises as `frames`, after that list."""
        batch: list[Frame] = []
        try:
            for frame in self.frames():
                batch.append(frame)
                if len(batch) == size:
                    yield batch
                    batch = []
        except SourceError:
            if batch:
                yield batch
            raise
        if batch:
            yield batch

    def _decoded(self) -> Iterator[Frame]:
        clock, decoder = MediaClock(self._container, self._stream), VideoDecoder(self.path, self._stream)
        waiting: Frame | None = None  # until the time of the next one is known
        for index, frame in enumerate(decoder.frames(self._container)):
            time_s = clock.time_s(frame)
            if waiting is not None:
                yield replace(waiting, duration_s=time_s - waiting.time_s)
            if self._closed:
                return
            waiting = Frame(index, time_s, DisplayTransform.of(frame).to_rgb(frame), clock.length_s(frame))
        if waiting is not None:
            yield waiting
        if not self._closed and (damage := decoder.damage()):
            raise SourceError(f"{self.path}: {damage}; get a complete copy of it")


def webp_frames(path: Path) -> Iterator[tuple[float, float, UInt8Array]]:
    """Time and duration in seconds, and uint8 (H, W, 3) RGB, of each frame of an animated WebP.

    Raises:
        SourceError: the next frame cannot be decoded.
    """
    index, time_s = 0, 0.0
    try:
        with Image.open(path, formats=("WEBP",)) as image:
            for index in range(getattr(image, "n_frames", 1)):
                image.seek(index)
                image.load()
                shown_s = image.info.get("duration", 0) / 1000 or _DEFAULT_DURATION_S
                yield time_s, shown_s, as_rgb(image)
                time_s += shown_s
    except (OSError, ValueError, EOFError, ImageError):
        raise SourceError(
            f"{path}: broken video, unreadable after {index} frames; get a complete copy of it"
        ) from None


class WriteFrame(Protocol):
    """Appends a frame (H, W, 3) RGB, shown at `time_s` for `duration_s`; see `video_writer`."""

    def __call__(
        self, image_rgb: UInt8Array, time_s: float | None = None, duration_s: float | None = None
    ) -> None: ...


@contextlib.contextmanager
def video_writer(path: Path, fps: float) -> Iterator[WriteFrame]:
    """Gives a function that appends a frame (H, W, 3) RGB to an MP4 file that browsers play.

    Each frame is shown from its `time_s`, counted from that of the first one, until the next one, the last
    for its `duration_s`. Without times there are `fps` frames a second. Frames of another size are resized to
    the first one's. The file appears under its name when the block ends without an error.

    Raises:
        OutputError: the file cannot be written.
    """
    writer: Mp4Writer | None = None
    frames, began_s = 0, 0.0
    with atomic_write(path) as part:

        def write(
            image_rgb: UInt8Array, time_s: float | None = None, duration_s: float | None = None
        ) -> None:
            nonlocal writer, frames, began_s
            moment_s = frames / fps if time_s is None else time_s
            if writer is None:
                height, width = image_rgb.shape[:2]
                writer = Mp4Writer(part, fps, (width, height), shown=path)
                began_s = moment_s
            if image_rgb.shape[1::-1] != writer.size_wh:
                image_rgb = np.asarray(cv2.resize(image_rgb, writer.size_wh), np.uint8)
            writer.add(image_rgb, moment_s - began_s, duration_s)
            frames += 1

        try:
            yield write
        except BaseException:
            if writer is not None:
                with contextlib.suppress(OutputError):  # the first error is reported
                    writer.close()
            raise
        if writer is not None:
            writer.close()
