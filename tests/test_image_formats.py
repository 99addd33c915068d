"""Every kind of picture file: header, pixels and reduced reads agree, and with what was drawn.

What is expected is a drawn picture, turned by NumPy as the EXIF standard says, and Pillow's own
`ImageOps.exif_transpose`: neither goes through the code that is tested.
"""

from __future__ import annotations

import itertools
import warnings
import zlib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image, ImageOps

from maskwatch.data import find_splits, read_data
from maskwatch.data.quality.check import check_splits
from maskwatch.data.quality.probe import probe_image
from maskwatch.errors import ImageError
from maskwatch.labels import ClassMap
from maskwatch.media.formats import PICTURE_SUFFIXES, read_metadata
from maskwatch.media.images import as_rgb, read_image, read_reduced

HEIGHT, WIDTH = 64, 96


class Kind(NamedTuple):
    """How a file is written: Pillow's format and mode, options, frames; tolerance in levels."""

    format: str
    mode: str
    options: Mapping[str, Any] = MappingProxyType({})
    frames: int = 1
    tolerance: int = 0


def drawn() -> np.ndarray:
    """(64, 96, 3): ramps, and a corner by which every turn shows. Green stays below 200, see `opaque`."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    picture = np.stack((columns * 2, rows * 3, 255 - columns - rows), axis=-1).astype(np.uint8)
    picture[:16, :24] = (250, 190, 20)
    return picture


def stored(picture: np.ndarray, orientation: int) -> np.ndarray:
    """The picture as a file holds it that says it is turned so (Exif 2.32, section 4.6.4, figure 6)."""
    return {
        1: picture,
        2: picture[:, ::-1],
        3: picture[::-1, ::-1],
        4: picture[::-1],
        5: picture.swapaxes(0, 1),
        6: np.rot90(picture, 1),
        7: picture[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(picture, -1),
    }[orientation]


def in_mode(picture: np.ndarray, mode: str) -> Image.Image:
    image = Image.fromarray(picture)
    if mode == "I;16":
        return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    if mode == "P":
        return image.quantize(64, dither=Image.Dither.NONE)
    return image.convert(mode, dither=Image.Dither.NONE)


def expected(kind: Kind) -> np.ndarray:
    """(64, 96, 3), in the colours that the mode can hold."""
    mode = "L" if kind.mode == "I;16" else kind.mode
    return np.asarray(in_mode(drawn(), mode).convert("RGB"))


def write(path: Path, kind: Kind, orientation: int) -> None:
    if kind.format == "HEIF":  # for Pillow to write it, and to read it as the reference
        pytest.importorskip("pillow_heif", reason="extra heic").register_heif_opener()
    upright = in_mode(drawn(), kind.mode)
    first = Image.fromarray(np.ascontiguousarray(stored(np.asarray(upright), orientation)))
    if kind.mode in ("P", "CMYK"):  # arrays do not tell
        first = Image.frombytes(kind.mode, first.size, first.tobytes())
        if kind.mode == "P":
            first.putpalette(upright.getpalette() or [])
    options: dict[str, Any] = dict(kind.options)
    if kind.frames > 1:
        others = [in_mode(np.full((20, 30, 3), 40 * n, np.uint8), kind.mode) for n in range(1, kind.frames)]
        if kind.format not in ("MPO", "TIFF"):  # frames of an animation are of one size
            others = [other.resize(first.size) for other in others]
        options |= {"save_all": True, "append_images": others}
    if orientation != 1:
        exif = Image.Exif()
        exif[0x0112] = orientation
        options["exif"] = exif.tobytes()
    first.save(path, kind.format, **options)


LOSSY = {"quality": 95}
TURNED = {
    "jpeg": Kind("JPEG", "RGB", LOSSY | {"subsampling": 0}, tolerance=12),
    "jpeg grey": Kind("JPEG", "L", LOSSY, tolerance=12),
    "jpeg cmyk": Kind("JPEG", "CMYK", LOSSY | {"subsampling": 0}, tolerance=12),
    "jpeg progressive": Kind("JPEG", "RGB", LOSSY | {"subsampling": 0, "progressive": True}, tolerance=12),
    "mpo": Kind("MPO", "RGB", LOSSY | {"subsampling": 0}, 3, tolerance=12),
    "mpo grey": Kind("MPO", "L", LOSSY, 2, tolerance=12),
    "mpo cmyk": Kind("MPO", "CMYK", LOSSY | {"subsampling": 0}, 2, tolerance=12),
    "png": Kind("PNG", "RGB"),
    "png grey": Kind("PNG", "L"),
    "png grey, alpha": Kind("PNG", "LA"),
    "png palette": Kind("PNG", "P"),
    "png alpha": Kind("PNG", "RGBA"),
    "png 1 bit": Kind("PNG", "1"),
    "png 16 bit": Kind("PNG", "I;16"),
    "apng": Kind("PNG", "RGB", frames=3),
    "webp": Kind("WEBP", "RGB", {"lossless": True}),
    "webp alpha": Kind("WEBP", "RGBA", {"lossless": True}),
    "webp animated": Kind("WEBP", "RGB", {"lossless": True}, 3),
    "tiff": Kind("TIFF", "RGB"),
    "tiff grey": Kind("TIFF", "L"),
    "tiff alpha": Kind("TIFF", "RGBA"),
    "tiff palette": Kind("TIFF", "P"),
    "tiff cmyk": Kind("TIFF", "CMYK"),
    "tiff 1 bit": Kind("TIFF", "1"),
    "tiff 16 bit": Kind("TIFF", "I;16"),
    "tiff lzw": Kind("TIFF", "RGB", {"compression": "tiff_lzw"}),
    "tiff fax": Kind("TIFF", "1", {"compression": "group4"}),
    "tiff jpeg": Kind("TIFF", "RGB", {"compression": "jpeg", "quality": 95}, tolerance=12),
    "tiff pages": Kind("TIFF", "RGB", frames=3),
    "tiff pages lzw": Kind("TIFF", "CMYK", {"compression": "tiff_lzw"}, 2),
    "avif": Kind("AVIF", "RGB", LOSSY | {"subsampling": "4:4:4"}, tolerance=12),
    "avif grey": Kind("AVIF", "L", LOSSY, tolerance=12),
    "avif alpha": Kind("AVIF", "RGBA", LOSSY | {"subsampling": "4:4:4"}, tolerance=12),
    "heic": Kind("HEIF", "RGB", LOSSY | {"chroma": 444}, tolerance=12),
    "heic grey": Kind("HEIF", "L", LOSSY, tolerance=12),
    "heic alpha": Kind("HEIF", "RGBA", LOSSY | {"chroma": 444}, tolerance=12),
    "heic 4:2:0": Kind("HEIF", "RGB", LOSSY, tolerance=60),
    "heic tiles": Kind("HEIF", "RGB", LOSSY | {"chroma": 444, "tile_size": 32}, tolerance=12),
    "heic of several": Kind("HEIF", "RGB", LOSSY | {"chroma": 444}, 2, tolerance=12),
}
UPRIGHT = {
    "avif animated": Kind("AVIF", "RGB", LOSSY | {"subsampling": "4:4:4"}, 2, tolerance=12),
    "bmp": Kind("BMP", "RGB"),
    "bmp grey": Kind("BMP", "L"),
    "bmp palette": Kind("BMP", "P"),
    "bmp 1 bit": Kind("BMP", "1"),
    "bmp 32 bit": Kind("BMP", "RGBA"),
    "dib": Kind("DIB", "RGB"),
    "gif": Kind("GIF", "P"),
    "gif animated": Kind("GIF", "P", frames=3),
    "ppm": Kind("PPM", "RGB"),
    "pgm": Kind("PPM", "L"),
    "pbm": Kind("PPM", "1"),
    "pgm 16 bit": Kind("PPM", "I;16"),
}


def check(path: Path, kind: Kind, orientation: int) -> None:
    image, header, reduced = read_image(path), read_metadata(path), read_reduced(path, 24)
    scanned = probe_image(path)
    assert image.shape == (HEIGHT, WIDTH, 3)
    assert header.size_hw == reduced.metadata.size_hw == scanned.size_hw == (HEIGHT, WIDTH)
    assert header.orientation == reduced.metadata.orientation == scanned.orientation
    assert header.orientation == (1 if kind.format == "HEIF" else orientation)
    np.testing.assert_allclose(image.astype(int), expected(kind).astype(int), atol=kind.tolerance)
    height, width = reduced.image_rgb.shape[:2]
    assert height * WIDTH == width * HEIGHT
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of an MPO that Pillow itself writes
        with Image.open(path) as opened:
            np.testing.assert_array_equal(image, as_rgb(opened))
        with path.open("rb") as file:
            turned = ImageOps.exif_transpose(Image.open(file))
    assert turned.size == (WIDTH, HEIGHT)
    if kind.mode != "I;16":
        np.testing.assert_array_equal(image, np.asarray(turned.convert("RGB")))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", TURNED)
def test_turned_pictures(tmp_path: Path, name: str, orientation: int) -> None:
    path = tmp_path / "a.jpg"  # what is inside counts, not the suffix
    write(path, TURNED[name], orientation)
    check(path, TURNED[name], orientation)


@pytest.mark.parametrize("name", UPRIGHT)
def test_formats_that_are_never_turned(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.HEIC"
    write(path, UPRIGHT[name], 1)
    check(path, UPRIGHT[name], 1)


def test_a_data_set_of_every_kind_has_no_fault(tmp_path: Path) -> None:
    """The annotator saw the picture as it is shown, and stated that size."""
    size = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height></size>"
    box = "<bndbox><xmin>2</xmin><ymin>2</ymin><xmax>90</xmax><ymax>60</ymax></bndbox>"
    suffixes = itertools.cycle(PICTURE_SUFFIXES)
    for number, kind in enumerate((TURNED | UPRIGHT).values()):
        path = tmp_path / f"{number}{next(suffixes)}"
        write(path, kind, 6 if kind in TURNED.values() else 1)
        xml = f"<annotation>{size}<object><name>mask</name>{box}</object></annotation>"
        path.with_suffix(".xml").write_text(xml)
    checked = check_splits(find_splits(tmp_path), ClassMap(("mask",)))
    assert len(checked.images) == len(TURNED | UPRIGHT)
    assert {issue.kind for issue in checked.issues} <= {"leak", "picture-twice", "picture-alike"}
    samples = read_data(tmp_path, ClassMap(("mask",))).samples
    assert {sample.size_hw for sample in samples} == {(HEIGHT, WIDTH)}
    assert {tuple(sample.boxes_xyxy[0].tolist()) for sample in samples} == {(2, 2, 90, 60)}


@pytest.mark.parametrize("name", TURNED | UPRIGHT)
def test_damage_is_an_image_error_for_all_or_for_none(tmp_path: Path, name: str) -> None:
    """A header that is read may belong to a broken picture, never to one of another size."""
    path = tmp_path / "a"
    write(path, (TURNED | UPRIGHT)[name], 6 if name in TURNED else 1)
    whole = path.read_bytes()
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    for _ in range(25):
        data = np.frombuffer(whole, np.uint8).copy()
        places = rng.integers(0, rng.choice([min(64, len(data)), len(data)]), rng.integers(1, 8))
        data[places] = rng.integers(0, 256, len(places))
        path.write_bytes(data[: len(data) - int(rng.choice([0, 0, rng.integers(len(data))]))].tobytes())
        try:
            image, reduced = read_image(path), read_reduced(path, 24)
        except ImageError:
            with pytest.raises(ImageError):
                read_reduced(path, 24)
            continue
        assert image.shape[:2] == reduced.metadata.size_hw == read_metadata(path).size_hw
