"""An animated WebP as a source, which PyAV cannot read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from maskwatch.errors import SourceError
from maskwatch.live.capture.picture import LostError, Picture
from maskwatch.media.images import UInt8Array
from maskwatch.media.videos import webp_frames


class AnimationReader:
    """An animated WebP file; see `picture.Reader`."""

    finite = True
    bursts = False

    def __init__(self, path: Path) -> None:
        self._path = path

    def pictures(self, wanted: Callable[[], bool]) -> Iterator[Picture | None]:
        """See `picture.Reader`."""
        try:
            for time_s, _, image_rgb in webp_frames(self._path):
                yield _picture(time_s, image_rgb)
        except SourceError as error:
            raise LostError(str(error).removeprefix(f"{self._path}: ").partition(";")[0]) from None

    def close(self) -> None:
        """See `picture.Reader`."""


def _picture(time_s: float, image_rgb: UInt8Array) -> Picture:
    return Picture(time_s, (image_rgb.shape[1], image_rgb.shape[0]), lambda: image_rgb)
