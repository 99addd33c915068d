"""The model files inside the package against the accuracy that they must not fall below.

Only the absence of the photographs skips these tests; a package without its model files fails them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from maskwatch import Detector, embedded_models
from maskwatch.data import read_data
from maskwatch.evaluation import coco_evaluate, predict
from maskwatch.labels import MASK_CLASSES, ClassMap


@pytest.mark.parametrize(("name", "size_hw"), [("maskwatch-640", (640, 640)), ("maskwatch-320", (320, 320))])
def test_the_package_holds_the_model(name: str, size_hw: tuple[int, int]) -> None:
    assert name in embedded_models()
    detector = Detector(name)
    assert (detector.name, detector.input_size, detector.class_names) == (name, size_hw, MASK_CLASSES)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "data", "floors"),
    [
        ("maskwatch-640", "masks/test", {"AP": 0.42, "AP50": 0.80}),
        ("maskwatch-640", "unseen/webcam", {"AP50": 0.92}),
        ("maskwatch-320", "masks/test", {"AP50": 0.70}),
        ("maskwatch-320", "unseen/webcam", {"AP50": 0.94}),
    ],
)
def test_the_model_stays_above_its_floor(
    shared: Path, model: str, data: str, floors: Mapping[str, float]
) -> None:
    detector = Detector(model, threshold=0.0, class_agnostic=False)
    detection_set = read_data(shared / "data" / data, ClassMap(detector.class_names))
    result = coco_evaluate(detection_set, predict(detector, detection_set))
    missed = {name: result.stats[name] for name, floor in floors.items() if result.stats[name] < floor}
    assert not missed, "\n".join(result.lines())
