"""Score thresholds: where precision and recall of each class are in the best balance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from maskwatch.data.dataset import DetectionSet, Sample

if TYPE_CHECKING:
    import supervision as sv

IOU = 0.5


@dataclass(frozen=True)
class OperatingPoint:
    """A class at a score threshold; precision, recall and F1 at IoU 0.5."""

    name: str
    threshold: float
    precision: float
    recall: float
    f1: float


def best_thresholds(
    detection_set: DetectionSet, predictions: Sequence[sv.Detections], fallback: float = 0.5
) -> tuple[OperatingPoint, ...]:
    """The threshold of the best F1 of each class.

    Detections are matched to ground truths of their class as COCO does: best score first, each to the free
    ground truth that it overlaps most, by an IoU of at least 0.5. The threshold lies half way between the
    last score that counts and the first that does not, since a detection must exceed it.

    Args:
        detection_set: choose on a validation set, never on the one that is reported.
        predictions: one for each sample, with scores down to about 0.
        fallback: threshold of a class without a ground truth or a hit.
    """
    points = []
    for class_id, name in enumerate(detection_set.class_names):
        scores, hits, truths = ranked(detection_set, predictions, class_id)
        points.append(_best(name, scores, hits, truths, fallback))
    return tuple(points)


def ranked(
    detection_set: DetectionSet, predictions: Sequence[sv.Detections], class_id: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_], int]:
    """Scores of all detections of a class, best first; whether each is a hit; how many ground truths."""
    scores: list[float] = []
    hits: list[bool] = []
    truths = 0
    for sample, found in zip(detection_set.samples, predictions, strict=True):
        assert found.class_id is not None
        assert found.confidence is not None
        mine = found.class_id == class_id
        truths += int((sample.class_ids == class_id).sum())
        scores += found.confidence[mine].tolist()
        hits += _hits(sample, class_id, found.xyxy[mine], found.confidence[mine])
    order = np.argsort(-np.array(scores, np.float64), kind="stable")
    return np.array(scores, np.float64)[order], np.array(hits, np.bool_)[order], truths


def _hits(
    sample: Sample, class_id: int, boxes_xyxy: npt.NDArray[np.float32], scores: npt.NDArray[np.float32]
) -> list[bool]:
    truths_xyxy = sample.boxes_xyxy[sample.class_ids == class_id]
    hits = [False] * len(boxes_xyxy)
    if len(truths_xyxy) and len(boxes_xyxy):
        import supervision as sv

        iou = sv.box_iou_batch(boxes_xyxy, truths_xyxy)  # (D, G)
        for row in np.argsort(-scores, kind="stable"):
            truth = int(iou[row].argmax())
            if iou[row, truth] >= IOU:
                hits[row] = True
                iou[:, truth] = -1.0
    return hits


def _best(
    name: str,
    scores: npt.NDArray[np.float64],
    hits: npt.NDArray[np.bool_],
    truths: int,
    fallback: float,
) -> OperatingPoint:
    if not truths or not hits.any():
        return OperatingPoint(name, fallback, 0.0, 0.0, 0.0)
    true = np.cumsum(hits)
    precision, recall = true / np.arange(1, len(hits) + 1), true / truths
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    # Detections of one score count together or not at all.
    last_of_score = np.append(scores[1:] < scores[:-1], True)
    at = int(np.where(last_of_score, f1, -1.0).argmax())
    below = scores[at + 1] if at + 1 < len(scores) else 0.0
    threshold = float((scores[at] + below) / 2)
    return OperatingPoint(name, threshold, float(precision[at]), float(recall[at]), float(f1[at]))
