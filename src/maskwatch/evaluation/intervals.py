"""How far a score could have come out otherwise: confidence intervals by bootstrap over the pictures.

The pictures of a data set are drawn anew with replacement, and the score is computed on each such draw
(Efron 1979). Pictures, not boxes, because the faces of one picture succeed and fail together. Two models are
compared on the same draws, so that pictures which are hard for both do not hide what lies between them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from maskwatch.data.dataset import DetectionSet
from maskwatch.evaluation.tally import Tally

if TYPE_CHECKING:
    import supervision as sv

LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """Both ends of the middle 95 % of the draws; NaN where no draw had anything to measure."""

    low: float
    high: float


def bootstrap_intervals(
    detection_set: DetectionSet,
    predictions: Sequence[sv.Detections],
    draws: int = 1000,
    seed: int = 1,
) -> Mapping[str, Interval]:
    """Percentile intervals of AP, AP50, AP75, AR100, and of the AP50 of each class as "AP50 NAME".

    Args:
        detection_set, predictions: as for `coco_evaluate`.
        draws: how many data sets of the same number of pictures are drawn.
        seed: of the generator; the same seed gives the same intervals.

    Raises:
        ValueError: fewer than one draw, or the number of predictions is not that of the samples.
        LabelError: a prediction has a class id that the data set has no name for.
        MissingExtraError: pycocotools is not installed.
    """
    if draws < 1:
        raise ValueError(f"draws is {draws}; an interval needs at least one, better a thousand")
    scores = bootstrap_scores(detection_set, predictions, draws, seed)
    return {name: interval_of(values) for name, values in scores.items()}


def bootstrap_scores(
    detection_set: DetectionSet, predictions: Sequence[sv.Detections], draws: int, seed: int
) -> Mapping[str, npt.NDArray[np.float64]]:
    """The scores of `bootstrap_intervals` in each draw, (draws,), NaN where there is nothing to measure.

    The same seed gives the same draws, so that models can be compared on them; for 0 draws, the one score of
    the set as it is.
    """
    return scores_of_draws(Tally.of(detection_set, predictions), draws, seed)


def scores_of_draws(tally: Tally, draws: int, seed: int) -> Mapping[str, npt.NDArray[np.float64]]:
    """As `bootstrap_scores`, of predictions that are matched already."""
    if not draws:
        return {name: np.array([score]) for name, score in tally.scores().items()}
    scores = [tally.scores(weights) for weights in _draws(tally.pictures, draws, seed)]
    return {name: np.array([score[name] for score in scores]) for name in scores[0]}


def _draws(pictures: int, draws: int, seed: int) -> Iterator[npt.NDArray[np.int64]]:
    """How often each picture is in a draw, (P,), draw by draw."""
    rng = np.random.default_rng(seed)
    for _ in range(draws):
        drawn = rng.integers(pictures, size=pictures) if pictures else np.empty(0, np.int64)
        yield np.bincount(drawn, minlength=pictures)


def interval_of(scores: npt.NDArray[np.float64]) -> Interval:
    """The middle 95 % of what draws gave; those that had nothing to measure do not count."""
    known = scores[~np.isnan(scores)]
    if not known.size:
        return Interval(float("nan"), float("nan"))
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high))
