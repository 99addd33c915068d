"""What pycocotools matched, kept so that the score of any choice of the pictures follows in milliseconds.

A draw of the bootstrap or a slice of a data set is a weight for each picture. Matching is pycocotools' own
and happens once; the curves are computed here as its `accumulate` does, for boxes of all areas and 100
detections, with each detection counted as often as its picture. `tests/test_bootstrap.py` holds them equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from maskwatch.data.dataset import DetectionSet
from maskwatch.evaluation.coco import compare, iou_index

if TYPE_CHECKING:
    import supervision as sv
    from pycocotools.cocoeval import COCOeval

Weights = npt.NDArray[np.int64]


@dataclass(frozen=True)
class _ClassMatches:
    """Of one class, D detections of all pictures, best first.

    truths: (P,) boxes to be found in each picture; pictures: (D,) where each detection is; hits: for each of
    the T IoU levels the places among D of those that found a box; ignored: (T, D), those that are on an
    ignore region, which count for nothing.
    """

    truths: npt.NDArray[np.int64]
    pictures: npt.NDArray[np.int64]
    hits: tuple[npt.NDArray[np.int64], ...]
    ignored: npt.NDArray[np.bool_]

    def curves(self, weights: Weights, recalls: npt.NDArray[np.float64]) -> _Curves | None:
        """None where the weighted pictures hold no ground truth."""
        truths = int(self.truths @ weights)
        if not truths:
            return None
        times = weights[self.pictures]  # (D,)
        precision = np.zeros((len(self.hits), len(recalls)))
        recall = np.zeros(len(self.hits))
        for level, places in enumerate(self.hits):
            if not places.size:
                continue
            counted = np.cumsum(np.where(self.ignored[level], 0, times))
            true = np.cumsum(times[places])
            share = true / np.maximum(counted[places], 1)
            # The best precision at this recall or a higher one; only a hit can begin a new step.
            envelope = np.maximum.accumulate(share[::-1])[::-1]
            reached = true / truths
            at = np.searchsorted(reached, recalls, side="left")
            inside = at < len(places)
            precision[level, inside] = envelope[at[inside]]
            recall[level] = reached[-1]
        return _Curves(precision, recall)


@dataclass(frozen=True)
class _Curves:
    precision: npt.NDArray[np.float64]  # (T, recall levels)
    recall: npt.NDArray[np.float64]  # (T,)


@dataclass(frozen=True)
class Tally:
    """The predictions for a data set, matched.

    Attributes:
        class_names: in the order of the ids.
        pictures: P.
    """

    class_names: tuple[str, ...]
    pictures: int
    _classes: tuple[_ClassMatches, ...]
    _recalls: npt.NDArray[np.float64]
    _half: int
    _three_quarters: int

    @classmethod
    def of(cls, detection_set: DetectionSet, predictions: Sequence[sv.Detections]) -> Tally:
        """Arguments and errors are those of `coco_evaluate`."""
        evaluation = compare(detection_set, predictions)
        return cls(
            detection_set.class_names,
            len(detection_set),
            tuple(
                _class_matches(evaluation, class_id, len(detection_set))
                for class_id in range(len(detection_set.class_names))
            ),
            np.asarray(evaluation.params.recThrs, np.float64),
            iou_index(evaluation, 0.5),
            iou_index(evaluation, 0.75),
        )

    def scores(self, weights: Weights | None = None) -> dict[str, float]:
        """AP, AP50, AP75, AR100 and "AP50 NAME" for each class; NaN where there is nothing to measure.

        Args:
            weights: (P,) how often each picture counts; None counts each once.
        """
        if weights is None:
            weights = np.ones(self.pictures, np.int64)
        curves = [matches.curves(weights, self._recalls) for matches in self._classes]
        known = [curve for curve in curves if curve is not None]
        half, three_quarters = self._half, self._three_quarters
        by_class = {
            f"AP50 {name}": float("nan") if curve is None else float(curve.precision[half].mean())
            for name, curve in zip(self.class_names, curves, strict=True)
        }
        if not known:
            return dict.fromkeys(("AP", "AP50", "AP75", "AR100"), float("nan")) | by_class
        precision = np.stack([curve.precision for curve in known])  # (class, T, recall levels)
        return {
            "AP": float(precision.mean()),
            "AP50": float(precision[:, half].mean()),
            "AP75": float(precision[:, three_quarters].mean()),
            "AR100": float(np.mean([curve.recall for curve in known])),
        } | by_class


def _class_matches(evaluation: COCOeval, class_id: int, pictures: int) -> _ClassMatches:
    # evalImgs is (class, area, picture), flat, with None for a picture without box or detection of the class.
    start = class_id * len(evaluation.params.areaRng) * pictures
    truths = np.zeros(pictures, np.int64)
    places: list[npt.NDArray[np.int64]] = [np.empty(0, np.int64)]
    scores: list[npt.NDArray[np.float64]] = [np.empty(0)]
    nothing = np.empty((len(evaluation.params.iouThrs), 0), bool)
    matched, ignored = [nothing], [nothing]
    for picture, entry in enumerate(evaluation.evalImgs[start : start + pictures]):
        if entry is None:
            continue
        truths[picture] = np.count_nonzero(entry["gtIgnore"] == 0)
        places.append(np.full(len(entry["dtScores"]), picture))
        scores.append(np.asarray(entry["dtScores"], np.float64))
        matched.append(np.asarray(entry["dtMatches"]).reshape(len(nothing), -1) > 0)
        ignored.append(np.asarray(entry["dtIgnore"]).reshape(len(nothing), -1) > 0)
    order = np.argsort(-np.concatenate(scores), kind="mergesort")
    passed_over = np.concatenate(ignored, axis=1)[:, order]
    hits = np.concatenate(matched, axis=1)[:, order] & ~passed_over
    found = tuple(np.flatnonzero(row) for row in hits)
    return _ClassMatches(truths, np.concatenate(places)[order], found, passed_over)
