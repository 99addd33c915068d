"""Which detection matches which box, by COCO's rule: best score first, each takes the free box of most IoU.

`match_set` matches a data set once, with pycocotools; COCO's numbers, curves, intervals and slices are all
computed from its result. `match_detections` applies the same rule to one picture at one IoU: to what a
detector shows at thresholds, where boxes may match across classes. `tests/test_ignore.py` checks that both
agree.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from maskwatch.data.dataset import DetectionSet, Sample
from maskwatch.errors import LabelError, MissingExtraError

if TYPE_CHECKING:
    import supervision as sv
    from pycocotools.cocoeval import COCOeval

IOU = 0.5
UNMATCHED, IGNORED = -1, -2
"""Instead of the index of a box: no match, and a match with an ignore region."""

Area = tuple[float, float]
"""Smallest and largest box area, square pixels."""

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

# ---- One picture -----------------------------------------------------------------------------------------


def overlaps(boxes_xyxy: npt.NDArray[Any], sample: Sample) -> Floats:
    """(D, G) IoU of detections (D, 4) with the boxes of a picture, to the last digit as pycocotools has it.

    With an ignore region it is the share of the detection's area inside the region.

    Source: `bbIou` of pycocotools' maskApi.c, which is not called because only the extra `train` brings it.
    """
    d, g = _xywh(boxes_xyxy)[:, None], _xywh(sample.boxes_xyxy)[None]  # (D, 1, 4), (1, G, 4)
    ends = np.minimum(d[..., 2:] + d[..., :2], g[..., 2:] + g[..., :2])
    sides = (ends - np.maximum(d[..., :2], g[..., :2])).clip(0)  # (D, G, 2)
    shared, area_d = sides.prod(-1), d[..., 2:].prod(-1)
    union = np.where(sample.ignore[None], area_d, area_d + g[..., 2:].prod(-1) - shared)
    iou = np.zeros(shared.shape)
    return np.asarray(np.divide(shared, union, out=iou, where=shared > 0))


def match_detections(overlap: Floats, scores: npt.NDArray[Any], ignore: Bools) -> Ints:
    """(D,) index of the box that each detection matches, or `UNMATCHED`, or `IGNORED`.

    Args:
        overlap: (D, G), from `overlaps`.
        scores: (D,); among equal scores the first comes first.
        ignore: (G,) which boxes are ignore regions.
    """
    result = np.full(len(overlap), UNMATCHED, np.int64)
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
    """Index of the largest value, the last of equal ones as in pycocotools; −1 for an empty row."""
    return len(row) - 1 - int(row[::-1].argmax()) if len(row) else -1


class RankedDetections(NamedTuple):
    """Detections of one class, best first, without those on ignore regions.

    scores: (D,); hits: (D,) which are true positives; truths: number of ground truths.
    """

    scores: Floats
    hits: Bools
    truths: int


def ranked(
    detection_set: DetectionSet, predictions: Sequence[sv.Detections], class_id: int
) -> RankedDetections:
    """The detections of one class at `IOU`, matched picture by picture."""
    scores: list[npt.NDArray[Any]] = [np.empty(0)]
    hits: list[Bools] = [np.empty(0, np.bool_)]
    truths = 0
    for sample, found in zip(detection_set.samples, predictions, strict=True):
        assert found.class_id is not None
        assert found.confidence is not None
        mine, boxes = found.class_id == class_id, sample.class_ids == class_id
        ignore = sample.ignore[boxes]
        overlap = overlaps(found.xyxy[mine], sample)[:, boxes]
        result = match_detections(overlap, found.confidence[mine], ignore)
        counted = result != IGNORED
        scores.append(found.confidence[mine][counted])
        hits.append(result[counted] >= 0)
        truths += int((~ignore).sum())
    all_scores = np.concatenate(scores).astype(np.float64)
    order = np.argsort(-all_scores, kind="stable")
    return RankedDetections(all_scores[order], np.concatenate(hits)[order], truths)


def _xywh(boxes_xyxy: npt.NDArray[Any]) -> Floats:
    boxes = np.asarray(boxes_xyxy, np.float64)
    # pycocotools reads the memory row by row, whatever the order of the array.
    return np.ascontiguousarray(np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1))


# ---- A data set ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ClassMatches:
    """Detections of one class in all pictures, best first: P pictures, D detections, T IoU thresholds.

    truths: (P,) ground truths of each picture; pictures: (D,) index of each detection's picture; scores:
    (D,); hits: (T, D) which are true positives; ignored: (T, D) which match an ignore region instead.
    """

    truths: Ints
    pictures: Ints
    scores: Floats
    hits: Bools
    ignored: Bools

    @cached_property
    def hit_indices(self) -> tuple[Ints, ...]:
        """For each IoU threshold, the indices among D of the hits."""
        return tuple(np.flatnonzero(row) for row in self.hits)


@dataclass(frozen=True)
class Matches:
    """The predictions for a data set, matched by pycocotools within each class."""

    detection_set: DetectionSet
    evaluation: COCOeval

    def level(self, iou: float) -> int:
        """Index of an IoU threshold among pycocotools' ten."""
        return int(np.flatnonzero(np.isclose(self.evaluation.params.iouThrs, iou))[0])

    @cached_property
    def accumulated(self) -> COCOeval:
        """The evaluation with `eval["precision"]`, (T, recall, class, area, limit), and `eval["recall"]`."""
        with contextlib.redirect_stdout(io.StringIO()):
            self.evaluation.accumulate()
        return self.evaluation

    @cached_property
    def classes(self) -> tuple[ClassMatches, ...]:
        """For boxes of all sizes, by class id."""
        pictures, params = len(self.detection_set), self.evaluation.params
        # evalImgs is (class, area, picture), flat; the first area is that of all sizes.
        step = len(params.areaRng) * pictures
        starts = [class_id * step for class_id in range(len(self.detection_set.class_names))]
        return tuple(
            _class_matches(self.evaluation.evalImgs[at : at + pictures], len(params.iouThrs)) for at in starts
        )

    def ranked(self, class_id: int) -> RankedDetections:
        """The detections of one class at `IOU`."""
        mine, level = self.classes[class_id], self.level(IOU)
        counted = ~mine.ignored[level]
        return RankedDetections(mine.scores[counted], mine.hits[level, counted], int(mine.truths.sum()))


def match_set(
    detection_set: DetectionSet, predictions: Sequence[sv.Detections], extra_areas: Sequence[Area] = ()
) -> Matches:
    """Matches predictions to the ground truth of a data set.

    Args:
        predictions: one for each sample, in the same order; see `coco_evaluate`.
        extra_areas: areas to measure besides COCO's all, small, medium and large.

    Raises:
        ValueError: the number of predictions is not that of the samples.
        LabelError: a prediction has a class id that the data set has no name for.
        MissingExtraError: pycocotools is not installed.
    """
    if len(predictions) != len(detection_set):
        raise ValueError(
            f"{len(predictions)} predictions for {len(detection_set)} samples; give one for each"
        )
    require_pycocotools()
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth, found = COCO(), COCO()
    truth.dataset = _dataset(detection_set, _truth_rows(detection_set))
    found.dataset = _dataset(detection_set, _found_rows(predictions, len(detection_set.class_names)))
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        found.createIndex()
        evaluation = COCOeval(truth, found, "bbox")
        for area in map(list, extra_areas):
            if area not in evaluation.params.areaRng:
                evaluation.params.areaRng.append(area)
                evaluation.params.areaRngLbl.append(f"{area[0]:g}-{area[1]:g}")
        evaluation.evaluate()
    return Matches(detection_set, evaluation)


def require_pycocotools() -> None:
    """Lets a long command fail at once.

    Raises:
        MissingExtraError: pycocotools is not installed.
    """
    if importlib.util.find_spec("pycocotools") is None:
        raise MissingExtraError("evaluating", "train")


def _class_matches(entries: Sequence[dict[str, Any] | None], levels: int) -> ClassMatches:
    """From what pycocotools keeps of each picture: None where it has neither box nor detection."""
    truths = np.zeros(len(entries), np.int64)
    pictures: list[Ints] = [np.empty(0, np.int64)]
    scores: list[Floats] = [np.empty(0)]
    matched, ignored = [np.empty((levels, 0), bool)], [np.empty((levels, 0), bool)]
    for picture, entry in enumerate(entries):
        if entry is None:
            continue
        truths[picture] = np.count_nonzero(entry["gtIgnore"] == 0)
        pictures.append(np.full(len(entry["dtScores"]), picture))
        scores.append(np.asarray(entry["dtScores"], np.float64))
        matched.append(np.asarray(entry["dtMatches"]).reshape(levels, -1) > 0)
        ignored.append(np.asarray(entry["dtIgnore"]).reshape(levels, -1) > 0)
    all_scores = np.concatenate(scores)
    order = np.argsort(-all_scores, kind="stable")
    passed_over = np.concatenate(ignored, axis=1)[:, order]
    hits = np.concatenate(matched, axis=1)[:, order] & ~passed_over
    return ClassMatches(truths, np.concatenate(pictures)[order], all_scores[order], hits, passed_over)


def _dataset(detection_set: DetectionSet, rows: Iterator[dict[str, Any]]) -> dict[str, Any]:
    # Ids count from 1, because pycocotools takes an annotation of id 0 for "no match".
    return {
        "images": [{"id": number} for number in range(len(detection_set))],
        "categories": [{"id": number, "name": name} for number, name in enumerate(detection_set.class_names)],
        "annotations": [row | {"id": number} for number, row in enumerate(rows, start=1)],
    }


def _truth_rows(detection_set: DetectionSet) -> Iterator[dict[str, Any]]:
    for image_id, sample in enumerate(detection_set.samples):
        rows = zip(sample.boxes_xyxy, sample.class_ids, sample.ignore, strict=True)
        for box_xyxy, class_id, ignore in rows:
            yield _row(image_id, box_xyxy, class_id) | {"iscrowd": int(ignore)}


def _found_rows(predictions: Sequence[sv.Detections], num_classes: int) -> Iterator[dict[str, Any]]:
    for image_id, found in enumerate(predictions):
        class_ids = np.empty(0, np.int64) if found.class_id is None else found.class_id
        scores = np.empty(0, np.float32) if found.confidence is None else found.confidence
        if len(class_ids) and not 0 <= class_ids.min() <= class_ids.max() < num_classes:
            raise LabelError(
                f"detections of classes {sorted(set(class_ids.tolist()))}, but the data set has "
                f"{num_classes}; read it with the classes of the model"
            )
        for box_xyxy, class_id, score in zip(found.xyxy, class_ids, scores, strict=True):
            yield _row(image_id, box_xyxy, class_id) | {"score": float(score)}


def _row(image_id: int, box_xyxy: npt.NDArray[Any], class_id: int) -> dict[str, Any]:
    x0, y0, x1, y1 = (float(value) for value in box_xyxy)
    return {
        "image_id": image_id,
        "category_id": int(class_id),
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "area": (x1 - x0) * (y1 - y0),
        "iscrowd": 0,
    }
