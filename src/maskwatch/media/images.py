"""Decodes pictures, resizes them to the network's input, and maps boxes back.

Training, evaluation, export and the detector all resize with `fit`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from maskwatch.errors import ImageError
from maskwatch.media.formats import (
    MAX_PIXELS,
    FileInput,
    ImageMetadata,
    OpenPicture,
    check_pixels,
    lifted_limit,
    open_picture,
    upright,
)
from maskwatch.text import reason_of

UInt8Array: TypeAlias = npt.NDArray[np.uint8]
FloatArray: TypeAlias = npt.NDArray[np.float32]
ResizeRule: TypeAlias = Literal["letterbox", "squash"]
ImageInput: TypeAlias = "FileInput | Image.Image | npt.NDArray[Any]"

PAD_VALUE = 128  # nearly zero after the network's normalisation, x * 2 / 255 - 1


@dataclass(frozen=True)
class Placement:
    """The scale of a picture on the network's canvas; its top-left corner is at (0, 0).

    `scale_x` and `scale_y` are canvas pixels per picture pixel; `width` and `height` are the picture's.
    """

    scale_x: float
    scale_y: float
    width: int
    height: int

    def to_network(self, boxes_xyxy: npt.ArrayLike) -> FloatArray:
        """Boxes (..., 4) in picture pixels → canvas pixels."""
        return np.asarray(boxes_xyxy, np.float32) * self._scales()

    def to_original(self, boxes_xyxy: npt.ArrayLike) -> FloatArray:
        """Boxes (..., 4) in canvas pixels → picture pixels, clipped to the picture."""
        limits = np.array([self.width, self.height] * 2, np.float32)
        boxes: FloatArray = np.asarray(boxes_xyxy, np.float32) / self._scales()
        return boxes.clip(np.float32(0), limits)

    def _scales(self) -> FloatArray:
        return np.array([self.scale_x, self.scale_y] * 2, np.float32)


def letterbox(
    image_rgb: UInt8Array, size_hw: tuple[int, int], whole_hw: tuple[int, int] | None = None
) -> tuple[UInt8Array, Placement]:
    """Resizes a picture (h, w, 3) into a canvas (H, W, 3), keeping its aspect ratio.

    The picture lies top-left, so that boxes need no offset; the rest is grey (`PAD_VALUE`). `whole_hw` as in
    `fit`.
    """
    height, width = whole_hw or image_rgb.shape[:2]
    scale = min(size_hw[0] / height, size_hw[1] / width)
    new_hw = (max(1, round(height * scale)), max(1, round(width * scale)))
    resized, placement = squash(image_rgb, new_hw, whole_hw)
    canvas = np.full((*size_hw, 3), PAD_VALUE, np.uint8)
    canvas[: new_hw[0], : new_hw[1]] = resized
    return canvas, placement


def squash(
    image_rgb: UInt8Array, size_hw: tuple[int, int], whole_hw: tuple[int, int] | None = None
) -> tuple[UInt8Array, Placement]:
    """Resizes a picture (h, w, 3) to exactly (H, W, 3), without keeping its aspect ratio.

    `whole_hw` as in `fit`.
    """
    whole_h, whole_w = whole_hw or image_rgb.shape[:2]
    placement = Placement(size_hw[1] / whole_w, size_hw[0] / whole_h, whole_w, whole_h)
    height, width = image_rgb.shape[:2]
    if (height, width) == tuple(size_hw):
        return image_rgb.copy(), placement
    shrinks = size_hw[0] * size_hw[1] < height * width
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    resized = cv2.resize(np.ascontiguousarray(image_rgb), (size_hw[1], size_hw[0]), interpolation=method)
    return np.asarray(resized, np.uint8), placement


def fit(
    image_rgb: UInt8Array, size_hw: tuple[int, int], rule: ResizeRule, whole_hw: tuple[int, int] | None = None
) -> tuple[UInt8Array, Placement]:
    """Resizes a picture (h, w, 3) to (H, W, 3) by a rule; raises `ValueError` for an unknown one.

    `whole_hw` is the size of the whole picture, which boxes refer to, where `image_rgb` is reduced
    (`read_reduced`).
    """
    if rule == "letterbox":
        return letterbox(image_rgb, size_hw, whole_hw)
    if rule == "squash":
        return squash(image_rgb, size_hw, whole_hw)
    raise ValueError(f"resize rule {rule!r} is unknown; use 'letterbox' or 'squash'")


def read_image(source: FileInput, *, max_pixels: int = MAX_PIXELS, name: str | None = None) -> UInt8Array:
    """Decodes a picture file, or the bytes of one, to uint8 (H, W, 3) RGB as a viewer shows it.

    The content determines the format, not the file's name. The EXIF orientation is applied, transparency is
    blended with white (an alpha channel that hides everything is ignored), 16-bit grey is scaled to 8 bit. Of
    an animation, or a file of several pictures, the first is read.

    Args:
        source: a path, or the bytes of a file.
        max_pixels: limit, compared with the header's size before anything is decoded.
        name: of the picture in messages; None for its path.

    Raises:
        ImageError: the file is missing, empty, truncated, not a picture, or has too many pixels.
    """
    with open_picture(source, name, max_pixels) as picture:
        image_rgb = _pil_to_rgb(picture.image, picture.name)
    _check_size(picture, image_rgb)
    return _writable(image_rgb)


class ReducedImage(NamedTuple):
    """image_rgb: uint8 (h, w, 3), possibly reduced, read-only; metadata: of the whole picture."""

    image_rgb: UInt8Array
    metadata: ImageMetadata


def read_reduced(
    source: FileInput,
    side: int,
    *,
    exact: bool = False,
    max_pixels: int = MAX_PIXELS,
    name: str | None = None,
) -> ReducedImage:
    """Reads a picture file, or the bytes of one; a JPEG at a half, a quarter or an eighth of its size.

    That skips most of the arithmetic and still reads every byte, so that a truncated file is noticed. The
    longer side keeps at least `side` pixels, if the picture has them. With `exact`, width and height are
    divided without a remainder, so that boxes have the same place in both. Raises as `read_image`.
    """
    with open_picture(source, name, max_pixels) as picture:
        image, reduces = picture.image, picture.image.format == "JPEG"
        if reduces:
            width, height = image.size
            if exact:
                factor = _exact_factor(width, height, side)
                wanted = [width // factor, height // factor]
            else:
                wanted = [max(1, math.ceil(length * side / max(width, height))) for length in (width, height)]
            image.draft("RGB", (wanted[0], wanted[1]))
        image_rgb = _pil_to_rgb(image, picture.name)
    if not reduces:
        _check_size(picture, image_rgb)
    return ReducedImage(image_rgb, picture.metadata)


def _exact_factor(width: int, height: int, side: int) -> int:
    """The largest factor of JPEG decoders that divides both and leaves `side` pixels, else 1."""
    fitting = (n for n in (8, 4, 2) if max(width, height) >= n * side and width % n == height % n == 0)
    return next(fitting, 1)


def as_rgb(image: ImageInput, *, max_pixels: int = MAX_PIXELS) -> UInt8Array:
    """Converts any picture to uint8 (H, W, 3) RGB.

    Takes a path, the bytes of a picture file, a PIL image, or an array: uint8 or uint16 of shape (H, W),
    (H, W, 1), (H, W, 3) RGB or (H, W, 4) RGBA. The EXIF orientation of a PIL image is applied, so that a file
    gives the same boxes however it is opened.

    Raises:
        ImageError: the input is of another type, or as `read_image`.
    """
    if isinstance(image, (str, Path, bytes, bytearray, memoryview)):
        return read_image(image, max_pixels=max_pixels)
    if isinstance(image, Image.Image):
        check_pixels("picture", (image.height, image.width), max_pixels)
        return _writable(_pil_to_rgb(image, "picture"))
    if isinstance(image, np.ndarray):
        return _array_to_rgb(image)
    raise ImageError(
        f"cannot take a picture from {type(image).__name__}; pass a path, bytes, a PIL image or a NumPy array"
    )


def _check_size(picture: OpenPicture, image_rgb: UInt8Array) -> None:
    """Checks the header's size, which the boxes of a data set refer to."""
    height, width = image_rgb.shape[:2]
    stated_h, stated_w = picture.metadata.size_hw
    if (height, width) != (stated_h, stated_w):
        raise ImageError(
            f"{picture.name}: broken picture (its header says {stated_w}x{stated_h}, it holds "
            f"{width}x{height}); get a complete copy of the file"
        )


def _writable(image_rgb: UInt8Array) -> UInt8Array:
    return image_rgb if image_rgb.flags.writeable else image_rgb.copy()


def _pil_to_rgb(image: Image.Image, name: str) -> UInt8Array:
    """uint8 (h, w, 3), which may be read-only: a copy of a large picture takes as long as its decoding."""
    try:
        return _decode(image, name)
    except ImageError:
        raise
    except MemoryError:
        raise ImageError(f"{name}: not enough memory to decode it; scale it down first") from None
    except Exception as error:  # the decoders raise anything
        reason = reason_of(error)
        raise ImageError(f"{name}: broken picture ({reason}); get a complete copy of the file") from error


def _decode(image: Image.Image, name: str) -> UInt8Array:
    premultiplied = isinstance(image, TiffImageFile) and _load_tiff(image)
    image.load()
    image = upright(image)
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow also calls I (32 bit) in some files
        return _grey_to_rgb(np.asarray(image), image.info.get("transparency"), name)
    if image.mode == "F":
        raise ImageError(f"{name}: grey values in floating point; save it with 8 or 16 bits")
    if image.has_transparency_data:
        return _over_white(np.asarray(image.convert("RGBA")), premultiplied)
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"), np.uint8)


def _load_tiff(image: TiffImageFile) -> bool:
    """Loads it; returns whether its colours are, and stay, multiplied by alpha."""
    premultiplied = _keep_premultiplied(image)
    path, image.filename = image.filename, ""  # with a name, Pillow would map the file at its rotated size
    try:
        if image.tile:
            with lifted_limit():  # TIFF checks it a second time
                image.load_prepare()
        image.load()
    finally:
        image.filename = path
    return premultiplied


def _keep_premultiplied(image: TiffImageFile) -> bool:
    """Whether colours are multiplied by alpha; keeps Pillow from dividing them, since alpha may be 0."""
    tiles, found = [], False
    for tile in image.tile:
        if isinstance(tile.args, tuple) and str(tile.args[0]).startswith("RGBa"):
            tile, found = tile._replace(args=("RGBA" + tile.args[0][4:], *tile.args[1:])), True
        tiles.append(tile)
    image.tile = tiles
    return found


def _grey_to_rgb(values: npt.NDArray[Any], transparent: object, name: str) -> UInt8Array:
    """16-bit grey (H, W), one value of which may be transparent."""
    if values.min() < 0 or values.max() > 65535:
        raise ImageError(f"{name}: grey values of 32 bit; save it with 8 or 16 bits")
    grey = values.astype(np.uint16)
    if not isinstance(transparent, int):
        return _array_to_rgb(grey)
    alpha = np.where(grey == transparent, 0, 65535).astype(np.uint16)
    return _array_to_rgb(np.stack((grey, grey, grey, alpha), axis=-1))  # (H, W, 4)


def _array_to_rgb(array: npt.NDArray[Any]) -> UInt8Array:
    hint = "pass uint8 or uint16 of shape (H, W), (H, W, 3) RGB or (H, W, 4) RGBA"
    channels = {2: 1}.get(array.ndim, array.shape[2] if array.ndim == 3 else 0)
    if channels not in (1, 3, 4):
        raise ImageError(f"cannot take a picture from an array of shape {array.shape}; {hint}")
    if array.size == 0:
        raise ImageError(f"an array of shape {array.shape} has no pixels; {hint}")
    if array.dtype == np.uint16:
        array = np.round(array / np.float32(257)).astype(np.uint8)
    if array.dtype != np.uint8:
        raise ImageError(f"cannot take a picture from an array of {array.dtype}; {hint}")
    if channels == 1:
        return np.repeat(array.reshape(*array.shape[:2], 1), 3, axis=2)
    return _over_white(array) if channels == 4 else array


def _over_white(rgba: UInt8Array, premultiplied: bool = False) -> UInt8Array:
    rgb, alpha = np.ascontiguousarray(rgba[..., :3]), np.ascontiguousarray(rgba[..., 3])
    if alpha.min() == 255 or alpha.max() == 0:  # 0: the writer of a 32-bit picture left the fourth byte alone
        return rgb
    if premultiplied:  # min(rgb + 255 - alpha, 255), without overflow
        return np.minimum(rgb, alpha[..., None]) + (255 - alpha)[..., None]
    white = Image.new("RGB", alpha.shape[::-1], "white")
    white.paste(Image.fromarray(rgb), mask=Image.fromarray(alpha))
    return np.array(white)
