"""Size and orientation of a picture from its header, for data sets: an error is a fault among others."""

from __future__ import annotations

from pathlib import Path

from maskwatch.errors import ImageError
from maskwatch.media import formats
from maskwatch.media.formats import ImageMetadata

__all__ = ["ImageMetadata", "read_metadata"]


def read_metadata(path: Path) -> ImageMetadata:
    """Reads it, as `images.read_image` gives the picture.

    Raises:
        ValueError: the file is no picture that can be read; the text says why, without the path.
    """
    try:
        return formats.read_metadata(path)
    except ImageError as error:
        raise ValueError(str(error).removeprefix(f"{path}: ")) from error
