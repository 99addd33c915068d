"""The close-ups that stand in for a door camera: literal geometry, and one run with a tiny model."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from benchmark_module import load_benchmark
from drawn_data import draw_faces
from maskwatch.data import Sample


@pytest.fixture
def closeups(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    pytest.importorskip("pycocotools", reason="close-ups are measured as COCO does")
    return load_benchmark("closeups", monkeypatch)


def sample(boxes: list[list[int]]) -> Sample:
    """Of a picture of 200 x 100, a class for each box."""
    count = len(boxes)
    marks = np.zeros(count, np.bool_)
    return Sample(Path("x.png"), None, (100, 200), np.array(boxes, np.float32), np.arange(count), marks)


def test_the_face_spans_its_share(closeups: ModuleType) -> None:
    image = np.zeros((100, 200, 3), np.uint8)
    faces = sample([[60, 40, 80, 60], [80, 40, 100, 60], [100, 40, 120, 60]])
    one = closeups.closeup(image, faces, 0, 0.5)
    # 40 pixels around (70, 50); half of the second face would be just enough, the third is far away.
    assert one.image.shape == (40, 40, 3)
    np.testing.assert_array_equal(one.sample.boxes_xyxy, [[10, 10, 30, 30], [30, 10, 40, 30]])
    np.testing.assert_array_equal(one.sample.class_ids, [0, 1])
    assert one.sample.size_hw == (40, 40)


def test_a_face_at_the_border_keeps_its_size(closeups: ModuleType) -> None:
    one = closeups.closeup(np.zeros((100, 200, 3), np.uint8), sample([[0, 80, 20, 100]]), 0, 0.25)
    assert one.image.shape == (80, 80, 3)
    np.testing.assert_array_equal(one.sample.boxes_xyxy, [[0, 60, 20, 80]])


def test_a_picture_too_small_for_the_span_is_left_out(closeups: ModuleType) -> None:
    assert closeups.closeup(np.zeros((100, 200, 3), np.uint8), sample([[0, 80, 60, 100]]), 0, 0.25) is None


def test_one_line_for_each_span_and_model(
    closeups: ModuleType, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw_faces(tmp_path / "data", 2)
    data = ["--data", str(tmp_path / "data")]
    assert closeups.main([str(tiny_model), *data, "--least", "20"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == ["0.25", "0.50", "0.75"]
    assert "AP50" in lines[1]
    assert closeups.main([str(tiny_model), *data, "--least", "500"]) == 0
    assert "no face of 500 pixels" in capsys.readouterr().out
    assert closeups.main([str(tiny_model), "--data", str(tmp_path / "none")]) == 2
    assert "none" in capsys.readouterr().err
