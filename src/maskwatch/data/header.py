"""Size and orientation of a picture from its header, without decoding it."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import NamedTuple

from PIL import Image, TiffImagePlugin

_ORIENTATION = 0x0112  # EXIF tag; values 5 to 8 swap width and height
# Where a PNG may say how it is turned; without one of these Pillow need not decode all of it to find out.
_PNG_MARKS = (b"eXIf", b"Raw profile type exif", b"com.adobe.xmp")


class Header(NamedTuple):
    """size_hw: height and width as shown, EXIF orientation applied; orientation: 1 to 8 as in EXIF."""

    size_hw: tuple[int, int]
    orientation: int

    @property
    def turned(self) -> bool:
        """Whether width and height are swapped against the stored picture."""
        return 5 <= self.orientation <= 8


def read_header(path: Path) -> Header:
    """Reads it.

    Raises:
        ValueError: the file is no picture that can be read; the text says why.
    """
    try:
        with warnings.catch_warnings():  # Pillow warns of large pictures, but only their header is read here
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                orientation = _orientation(image, path)
                width, height = _stored_size_wh(image)
    except Exception as error:  # Pillow's plugins raise many kinds (OSError, SyntaxError, struct.error …)
        reason = "it is empty" if path.is_file() and path.stat().st_size == 0 else error
        raise ValueError(f"not readable as a picture: {reason}") from error
    turned = 5 <= orientation <= 8
    return Header((width, height) if turned else (height, width), orientation)


def _orientation(image: Image.Image, path: Path) -> int:
    """EXIF orientation, 1 to 8; damaged EXIF counts as none, as it does in `images.read_image`."""
    if image.format == "PNG" and not any(mark in path.read_bytes() for mark in _PNG_MARKS):
        return 1
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # whatever the parser stumbles over
        return 1


def _stored_size_wh(image: Image.Image) -> tuple[int, int]:
    if isinstance(image, TiffImagePlugin.TiffImageFile):  # of these alone newer Pillow turns `size` by itself
        return image.tag_v2[TiffImagePlugin.IMAGEWIDTH], image.tag_v2[TiffImagePlugin.IMAGELENGTH]
    return image.size
