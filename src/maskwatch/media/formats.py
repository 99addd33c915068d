"""File formats: suffixes, and opening a picture file without decoding it.

EXIF orientation is read and applied here and nowhere else.
"""

from __future__ import annotations

import contextlib
import io
import re
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeAlias

from PIL import Image, TiffImagePlugin
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from maskwatch.errors import ImageError, MissingExtraError
from maskwatch.media.sanitize import sanitize_jpeg, sanitize_png
from maskwatch.text import reason_of

FileInput: TypeAlias = "str | Path | bytes | bytearray | memoryview"

PICTURE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".heic", ".heif", ".hif", ".avif"),
    *(".bmp", ".dib", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".pbm", ".pnm"),
)
"""Of pictures to find in folders, in lower case. The format of a file is recognised by its content."""

VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv", ".ts", ".mts"),
    *(".3gp", ".ogv"),
)
UNSUPPORTED_SUFFIXES = (".jxl", ".jp2", ".psd", ".svg", ".dng", ".cr2", ".nef")
"""Reported as unsupported when found in a folder, instead of skipped like a text file."""

WRITABLE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
"""Formats of annotated pictures; any other one becomes a PNG."""

MAX_PIXELS = 200_000_000
"""Pictures with more pixels are refused before they are decoded: 200 MP are 600 MB of RGB."""

# A list, so that no file can reach Pillow's rarer decoders (EPS, for one, starts Ghostscript). `_open_image`
# recognises JPEG, PNG and HEIC.
_OTHER_FORMATS = ("WEBP", "AVIF", "BMP", "DIB", "TIFF", "GIF", "PPM")
_ANIMATED_FORMATS = ("GIF", "PNG", "WEBP")
_READABLE = "JPEG, PNG, WebP, HEIC, AVIF, BMP, TIFF, GIF or PPM"

_HEAD_BYTES = 64
# Brands of a file type box, ISO/IEC 23008-12, annex B; AVIF has the general ones as well.
_HEVC_BRANDS = frozenset((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"))
_AV1_BRANDS = frozenset((b"avif", b"avis"))
_GENERAL_BRANDS = frozenset((b"mif1", b"mif2", b"msf1"))
_PICTURE_BRANDS = _HEVC_BRANDS | _AV1_BRANDS | _GENERAL_BRANDS
_SIGNATURES = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r|GIF8[79]a|BM.{4}\0\0\0\0|RIFF.{4}WEBP|II\*\0|MM\0\*", re.DOTALL
)

# EXIF tag 0x0112, values as in the Exif 2.32 standard, section 4.6.4.
_ORIENTATION_TAG = 0x0112
_SIDEWAYS = (5, 6, 7, 8)  # these swap width and height
_TRANSPOSE_OF = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_NEW_SUBFILE_TYPE = 254

_pillow_lock = threading.Lock()


class ImageMetadata(NamedTuple):
    """size_hw: height and width in pixels, orientation applied; orientation: 1 (none) to 8, as in EXIF."""

    size_hw: tuple[int, int]
    orientation: int

    @property
    def turned(self) -> bool:
        """Whether orientation swaps width and height."""
        return self.orientation in _SIDEWAYS


class OpenPicture(NamedTuple):
    """name: for messages; image: first frame, not decoded, orientation not applied; metadata: see there."""

    name: str
    image: Image.Image
    metadata: ImageMetadata


@contextlib.contextmanager
def open_picture(source: FileInput, name: str | None, max_pixels: int) -> Iterator[OpenPicture]:
    """Opens a picture file, or the bytes of one, called `name` or its path in messages.

    Raises:
        ImageError: the file is missing, empty, not a picture, or has more than `max_pixels` pixels.
    """
    with contextlib.ExitStack() as stack:
        if isinstance(source, (str, Path)):
            name = name or str(source)
            file = stack.enter_context(_open_file(Path(source), name))
        else:
            name, file = name or "picture", io.BytesIO(source)
        if not file.read(1):
            raise ImageError(f"{name}: the file is empty; get a complete copy of it")
        file.seek(0)
        image = stack.enter_context(_open_image(name, file))
        metadata = _metadata(image)
        check_pixels(name, metadata.size_hw, max_pixels)
        yield OpenPicture(name, image, metadata)


def read_metadata(path: str | Path) -> ImageMetadata:
    """Size and orientation of a picture file, without decoding it. Raises as `open_picture`."""
    with open_picture(path, None, MAX_PIXELS) as picture:
        return picture.metadata


def is_picture(source: Path | bytes) -> bool:
    """Whether a file, or its bytes, have the header of a picture; HEIC needs no decoder for that."""
    name = str(source) if isinstance(source, Path) else "picture"
    try:
        with _open_file(source, name) if isinstance(source, Path) else io.BytesIO(source) as file:
            if _is_heic(_head(file)):
                return True
            with _open_image(name, file):
                return True
    except ImageError:
        return False


def starts_like_picture(head: bytes) -> bool:
    """True when these are the first bytes of a picture file, by its signature; 16 bytes are enough to tell.

    For data of which the rest has not arrived yet; `is_picture` knows more.
    """
    return _SIGNATURES.match(head) is not None or bool(_brands(head) & _PICTURE_BRANDS)


def is_animation(path: Path) -> bool:
    """Whether the content of a file is an animated GIF, PNG or WebP."""
    return _animated_format(path) is not None


def is_animated_webp(path: Path) -> bool:
    """Whether the content of a file is an animated WebP, which FFmpeg cannot decode."""
    return _animated_format(path) == "WEBP"


def orientation_of(image: Image.Image) -> int:
    """EXIF orientation, 1 to 8, else that of XMP; 1 where it is damaged or invalid."""
    try:
        with _quiet_pillow():
            # PngImageFile's own method decodes the picture to find EXIF behind it; `sanitize_png` found it.
            value = Image.Image.getexif(image).get(_ORIENTATION_TAG, 1)
        return int(value) if value in range(1, 9) else 1
    except Exception:  # a picture with damaged EXIF is still a picture
        return 1


def upright(image: Image.Image) -> Image.Image:
    """The picture with its EXIF orientation applied."""
    transpose = _TRANSPOSE_OF.get(orientation_of(image))
    return image if transpose is None else image.transpose(transpose)


def check_pixels(name: str, size_hw: tuple[int, int], max_pixels: int) -> None:
    """Raises `ImageError` for a picture without pixels, or with too many."""
    height, width = size_hw
    if width * height == 0:
        raise ImageError(f"{name}: the picture has no pixels ({width}x{height}); pass one that has some")
    if width * height > max_pixels:
        raise ImageError(
            f"{name}: {width}x{height} is {width * height / 1e6:.1f} megapixels, over the limit of "
            f"{max_pixels / 1e6:g}; scale it down first"
        )


@contextlib.contextmanager
def lifted_limit() -> Iterator[None]:
    """Lifts Pillow's limit of pixels, which is lower than `MAX_PIXELS` and prints warnings."""
    with _quiet_pillow():
        limit = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


@contextlib.contextmanager
def _quiet_pillow() -> Iterator[None]:
    """Mutes warnings. One thread at a time: warnings and Pillow's limit belong to the whole process."""
    with _pillow_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _animated_format(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            head = file.read(12) if file.seekable() else b""
            if not head.startswith((b"GIF8", b"\x89PNG")) and head[8:] != b"WEBP":
                return None
            file.seek(0)
            with Image.open(file, formats=_ANIMATED_FORMATS) as image:
                return image.format if getattr(image, "is_animated", False) else None
    except Exception:  # Pillow's decoders raise anything; reading the file reports the reason
        return None


def _metadata(image: Image.Image) -> ImageMetadata:
    orientation = orientation_of(image)
    width, height = image.size
    if isinstance(image, TiffImagePlugin.TiffImageFile):  # only here Pillow applies orientation to `size`
        width, height = image.tag_v2[TiffImagePlugin.IMAGEWIDTH], image.tag_v2[TiffImagePlugin.IMAGELENGTH]
    return ImageMetadata((width, height) if orientation in _SIDEWAYS else (height, width), orientation)


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
        raise ImageError(f"{name}: cannot be read ({reason_of(error)}); check its permissions") from None


def _open_image(name: str, file: BinaryIO) -> Image.Image:
    head = _head(file)
    try:
        if head.startswith(b"\xff\xd8\xff"):
            return _open_jpeg(file)
        if head.startswith(b"\x89PNG\r\n\x1a\n"):
            return _open_png(file)
        if _is_heic(head):
            return _open_heic(file)
        with lifted_limit():
            image = Image.open(file, formats=_OTHER_FORMATS)
        if isinstance(image, TiffImagePlugin.TiffImageFile) and _is_preview(image):
            raise ImageError(
                f"{name}: a raw photograph, of which only the preview can be read; save it as JPEG"
            )
        return image
    except ImageError:
        raise
    except MissingExtraError as error:
        raise ImageError(f"{name}: {error}") from None
    except Exception as error:  # the decoders raise anything on a broken header
        raise ImageError(
            f"{name}: not a picture that can be read; pass {_READABLE}, or convert it to one of these"
        ) from error


def _head(file: BinaryIO) -> bytes:
    head = file.read(_HEAD_BYTES)
    file.seek(0)
    return head


def _open_jpeg(file: BinaryIO) -> Image.Image:
    """The first picture, also of an MPO; `Image.open` would refuse one whose list of pictures is broken."""
    with _quiet_pillow(), contextlib.suppress(Exception):
        return JpegImageFile(file)
    # What Pillow refused may be outside the picture.
    file.seek(0)
    bare = io.BytesIO(sanitize_jpeg(file.read()))
    with _quiet_pillow():
        return JpegImageFile(bare)


def _open_png(file: BinaryIO) -> Image.Image:
    data, metadata = sanitize_png(file.read())
    with _quiet_pillow():
        image = PngImageFile(io.BytesIO(data))
    image.info.update(metadata)
    return image


def _is_preview(image: TiffImagePlugin.TiffImageFile) -> bool:
    """Whether it is a raw photograph (DNG, NEF …): a TIFF with a reduced first picture (TIFF 6, page 36)."""
    reduced = bool(int(image.tag_v2.get(_NEW_SUBFILE_TYPE) or 0) & 1)
    return reduced and TiffImagePlugin.SUBIFD in image.tag_v2


def _is_heic(head: bytes) -> bool:
    brands = _brands(head)
    return bool(brands & _HEVC_BRANDS) or bool(brands & _GENERAL_BRANDS and not brands & _AV1_BRANDS)


def _brands(head: bytes) -> set[bytes]:
    """Of a file type box, ISO/IEC 14496-12, section 4.3; empty where there is none."""
    if head[4:8] != b"ftyp":
        return set()
    end = min(len(head), _HEAD_BYTES, int.from_bytes(head[:4], "big"))
    return {head[8:12], *(head[at : at + 4] for at in range(16, end, 4))}


def _open_heic(file: BinaryIO) -> Image.Image:
    """The decoder applies the orientation of the container; that of EXIF would be applied a second time."""
    try:
        from pillow_heif import HeifImageFile
    except ImportError:
        raise MissingExtraError("a HEIC picture", "heic") from None
    image: Image.Image = HeifImageFile(file)  # type: ignore[no-untyped-call]
    image.info.pop("exif", None)
    image.info.pop("xmp", None)
    return image
