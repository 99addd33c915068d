"""The probe of picture files: what is told of each, broken and hostile ones, processes, and Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from maskwatch.data.quality import probe
from maskwatch.data.quality.probe import ImageProbe, probe_image, probe_images
from maskwatch.errors import OptionError


def photo(path: Path, seed: int = 0, **options: object) -> Path:
    pixels = np.random.default_rng(seed).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((120, 80)).save(path, **options)
    return path


def test_what_is_told_of_a_picture(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = photo(tmp_path / "a.jpg", exif=exif)
    found = probe_image(path)
    assert found.readable
    assert (found.reason, found.size_hw, found.orientation, found.blank) == (None, (120, 80), 6, False)
    assert found.fingerprint is not None
    assert found.fingerprint.size_hw == (120, 80)
    assert probe_image(photo(tmp_path / "b.png")).orientation == 1


@pytest.mark.parametrize(("value", "shown"), [(0, 1), (9, 1), (1, 1), (8, 8)])
def test_orientations_that_do_not_exist_are_none(tmp_path: Path, value: int, shown: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = value
    assert probe_image(photo(tmp_path / "a.jpg", exif=exif)).orientation == shown


@pytest.mark.parametrize(
    ("name", "spread", "blank"), [("a.png", 0, True), ("a.jpg", 0, True), ("b.png", 9, False)]
)
def test_blank(tmp_path: Path, name: str, spread: int, blank: bool) -> None:
    pixels = np.full((90, 90, 3), (10, 200, 90), np.uint8)
    pixels[40:60, 40:60] += np.uint8(spread)
    Image.fromarray(pixels).save(tmp_path / name)
    assert probe_image(tmp_path / name).blank is blank


def test_one_pixel_in_red_is_not_blank(tmp_path: Path) -> None:
    pixels = np.full((900, 900, 3), 90, np.uint8)
    pixels[0, 0, 0] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert not probe_image(tmp_path / "a.png").blank


def png_of(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds nothing."""
    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x02\0\0\0"
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(b"\0")), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")
        for kind, data in parts
    )


def test_broken_and_hostile_files(tmp_path: Path) -> None:
    good = photo(tmp_path / "good.jpg").read_bytes()
    contents = {
        "cut.jpg": (good[: len(good) * 2 // 3], "truncated"),
        "empty.jpg": (b"", "the file is empty"),
        "text.jpg": (b"not a picture", "not a picture that can be read"),
        "vast.png": (png_of(100_000, 100_000), "over the limit of 200"),
        "hollow.png": (png_of(100, 100), "broken picture"),
        "script.jpg": (
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
            "not a picture that can be read",
        ),
    }
    for name, (content, reason) in contents.items():
        (tmp_path / name).write_bytes(content)
        found = probe_image(tmp_path / name)
        assert reason in str(found.reason), name
        assert str(tmp_path) not in str(found.reason), "the path is a field of its own"
        assert not found.readable
        assert (found.fingerprint, found.size_hw) == (None, (0, 0))


def test_what_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    with (tmp_path / "sparse.jpg").open("wb") as file:
        file.truncate(3 << 30)
    names = ("folder.jpg", "pipe.jpg", "none.jpg", "sparse.jpg", "a\0b.jpg")
    reasons = [str(found.reason) for found in probe_images([tmp_path / name for name in names])]
    assert reasons[0].startswith("this is a folder")
    assert reasons[1].startswith("this is not a regular file")
    assert reasons[2].startswith("no such file")
    assert reasons[3].startswith("3.0 GiB are too much")
    assert reasons[4].startswith("cannot be read")


def test_in_order_and_with_progress_whatever_the_workers(tmp_path: Path) -> None:
    paths = [photo(tmp_path / f"{number}.jpg", number) for number in range(40)]
    paths[17].write_bytes(b"")
    steps: list[tuple[int, int]] = []
    alone = probe_images(paths, 1)
    found = probe_images(paths, 2, lambda done, total: steps.append((done, total)))
    assert [one.path for one in found] == paths
    checksums = [one.fingerprint and one.fingerprint.checksum for one in found]
    assert checksums == [one.fingerprint and one.fingerprint.checksum for one in alone]
    assert len({*checksums}) == 40
    assert [one.readable for one in found] == [number != 17 for number in range(40)]
    assert steps == [(number, 40) for number in range(1, 41)]
    assert probe_images([], 2) == []
    with pytest.raises(OptionError, match="0 workers"):
        probe_images(paths, 0)


def die_of_some(path: Path) -> ImageProbe:
    if path.name in ("5.jpg", "33.jpg"):
        os._exit(1)
    return ImageProbe(path)


def test_a_file_that_kills_its_process_is_named() -> None:
    paths = [Path(f"{number}.jpg") for number in range(40)]
    found = probe._run(paths, die_of_some, 2, lambda done, total: None)
    assert [one.path for one in found] == paths
    assert [one.path.stem for one in found if not one.readable] == ["5", "33"]
    assert "ended the process" in str(found[5].reason)


def test_ctrl_c_ends_it_without_a_word_from_the_workers(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (500, 500, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), image)
    code = """
import sys
from pathlib import Path
from maskwatch.data.quality.probe import probe_images
if __name__ == "__main__":
    try:
        probe_images([Path(sys.argv[1])] * 9000, 2, lambda done, total: print(done, flush=True))
    except KeyboardInterrupt:
        print("stopped", flush=True)
"""
    script = tmp_path / "script.py"
    script.write_text(code)
    process = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path / "a.png")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "1\n"
    began = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
    out, err = process.communicate(timeout=60)
    assert out.endswith("stopped\n")
    assert err == ""
    assert process.returncode == 0
    assert time.monotonic() - began < 50, "and not after all 9000"
