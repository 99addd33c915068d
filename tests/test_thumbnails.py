"""Pictures of alerts: what they show, what they are called, and that nobody is to be recognised."""

from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from live_scenes import frame_result
from maskwatch import Detector
from maskwatch.drawing.blur import cover_thresholds
from maskwatch.errors import OutputError
from maskwatch.live.capture.frame import LiveFrame
from maskwatch.live.events import Event
from maskwatch.live.output.thumbnails import NAMES, Thumbnails
from maskwatch.media.images import read_image

WHEN = datetime(2025, 1, 31, 9, 0, 5, tzinfo=timezone(timedelta(hours=1)))
FACE = (300.0, 100.0, 340.0, 150.0)


def live(image_rgb: np.ndarray, index: int = 0, source: str = "door") -> LiveFrame:
    return LiveFrame(source, index, index / 10, WHEN, 0.0, image_rgb)


def alert(source: str = "door", **fields: object) -> Event:
    given = {"track": 12, "id": "3f2a9c01-77aa-4bde-9d2c-000000000000", "box_xyxy": FACE} | fields
    return Event("alert", WHEN, source, "run", **given)  # type: ignore[arg-type]


@pytest.fixture
def noise() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (400, 640, 3), dtype=np.uint8)


def contrast(image: np.ndarray) -> float:
    return float(image.astype(float).std())


def test_the_person_and_what_is_around(tmp_path: Path, noise: np.ndarray) -> None:
    path = Thumbnails(tmp_path / "new").store(alert(), frame_result(live(noise), [FACE]))
    assert path == tmp_path / "new/20250131T080005Z_door_t12_3f2a9c01.jpg"
    image = read_image(path)
    assert image.shape == (200, 200, 3)  # the face is 50 high, with 75 above and below
    assert contrast(image[75:125, 80:120]) < 25 < contrast(image[:50])
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    if os.name == "posix":
        assert path.stat().st_mode & 0o007 == 0  # others may not look


def test_kept_faces(tmp_path: Path, noise: np.ndarray) -> None:
    path = Thumbnails(tmp_path, keep_faces=True).store(alert(), frame_result(live(noise), [FACE]))
    assert contrast(read_image(path)[75:125, 80:120]) > 40


def test_every_face_is_covered(tmp_path: Path, noise: np.ndarray) -> None:
    """Those beside the person, the person's own where no box of it was given, and one missed just now."""
    beside, missed = [345, 100, 375, 140], [270, 160, 300, 195]
    thumbnails = Thumbnails(tmp_path)
    thumbnails.on_frame(frame_result(live(noise, 0), [missed], [4]))
    thumbnails.on_frame(frame_result(live(noise, 1), [missed], [4]))
    image = read_image(thumbnails.store(alert(), frame_result(live(noise, 2), [beside])))
    left, top = 220, 25
    for x1, y1, x2, y2 in (beside, missed, [300, 100, 340, 150]):
        assert contrast(image[y1 - top : y2 - top, x1 - left : x2 - left]) < 30
    assert contrast(image[:40, :40]) > 40


def test_looking_at_a_frame_before_or_after_is_the_same(tmp_path: Path, noise: np.ndarray) -> None:
    pictures = []
    for before in (True, False):
        thumbnails = Thumbnails(tmp_path / str(before))
        for index in range(5):
            if before:
                thumbnails.on_frame(frame_result(live(noise, index), [FACE]))
            if index in (2, 4):
                pictures.append(
                    thumbnails.store(alert(), frame_result(live(noise, index), [FACE])).read_bytes()
                )
            thumbnails.on_frame(frame_result(live(noise, index), [FACE]))
    assert pictures[:2] == pictures[2:]


def test_sources_are_kept_apart(tmp_path: Path, noise: np.ndarray) -> None:
    thumbnails = Thumbnails(tmp_path)
    thumbnails.on_frame(frame_result(live(noise, 0, "gate"), [[0, 0, 640, 400]]))
    image = read_image(thumbnails.store(alert(), frame_result(live(noise, 0), [FACE])))
    assert contrast(image[:50]) > 40


def test_where_a_face_was_in_frames_of_another_size_says_nothing(tmp_path: Path, noise: np.ndarray) -> None:
    """A camera that is set anew shows something else at 300, 100; within one size it is remembered."""
    thumbnails, whole = Thumbnails(tmp_path), {"box_xyxy": None}
    small = noise[:360, :480]
    for index in range(3):
        thumbnails.on_frame(frame_result(live(noise, index), [FACE]))
    other = read_image(
        thumbnails.store(alert(id="a", **whole), frame_result(live(small, 3), [[60, 40, 100, 90]]))
    )
    assert contrast(other[110:140, 310:330]) > 40
    missed = read_image(thumbnails.store(alert(id="b", **whole), frame_result(live(small, 4))))
    assert contrast(missed[50:80, 70:90]) < 30 < 40 < contrast(missed[110:140, 310:330])
    again = read_image(thumbnails.store(alert(id="c", **whole), frame_result(live(noise[:, :480], 5))))
    assert contrast(again[50:80, 70:90]) > 40


@pytest.mark.parametrize(
    ("event", "name"),
    [
        (alert(source="../../etc/passwd"), "20250131T080005Z_-..-etc-passwd_t12_3f2a9c01.jpg"),
        (alert(source="Tür 1\n"), "20250131T080005Z_T-r-1-_t12_3f2a9c01.jpg"),
        (alert(source="..."), "20250131T080005Z_source_t12_3f2a9c01.jpg"),
        (alert(source="x" * 300), f"20250131T080005Z_{'x' * 40}_t12_3f2a9c01.jpg"),
        (alert(track=None, id="//"), "20250131T080005Z_door_t-_0.jpg"),
    ],
)
def test_names_are_safe_and_known_to_retention(
    tmp_path: Path, noise: np.ndarray, event: Event, name: str
) -> None:
    path = Thumbnails(tmp_path).store(event, frame_result(live(noise)))
    assert path.parent == tmp_path
    assert path.name == name
    assert NAMES.fullmatch(name)


def test_at_borders_without_a_box_and_large(tmp_path: Path, noise: np.ndarray) -> None:
    thumbnails = Thumbnails(tmp_path)
    corner = alert(box_xyxy=(620.0, 380.0, 660.0, 420.0), id="a")
    assert read_image(thumbnails.store(corner, frame_result(live(noise)))).shape == (80, 80, 3)
    nowhere = alert(box_xyxy=None, id="b")
    assert read_image(thumbnails.store(nowhere, frame_result(live(noise)))).shape == (300, 480, 3)
    outside = alert(box_xyxy=(9000.0, 0.0, 9010.0, 10.0), id="c")
    assert read_image(thumbnails.store(outside, frame_result(live(noise)))).shape == (300, 480, 3)
    large = alert(box_xyxy=(0.0, 0.0, 640.0, 400.0), id="d")
    assert read_image(thumbnails.store(large, frame_result(live(noise)))).shape == (300, 480, 3)


def test_no_metadata(tmp_path: Path, noise: np.ndarray) -> None:
    with Image.open(Thumbnails(tmp_path).store(alert(), frame_result(live(noise), [FACE]))) as image:
        assert not image.getexif()
        assert set(image.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}


def test_a_folder_that_cannot_be_made_or_is_gone(tmp_path: Path, noise: np.ndarray) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot create this folder"):
        Thumbnails(tmp_path / "file/pictures")
    thumbnails = Thumbnails(tmp_path / "pictures")
    (tmp_path / "pictures").rmdir()
    thumbnails.store(alert(), frame_result(live(noise), [FACE]))  # made again
    (tmp_path / "pictures").rename(tmp_path / "moved")
    (tmp_path / "pictures").touch()
    with pytest.raises(OutputError, match=r"pictures: cannot create this folder \(a file is in the way\)"):
        thumbnails.store(alert(id="b"), frame_result(live(noise), [FACE]))


def test_nobody_is_found_in_it(tmp_path: Path) -> None:
    detector = Detector(threads=1)
    photo = read_image(Path(__file__).parents[1] / "examples/astronaut.jpg")
    found = detector(photo, threshold=cover_thresholds(detector.thresholds))
    box = tuple(float(value) for value in found.xyxy[0])
    hidden = Thumbnails(tmp_path / "hidden").store(alert(box_xyxy=box), frame_result(live(photo), found.xyxy))
    kept = Thumbnails(tmp_path / "kept", keep_faces=True).store(
        alert(box_xyxy=box), frame_result(live(photo), found.xyxy)
    )
    assert [len(found) for found in detector([hidden, kept])] == [0, 1]
