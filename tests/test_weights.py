"""The model files inside the package against the accuracy that they must not fall below.

Only the absence of the photographs skips these tests; a package without its model files fails them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

import pytest

from benchmark_module import load_benchmark
from maskwatch import Detector, embedded_models
from maskwatch.data import read_data
from maskwatch.evaluation import coco_evaluate, predict
from maskwatch.labels import MASK_CLASSES, ClassMap

RECORDED = Path(__file__).parents[1] / "benchmarks" / "slices.json"


@pytest.mark.parametrize(("name", "size_hw"), [("maskwatch-640", (640, 640)), ("maskwatch-320", (320, 320))])
def test_the_package_holds_the_model(name: str, size_hw: tuple[int, int]) -> None:
    assert name in embedded_models()
    detector = Detector(name)
    assert (detector.name, detector.input_size, detector.class_names) == (name, size_hw, MASK_CLASSES)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "data", "floors"),
    [
        ("maskwatch-640", "masks/test", {"AP": 0.41, "AP50": 0.81}),
        ("maskwatch-640", "unseen/webcam", {"AP50": 0.94}),
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


def wilson_low(right: int, places: int) -> float:
    """Lower end of the 95 % interval of a share (Wilson, 1927)."""
    z, share = 1.96, right / places
    spread = math.sqrt(share * (1 - share) / places + (z / (2 * places)) ** 2)
    return (share + z**2 / (2 * places) - z * spread) / (1 + z**2 / places)


def test_the_interval_is_that_of_the_tables() -> None:
    assert wilson_low(8, 10) == pytest.approx(0.4902, abs=1e-4)  # Agresti and Coull, 1998
    assert wilson_low(0, 10) == pytest.approx(0, abs=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("model", embedded_models())
def test_the_model_does_not_fall_behind_on_hard_places(
    shared: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hands, cloth and objects before bare faces, profiles, windows without a face: benchmarks/slices.csv."""
    robustness = load_benchmark("robustness", monkeypatch)
    recorded = json.loads(RECORDED.read_text("utf-8"))[model]
    detector, places = Detector(model), robustness.read_places()
    right: dict[str, int] = dict.fromkeys(recorded, 0)
    for name in ("masks/val", "more/val"):
        found = robustness.found_at(detector, read_data(shared / "data" / name), places)
        for slice_name, outcome in found.items():
            right[slice_name] += robustness.right(slice_name, outcome)
    behind = {
        name: f"{right[name]} of {places}, recorded {before}"
        for name, (before, places) in recorded.items()
        if right[name] / places < wilson_low(before, places)
    }
    assert not behind
