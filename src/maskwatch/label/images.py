"""Pictures as a browser shows them, and thumbnails."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from maskwatch.media.formats import MAX_PIXELS, is_animation, open_picture
from maskwatch.media.images import read_image, read_reduced

THUMBNAIL_SIDE = 240
_QUALITY, _THUMBNAIL_QUALITY = 92, 80
_CACHE_BYTES = 32 << 20
# Of the formats that every browser shows, those of which it shows the same pixels as `read_image`.
_BROWSER_TYPES = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}


class EncodedImage(NamedTuple):
    """A picture file in memory."""

    content: bytes
    media_type: str


def browser_image(path: Path) -> EncodedImage:
    """A picture upright: its own bytes where a browser shows them so, else encoded again.

    Raises:
        ImageError: it cannot be read.
    """
    with open_picture(path, None, MAX_PIXELS) as picture:
        kind, upright = picture.image.format or "", picture.metadata.orientation == 1
    # Of a moving picture, the boxes are those of the first frame.
    if upright and kind in _BROWSER_TYPES and not is_animation(path):
        return EncodedImage(path.read_bytes(), _BROWSER_TYPES[kind])
    return _jpeg(Image.fromarray(read_image(path)), _QUALITY)


def thumbnail(path: Path) -> EncodedImage:
    """A picture of at most `THUMBNAIL_SIDE` pixels a side. Raises as `browser_image`."""
    image = Image.fromarray(read_reduced(path, THUMBNAIL_SIDE).image_rgb)
    image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    return _jpeg(image, _THUMBNAIL_QUALITY)


def _jpeg(image: Image.Image, quality: int) -> EncodedImage:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return EncodedImage(file.getvalue(), "image/jpeg")


class ImageCache:
    """The thumbnails that were used last, up to a number of bytes."""

    def __init__(self, most_bytes: int = _CACHE_BYTES) -> None:
        self._most_bytes, self._bytes = most_bytes, 0
        self._kept: OrderedDict[str, EncodedImage] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: str) -> EncodedImage | None:
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
            return found

    def put(self, key: str, image: EncodedImage) -> None:
        """Keeps an image; drops those that were not used for longest."""
        with self._lock:
            if key in self._kept:
                return
            self._kept[key] = image
            self._bytes += len(image.content)
            while self._bytes > self._most_bytes:
                _, dropped = self._kept.popitem(last=False)
                self._bytes -= len(dropped.content)
