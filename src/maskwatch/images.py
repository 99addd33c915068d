"""Pictures in, network input out: decode, letterbox, and the way back for boxes.

Training, evaluation, export and the detector all resize through `fit`, so that there is one rule.
"""

from __future__ import annotations

import contextlib
import io
import math
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from maskwatch.errors import ImageError

UInt8Array: TypeAlias = npt.NDArray[np.uint8]
FloatArray: TypeAlias = npt.NDArray[np.float32]
ResizeRule: TypeAlias = Literal["letterbox", "squash"]
ImageInput: TypeAlias = "str | Path | bytes | bytearray | memoryview | Image.Image | npt.NDArray[Any]"

MAX_PIXELS = 200_000_000
"""Pictures with more pixels are refused before they are decoded: 200 MP are 600 MB of RGB."""

PAD_VALUE = 128  # the network sees x * 2 / 255 - 1, so that the padding is as good as zero

# Named, so that no file can reach Pillow's rarer decoders (EPS, for one, starts Ghostscript).
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "DIB", "TIFF", "GIF", "PPM")
_READABLE = "JPEG, PNG, WebP, BMP, TIFF, GIF or PPM"

# EXIF tag 0x0112, values as in the Exif 2.32 standard, section 4.6.4.
_ORIENTATION_TAG = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_SIDEWAYS = (5, 6, 7, 8)  # width and height change places

_header_lock = threading.Lock()


@dataclass(frozen=True)
class Placement:
    """Where a picture went on the network's canvas: its top-left corner is at (0, 0).

    `scale_x` and `scale_y` are canvas pixels per picture pixel; `width` and `height` are the picture's own.
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


def letterbox(image_rgb: UInt8Array, size_hw: tuple[int, int]) -> tuple[UInt8Array, Placement]:
    """Fits a picture (h, w, 3) into a canvas (H, W, 3), keeping its aspect ratio.

    The picture lies top-left, so that boxes need a scale and no offset; the rest is grey (`PAD_VALUE`).
    """
    height, width = image_rgb.shape[:2]
    scale = min(size_hw[0] / height, size_hw[1] / width)
    new_hw = (max(1, round(height * scale)), max(1, round(width * scale)))
    resized, placement = squash(image_rgb, new_hw)
    canvas = np.full((*size_hw, 3), PAD_VALUE, np.uint8)
    canvas[: new_hw[0], : new_hw[1]] = resized
    return canvas, placement


def squash(image_rgb: UInt8Array, size_hw: tuple[int, int]) -> tuple[UInt8Array, Placement]:
    """Resizes a picture (h, w, 3) to exactly (H, W, 3), whatever becomes of its aspect ratio."""
    height, width = image_rgb.shape[:2]
    placement = Placement(size_hw[1] / width, size_hw[0] / height, width, height)
    if (height, width) == tuple(size_hw):
        return image_rgb.copy(), placement
    shrinks = size_hw[0] * size_hw[1] < height * width
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    resized = cv2.resize(np.ascontiguousarray(image_rgb), (size_hw[1], size_hw[0]), interpolation=method)
    return np.asarray(resized, np.uint8), placement


def fit(image_rgb: UInt8Array, size_hw: tuple[int, int], rule: ResizeRule) -> tuple[UInt8Array, Placement]:
    """Brings a picture (h, w, 3) to network size (H, W, 3) by the named rule.

    Raises:
        ValueError: the rule is neither "letterbox" nor "squash".
    """
    if rule == "letterbox":
        return letterbox(image_rgb, size_hw)
    if rule == "squash":
        return squash(image_rgb, size_hw)
    raise ValueError(f"resize rule {rule!r} is unknown; use 'letterbox' or 'squash'")


def read_image(
    source: str | Path | bytes | bytearray | memoryview,
    *,
    max_pixels: int = MAX_PIXELS,
    name: str | None = None,
) -> UInt8Array:
    """Decodes a picture file, or the bytes of one, to uint8 (H, W, 3) RGB as a viewer would show it.

    The EXIF orientation is applied, transparency is laid over white, 16-bit grey is scaled to 8 bit;
    of an animation the first frame counts. `name` is what messages call the picture, else its path.

    Raises:
        ImageError: the file is missing, empty, truncated, no picture, or has more than `max_pixels` pixels.
            The number of pixels is read from the header, before anything is decoded.
    """
    with _opened(source, name, max_pixels) as (name, image):
        return _guarded(name, partial(_pil_to_rgb, image, name))


class Glance(NamedTuple):
    """image_rgb: uint8 (h, w, 3), perhaps smaller than the picture; size_hw: of the picture as shown, pixels;
    orientation: the EXIF orientation that was applied, 1 to 8, where 1 is none."""

    image_rgb: UInt8Array
    size_hw: tuple[int, int]
    orientation: int


def glance(source: str | Path, side: int, *, max_pixels: int = MAX_PIXELS) -> Glance:
    """Reads a whole picture file, but gives the picture smaller where that is cheaper.

    A JPEG is decoded at a half, a quarter or an eighth of its size, which skips most of the arithmetic and
    still reads every byte, so that a truncated file is noticed.

    Args:
        source: the file.
        side: pixels that the longer side of what is given has at least, if the picture has them.
        max_pixels: as for `read_image`.

    Raises:
        ImageError: as `read_image`.
    """
    with _opened(source, None, max_pixels) as (name, image):
        width, height = image.size
        jpeg = image.format == "JPEG"
        wanted = [max(1, math.ceil(length * side / max(width, height))) for length in (width, height)]
        image.draft("RGB", (wanted[0], wanted[1]))
        decoded = _guarded(name, lambda: _pil_to_rgb(image, name))
        orientation = _orientation(image)
    size_hw = (decoded.shape[0], decoded.shape[1])
    if jpeg:
        size_hw = (width, height) if orientation in _SIDEWAYS else (height, width)
    return Glance(decoded, size_hw, orientation if orientation in _TURNS else 1)


@contextlib.contextmanager
def _opened(
    source: str | Path | bytes | bytearray | memoryview, name: str | None, max_pixels: int
) -> Iterator[tuple[str, Image.Image]]:
    """The picture of a file or of bytes, not decoded yet, and its name for messages."""
    with contextlib.ExitStack() as stack:
        if isinstance(source, (str, Path)):
            name = name or str(source)
            file = stack.enter_context(_open_file(Path(source), name))
        else:
            name, file = name or "picture", io.BytesIO(source)
        if not file.read(1):
            raise ImageError(f"{name}: the file is empty; get a complete copy of it")
        file.seek(0)
        image = stack.enter_context(_open(name, file))
        _check_pixels(name, image.size, max_pixels)
        yield name, image


def is_picture(source: Path | bytes) -> bool:
    """True when the header of a file, or of its bytes, is that of a picture that `read_image` can read."""
    try:
        file = io.BytesIO(source) if isinstance(source, bytes) else _open_file(source, str(source))
        with file, _open("picture", file):
            return True
    except ImageError:
        return False


def as_rgb(image: ImageInput, *, max_pixels: int = MAX_PIXELS) -> UInt8Array:
    """Turns what a caller has into uint8 (H, W, 3) RGB.

    Takes a path, the bytes of a picture file, a PIL image, or an array: uint8 or uint16 of shape (H, W),
    (H, W, 1), (H, W, 3) RGB or (H, W, 4) RGBA. An EXIF orientation that a PIL image carries is applied,
    so that a file gives the same boxes whoever opens it.

    Raises:
        ImageError: the input is of another kind, or `read_image` refuses the file.
    """
    if isinstance(image, (str, Path, bytes, bytearray, memoryview)):
        return read_image(image, max_pixels=max_pixels)
    if isinstance(image, Image.Image):
        _check_pixels("picture", image.size, max_pixels)
        return _guarded("picture", lambda: _pil_to_rgb(image, "picture"))
    if isinstance(image, np.ndarray):
        return _array_to_rgb(image)
    raise ImageError(
        f"cannot take a picture from {type(image).__name__}; pass a path, bytes, a PIL image or a NumPy array"
    )


def _open_file(path: Path, name: str) -> BinaryIO:
    """Opens for reading and seeking; a pipe is read into memory."""
    try:
        file = path.open("rb")
        if file.seekable():
            return file
        with file:
            return io.BytesIO(file.read(MAX_PIXELS))
    except IsADirectoryError:
        raise ImageError(f"{name}: this is a folder; pass a picture file") from None
    except FileNotFoundError:
        raise ImageError(f"{name}: no such file; check the path") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ImageError(f"{name}: cannot be read ({reason}); check its permissions") from None


def _open(name: str, file: BinaryIO) -> Image.Image:
    # Pillow's own limit is lower than ours and its warning would reach the terminal, so it is lifted for
    # the moment in which the header is read; `_check_pixels` follows before anything is decoded.
    with _header_lock:
        limit = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None
        try:
            return Image.open(file, formats=_FORMATS)
        except Exception as error:  # the decoders raise whatever they stumble over in a broken header
            raise ImageError(
                f"{name}: not a picture that can be read; pass {_READABLE}, or convert it to one of these"
            ) from error
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _check_pixels(name: str, size_wh: tuple[int, int], max_pixels: int) -> None:
    width, height = size_wh
    if width * height == 0:
        raise ImageError(f"{name}: the picture has no pixels ({width}x{height}); pass one that has some")
    if width * height > max_pixels:
        raise ImageError(
            f"{name}: {width}x{height} is {width * height / 1e6:.1f} megapixels, over the limit of "
            f"{max_pixels / 1e6:g}; scale it down first"
        )


def _guarded(name: str, decode: Callable[[], UInt8Array]) -> UInt8Array:
    try:
        return decode()
    except ImageError:
        raise
    except MemoryError:
        raise ImageError(f"{name}: not enough memory to decode it; scale it down first") from None
    except Exception as error:  # see _open
        reason = str(error) or type(error).__name__
        raise ImageError(f"{name}: broken picture ({reason}); get a complete copy of the file") from error


def _pil_to_rgb(image: Image.Image, name: str) -> UInt8Array:
    image.load()
    turn = _TURNS.get(_orientation(image))
    if turn is not None:
        image = image.transpose(turn)
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow also calls I (32 bit) in some files
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise ImageError(f"{name}: grey values of 32 bit; save it with 8 or 16 bits")
        return _array_to_rgb(values.astype(np.uint16))
    if image.mode == "F":
        raise ImageError(f"{name}: grey values in floating point; save it with 8 or 16 bits")
    if image.has_transparency_data:
        return _array_to_rgb(np.asarray(image.convert("RGBA")))
    return np.array(image.convert("RGB"), np.uint8)


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # damaged EXIF must not cost us the picture
        return 1


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


def _over_white(rgba: UInt8Array) -> UInt8Array:
    alpha = rgba[..., 3:].astype(np.uint16)
    blended = rgba[..., :3] * alpha + 255 * (255 - alpha)  # at most 255 * 255, so that uint16 holds it
    return ((blended + 127) // 255).astype(np.uint8)
