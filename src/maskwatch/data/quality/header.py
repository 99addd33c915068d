"""Size and orientation of a picture from its header, for data sets: an error is a fault among others."""

from __future__ import annotations

from pathlib import Path

from maskwatch.errors import ImageError
from maskwatch.media import image_files
from maskwatch.media.image_files import Header

__all__ = ["Header", "read_header"]


def read_header(path: Path) -> Header:
    """Reads it, as `images.read_image` gives the picture.

    Raises:
        ValueError: the file is no picture that can be read; the text says why, without the path.
    """
    try:
        return image_files.read_header(path)
    except ImageError as error:
        raise ValueError(str(error).removeprefix(f"{path}: ")) from error
