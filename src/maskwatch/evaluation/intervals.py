"""Confidence intervals of scores, by bootstrap over the pictures.

The pictures of a data set are drawn with replacement, and the score is computed on each draw
(Efron 1979). Pictures, not boxes, because the faces of one picture succeed and fail together. Two models are
compared on the same draws, so that pictures which are hard for both do not hide the difference between them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from maskwatch.data.dataset import DetectionSet
from maskwatch.evaluation.coco import weighted_scores
from maskwatch.evaluation.matching import Floats, Ints, Matches, match_set

if TYPE_CHECKING:
    import supervision as sv

LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """Both ends of the middle 95 % of the draws; NaN where no draw had a ground truth."""

    low: float
    high: float

    @classmethod
    def of(cls, scores: Floats) -> Interval:
        """Of the scores of draws (R,), without NaN."""
        known = scores[~np.isnan(scores)]
        if not known.size:
            return cls(float("nan"), float("nan"))
        low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return cls(float(low), float(high))

    @property
    def ends(self) -> list[float] | None:
        """For JSON; None instead of NaN."""
        return None if np.isnan(self.low) else [self.low, self.high]


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
        """Which of the two models is better, as a short sentence."""
        if np.isnan(self.interval.low):
            return "nothing to measure"
        if not self.real:
            return "no difference that these pictures can show"
        return f"{first if self.interval.low > 0 else second} is better"

    @property
    def values(self) -> dict[str, float | None]:
        """Both scores and both ends of the interval; None for what cannot be measured."""
        values = {"first": self.first, "second": self.second}
        values |= {"low": self.interval.low, "high": self.interval.high}
        return {name: None if np.isnan(value) else value for name, value in values.items()}

    def as_dict(self) -> dict[str, Any]:
        """For JSON, rounded."""
        rounded = {name: None if value is None else round(value, 4) for name, value in self.values.items()}
        return {**rounded, "real": bool(self.real)}


@dataclass(frozen=True)
class Bootstrap:
    """Scores by the names of `weighted_scores`.

    whole: of the data set as it is; draws: of each draw, (R,), NaN without ground truth.
    """

    whole: Mapping[str, float]
    draws: Mapping[str, Floats]

    @classmethod
    def of(cls, matches: Matches, draws: int, seed: int = 1) -> Bootstrap:
        """Draws as many pictures as the set has, `draws` times; the same seed gives the same draws."""
        whole = weighted_scores(matches)
        pictures = len(matches.detection_set)
        scores = [weighted_scores(matches, weights) for weights in _draws(pictures, draws, seed)]
        return cls(whole, {name: np.array([score[name] for score in scores]) for name in whole})

    def intervals(self) -> Mapping[str, Interval]:
        """The interval of each score."""
        return {name: Interval.of(scores) for name, scores in self.draws.items()}

    def against(self, other: Bootstrap) -> Mapping[str, Difference]:
        """The difference to another model in each score, on the same draws."""
        return {
            name: Difference(score, other.whole[name], Interval.of(self.draws[name] - other.draws[name]))
            for name, score in self.whole.items()
        }


def bootstrap_intervals(
    detection_set: DetectionSet,
    predictions: Sequence[sv.Detections],
    draws: int = 1000,
    seed: int = 1,
) -> Mapping[str, Interval]:
    """Percentile intervals of AP, AP50, AP75, AR100, and of the AP50 of each class as "AP50 NAME".

    Args:
        detection_set, predictions: as for `coco_evaluate`.
        draws: number of data sets of the same size to draw.
        seed: of the generator; the same seed gives the same intervals.

    Raises:
        ValueError: fewer than one draw, or the number of predictions is not that of the samples.
        LabelError: a prediction has a class id that the data set has no name for.
        MissingExtraError: pycocotools is not installed.
    """
    if draws < 1:
        raise ValueError(f"draws is {draws}; an interval needs at least one, better a thousand")
    return Bootstrap.of(match_set(detection_set, predictions), draws, seed).intervals()


def _draws(pictures: int, draws: int, seed: int) -> Iterator[Ints]:
    """How often each picture is in a draw, (P,), draw by draw."""
    rng = np.random.default_rng(seed)
    for _ in range(draws):
        yield np.bincount(rng.integers(pictures, size=pictures), minlength=pictures)
