"""The bounds benchmark: merging of two views, matching, and the table."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import supervision as sv

from benchmark_module import load_benchmark
from drawn_data import draw_faces
from maskwatch.data import DetectionSet, Sample


@pytest.fixture
def bounds(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    pytest.importorskip("pycocotools", reason="the variants are measured as COCO does")
    return load_benchmark("bounds", monkeypatch)


def found(*rows: tuple[list[float], float, int]) -> sv.Detections:
    boxes, scores, class_ids = zip(*rows, strict=True)
    return sv.Detections(
        np.array(boxes, np.float32), confidence=np.array(scores, np.float32), class_id=np.array(class_ids)
    )


def test_pairs_become_their_mean_and_the_rest_keeps_half(bounds: ModuleType) -> None:
    one = found(([0, 0, 10, 10], 0.6, 0), ([50, 50, 60, 60], 0.4, 1))
    other = found(([0, 0, 10, 12], 0.3, 0), ([50, 50, 60, 60], 0.4, 2))
    both = bounds.merged(one, other)
    np.testing.assert_allclose(both.xyxy[0], [0, 0, 10, 10 + 2 / 3], rtol=1e-6)
    np.testing.assert_allclose(both.confidence, [0.45, 0.2, 0.2])
    assert both.class_id.tolist() == [0, 1, 2]
    assert one.confidence.tolist() == pytest.approx([0.6, 0.4]), "what was given stays as it is"
    nothing = one[np.zeros(2, bool)]
    np.testing.assert_allclose(bounds.merged(one, nothing).confidence, [0.3, 0.2])
    np.testing.assert_allclose(bounds.merged(nothing, one).confidence, [0.3, 0.2])


def test_each_face_is_found_once_by_the_best(bounds: ModuleType) -> None:
    boxes = np.array([[0, 0, 10, 10]], np.float32)
    sample = Sample(Path("k_1.jpg"), None, (80, 80), boxes, np.array([2]), np.zeros(1, bool))
    detections = found(([0, 0, 10, 9], 0.3, 0), ([0, 0, 10, 11], 0.6, 1), ([40, 40, 50, 50], 0.9, 1))
    assert bounds.matches(sample, detections).tolist() == [-1, 0, -1]
    assert bounds.with_truth(sample, detections, "class").class_id.tolist() == [0, 2, 1]
    assert bounds.with_truth(sample, detections, "box").xyxy[1].tolist() == [0, 0, 10, 10]
    assert bounds.source(sample) == "k"


def test_scatter_is_measured_back(bounds: ModuleType) -> None:
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 100, (400, 2)).astype(np.float32)
    samples = tuple(
        Sample(
            Path(f"j_{i}.jpg"),
            None,
            (300, 300),
            np.concatenate([c, c + 100])[None],
            np.array([0]),
            np.zeros(1, bool),
        )
        for i, c in enumerate(corners)
    )
    truths = DetectionSet(("mask",), samples)
    moved = bounds.scattered(truths, {"j": 0.06})
    assert bounds.scatter(truths, moved)["j"] == pytest.approx(0.06, abs=0.005)


def test_table(
    bounds: ModuleType, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw_faces(tmp_path / "data", 2)
    (tmp_path / "c.csv").write_text("picture,fault,class,xmin,ymin,xmax,ymax\n0,missing,mask,1,1,20,20\n")
    arguments = [str(tiny_model), "--data", str(tmp_path / "data"), "--corrections", str(tmp_path / "c.csv")]
    assert bounds.main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 12
    assert lines[-1].startswith("| the truth, edges scattered")
    assert bounds.main([str(tiny_model), "--data", str(tmp_path / "none")]) == 2
