"""`maskwatch detect --blur`: nobody is to be recognised in what it writes; all else stays as without it."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from maskwatch import Detector
from maskwatch.cli.app import main
from maskwatch.labels import color_rgb
from maskwatch.media.images import read_image
from maskwatch.media.videos import Video

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return int(stop.value.code or 0)


def written(out: Path, model: Path, *arguments: object) -> np.ndarray:
    assert run("detect", *arguments, "--model", model, "--out", out) == 0
    return read_image(next(out.iterdir()))


def test_faces_are_hidden_and_boxes_drawn(tmp_path: Path, tiny_model: Path, street: np.ndarray) -> None:
    image = street.repeat(10, axis=0).repeat(10, axis=1)
    image[::2] = np.where(image[::2] == 255, 215, image[::2])  # stripes, so that there is something to lose
    Image.fromarray(image).save(tmp_path / "a.png")
    plain = written(tmp_path / "plain", tiny_model, tmp_path / "a.png")
    blurred = written(tmp_path / "blurred", tiny_model, tmp_path / "a.png", "--blur")
    for y, x, class_id in ((320, 0, 1), (480, 480, 2)):
        inside = np.s_[y + 40 : y + 120, x + 40 : x + 120]
        assert np.abs(np.diff(plain[inside].astype(int), axis=0)).max() == 40
        assert np.abs(np.diff(blurred[inside].astype(int), axis=0)).max() < 8
        assert tuple(blurred[y + 80, x]) == color_rgb(class_id)
    np.testing.assert_array_equal(plain[220:270, 400:], blurred[220:270, 400:])


def test_unsure_faces_and_other_classes_are_hidden_too(tmp_path: Path, tiny_model: Path) -> None:
    image = np.full((64, 64, 3), 90, np.uint8)
    image[0:16, 16:32] = (60, 150, 60)  # a mask with a score of 0.35; 0.5 would count
    image[1:16:2, 16:32] = (60, 150, 90)
    image[32:48, 0:16] = (255, 0, 0)  # no_mask
    image[33:48:2, 0:16] = (215, 0, 0)
    Image.fromarray(image).save(tmp_path / "a.png")
    assert len(Detector(tiny_model)(image)) == 1
    blurred = written(tmp_path / "out", tiny_model, tmp_path / "a.png", "--blur", "--classes", "mask")
    for y, x in ((0, 16), (32, 0)):
        steps = np.abs(np.diff(blurred[y + 4 : y + 12, x + 4 : x + 12].astype(int), axis=0))
        assert steps.max() < 20, (y, x)


def test_records_and_lines_are_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], shared: Path
) -> None:
    """Also where an unsure box of one class would beat the surer one of another."""
    pictures = sorted((shared / "data/unseen/crowds").glob("*.jpg"))[:3]
    seen = []
    for name, options in (("a", []), ("b", ["--blur", "--out", tmp_path / "out"])):
        file = tmp_path / f"{name}.json"
        assert run("detect", *pictures, "--json", file, "--threads", 1, *options) == 0
        seen.append((json.loads(file.read_text()), capsys.readouterr().out))
    assert seen[0] == seen[1]
    assert len(seen[0][0]["results"][1]["detections"]) > 10


def film(path: Path, frames: list[np.ndarray], fps: float = 10) -> Path:
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), fps, (width, height))
    for image in frames:
        writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    writer.release()
    return path


def test_in_a_video_a_missed_face_is_hidden(tmp_path: Path, tiny_model: Path) -> None:
    """The red cell fades to a texture that the model does not find, for three frames of twelve."""
    stripes = np.full((64, 64, 3), 90, np.uint8)
    stripes[34:46:4, 0:16] = 250  # found by nobody
    stripes[35:46:4, 0:16] = 250
    found = np.full((64, 64, 3), 90, np.uint8)
    found[32:48, 0:16] = (255, 0, 0)
    missed = {4, 5, 6}
    source = film(tmp_path / "a.avi", [stripes if i in missed else found for i in range(12)])
    assert run("detect", source, "--model", tiny_model, "--blur", "--out", tmp_path / "out") == 0
    assert run("detect", source, "--model", tiny_model, "--out", tmp_path / "plain") == 0
    contrasts = []
    for name in ("out", "plain"):
        with Video(tmp_path / name / "a.mp4") as video:
            frames = [frame.image_rgb for frame in video.frames()]
        assert len(frames) == 12
        contrasts.append([float(frames[index][36:44, 4:12].std()) for index in sorted(missed)])
    assert max(contrasts[0]) < 25
    assert min(contrasts[1]) > 50


def test_a_video_that_breaks_off_keeps_the_frames_that_waited(tmp_path: Path, tiny_model: Path) -> None:
    source = film(tmp_path / "a.avi", [np.full((64, 64, 3), 90, np.uint8)] * 20)
    source.write_bytes(source.read_bytes()[: source.stat().st_size * 7 // 10])
    options = ("--model", tiny_model, "--blur", "--out", tmp_path / "out", "--json", tmp_path / "r.json")
    assert run("detect", source, *options) == 1
    results = json.loads((tmp_path / "r.json").read_text())["results"]
    with Video(tmp_path / "out/a.mp4") as video:
        assert len(list(video.frames())) == len(results) > 5


def test_nothing_of_the_originals_metadata_is_kept(tmp_path: Path, tiny_model: Path) -> None:
    picture = Image.new("RGB", (64, 64), (90, 90, 90))
    exif = picture.getexif()
    exif[0x010F] = "the camera's maker"
    exif.get_ifd(0x8825)[1] = "N"  # where it was taken
    picture.save(tmp_path / "a.jpg", exif=exif, comment=b"the owner")
    picture.save(tmp_path / "b.webp", exif=exif, xmp=b"<x:xmpmeta>somewhere</x:xmpmeta>")
    assert run("detect", tmp_path, "--model", tiny_model, "--blur", "--out", tmp_path / "out") == 0
    for path in (tmp_path / "out").iterdir():
        with Image.open(path) as image:
            assert not image.getexif()
            assert not {"exif", "xmp", "comment", "icc_profile"} & set(image.info)
        assert b"owner" not in path.read_bytes()


def test_blur_needs_something_to_blur(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("detect", EXAMPLES / "astronaut.jpg", "--blur") == 2
    assert capsys.readouterr().err == "error: --blur changes the pictures that --out writes; add --out DIR\n"


def test_no_face_is_found_in_what_is_written(tmp_path: Path) -> None:
    assert run("detect", EXAMPLES, "--blur", "--out", tmp_path / "blurred", "--threads", 1) == 0
    assert run("detect", EXAMPLES, "--out", tmp_path / "plain", "--threads", 1) == 0
    detector = Detector(threads=1)
    for name, faces in (("blurred", 0), ("plain", 2)):
        paths = sorted((tmp_path / name).iterdir())
        assert len(paths) == 2
        assert sum(map(len, detector(paths))) == faces
