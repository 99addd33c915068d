"""Everything that is measured of a model on several data sets, side by side, never averaged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from maskwatch._version import __version__
from maskwatch.data.dataset import DetectionSet
from maskwatch.evaluation.coco import CocoResult, coco_evaluate
from maskwatch.evaluation.curves import Calibration, ClassCurve, class_curves
from maskwatch.evaluation.errors import Outcome, confusion, outcomes
from maskwatch.evaluation.intervals import Interval, bootstrap_intervals
from maskwatch.evaluation.operating import Goal, OperatingPoint, operating_points, table
from maskwatch.evaluation.paired import Difference, compare_models
from maskwatch.evaluation.slices import Slice, by_crowd, by_size, by_source

if TYPE_CHECKING:
    import supervision as sv

REPORT_SCHEMA = "maskwatch.report/1"


@dataclass(frozen=True)
class SetReport:
    """What was measured on one data set.

    name: what to call it; predictions: NMS within classes, as COCO's numbers have it; shown: what `detect`
    gives at the thresholds of the report, and below them what else was seen; intervals: 95 %, empty where
    none were asked for; curves: by class; outcomes, points: of what is shown; slices: heading → parts;
    against: differences to a second model, empty without one.
    """

    name: str
    detection_set: DetectionSet
    predictions: Sequence[sv.Detections]
    shown: Sequence[sv.Detections]
    result: CocoResult
    intervals: Mapping[str, Interval]
    curves: tuple[ClassCurve, ...]
    calibration: Calibration
    outcomes: tuple[Outcome, ...]
    points: tuple[OperatingPoint, ...]
    slices: Mapping[str, Sequence[Slice]]
    against: Mapping[str, Difference] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """A model on several data sets.

    model, against: names; class_names: of the model; thresholds: one for each class, those that outcomes and
    points are at; chosen_on: the data set that they were chosen on, "" for the model's own; goal: by what
    they were chosen, and what mistakes cost.
    """

    model: str
    class_names: tuple[str, ...]
    thresholds: tuple[float, ...]
    sets: tuple[SetReport, ...]
    goal: Goal
    chosen_on: str = ""
    against: str = ""
    draws: int = 0

    def as_dict(self) -> dict[str, Any]:
        """For JSON; docs/report.md has the fields."""
        return {
            "schema": REPORT_SCHEMA,
            "maskwatch": __version__,
            "model": self.model,
            "against": self.against or None,
            "classes": list(self.class_names),
            "thresholds": dict(zip(self.class_names, self.thresholds, strict=True)),
            "chosen_on": self.chosen_on or None,
            "goal": str(self.goal) if self.chosen_on else self.goal.price,
            "draws": self.draws,
            "sets": [_set_dict(one, self) for one in self.sets],
        }


def measure_set(
    name: str,
    detection_set: DetectionSet,
    predictions: Sequence[sv.Detections],
    shown: Sequence[sv.Detections],
    thresholds: Sequence[float],
    *,
    draws: int = 0,
    second: Sequence[sv.Detections] | None = None,
    sources: Mapping[str, str] | None = None,
) -> SetReport:
    """Measures predictions in every way that the report shows.

    Args:
        name: what to call the set.
        detection_set: the ground truth.
        predictions: one for each sample, with scores down to about 0.
        shown: one for each sample, what the detector gives at `thresholds`, with its own NMS.
        thresholds: one for each class.
        draws: of the bootstrap; 0 for no intervals.
        second: predictions of a model to compare with; needs draws.
        sources: stem → source, see `by_source`.
    """
    curves, calibration = class_curves(detection_set, predictions)
    slices = {
        "size of the face": by_size(detection_set, predictions),
        "faces in the picture": by_crowd(detection_set, predictions),
        "source": by_source(detection_set, predictions, sources),
    }
    seen = [_with_weaker(*pair, thresholds) for pair in zip(shown, predictions, strict=True)]
    return SetReport(
        name,
        detection_set,
        predictions,
        seen,
        coco_evaluate(detection_set, predictions),
        bootstrap_intervals(detection_set, predictions, draws) if draws else {},
        curves,
        calibration,
        tuple(outcomes(detection_set, seen, thresholds)),
        tuple(operating_points(detection_set, seen, thresholds)),
        {heading: parts for heading, parts in slices.items() if parts},
        {} if second is None else compare_models(detection_set, predictions, second, draws),
    )


def _with_weaker(shown: sv.Detections, found: sv.Detections, thresholds: Sequence[float]) -> sv.Detections:
    """What is shown, then what its score kept from being shown: a missed face may have been seen."""
    import supervision as sv

    assert shown.confidence is not None
    assert shown.class_id is not None
    assert found.confidence is not None
    assert found.class_id is not None
    weak = found.confidence <= np.array(thresholds, np.float32)[found.class_id]
    return sv.Detections(
        xyxy=np.concatenate([shown.xyxy, found.xyxy[weak]]),
        confidence=np.concatenate([shown.confidence, found.confidence[weak]]),
        class_id=np.concatenate([shown.class_id, found.class_id[weak]]),
    )


def _set_dict(one: SetReport, report: Report) -> dict[str, Any]:
    counts = confusion(one.outcomes, len(report.class_names))
    return {
        "data": one.name,
        **one.result.as_dict(),
        "intervals": {
            name: None if interval.low != interval.low else [interval.low, interval.high]
            for name, interval in one.intervals.items()
        },
        "against": {name: difference.as_dict() for name, difference in one.against.items()},
        "operating_point": table(one.points, report.goal),
        "confusion": {
            "rows": [*report.class_names, "invented"],
            "columns": [*report.class_names, "missed"],
            "counts": counts.tolist(),
        },
        "curves": {curve.name: curve.as_dict() for curve in one.curves},
        "calibration": one.calibration.as_dict(),
        "slices": {
            heading: [
                {"name": s.name, "pictures": s.pictures, "boxes": s.boxes, "AP50": s.ap50} for s in parts
            ]
            for heading, parts in one.slices.items()
        },
        "mistakes": [
            {
                "picture": str(one.detection_set.samples[mistake.picture].image_path),
                "kind": mistake.kind,
                "class": _name(report, mistake.truth_class),
                "found": _name(report, mistake.found_class),
                "score": round(mistake.score, 4),
                "iou": round(mistake.iou, 4),
            }
            for mistake in one.outcomes
            if mistake.kind != "right"
        ],
    }


def _name(report: Report, class_id: int | None) -> str | None:
    return None if class_id is None else report.class_names[class_id]
