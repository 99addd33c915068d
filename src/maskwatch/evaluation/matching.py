"""Which detection found which box: pycocotools' rule, for one IoU, on one picture at a time.

The best detection takes the free box that it overlaps most, if by enough. One that finds none and lies on an
ignore region counts for nothing, and any number of them may. `tests/test_ignore.py` holds this equal to
pycocotools.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from maskwatch.data.dataset import DetectionSet, Sample

if TYPE_CHECKING:
    import supervision as sv

IOU = 0.5
NOTHING, IGNORED = -1, -2
"""In the place of a box: a detection that finds none, and one on an ignore region."""

Floats = npt.NDArray[np.float64]


def overlaps(boxes_xyxy: npt.NDArray[Any], sample: Sample) -> Floats:
    """(D, G) IoU of detections (D, 4) with the boxes of a picture, pycocotools' own.

    With an ignore region it is the share of the detection that lies in it.
    """
    if not len(boxes_xyxy) or not len(sample):
        return np.zeros((len(boxes_xyxy), len(sample)))
    from pycocotools import mask

    return np.asarray(
        mask.iou(_xywh(boxes_xyxy), _xywh(sample.boxes_xyxy), sample.ignore.astype(int).tolist())
    )


def match(overlap: Floats, scores: npt.NDArray[Any], ignore: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """(D,) index of the box that each detection found, or `NOTHING`, or `IGNORED`.

    Args:
        overlap: (D, G) as of `overlaps`.
        scores: (D,); of equal ones the first comes first.
        ignore: (G,) which boxes are ignore regions.
    """
    result = np.full(len(overlap), NOTHING, np.int64)
    free = np.where(ignore, -1.0, overlap)
    ignored = np.where(ignore, overlap, -1.0).max(1, initial=-1.0) >= IOU
    for row in np.argsort(-scores, kind="stable"):
        column = best(free[row])
        if column >= 0 and free[row, column] >= IOU:
            result[row] = column
            free[:, column] = -1.0
        elif ignored[row]:
            result[row] = IGNORED
    return result


def best(row: Floats) -> int:
    """Index of the largest value, of equal ones the last, as pycocotools has it; −1 where there is none."""
    return len(row) - 1 - int(row[::-1].argmax()) if len(row) else -1


def ranked(
    detection_set: DetectionSet, predictions: Sequence[sv.Detections], class_id: int
) -> tuple[Floats, npt.NDArray[np.bool_], int]:
    """Of a class: scores of the detections, best first; whether each is a hit; how many boxes to be found.

    Detections on an ignore region of the class are left out.
    """
    scores: list[npt.NDArray[Any]] = [np.empty(0)]
    hits: list[npt.NDArray[np.bool_]] = [np.empty(0, np.bool_)]
    truths = 0
    for sample, found in zip(detection_set.samples, predictions, strict=True):
        assert found.class_id is not None
        assert found.confidence is not None
        mine, boxes = found.class_id == class_id, sample.class_ids == class_id
        ignore = sample.ignore[boxes]
        overlap = overlaps(found.xyxy[mine], sample)[:, boxes]
        result = match(overlap, found.confidence[mine], ignore)
        counted = result != IGNORED
        scores.append(found.confidence[mine][counted])
        hits.append(result[counted] >= 0)
        truths += int((~ignore).sum())
    all_scores = np.concatenate(scores).astype(np.float64)
    order = np.argsort(-all_scores, kind="stable")
    return all_scores[order], np.concatenate(hits)[order], truths


def _xywh(boxes_xyxy: npt.NDArray[Any]) -> Floats:
    boxes = np.asarray(boxes_xyxy, np.float64)
    # pycocotools reads the memory row by row, whatever the array says of its order.
    return np.ascontiguousarray(np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1))
