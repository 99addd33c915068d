"""What a detector shows at score thresholds: how much of it is right, and what its mistakes cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from maskwatch.data.dataset import DetectionSet
from maskwatch.errors import OptionError
from maskwatch.evaluation.matching import ranked

if TYPE_CHECKING:
    import supervision as sv


Number = TypeVar("Number", float, npt.NDArray[np.float64])


@dataclass(frozen=True)
class OperatingPoint:
    """A class at a score threshold, at IoU 0.5 and with the other classes at theirs.

    truths: boxes to be found; shown: detections, but for those on ignore regions; hits: those that found one.
    """

    name: str
    threshold: float
    truths: int
    shown: int
    hits: int

    @property
    def precision(self) -> float:
        """1 where nothing is shown."""
        return self.hits / self.shown if self.shown else 1.0

    @property
    def recall(self) -> float:
        return self.hits / self.truths if self.truths else 0.0

    @property
    def f1(self) -> float:
        return 2 * self.hits / (self.shown + self.truths) if self.hits else 0.0


@dataclass(frozen=True)
class Goal:
    """What thresholds are chosen by: the best F1, the least cost, or the fewest false alarms at a recall.

    missed, alarm: cost of a face that is not found in its class, of a detection that is none of its class;
    one that is None costs 1 where the other is given; recall: share of the faces of each class that must be
    found, in the place of costs. Without any of them, F1.
    """

    missed: float | None = None
    alarm: float | None = None
    recall: float | None = None

    def __post_init__(self) -> None:
        missed, alarm = self._costs
        if not (0 < missed < np.inf and 0 < alarm < np.inf):
            raise OptionError(f"costs {missed:g} and {alarm:g} must be positive; write for example 5")
        if self.recall is not None and not 0 < self.recall <= 1:
            raise OptionError(f"recall {self.recall:g} is not above 0 and up to 1; write for example 0.9")

    def cost(self, missed: Number, alarms: Number) -> Number:
        """Of so many missed faces and false alarms."""
        of_missed, of_alarm = self._costs
        return of_missed * missed + of_alarm * alarms

    def __str__(self) -> str:
        if self.recall is not None:
            return f"recall of {self.recall:g} for each class"
        if (self.missed, self.alarm) == (None, None):
            return "the best F1 of each class"
        return self.price

    @property
    def price(self) -> str:
        """What mistakes cost, in words."""
        missed, alarm = self._costs
        return f"a missed face costs {missed:g}, a false alarm {alarm:g}"

    @property
    def _costs(self) -> tuple[float, float]:
        return (1.0 if self.missed is None else self.missed, 1.0 if self.alarm is None else self.alarm)


def operating_points(
    detection_set: DetectionSet, shown: Sequence[sv.Detections], thresholds: Sequence[float]
) -> list[OperatingPoint]:
    """Each class of what is shown at thresholds.

    Args:
        detection_set: the ground truth.
        shown: one for each sample, as the detector gives it at these thresholds; lower scores do not count.
        thresholds: one for each class.
    """
    points = []
    for class_id, (name, threshold) in enumerate(zip(detection_set.class_names, thresholds, strict=True)):
        scores, hits, truths = ranked(detection_set, shown, class_id)
        counted = scores > np.float32(threshold)
        points.append(OperatingPoint(name, threshold, truths, int(counted.sum()), int(hits[counted].sum())))
    return points


def table(points: Sequence[OperatingPoint], goal: Goal) -> list[dict[str, Any]]:
    """Rows for JSON and pages: what the points give, and what that costs."""
    return [
        {
            "class": point.name,
            "threshold": round(point.threshold, 4),
            "precision": round(point.precision, 4),
            "recall": round(point.recall, 4),
            "f1": round(point.f1, 4),
            "cost": round(goal.cost(point.truths - point.hits, float(point.shown - point.hits)), 1),
        }
        for point in points
    ]
