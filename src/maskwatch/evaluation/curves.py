"""Precision, recall and F1 over the score threshold, and the calibration of scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from maskwatch.evaluation.matching import Bools, Floats, Ints, Matches

BINS = 10
CALIBRATION_MIN_SCORE = 0.05
"""Calibration leaves out detections with lower scores: every picture has a hundred of them."""


@dataclass(frozen=True)
class ClassCurve:
    """Of one class at IoU 0.5, by falling score: scores (D,), precision (D,), recall (D,); truths: boxes."""

    name: str
    truths: int
    scores: Floats
    precision: Floats
    recall: Floats

    @property
    def f1(self) -> Floats:
        total = np.maximum(self.precision + self.recall, 1e-12)
        return np.asarray(2 * self.precision * self.recall / total)

    def at(self, threshold: float) -> tuple[float, float]:
        """Precision and recall of the detections above a threshold; precision 1 where there are none."""
        count = int((self.scores > threshold).sum())
        return (float(self.precision[count - 1]), float(self.recall[count - 1])) if count else (1.0, 0.0)

    def as_dict(self) -> dict[str, Any]:
        """For JSON: precision and recall at thresholds 0, 0.01 … 0.99."""
        rows = [(threshold, *self.at(threshold)) for threshold in np.linspace(0, 1, 101)[:-1].tolist()]
        columns = ([round(value, 4) for value in column] for column in zip(*rows, strict=True))
        return dict(zip(("threshold", "precision", "recall"), columns, strict=True))


@dataclass(frozen=True)
class CalibrationCurve:
    """Bins of detections by score: mean score, share of hits and number of each; all (BINS,).

    error: expected calibration error (Naeini et al., "Obtaining Well Calibrated Probabilities Using Bayesian
    Binning", AAAI 2015), the mean distance of the two, weighted by number.
    """

    score: Floats
    hits: Floats
    number: Ints
    error: float

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        bins = [
            {"score": round(float(s), 4), "hits": round(float(h), 4), "detections": int(n)}
            for s, h, n in zip(self.score, self.hits, self.number, strict=True)
            if n
        ]
        return {"expected_calibration_error": round(self.error, 4), "bins": bins}


def class_curves(matches: Matches) -> tuple[tuple[ClassCurve, ...], CalibrationCurve]:
    """The curve of each class, and the calibration of all together.

    Args:
        matches: of predictions with scores down to about 0.
    """
    curves, all_scores, all_hits = [], [], []
    for class_id, name in enumerate(matches.detection_set.class_names):
        scores, hits, truths = matches.ranked(class_id)
        true = np.cumsum(hits)
        precision = true / np.arange(1, len(hits) + 1)
        curves.append(ClassCurve(name, truths, scores, precision, true / max(truths, 1)))
        all_scores.append(scores)
        all_hits.append(hits)
    return tuple(curves), calibration_curve(np.concatenate(all_scores), np.concatenate(all_hits))


def calibration_curve(scores: Floats, hits: Bools) -> CalibrationCurve:
    """The calibration of detections: scores (D,), and which are true positives (D,)."""
    counted = scores >= CALIBRATION_MIN_SCORE
    scores, hits = scores[counted], hits[counted]
    bins = np.minimum((scores * BINS).astype(int), BINS - 1)
    number = np.bincount(bins, minlength=BINS)
    safe = np.maximum(number, 1)
    mean_score = np.bincount(bins, scores, BINS) / safe
    share = np.bincount(bins, hits.astype(float), BINS) / safe
    error = float((np.abs(mean_score - share) * number).sum() / max(len(scores), 1))
    return CalibrationCurve(mean_score, share, number.astype(np.int64), error)
