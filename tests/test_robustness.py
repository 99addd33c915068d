"""The variants of the robustness benchmark: where their boxes go, what they paint, and the tables."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import numpy.typing as npt
import pytest

from benchmark_module import load_benchmark
from drawn_data import draw_faces


@pytest.fixture
def robustness(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    pytest.importorskip("pycocotools", reason="the variants are measured as COCO does")
    return load_benchmark("robustness", monkeypatch)


def scene_of(
    robustness: ModuleType, image: npt.NDArray[np.uint8], boxes: list[list[int]], *names: str
) -> object:
    return robustness.Scene(image, np.array(boxes, np.float32), names, np.zeros(len(names), np.bool_))


def disc(robustness: ModuleType) -> object:
    rows, columns = np.indices((200, 300)) + 0.5
    image = np.full((200, 300, 3), 60, np.uint8)
    image[(rows - 70) ** 2 / 40**2 + (columns - 90) ** 2 / 30**2 <= 1] = 220
    return scene_of(robustness, image, [[60, 30, 120, 110]], "no_mask")


def test_a_rotated_box_fits_the_rotated_face(robustness: ModuleType) -> None:
    scene = robustness.rotated(15)(disc(robustness), np.random.default_rng(0))
    rows, columns = np.nonzero(scene.image[..., 0] > 170)
    found = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    np.testing.assert_allclose(scene.boxes_xyxy[0], found, atol=1.5)


def test_a_face_that_is_turned_out_of_the_picture_is_left_out(robustness: ModuleType) -> None:
    image = np.zeros((100, 400, 3), np.uint8)
    scene = scene_of(robustness, image, [[0, 80, 20, 100], [180, 40, 200, 60]], "mask", "mask")
    assert robustness.rotated(15)(scene, np.random.default_rng(0)).names == ("mask",)


def test_masks_cover_the_lower_face_alone(robustness: ModuleType) -> None:
    before = disc(robustness)
    for title, becomes in (("black mask drawn", "mask"), ("hand drawn over the mouth", "no_mask")):
        after = robustness.DRAWN[title](before, np.random.default_rng(0))
        changed = (after.image != before.image).any(-1)
        assert after.names == (becomes,)
        assert changed[75:105, 80:100].mean() > 0.8 or becomes == "no_mask"
        assert changed.any()
        assert not changed[:55].any(), "the eyes stay bare"
        assert not changed[:, 140:].any()
    assert before.names == ("no_mask",)


def test_small_and_masked_faces_are_left_alone(robustness: ModuleType) -> None:
    image = np.full((200, 200, 3), 90, np.uint8)
    scene = scene_of(robustness, image, [[0, 0, 30, 40], [60, 60, 160, 180]], "no_mask", "mask")
    after = robustness.DRAWN["patterned mask drawn"](scene, np.random.default_rng(0))
    np.testing.assert_array_equal(after.image, image)
    assert after.names == ("no_mask", "mask")


def test_every_variant_keeps_the_picture_a_picture(robustness: ModuleType) -> None:
    for variant in (*robustness.WHOLE.values(), *robustness.DRAWN.values()):
        scene = variant(disc(robustness), np.random.default_rng(1))
        assert (scene.image.shape, scene.image.dtype) == ((200, 300, 3), np.uint8)


def test_tables(
    robustness: ModuleType, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw_faces(tmp_path / "data", 2)
    assert robustness.main([str(tiny_model), "--data", str(tmp_path / "data")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("on data")
    assert [line.split(" | ")[0].removeprefix("| ") for line in lines[4:12]] == list(robustness.WHOLE)
    assert robustness.main([str(tiny_model), "--data", str(tmp_path / "none")]) == 2
    assert "none" in capsys.readouterr().err
