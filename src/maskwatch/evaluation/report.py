"""Everything that is measured of a model on several data sets, side by side, never averaged."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from maskwatch._version import __version__
from maskwatch.data.dataset import DetectionSet
from maskwatch.detector import Detector
from maskwatch.evaluation.calibration import CalibrationFit, fit_calibration
from maskwatch.evaluation.candidates import CandidateDetector, gather
from maskwatch.evaluation.coco import CocoResult, coco_result
from maskwatch.evaluation.curves import CalibrationCurve, ClassCurve, class_curves
from maskwatch.evaluation.errors import ErrorKind, Outcome, confusion, outcomes
from maskwatch.evaluation.intervals import Bootstrap, Difference, Interval
from maskwatch.evaluation.matching import match_set
from maskwatch.evaluation.predictor import BATCH_SIZE, DetectorLike, PredictAll, predict_all
from maskwatch.evaluation.slices import FACE_AREAS, Slice, by_crowd, by_size, by_source
from maskwatch.evaluation.thresholds import OperatingPoint, ThresholdObjective, choose, operating_points
from maskwatch.models import Calibration

if TYPE_CHECKING:
    import supervision as sv

REPORT_SCHEMA = "maskwatch.report/1"

_KINDS_IN_JSON: Mapping[ErrorKind, str] = {
    "false_positive": "invented",
    "false_negative": "missed",
    "localization": "place",
}
"""The names that `REPORT_SCHEMA` has for these."""

_UNTUNED = 0.5
"""Threshold of a checkpoint, for which none is chosen yet."""

StageProgress = Callable[[str], AbstractContextManager[Callable[[int, int], object]]]
"""Takes a title; its context yields a function of the numbers done and in all."""


@dataclass(frozen=True)
class ReportOptions:
    """What a report measures.

    model, against: names of the model and of the one to compare with, "" without one; chosen_on: name of the
    data set that thresholds are chosen on, "" for the model's own; objective: how they are chosen, and what
    mistakes cost; draws: of the bootstrap, 0 for no intervals; sources: see `by_source`.
    """

    model: str
    against: str = ""
    chosen_on: str = ""
    objective: ThresholdObjective = field(default_factory=ThresholdObjective)
    draws: int = 0
    sources: Mapping[str, str] | None = None
    batch_size: int = BATCH_SIZE


@dataclass(frozen=True)
class SetReport:
    """What was measured on one data set.

    shown: what `detect` returns at the thresholds of the report, followed by the detections below them;
    intervals: 95 %, empty without draws; curves: by class; outcomes, points: of what is shown; slices: by
    heading; against: differences to a second model, empty without one.
    """

    name: str
    detection_set: DetectionSet
    shown: Sequence[sv.Detections]
    result: CocoResult
    intervals: Mapping[str, Interval]
    curves: tuple[ClassCurve, ...]
    calibration: CalibrationCurve
    outcomes: tuple[Outcome, ...]
    points: tuple[OperatingPoint, ...]
    slices: Mapping[str, Sequence[Slice]]
    against: Mapping[str, Difference]


@dataclass(frozen=True)
class Report:
    """A model on several data sets.

    thresholds: one for each class, those of outcomes and points; fit: the calibration that the model got on
    `options.chosen_on`, None where it kept its own.
    """

    options: ReportOptions
    class_names: tuple[str, ...]
    thresholds: tuple[float, ...]
    sets: tuple[SetReport, ...]
    fit: CalibrationFit | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON; docs/report.md has the fields."""
        options = self.options
        return {
            "schema": REPORT_SCHEMA,
            "maskwatch": __version__,
            "model": options.model,
            "against": options.against or None,
            "classes": list(self.class_names),
            "thresholds": dict(zip(self.class_names, self.thresholds, strict=True)),
            "chosen_on": options.chosen_on or None,
            "goal": str(options.objective) if options.chosen_on else options.objective.price,
            "draws": options.draws,
            "sets": [_set_dict(part, options.objective) for part in self.sets],
        }


class TunableModel(DetectorLike, CandidateDetector, Protocol):
    """A model other than a `Detector` whose thresholds can be chosen, such as a checkpoint."""

    def variant(self, *, threshold: Mapping[str, float]) -> DetectorLike: ...


def build_report(
    detector: Detector | TunableModel,
    sets: Sequence[tuple[str, DetectionSet]],
    options: ReportOptions,
    *,
    second: DetectorLike | None = None,
    validation: DetectionSet | None = None,
    calibrate: Callable[[Calibration], Detector | TunableModel] | None = None,
    predictions: PredictAll = predict_all,
    progress: StageProgress,
) -> Report:
    """Runs a model on data sets and measures all that the report shows.

    Args:
        detector: with `threshold=0.0` and NMS within classes.
        sets: names and ground truths.
        second: a model to compare with, `options.against`; needs draws.
        validation: the data set to choose thresholds on, `options.chosen_on`; None for the model's own.
        calibrate: returns the same model with another calibration, which is then fitted on the validation
            data; None keeps its own.
        predictions: runs the detectors over the sets, here or on a cluster.

    Raises:
        LabelError, ImageError: see `predict`.
    """
    own = detector.metadata.thresholds if isinstance(detector, Detector) else None
    thresholds, fit = own or (_UNTUNED,) * len(detector.class_names), None
    if validation is not None:
        with progress(options.chosen_on) as advance:
            candidates = gather(detector, validation, options.batch_size, advance)
        if calibrate is not None:
            fit = fit_calibration(validation, candidates)
            candidates = [one.calibrated(fit.calibration) for one in candidates]
            detector = calibrate(fit.calibration)
        points = choose(validation, candidates, options.objective, thresholds)
        thresholds = tuple(point.threshold for point in points)
    showing = detector.variant(threshold=dict(zip(detector.class_names, thresholds, strict=True)))
    detectors = [detector, showing, *([] if second is None else [second])]
    measured = []
    for name, detection_set in sets:
        with progress(name) as advance:
            every, shown, *others = predictions(detectors, detection_set, options.batch_size, advance)
        measured.append(measure_set(name, detection_set, every, shown, thresholds, options, *others))
    return Report(options, detector.class_names, thresholds, tuple(measured), fit)


def measure_set(
    name: str,
    detection_set: DetectionSet,
    predictions: Sequence[sv.Detections],
    shown: Sequence[sv.Detections],
    thresholds: Sequence[float],
    options: ReportOptions,
    second: Sequence[sv.Detections] | None = None,
) -> SetReport:
    """Measures all that the report shows of a data set.

    Args:
        predictions: one for each sample, with scores down to about 0.
        shown: one for each sample, from the detector at `thresholds`, with its own NMS.
        thresholds: one for each class.
        second: predictions of a model to compare with; needs draws.
    """
    matches = match_set(detection_set, predictions, FACE_AREAS)
    bootstrap = Bootstrap.of(matches, options.draws)
    against = None if second is None else Bootstrap.of(match_set(detection_set, second), options.draws)
    curves, calibration = class_curves(matches)
    slices = {
        "size of the face": by_size(matches),
        "faces in the picture": by_crowd(matches),
        "source": by_source(matches, options.sources),
    }
    shown = [_with_weaker(*pair, thresholds) for pair in zip(shown, predictions, strict=True)]
    return SetReport(
        name,
        detection_set,
        shown,
        coco_result(matches),
        bootstrap.intervals() if options.draws else {},
        curves,
        calibration,
        tuple(outcomes(detection_set, shown, thresholds)),
        tuple(operating_points(detection_set, shown, thresholds)),
        {heading: rows for heading, rows in slices.items() if rows},
        {} if against is None else bootstrap.against(against),
    )


def _with_weaker(shown: sv.Detections, found: sv.Detections, thresholds: Sequence[float]) -> sv.Detections:
    """What is shown, then the detections below the thresholds: a missed face may have a weak one."""
    import supervision as sv

    assert found.confidence is not None
    assert found.class_id is not None
    weak = found[found.confidence <= np.array(thresholds, np.float32)[found.class_id]]
    assert isinstance(weak, sv.Detections)
    return sv.Detections.merge([shown, weak])


def _set_dict(set_report: SetReport, objective: ThresholdObjective) -> dict[str, Any]:
    names = set_report.detection_set.class_names
    return {
        "data": set_report.name,
        **set_report.result.as_dict(),
        "intervals": {name: interval.ends for name, interval in set_report.intervals.items()},
        "against": {name: difference.as_dict() for name, difference in set_report.against.items()},
        "operating_point": [point.as_dict(objective) for point in set_report.points],
        "confusion": {
            "rows": [*names, _KINDS_IN_JSON["false_positive"]],
            "columns": [*names, _KINDS_IN_JSON["false_negative"]],
            "counts": confusion(set_report.outcomes, len(names)).tolist(),
        },
        "curves": {curve.name: curve.as_dict() for curve in set_report.curves},
        "calibration": set_report.calibration.as_dict(),
        "slices": {
            heading: [
                {"name": s.name, "pictures": s.pictures, "boxes": s.boxes, "AP50": s.ap50} for s in rows
            ]
            for heading, rows in set_report.slices.items()
        },
        "mistakes": [
            {
                "picture": str(set_report.detection_set.samples[error.picture].image_path),
                "kind": _KINDS_IN_JSON.get(error.kind, error.kind),
                "class": None if error.truth_class is None else names[error.truth_class],
                "found": None if error.found_class is None else names[error.found_class],
                "score": round(error.score, 4),
                "iou": round(error.iou, 4),
            }
            for error in set_report.outcomes
            if error.kind != "true_positive"
        ],
    }
