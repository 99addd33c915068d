"""Whether one model is better than another on the same pictures, or only luckier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from maskwatch.data.dataset import DetectionSet
from maskwatch.evaluation.intervals import Interval, interval_of, scores_of_draws
from maskwatch.evaluation.tally import Tally

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
    tallies = [Tally.of(detection_set, found) for found in (first, second)]
    ours, theirs = (scores_of_draws(tally, draws, seed) for tally in tallies)
    whole, whole_theirs = (tally.scores() for tally in tallies)
    return {
        name: Difference(score, whole_theirs[name], interval_of(ours[name] - theirs[name]))
        for name, score in whole.items()
    }
