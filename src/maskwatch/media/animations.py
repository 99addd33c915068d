"""Animated pictures: GIF, PNG and WebP files that are short videos."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from maskwatch.errors import ImageError, SourceError
from maskwatch.media.images import UInt8Array, as_rgb

_FORMATS = ("GIF", "PNG", "WEBP")
_USUAL_S = 0.1  # how long browsers show a frame that says nothing


def is_animation(path: Path) -> bool:
    """Whether a file is a picture of more than one frame, by what is inside and not by its name."""
    return _animated_format(path) is not None


def is_animated_webp(path: Path) -> bool:
    """Whether a file is an animated WebP. FFmpeg, which reads all other videos, cannot decode it."""
    return _animated_format(path) == "WEBP"


def webp_frames(path: Path) -> Iterator[tuple[float, float, UInt8Array]]:
    """Time and length in seconds, and uint8 (H, W, 3) RGB, of each frame of an animated WebP.

    Raises:
        SourceError: a frame cannot be decoded; those before it have been given.
    """
    index, time_s = 0, 0.0
    try:
        with Image.open(path, formats=("WEBP",)) as image:
            for index in range(getattr(image, "n_frames", 1)):
                image.seek(index)
                image.load()
                shown_s = image.info.get("duration", 0) / 1000 or _USUAL_S
                yield time_s, shown_s, as_rgb(image)
                time_s += shown_s
    except (OSError, ValueError, EOFError, ImageError):
        raise SourceError(
            f"{path}: broken video, it cannot be read on after {index} frames; get a complete copy of it"
        ) from None


def _animated_format(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            head = file.read(12) if file.seekable() else b""
            if not head.startswith((b"GIF8", b"\x89PNG")) and head[8:] != b"WEBP":
                return None
            file.seek(0)
            with Image.open(file, formats=_FORMATS) as image:
                return image.format if getattr(image, "is_animated", False) else None
    except Exception:  # Pillow's decoders raise anything; reading the file gives the reason
        return None
