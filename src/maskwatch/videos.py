"""Video files in and out, frame by frame, so that memory does not grow with their length."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from maskwatch.errors import OutputError, SourceError
from maskwatch.images import UInt8Array
from maskwatch.mp4 import Mp4Writer
from maskwatch.outputs import replacing

_DEFAULT_FPS = 25.0  # for files that give no sensible rate of their own
_MISSING_FRAMES = 0.05  # of the count in the header, which some containers only estimate


@dataclass(frozen=True)
class Frame:
    """One frame of a video; `time_s` is seconds from its start."""

    index: int
    time_s: float
    image_rgb: UInt8Array


class Video:
    """A video file that gives its frames one by one; a context manager that always closes the file.

    Attributes:
        fps: frames per second, 25 where the file does not say.
        frame_count: as the file's header says, None where it does not.

    Raises:
        SourceError: the file cannot be opened as a video.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        _check_readable(path)
        # Whole, since FFmpeg would take the beginning of 08:15:04.mp4 for a protocol.
        self._capture = cv2.VideoCapture(str(path.absolute()))
        if not self._capture.isOpened():
            raise SourceError(
                f"{path}: neither a picture nor a video that can be read; "
                "get a complete copy of it, or convert it to JPEG or MP4"
            )
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = fps if math.isfinite(fps) and 0 < fps <= 1000 else _DEFAULT_FPS
        count = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.frame_count = int(count) if math.isfinite(count) and 0 < count < 1e9 else None

    def __enter__(self) -> Video:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file; a generator of `frames` that still runs ends."""
        self._capture.release()

    def frames(self) -> Iterator[Frame]:
        """The frames in order, turned as the file says.

        Raises:
            SourceError: after the last readable frame, when the file's header promised more.
        """
        index = 0
        while True:
            ok, image_bgr = self._capture.read()
            if not ok:
                break
            image_rgb = np.asarray(cv2.cvtColor(image_bgr, cv2.COLOR_BGR2RGB), np.uint8)
            yield Frame(index, index / self.fps, image_rgb)
            index += 1
        expected = self.frame_count or 1
        if index == 0 or index < expected - max(1, expected * _MISSING_FRAMES):
            raise SourceError(
                f"{self.path}: broken video, only {index} of {expected} frames could be read; "
                "get a complete copy of it"
            )


@contextlib.contextmanager
def video_writer(path: Path, fps: float) -> Iterator[Callable[[UInt8Array], None]]:
    """Gives a function that appends a frame (H, W, 3) RGB to an MP4 file that browsers play.

    The file appears under its name when the block ends without an error; all frames have the first one's
    size.

    Raises:
        OutputError: the file cannot be written.
    """
    writer: Mp4Writer | None = None
    frames = 0
    with replacing(path) as part:

        def write(image_rgb: UInt8Array) -> None:
            nonlocal writer, frames
            if writer is None:
                height, width = image_rgb.shape[:2]
                writer = Mp4Writer(part, fps, (width, height), shown=path)
            writer.add(image_rgb, frames / fps)
            frames += 1

        try:
            yield write
        except BaseException:
            if writer is not None:
                with contextlib.suppress(OutputError):  # the first error is the one to tell
                    writer.close()
            raise
        if writer is not None:
            writer.close()


def _check_readable(path: Path) -> None:
    try:
        with path.open("rb") as file:
            if not file.read(1):
                raise SourceError(f"{path}: the file is empty; get a complete copy of it")
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror}); check its permissions") from None
