"""Fits a calibration on validation data: a score then is the share of hits among detections of that score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from maskwatch.data.dataset import DetectionSet
from maskwatch.evaluation.candidates import FLOOR, Candidates
from maskwatch.evaluation.curves import calibration_curve
from maskwatch.evaluation.matching import Bools, Floats, RankedDetections, ranked
from maskwatch.models import UNCALIBRATED, Calibration

MIN_EACH = 10
"""A class with fewer hits, or fewer other detections, keeps its scores."""

_STEPS, _ENOUGH = 50, 1e-9
_RIDGE = 1e-3
"""Weight of the distance to slope 1, offset 0: without it, scores that part hits from others perfectly would
have no best slope."""


@dataclass(frozen=True)
class CalibrationFit:
    """A calibration and what it was fitted on.

    error_before, error_after: expected calibration errors on the `pictures` pictures, see `CalibrationCurve`.
    """

    calibration: Calibration
    pictures: int
    error_before: float
    error_after: float

    def summary(self, class_names: Sequence[str]) -> str:
        """In one line."""
        classes = ", ".join(
            f"{name} {slope:.2f} {offset:+.2f}"
            for name, (slope, offset) in zip(class_names, self.calibration, strict=True)
        )
        return (
            f"expected calibration error {self.error_before:.3f} before and {self.error_after:.3f} after "
            f"calibration, on the {self.pictures} pictures it was fitted on (on others it is higher); "
            f"slope and offset: {classes}"
        )


def fit_calibration(detection_set: DetectionSet, candidates: Sequence[Candidates]) -> CalibrationFit:
    """Fits slope and offset of each class on the detections that a user sees at a low threshold.

    Calibration changes no box and no order within a class, so these are the same before and after it. Ignore
    regions do not count.

    Args:
        detection_set: a validation set, never the one of the report.
        candidates: one for each sample, from `gather`.
    """
    by_network = _seen(detection_set, [one.calibrated(()) for one in candidates])
    calibration = tuple(fit_scores(scores, hits) for scores, hits, _ in by_network)
    before = _error(_seen(detection_set, candidates))
    after = _error(_seen(detection_set, [one.calibrated(calibration) for one in candidates]))
    return CalibrationFit(calibration, len(detection_set), before, after)


def fit_scores(scores: Floats, hits: Bools) -> tuple[float, float]:
    """Slope and offset of the logit at which the hits are likeliest, by Newton's method.

    Args:
        scores: (D,) of the network, of one class.
        hits: (D,) which are true positives.

    Returns:
        `UNCALIBRATED` where there are fewer than `MIN_EACH` hits or others, or higher scores have fewer hits.
    """
    if min(hits.sum(), (~hits).sum()) < MIN_EACH:
        return UNCALIBRATED
    clipped = scores.clip(1e-7, 1 - 1e-7)
    features = np.stack([np.log(clipped / (1 - clipped)), np.ones_like(clipped)], 1)  # (D, 2)
    values = np.array(UNCALIBRATED)
    for _ in range(_STEPS):
        step = _newton_step(features, hits, values)
        while _loss(features, hits, values + step) > _loss(features, hits, values) + _ENOUGH:
            step /= 2  # too far: likelihood must rise
        values = values + step
        if np.abs(step).max() < _ENOUGH:
            break
    slope, offset = values.round(6).tolist()
    return (slope, offset) if slope > 0 else UNCALIBRATED


def _newton_step(features: Floats, hits: Bools, values: Floats) -> Floats:
    shares = 0.5 + 0.5 * np.tanh(features @ values / 2)
    gradient = features.T @ (hits - shares) - _RIDGE * (values - UNCALIBRATED)
    curvature = (features.T * (shares * (1 - shares))) @ features + _RIDGE * np.eye(2)
    return np.asarray(np.linalg.solve(curvature, gradient))


def _loss(features: Floats, hits: Bools, values: Floats) -> float:
    """The negative logarithm of the likelihood, with the ridge."""
    logits = features @ values
    ridge = _RIDGE * ((values - UNCALIBRATED) ** 2).sum() / 2
    return float(np.logaddexp(0, np.where(hits, -logits, logits)).sum() + ridge)


def _seen(detection_set: DetectionSet, candidates: Sequence[Candidates]) -> list[RankedDetections]:
    """By class, what is shown of the candidates at a threshold of `FLOOR`."""
    floors = np.full(len(detection_set.class_names), FLOOR, np.float32)
    shown = [one.detections(one.shown(floors)) for one in candidates]
    return [ranked(detection_set, shown, class_id) for class_id in range(len(floors))]


def _error(classes: Sequence[RankedDetections]) -> float:
    scores, hits, _ = zip(*classes, strict=True)
    return calibration_curve(np.concatenate(scores), np.concatenate(hits)).error
