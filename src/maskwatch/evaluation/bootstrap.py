"""How far a score could have come out otherwise: confidence intervals by bootstrap over the pictures.

The pictures of a data set are drawn anew with replacement, and the score is computed by pycocotools on each
such draw (Efron 1979). Pictures, not boxes, because the faces of one picture succeed and fail together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from maskwatch.data.dataset import DetectionSet
from maskwatch.evaluation.coco import accumulate, compare, iou_index, mean_known

if TYPE_CHECKING:
    import supervision as sv
    from pycocotools.cocoeval import COCOeval

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
    evaluation = compare(detection_set, predictions)
    pictures = len(detection_set)
    # (class, area, picture), of which accumulate() below looks at the first area alone, "all".
    matched = np.empty(len(evaluation.evalImgs), object)
    matched[:] = evaluation.evalImgs
    areas = len(evaluation.params.areaRng)
    matched = matched.reshape(-1, areas, pictures)[:, :1]
    for params in (evaluation.params, evaluation._paramsEval):
        params.areaRng, params.areaRngLbl = params.areaRng[:1], params.areaRngLbl[:1]
    evaluation.params.maxDets = evaluation.params.maxDets[-1:]
    rng = np.random.default_rng(seed)
    scores = []
    for _ in range(draws):
        evaluation.evalImgs = matched[:, :, rng.integers(pictures, size=pictures)].ravel().tolist()
        scores.append(_scores(evaluation, detection_set.class_names))
    return {name: _interval(np.array([score[name] for score in scores])) for name in scores[0]}


def _scores(evaluation: COCOeval, class_names: Sequence[str]) -> dict[str, float]:
    accumulate(evaluation)
    precision = evaluation.eval["precision"][..., 0, 0]  # (IoU, recall, class); −1 where there is no box
    recall = evaluation.eval["recall"][..., 0, 0]  # (IoU, class)
    half, three_quarters = iou_index(evaluation, 0.5), iou_index(evaluation, 0.75)
    by_class = {f"AP50 {name}": _mean(precision[half, :, i]) for i, name in enumerate(class_names)}
    return {
        "AP": _mean(precision),
        "AP50": _mean(precision[half]),
        "AP75": _mean(precision[three_quarters]),
        "AR100": _mean(recall),
    } | by_class


def _mean(values: npt.NDArray[np.float64]) -> float:
    mean = mean_known(values)
    return float("nan") if mean is None else mean


def _interval(scores: npt.NDArray[np.float64]) -> Interval:
    known = scores[~np.isnan(scores)]
    if not known.size:
        return Interval(float("nan"), float("nan"))
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high))
