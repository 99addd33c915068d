"""Whether one model is better than another on the same pictures, or only luckier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from maskwatch.data.dataset import DetectionSet
from maskwatch.evaluation.bootstrap import Interval, bootstrap_scores, interval_of

if TYPE_CHECKING:
    import supervision as sv


@dataclass(frozen=True)
class Difference:
    """Of one score: `first` minus `second`, with its 95 % interval over the draws."""

    first: float
    second: float
    interval: Interval

    @property
    def real(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.interval.low > 0 or self.interval.high < 0

    def words(self, first: str, second: str) -> str:
        """The verdict in a sentence's worth."""
        if np.isnan(self.interval.low):
            return "nothing to measure"
        if not self.real:
            return "no difference that these pictures can show"
        return f"{first if self.interval.low > 0 else second} is better"

    def as_dict(self) -> dict[str, Any]:
        """For JSON; None for what cannot be measured."""
        values = (self.first, self.second, self.interval.low, self.interval.high)
        first, second, low, high = (None if np.isnan(value) else round(value, 4) for value in values)
        return {"first": first, "second": second, "low": low, "high": high, "real": bool(self.real)}


def compare_models(
    detection_set: DetectionSet,
    first: Sequence[sv.Detections],
    second: Sequence[sv.Detections],
    draws: int = 1000,
    seed: int = 1,
) -> Mapping[str, Difference]:
    """The difference of two models in each score, on the same draws of the pictures for both.

    Arguments and errors are those of `bootstrap_intervals`.
    """
    ours, theirs = (bootstrap_scores(detection_set, found, draws, seed) for found in (first, second))
    whole = [bootstrap_scores(detection_set, found, 0, seed) for found in (first, second)]
    return {
        name: Difference(
            float(whole[0][name][0]), float(whole[1][name][0]), interval_of(ours[name] - theirs[name])
        )
        for name in ours
    }
