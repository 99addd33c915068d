"""Huge, broken and hostile descriptions inside picture files: only pixels matter, and how they are turned."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskwatch.data.quality.probe import probe_image
from maskwatch.media.formats import read_metadata
from maskwatch.media.images import read_image, read_reduced

MIB = 1 << 20
XMP = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'


def picture() -> np.ndarray:
    """(32, 48, 3)"""
    rows, columns = np.mgrid[:32, :48]
    return np.stack((rows * 7, columns * 5, rows + columns), axis=-1).astype(np.uint8)


def encoded(kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture()).save(buffer, kind, **options)
    return buffer.getvalue()


def exif(orientation: int) -> bytes:
    """A TIFF structure with this tag alone, big-endian, without the word Exif before it."""
    return b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def damaged(one: bytes) -> bytes:
    """With a checksum that does not fit."""
    return one[:-1] + bytes([one[-1] ^ 1])


def segment(marker: int, data: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


def raw_profile(data: bytes) -> bytes:
    """As ImageMagick writes EXIF into PNG text."""
    return b"\nexif\n%8d\n" % len(data) + data.hex().encode() + b"\n"


UPRIGHT_CHUNKS = {
    "text": chunk(b"tEXt", b"Comment\0" + b"x" * 3 * MIB),
    "vast text": chunk(b"tEXt", b"Comment\0" + b"x" * 70 * MIB),
    "packed text": chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"x" * 3 * MIB)),
    "text bomb": chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"x" * 200 * MIB)),
    "broken packed text": chunk(b"zTXt", b"Comment\0\0no zlib"),
    "unknown packing": chunk(b"zTXt", b"Comment\0\7text"),
    "text that is no UTF-8": chunk(b"iTXt", b"Comment\0\0\0en\0\xff\xfe\0\xff\xff"),
    "cut XMP": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1"),
    "broken XMP": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0no zlib"),
    "damaged text": damaged(chunk(b"tEXt", b"Comment\0text")),
    "broken profile": chunk(b"iCCP", b"icc\0\0no zlib"),
    "empty profile": chunk(b"iCCP", b""),
    "unknown profile packing": chunk(b"iCCP", b"icc\0\5profile"),
    "profile bomb": chunk(b"iCCP", b"icc\0\0" + zlib.compress(b"x" * 50 * MIB)),
    "short gAMA": chunk(b"gAMA", b""),
    "short cHRM": chunk(b"cHRM", b"1"),
    "short sRGB": chunk(b"sRGB", b""),
    "short pHYs": chunk(b"pHYs", b"1"),
    "short tRNS": chunk(b"tRNS", b"\0"),
    "damaged tRNS": damaged(chunk(b"tRNS", b"\0" * 6)),
    "short acTL": chunk(b"acTL", b"\0"),
    "short fcTL": chunk(b"acTL", struct.pack(">II", 1, 0)) + chunk(b"fcTL", b"1"),
    "broken EXIF": chunk(b"eXIf", b"no TIFF"),
    "damaged EXIF": damaged(chunk(b"eXIf", exif(6))),
    "private": chunk(b"prVt", b"\0" * 100),
}
TURNING_CHUNKS = {
    "EXIF": chunk(b"eXIf", exif(6)),
    "XMP": chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP),
    "large XMP": chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP + b" " * 3 * MIB),
    "large packed XMP": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(XMP + b" " * 99 * MIB)),
    "profile in text": chunk(b"tEXt", b"Raw profile type exif\0" + raw_profile(b"Exif\0\0" + exif(6))),
    "profile in packed text": chunk(
        b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(raw_profile(b"Exif\0\0" + exif(6)))
    ),
}
UPRIGHT_SEGMENTS = {
    "large segments": segment(0xE5, b"x" * 65_000) * 100,
    "comment": segment(0xFE, b"x" * 65_000),
    "cut profile": segment(0xE2, b"ICC_PROFILE\0"),
    "profile of other parts": segment(0xE2, b"ICC_PROFILE\0\1\5" + b"x" * 50),
    "broken profile": segment(0xE2, b"ICC_PROFILE\0\1\1" + b"x" * 5000),
    "cut Photoshop block": segment(0xED, b"Photoshop 3.0\x008BIM\x03\xed"),
    "cut JFIF": segment(0xE0, b"JFIF"),
    "cut Adobe": segment(0xEE, b"Adobe\0d"),
    "broken EXIF": segment(0xE1, b"Exif\0\0no TIFF"),
    "cut EXIF": segment(0xE1, b"Exif\0\0" + exif(6)[:-6]),
    "empty EXIF": segment(0xE1, b"Exif\0\0"),
    "broken list of pictures": segment(0xE2, b"MPF\0no TIFF"),
    "empty list of pictures": segment(0xE2, b"MPF\0"),
    "filling": b"\xff\xff\xff",
}
EXIF_SEGMENT = segment(0xE1, b"Exif\0\0" + exif(6))
TURNING_SEGMENTS = {
    "EXIF": EXIF_SEGMENT,
    "EXIF twice": EXIF_SEGMENT * 2,
    "XMP": segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP),
    "EXIF, cut profile": EXIF_SEGMENT + UPRIGHT_SEGMENTS["cut profile"],
    "cut Photoshop block, EXIF": UPRIGHT_SEGMENTS["cut Photoshop block"] + EXIF_SEGMENT,
    "broken list of pictures, EXIF": UPRIGHT_SEGMENTS["broken list of pictures"] + EXIF_SEGMENT,
}


def check(path: Path, expected: np.ndarray, orientation: int) -> None:
    header = read_metadata(path)
    assert (header.size_hw, header.orientation) == (expected.shape[:2], orientation)
    assert read_reduced(path, 10).metadata == header
    np.testing.assert_array_equal(read_image(path), expected)
    scanned = probe_image(path)
    assert (scanned.reason, scanned.size_hw, scanned.orientation) == (None, *header)


@pytest.mark.parametrize("late", [False, True], ids=["before the pixels", "after them"])
@pytest.mark.parametrize("name", [*UPRIGHT_CHUNKS, *TURNING_CHUNKS])
def test_chunks_of_a_png(tmp_path: Path, name: str, late: bool) -> None:
    plain = encoded("PNG")
    at = len(plain) - 12 if late else 33  # before IEND, or after IHDR
    more = (UPRIGHT_CHUNKS | TURNING_CHUNKS)[name]
    (tmp_path / "a.png").write_bytes(plain[:at] + more + plain[at:])
    turned = name in TURNING_CHUNKS
    expected = np.rot90(picture(), -1) if turned else picture()
    check(tmp_path / "a.png", expected, 6 if turned else 1)


@pytest.mark.parametrize("name", [*UPRIGHT_SEGMENTS, *TURNING_SEGMENTS])
def test_segments_of_a_jpeg(tmp_path: Path, name: str) -> None:
    plain = encoded("JPEG", quality=95)
    more = (UPRIGHT_SEGMENTS | TURNING_SEGMENTS)[name]
    (tmp_path / "a.jpg").write_bytes(plain[:2] + more + plain[2:])
    pixels = np.asarray(Image.open(io.BytesIO(plain)))
    turned = name in TURNING_SEGMENTS
    check(tmp_path / "a.jpg", np.rot90(pixels, -1) if turned else pixels, 6 if turned else 1)


@pytest.mark.parametrize(
    ("kind", "name", "data", "orientation"),
    [
        ("WEBP", "exif", b"no TIFF", 1),
        *(
            (kind, *case)
            for kind in ("WEBP", "TIFF")
            for case in (
                ("icc_profile", b"no profile", 1),
                ("icc_profile", b"x" * 3 * MIB, 1),
                ("xmp", XMP, 6),
                ("xmp", XMP + b" " * 3 * MIB, 6),
                ("exif", exif(6), 6),
            )
        ),
    ],
)
def test_webp_and_tiff(tmp_path: Path, kind: str, name: str, data: bytes, orientation: int) -> None:
    if kind == "TIFF" and name == "xmp":
        options: dict[str, object] = {"tiffinfo": {700: data}}
    else:
        options = {name: data}
    if kind == "WEBP":
        options["lossless"] = True
    (tmp_path / "a").write_bytes(encoded(kind, **options))
    check(tmp_path / "a", np.rot90(picture(), -1) if orientation == 6 else picture(), orientation)


@pytest.mark.parametrize("value", [0, 9, 65535])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_orientations_that_do_not_exist(tmp_path: Path, kind: str, value: int) -> None:
    tag = Image.Exif()
    tag[0x0112] = value
    (tmp_path / "a").write_bytes(encoded(kind, exif=tag))
    assert read_metadata(tmp_path / "a") == ((32, 48), 1)
    assert read_image(tmp_path / "a").shape == (32, 48, 3)


def test_exif_has_the_say_over_xmp(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(encoded("JPEG", exif=b"Exif\0\0" + exif(3), xmp=XMP))
    assert read_metadata(tmp_path / "a") == ((32, 48), 3)


@pytest.mark.parametrize("cut", [1, 13, 60])
def test_a_png_without_its_end(tmp_path: Path, cut: int) -> None:
    """The end mark is no pixel; pixels that are missing are an error."""
    data = encoded("PNG")
    (tmp_path / "a.png").write_bytes(data[:-cut])
    found = probe_image(tmp_path / "a.png")
    assert found.readable is (cut < 60)
    assert read_metadata(tmp_path / "a.png").size_hw == (32, 48)


def test_a_damaged_header_is_no_picture(tmp_path: Path) -> None:
    data = encoded("PNG")
    (tmp_path / "a.png").write_bytes(damaged(data[:33]) + data[33:])
    assert "not a picture" in str(probe_image(tmp_path / "a.png").reason)
