"""COCO's numbers (https://cocodataset.org/#detection-eval), computed and printed by pycocotools."""

from __future__ import annotations

import contextlib
import copy
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from maskwatch.data.dataset import DetectionSet
from maskwatch.evaluation.matching import ClassMatches, Floats, Ints, Matches, match_set

if TYPE_CHECKING:
    import supervision as sv
    from pycocotools.cocoeval import COCOeval

STAT_NAMES = (
    "AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large",
    "AR1", "AR10", "AR100", "AR_small", "AR_medium", "AR_large",
)  # fmt: skip
"""Names of the twelve numbers, in the order in which pycocotools prints them."""


@dataclass(frozen=True)
class ClassScore:
    """Scores of one class; AP is None where the data set has no ground truth of it.

    boxes: number of its ground truths, ignore regions left out; stats: the twelve numbers of this class
    alone, by `STAT_NAMES`, −1 where there is no ground truth; printed: them as pycocotools prints them.
    """

    name: str
    boxes: int
    ap: float | None
    ap50: float | None
    stats: Mapping[str, float]
    printed: tuple[str, ...]


@dataclass(frozen=True)
class CocoResult:
    """What pycocotools measured.

    Attributes:
        stats: the twelve numbers by `STAT_NAMES`, −1 where there is no ground truth.
        per_class: one for each class, in the order of the ids.
        pictures, boxes: how many pictures and ground truths there are.
        ignored: number of ignore regions (difficult boxes and crowds), which `boxes` leaves out.
    """

    stats: Mapping[str, float]
    per_class: tuple[ClassScore, ...]
    pictures: int
    boxes: int
    printed: tuple[str, ...]
    ignored: int

    def lines(self) -> tuple[str, ...]:
        """The twelve lines, as pycocotools printed them."""
        return self.printed

    def as_dict(self) -> dict[str, Any]:
        """For JSON: `pictures`, `boxes`, `ignored`, `stats`, `classes`; None for what cannot be measured."""
        return {
            "pictures": self.pictures,
            "boxes": self.boxes,
            "ignored": self.ignored,
            "stats": _known(self.stats),
            "classes": {
                score.name: {
                    "boxes": score.boxes,
                    "AP": score.ap,
                    "AP50": score.ap50,
                    "stats": _known(score.stats),
                }
                for score in self.per_class
            },
        }


def coco_evaluate(detection_set: DetectionSet, predictions: Sequence[sv.Detections]) -> CocoResult:
    """Measures predictions against the ground truth of a data set.

    Areas are those of the boxes, in pixels of the original pictures. Ignore regions, which are boxes marked
    difficult and crowds, are pycocotools' crowds: they need not be found, and a detection of their class that
    finds no other box and has half of its area in one (or the share of the IoU threshold) is neither right
    nor wrong.

    Args:
        detection_set: the ground truth.
        predictions: one for each sample, in the same order; `xyxy` in pixels of the picture, `confidence`,
            and `class_id` by the order of `detection_set.class_names`. Pass detections of all scores,
            down to 0: a threshold cuts off part of the area under the curve, which is AP.

    Raises:
        ValueError: the number of predictions is not that of the samples.
        LabelError: a prediction has a class id that the data set has no name for.
        MissingExtraError: pycocotools is not installed.
    """
    return coco_result(match_set(detection_set, predictions))


def coco_result(matches: Matches) -> CocoResult:
    """COCO's numbers of matched predictions."""
    counts, evaluation = matches.detection_set.class_counts(), matches.accumulated
    class_scores = []
    for class_id, (name, boxes) in enumerate(counts.items()):
        stats, printed = _summary(_of_class(evaluation, class_id))
        known = _known(stats)
        class_scores.append(ClassScore(name, boxes, known["AP"], known["AP50"], stats, printed))
    stats, printed = _summary(evaluation)
    return CocoResult(
        stats,
        tuple(class_scores),
        pictures=len(matches.detection_set),
        boxes=sum(counts.values()),
        printed=printed,
        ignored=matches.detection_set.ignored(),
    )


def _summary(evaluation: COCOeval) -> tuple[Mapping[str, float], tuple[str, ...]]:
    """The twelve numbers of the curves in `evaluation.eval`, and the lines that pycocotools prints."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        evaluation.summarize()
    stats = dict(zip(STAT_NAMES, map(float, evaluation.stats), strict=True))
    return MappingProxyType(stats), tuple(printed.getvalue().splitlines())


def _of_class(evaluation: COCOeval, class_id: int) -> COCOeval:
    """The evaluation as if there were one class; pycocotools averages over the classes of its curves."""
    alone = copy.copy(evaluation)
    kept = slice(class_id, class_id + 1)
    alone.eval = evaluation.eval | {
        "precision": evaluation.eval["precision"][:, :, kept],
        "recall": evaluation.eval["recall"][:, kept],
    }
    return alone


def _known(stats: Mapping[str, float]) -> dict[str, float | None]:
    return {name: None if value < 0 else value for name, value in stats.items()}


# ---- Weighted pictures -----------------------------------------------------------------------------------


def weighted_scores(matches: Matches, weights: Ints | None = None) -> dict[str, float]:
    """AP, AP50, AP75, AR100 and "AP50 NAME" of each class; NaN without ground truth.

    A bootstrap draw or a slice of a data set is a weight for each picture. The curves are computed as
    pycocotools' `accumulate` does, each detection as often as its picture, in milliseconds.
    `tests/test_bootstrap.py` and `tests/test_ignore.py` hold the scores equal to pycocotools'.

    Args:
        weights: (P,) how often each picture counts; None counts each once.
    """
    if weights is None:
        weights = np.ones(len(matches.detection_set), np.int64)
    recalls = np.asarray(matches.evaluation.params.recThrs, np.float64)
    curves = [_weighted_curves(one, weights, recalls) for one in matches.classes]
    known = [curve for curve in curves if curve is not None]
    half, three_quarters = matches.level(0.5), matches.level(0.75)
    by_class = {
        f"AP50 {name}": float("nan") if curve is None else float(curve[0][half].mean())
        for name, curve in zip(matches.detection_set.class_names, curves, strict=True)
    }
    if not known:
        return dict.fromkeys(("AP", "AP50", "AP75", "AR100"), float("nan")) | by_class
    precision = np.stack([curve[0] for curve in known])  # (class, T, recall levels)
    return {
        "AP": float(precision.mean()),
        "AP50": float(precision[:, half].mean()),
        "AP75": float(precision[:, three_quarters].mean()),
        "AR100": float(np.mean([curve[1] for curve in known])),
    } | by_class


def _weighted_curves(matches: ClassMatches, weights: Ints, recalls: Floats) -> tuple[Floats, Floats] | None:
    """Precision (T, recall levels) and recall (T,); None where the weighted pictures hold no ground truth."""
    truths = int(matches.truths @ weights)
    if not truths:
        return None
    times = weights[matches.pictures]  # (D,)
    precision = np.zeros((len(matches.hits), len(recalls)))
    recall = np.zeros(len(matches.hits))
    for level, indices in enumerate(matches.hit_indices):
        if not indices.size:
            continue
        counted = np.cumsum(np.where(matches.ignored[level], 0, times))
        true = np.cumsum(times[indices])
        share = true / np.maximum(counted[indices], 1)
        # The best precision at this recall or a higher one; only a hit can begin a new step.
        envelope = np.maximum.accumulate(share[::-1])[::-1]
        reached = true / truths
        at = np.searchsorted(reached, recalls, side="left")
        inside = at < len(indices)
        precision[level, inside] = envelope[at[inside]]
        recall[level] = reached[-1]
    return precision, recall
