"""Decoding, and the way to network size and back."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import sys
import threading
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from maskwatch.errors import ImageError
from maskwatch.media.formats import is_picture, starts_like_picture
from maskwatch.media.images import PAD_VALUE, as_rgb, fit, letterbox, read_image, squash

LOSSLESS = ("png", "bmp", "tiff", "gif", "ppm", "webp")


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and has next to no data."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


@pytest.fixture
def corners() -> Image.Image:
    """8 × 4 pixels, top-left red, the rest black."""
    image = Image.new("RGB", (8, 4))
    image.paste((255, 0, 0), (0, 0, 2, 2))
    return image


@pytest.mark.parametrize("kind", LOSSLESS)
def test_lossless_formats_come_as_they_are(tmp_path: Path, corners: Image.Image, kind: str) -> None:
    path = tmp_path / f"ünï ☃.{kind}"
    corners.save(path, **({"lossless": True} if kind == "webp" else {}))
    np.testing.assert_array_equal(read_image(path), np.asarray(corners))


def test_jpeg(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.new("RGB", (16, 8), (200, 100, 50)).save(path, quality=95)
    image = read_image(path)
    assert image.shape == (8, 16, 3)
    assert image.dtype == np.uint8
    np.testing.assert_allclose(image.reshape(-1, 3), [[200, 100, 50]] * 128, atol=3)


@pytest.mark.parametrize(
    ("orientation", "size_hw", "red_at"),
    [
        (1, (4, 8), (0, 0)),
        (2, (4, 8), (0, 7)),
        (3, (4, 8), (3, 7)),
        (4, (4, 8), (3, 0)),
        (5, (8, 4), (0, 0)),
        (6, (8, 4), (0, 3)),
        (7, (8, 4), (7, 3)),
        (8, (8, 4), (7, 0)),
    ],
)
def test_exif_orientation(
    corners: Image.Image, orientation: int, size_hw: tuple[int, int], red_at: tuple[int, int]
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(corners, exif=exif)
    image = read_image(data)
    assert image.shape == (*size_hw, 3)
    assert tuple(image[red_at]) == (255, 0, 0)
    np.testing.assert_array_equal(as_rgb(Image.open(io.BytesIO(data))), image)


def test_orientation_without_meaning_is_ignored(corners: Image.Image) -> None:
    exif = Image.Exif()
    exif[0x0112] = 77
    assert read_image(encoded(corners, exif=exif)).shape == (4, 8, 3)


def test_transparency_lies_over_white() -> None:
    image = Image.new("RGBA", (3, 1), (0, 0, 0, 0))
    image.putpixel((1, 0), (100, 0, 200, 255))
    image.putpixel((2, 0), (0, 0, 0, 51))  # a fifth of black
    assert read_image(encoded(image)).tolist() == [[[255, 255, 255], [100, 0, 200], [204, 204, 204]]]


def test_transparent_palette_lies_over_white() -> None:
    image = Image.new("P", (2, 1), 0)
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    assert read_image(encoded(image, transparency=0)).tolist() == [[[255, 255, 255], [40, 50, 60]]]


def bmp(compression: int, alpha: int) -> bytes:
    """One pixel (10, 120, 200) in 32 bits, with a mask for alpha, as screenshot tools write it."""
    masks = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    header = struct.pack("<IiiHHIIiiII", 56, 1, 1, 1, 32, compression, 4, 0, 0, 0, 0) + masks
    start = 14 + len(header)
    return b"BM" + struct.pack("<IHHI", start + 4, 0, 0, start) + header + bytes((200, 120, 10, alpha))


def premultiplied_tiff(rgba: tuple[int, int, int, int]) -> bytes:
    data = encoded(Image.new("RGBA", (1, 1), rgba), "TIFF")
    extra = struct.pack(
        "<HHI", 338, 3, 1
    )  # ExtraSamples: 2 is alpha, 1 is alpha that colours are multiplied by
    return data.replace(extra + b"\2", extra + b"\1")


HIDDEN = (10, 120, 200, 0)


@pytest.mark.parametrize(
    ("data", "tolerance"),
    [
        pytest.param(encoded(Image.new("RGBA", (1, 1), HIDDEN)), 0, id="png"),
        pytest.param(encoded(Image.new("RGBA", (1, 1), HIDDEN), "TIFF"), 0, id="tiff"),
        pytest.param(
            encoded(Image.new("RGBA", (1, 1), HIDDEN), "WEBP", lossless=True, exact=True), 0, id="webp"
        ),
        pytest.param(encoded(Image.new("RGBA", (8, 8), HIDDEN), "AVIF", quality=100), 3, id="avif"),
        pytest.param(premultiplied_tiff(HIDDEN), 0, id="premultiplied tiff"),
        pytest.param(bmp(0, 0), 0, id="bmp without a mask in use"),
        pytest.param(bmp(3, 0), 0, id="bmp"),
        pytest.param(
            cv2.imencode(".png", np.array([[[200, 120, 10, 0]]], np.uint16) * 257)[1].tobytes(),
            0,
            id="png of 16 bit",
        ),
        pytest.param(
            encoded(Image.new("RGB", (1, 1), HIDDEN[:3]), transparency=HIDDEN[:3]), 0, id="colour key"
        ),
    ],
)
def test_an_alpha_channel_that_hides_everything_is_none(data: bytes, tolerance: int) -> None:
    np.testing.assert_allclose(read_image(data)[0, 0], HIDDEN[:3], atol=tolerance)


def test_pictures_that_their_transparency_hides() -> None:
    palette = Image.new("P", (2, 1), 1)
    palette.putpalette([10, 20, 30, 40, 50, 60])
    assert read_image(encoded(palette, transparency=1)).tolist() == [[[40, 50, 60]] * 2]
    assert read_image(encoded(palette, "GIF", transparency=1)).tolist() == [[[40, 50, 60]] * 2]
    assert read_image(encoded(Image.new("LA", (1, 1), (90, 0)))).tolist() == [[[90] * 3]]
    assert as_rgb(Image.new("RGBA", (1, 1), HIDDEN)).tolist() == [[[10, 120, 200]]]
    assert as_rgb(np.array([[HIDDEN]], np.uint8)).tolist() == [[[10, 120, 200]]]


@pytest.mark.parametrize(
    "data",
    [
        bmp(3, 128),
        premultiplied_tiff((5, 60, 100, 128)),
        encoded(Image.new("RGBA", (1, 1), (10, 120, 200, 128))),
    ],
)
def test_half_transparent_pictures_lie_over_white(data: bytes) -> None:
    # 10 · 128 / 255 + 255 · 127 / 255 = 132.02, 120 → 187.2, 200 → 227.4
    np.testing.assert_allclose(read_image(data)[0, 0], [132, 187, 227], atol=1)


def test_a_transparent_grey_of_sixteen_bit_lies_over_white() -> None:
    image = Image.fromarray(np.array([[0, 257 * 100]], np.uint16))
    assert read_image(encoded(image, transparency=0)).tolist() == [[[255] * 3, [100] * 3]]


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_grey_is_scaled(kind: str) -> None:
    image = Image.fromarray(np.array([[0, 257 * 100, 65535]], np.uint16))
    assert read_image(encoded(image, kind)).tolist() == [[[0] * 3, [100] * 3, [255] * 3]]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "CMYK", "YCbCr", "HSV"])
def test_other_modes_become_rgb(mode: str) -> None:
    assert as_rgb(Image.new(mode, (5, 3))).shape == (3, 5, 3)


def test_grey_beyond_sixteen_bit_is_refused() -> None:
    for image in (Image.fromarray(np.array([[70000]], np.int32)), Image.new("F", (1, 1))):
        with pytest.raises(ImageError, match="save it with 8 or 16 bits"):
            as_rgb(image)


def test_one_pixel() -> None:
    assert read_image(encoded(Image.new("RGB", (1, 1), (1, 2, 3)))).tolist() == [[[1, 2, 3]]]


@pytest.mark.parametrize("data", [b"", bytearray(), memoryview(b"")])
def test_empty_bytes(data: bytes) -> None:
    with pytest.raises(ImageError, match="picture: the file is empty"):
        read_image(data)


def test_files_that_are_no_pictures(tmp_path: Path) -> None:
    cases = {
        "empty.jpg": (b"", "is empty"),
        "text.jpg": (b"hello", "not a picture"),
        "nul.png": (b"\0" * 99, "not a"),
    }
    for name, (content, reason) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ImageError, match=f"{name}: .*{reason}"):
            read_image(tmp_path / name)
    with pytest.raises(ImageError, match=r"gone\.jpg: no such file"):
        read_image(tmp_path / "gone.jpg")
    with pytest.raises(ImageError, match="this is a folder"):
        read_image(str(tmp_path))
    with pytest.raises(ImageError, match="cannot be read"):
        read_image(tmp_path / ("a" * 3000))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "BMP"])
def test_truncated_pictures_are_named(tmp_path: Path, kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    data = encoded(Image.fromarray(noise), kind)
    path = tmp_path / "torn"
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ImageError, match="torn: "):
        read_image(path)


@given(st.binary(max_size=200), st.integers(0, 60))
def test_damage_is_never_anything_but_an_image_error(noise: bytes, keep: int) -> None:
    data = encoded(Image.new("RGB", (4, 4)))[:keep] + noise
    with contextlib.suppress(ImageError):
        assert read_image(data).shape[2] == 3


def test_too_many_pixels_are_refused_by_the_header() -> None:
    with pytest.raises(
        ImageError, match=r"20000x20000 is 400\.0 megapixels, over the limit of 200; scale it down"
    ):
        read_image(png_header(20_000, 20_000))
    with pytest.raises(ImageError, match="broken picture"):  # below the limit, so decoding is tried
        read_image(png_header(100, 100))
    with pytest.raises(ImageError, match=r"over the limit of 0\.001"):
        read_image(encoded(Image.new("RGB", (40, 40))), max_pixels=1000)
    with pytest.raises(ImageError, match="over the limit"):
        as_rgb(Image.new("RGB", (40, 40)), max_pixels=1000)


def test_every_format_is_refused_by_its_header() -> None:
    image = Image.new("RGB", (64, 64))
    patches = {  # where the size stands, and how it is written
        "JPEG": (b"\xff\xc0", 5, ">HH", 20_000),
        "GIF": (b"GIF8", 6, "<HH", 20_000),
        "BMP": (b"BM", 18, "<ii", 20_000),
        "AVIF": (b"ispe", 8, ">II", 15_000),
        "HEIF": (b"ispe", 8, ">II", 20_000),
    }
    pytest.importorskip("pillow_heif", reason="extra heic").register_heif_opener()
    for kind, (mark, offset, layout, side) in patches.items():
        data = encoded(image, kind)
        at = data.index(mark) + offset
        size = struct.pack(layout, side, side)
        with pytest.raises(ImageError, match="megapixels, over the limit of 200; scale it down first"):
            read_image(data[:at] + size + data[at + len(size) :])
    with pytest.raises(ImageError, match=r"400\.0 megapixels, over the limit"):
        read_image(b"P6 20000 20000 255\n...")


def test_pillows_own_limit_is_as_before() -> None:
    before = Image.MAX_IMAGE_PIXELS
    with pytest.raises(ImageError):
        read_image(b"nothing")
    assert before == Image.MAX_IMAGE_PIXELS


def test_pillows_lower_limits_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would warn of 90 megapixels, and refuse 180; TIFF asks a second time."""
    data = {
        kind: encoded(Image.new("RGB", (40, 40)), kind) for kind in ("TIFF", "GIF", "WEBP", "PNG", "JPEG")
    }
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 600)
    for kind, file in data.items():
        assert read_image(file).shape == (40, 40, 3), kind


def test_heic_without_its_decoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "phone"  # the content is enough
    path.write_bytes(b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic" + b"\0" * 40)
    assert is_picture(path)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    assert is_picture(path)
    with pytest.raises(ImageError, match=r"phone: .*HEIC.*run: pip install 'maskwatch\[heic\]'"):
        read_image(path)


def test_the_preview_of_a_raw_photograph_is_not_taken_for_it() -> None:
    preview = encoded(Image.new("RGB", (16, 12)), "TIFF", tiffinfo={254: 1, 330: (8,)})
    with pytest.raises(ImageError, match="a raw photograph, of which only the preview can be read; save it"):
        read_image(preview)
    assert read_image(encoded(Image.new("RGB", (16, 12)), "TIFF", tiffinfo={254: 1})).shape == (12, 16, 3)


def test_a_tiff_that_pillow_has_opened_by_its_name(tmp_path: Path) -> None:
    """Pillow maps it into memory, and takes the size after the turn for that before it."""
    tag = Image.Exif()
    tag[0x0112] = 6
    pixels = np.arange(6 * 4 * 4, dtype=np.uint8).reshape(4, 6, 4)
    Image.frombytes("CMYK", (6, 4), pixels.tobytes()).save(tmp_path / "a.tif", exif=tag)
    image = Image.open(tmp_path / "a.tif")
    np.testing.assert_array_equal(as_rgb(image), read_image(tmp_path / "a.tif"))
    assert image.filename == str(tmp_path / "a.tif")


def test_a_pipe_can_be_read(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(encoded(Image.new("RGB", (7, 5))),))
    writer.start()
    assert read_image(pipe).shape == (5, 7, 3)
    writer.join()


def test_is_picture(tmp_path: Path) -> None:
    (tmp_path / "picture.dat").write_bytes(encoded(Image.new("RGB", (4, 4))))
    (tmp_path / "text.png").write_text("x")
    assert is_picture(tmp_path / "picture.dat")
    assert not is_picture(tmp_path / "text.png")
    assert not is_picture(tmp_path / "gone")


def test_arrays() -> None:
    grey = np.array([[0, 128, 255]], np.uint8)
    assert as_rgb(grey).tolist() == as_rgb(grey[..., None]).tolist() == [[[0] * 3, [128] * 3, [255] * 3]]
    rgb = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    np.testing.assert_array_equal(as_rgb(rgb), rgb)
    np.testing.assert_array_equal(as_rgb(rgb.astype(np.uint16) * 257), rgb)
    rgba = np.array([[[0, 0, 0, 0], [9, 8, 7, 255]]], np.uint8)
    assert as_rgb(rgba).tolist() == [[[255] * 3, [9, 8, 7]]]
    np.testing.assert_array_equal(as_rgb(rgb[::-1, ::-1]), rgb[::-1, ::-1])


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4, 3), np.int64),
        np.zeros((4, 4, 3), bool),
        np.zeros((3, 4, 5), np.uint8),
        np.zeros((2, 4, 4, 3), np.uint8),
        np.zeros(4, np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.array(3, np.uint8),
    ],
)
def test_arrays_that_are_no_pictures(array: np.ndarray) -> None:
    with pytest.raises(ImageError, match="pass uint8 or uint16 of shape"):
        as_rgb(array)


@pytest.mark.parametrize("value", [None, 3, {"a": 1}, [1, 2]])
def test_other_types(value: object) -> None:
    with pytest.raises(ImageError, match=f"from {type(value).__name__}; pass a path"):
        as_rgb(value)  # type: ignore[arg-type]


def test_letterbox_of_a_wide_picture() -> None:
    image = np.full((50, 100, 3), 200, np.uint8)
    canvas, placement = letterbox(image, (64, 64))
    assert canvas.shape == (64, 64, 3)
    assert (canvas[:32] == 200).all()
    assert (canvas[32:] == PAD_VALUE).all()
    assert (placement.width, placement.height) == (100, 50)
    assert placement.to_network([[0, 0, 100, 50], [50, 25, 75, 50]]).tolist() == [
        [0, 0, 64, 32],
        [32, 16, 48, 32],
    ]
    assert placement.to_original([[32, 16, 48, 40]]).tolist() == [[50, 25, 75, 50]]  # clipped at the bottom


def test_letterbox_grows_small_pictures() -> None:
    canvas, placement = letterbox(np.full((1, 1, 3), 9, np.uint8), (32, 64))
    assert (canvas[:, :32] == 9).all()
    assert (canvas[:, 32:] == PAD_VALUE).all()
    assert placement.scale_x == placement.scale_y == 32


def test_letterbox_of_a_line_keeps_one_pixel() -> None:
    canvas, placement = letterbox(np.zeros((1, 40_000, 3), np.uint8), (64, 64))
    assert (canvas[0] == 0).all()
    assert (canvas[1:] == PAD_VALUE).all()
    assert placement.to_original([[0, 0, 64, 1]]).tolist() == [[0, 0, 40_000, 1]]


def test_squash() -> None:
    canvas, placement = squash(np.full((10, 40, 3), 7, np.uint8), (20, 20))
    assert (canvas == 7).all()
    assert placement.to_network([[10, 5, 40, 10]]).tolist() == [[5, 10, 20, 20]]


def test_same_size_is_a_copy() -> None:
    image = np.zeros((32, 32, 3), np.uint8)
    canvas, _ = fit(image, (32, 32), "squash")
    canvas[:] = 1
    assert image.max() == 0


def test_fit_names_the_rules() -> None:
    with pytest.raises(ValueError, match="'stretch' is unknown"):
        fit(np.zeros((2, 2, 3), np.uint8), (32, 32), "stretch")  # type: ignore[arg-type]


SIDES = st.integers(1, 300)


@given(
    SIDES,
    SIDES,
    st.sampled_from(["letterbox", "squash"]),
    hnp.arrays(np.float32, (5, 4), elements=st.floats(0, 1, width=32)),
)
def test_boxes_go_there_and_back(height: int, width: int, rule: str, unit: np.ndarray) -> None:
    canvas, placement = fit(np.zeros((height, width, 3), np.uint8), (64, 96), rule)  # type: ignore[arg-type]
    assert canvas.shape == (64, 96, 3)
    boxes_xyxy = unit * np.array([width, height, width, height], np.float32)
    there = placement.to_network(boxes_xyxy)
    assert (there <= np.array([96, 64, 96, 64]) + 1e-3).all()
    np.testing.assert_allclose(placement.to_original(there), boxes_xyxy, atol=1e-3)


def test_no_boxes() -> None:
    _, placement = letterbox(np.zeros((5, 5, 3), np.uint8), (32, 32))
    empty = placement.to_original(np.zeros((0, 4)))
    assert empty.shape == (0, 4)
    assert empty.dtype == np.float32


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "AVIF"])
def test_sixteen_bytes_tell_a_picture(kind: str) -> None:
    file = io.BytesIO()
    Image.new("RGB", (40, 30)).save(file, kind)
    assert starts_like_picture(file.getvalue()[:16])


@pytest.mark.parametrize("brand", ["heic", "heix", "heim", "heis", "hevc", "hevx", "mif1", "msf1", "avis"])
def test_every_brand_of_a_picture_is_known(brand: str) -> None:
    head = b"\0\0\0\x1cftyp" + brand.encode() + b"\0\0\0\0"
    assert starts_like_picture(head)
    assert starts_like_picture(b"\0\0\0\x1cftypXXXX\0\0\0\0" + brand.encode() + b"more")


@pytest.mark.parametrize(
    "head",
    [
        b"\0\0\0\x18ftypisom\0\0\0\0isom",
        b"<html>Sign in</html>",
        b"#EXTM3U\n#EXT-X-VERSION",
        b"BM, a text. Yes it is",
        b"",
    ],
)
def test_other_files_do_not_start_like_a_picture(head: bytes) -> None:
    assert not starts_like_picture(head)
