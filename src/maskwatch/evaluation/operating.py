"""Chooses score thresholds by what mistakes cost, or by the share of faces that must be found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from maskwatch.errors import OptionError
from maskwatch.evaluation.curves import ClassCurve
from maskwatch.evaluation.thresholds import OperatingPoint


@dataclass(frozen=True)
class Goal:
    """What thresholds are chosen by: the least cost, or the fewest false alarms at a wanted recall.

    missed, alarm: cost of a face that is not found in its class, of a detection that is none of its class;
    recall: share of the faces of each class that must be found, in the place of costs.
    """

    missed: float = 1.0
    alarm: float = 1.0
    recall: float | None = None

    def __post_init__(self) -> None:
        if min(self.missed, self.alarm) <= 0:
            raise OptionError(
                f"costs {self.missed:g} and {self.alarm:g} must be positive; write for example 5"
            )
        if self.recall is not None and not 0 < self.recall <= 1:
            raise OptionError(f"recall {self.recall:g} is not above 0 and up to 1; write for example 0.9")

    def cost(self, truths: int, precision: float, recall: float) -> float:
        """Of a class at a threshold."""
        hits = recall * truths
        alarms = hits / precision - hits if precision > 0 else 0.0
        return self.missed * (truths - hits) + self.alarm * alarms

    def __str__(self) -> str:
        if self.recall is not None:
            return f"recall of {self.recall:g} for each class"
        return f"a missed face costs {self.missed:g}, a false alarm {self.alarm:g}"


def choose(curves: Sequence[ClassCurve], goal: Goal, fallback: Sequence[float]) -> list[OperatingPoint]:
    """The threshold of each class that meets the goal best, with its precision and recall.

    A threshold lies half way between two scores. Where a wanted recall is out of reach, all detections count
    that raise it.

    Args:
        curves: of the data that thresholds are chosen on, never of that which is reported.
        goal: what is wanted.
        fallback: threshold of a class without a box or a detection.
    """
    return [_choose(curve, goal, other) for curve, other in zip(curves, fallback, strict=True)]


def at_thresholds(curves: Sequence[ClassCurve], thresholds: Sequence[float]) -> list[OperatingPoint]:
    """Precision, recall and F1 of each class at given thresholds."""
    return [_point(curve, threshold) for curve, threshold in zip(curves, thresholds, strict=True)]


def table(curves: Sequence[ClassCurve], points: Sequence[OperatingPoint], goal: Goal) -> list[dict[str, Any]]:
    """Rows for JSON and pages: what the points give, and what that costs."""
    return [
        {
            "class": point.name,
            "threshold": round(point.threshold, 4),
            "precision": round(point.precision, 4),
            "recall": round(point.recall, 4),
            "f1": round(point.f1, 4),
            "cost": round(goal.cost(curve.truths, point.precision, point.recall), 1),
        }
        for curve, point in zip(curves, points, strict=True)
    ]


def _point(curve: ClassCurve, threshold: float) -> OperatingPoint:
    precision, recall = curve.at(threshold)
    f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return OperatingPoint(curve.name, threshold, precision, recall, f1)


def _choose(curve: ClassCurve, goal: Goal, fallback: float) -> OperatingPoint:
    if not curve.truths or not len(curve.scores):
        return _point(curve, fallback)
    # Detections of one score count together or not at all.
    last = np.append(curve.scores[1:] < curve.scores[:-1], True)
    if goal.recall is None:
        hits = curve.recall * curve.truths
        costs = goal.missed * (curve.truths - hits) + goal.alarm * (np.arange(1, len(hits) + 1) - hits)
        at = int(np.where(last, costs, np.inf).argmin())
        if costs[at] >= goal.missed * curve.truths:  # to find nothing is cheaper
            return _point(curve, float((1 + curve.scores[0]) / 2))
    else:
        wanted = min(goal.recall, float(curve.recall[-1]))
        at = int(np.flatnonzero(last & (curve.recall >= wanted - 1e-9))[0])
    below = curve.scores[at + 1] if at + 1 < len(curve.scores) else 0.0
    return _point(curve, float((curve.scores[at] + below) / 2))
