"""COCO's numbers (https://cocodataset.org/#detection-eval), computed and printed by pycocotools itself."""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from maskwatch.data.dataset import DetectionSet
from maskwatch.errors import LabelError, MissingExtraError

if TYPE_CHECKING:
    import supervision as sv
    from pycocotools.cocoeval import COCOeval

STAT_NAMES = (
    "AP",
    "AP50",
    "AP75",
    "AP_small",
    "AP_medium",
    "AP_large",
    "AR1",
    "AR10",
    "AR100",
    "AR_small",
    "AR_medium",
    "AR_large",
)
"""Names of the twelve numbers, in the order in which pycocotools prints them."""

MAX_DETECTIONS = 100
"""Detections that count for one picture and class; the limit of COCO's own numbers."""


@dataclass(frozen=True)
class ClassScore:
    """Scores of one class; None where the data set has no box of it to be found.

    boxes: how many it has, ignore regions left out; stats: the twelve numbers of this class alone, by
    `STAT_NAMES`, −1 where there is no box to measure them on; printed: them as pycocotools prints them.
    """

    name: str
    boxes: int
    ap: float | None
    ap50: float | None
    stats: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    printed: tuple[str, ...] = ()


@dataclass(frozen=True)
class CocoResult:
    """What pycocotools measured.

    Attributes:
        stats: the twelve numbers by `STAT_NAMES`, −1 where there is no box to measure them on.
        per_class: one for each class, in the order of the ids.
        pictures, boxes: how many of them it was measured on.
        ignored: ignore regions (difficult boxes and crowds), which are none of the boxes.
    """

    stats: Mapping[str, float]
    per_class: tuple[ClassScore, ...]
    pictures: int
    boxes: int
    printed: tuple[str, ...]
    ignored: int = 0

    def lines(self) -> tuple[str, ...]:
        """The twelve lines, as pycocotools printed them."""
        return self.printed

    def as_dict(self) -> dict[str, Any]:
        """For JSON: `pictures`, `boxes`, `ignored`, `stats`, `classes`; None for what cannot be measured."""
        return {
            "pictures": self.pictures,
            "boxes": self.boxes,
            "ignored": self.ignored,
            "stats": {name: None if value < 0 else value for name, value in self.stats.items()},
            "classes": {
                score.name: {
                    "boxes": score.boxes,
                    "AP": score.ap,
                    "AP50": score.ap50,
                    "stats": {name: None if value < 0 else value for name, value in score.stats.items()},
                }
                for score in self.per_class
            },
        }


def coco_evaluate(detection_set: DetectionSet, predictions: Sequence[sv.Detections]) -> CocoResult:
    """Measures predictions against the ground truth of a data set.

    Areas are those of the boxes, in pixels of the original pictures. Ignore regions, which are boxes marked
    difficult and crowds, are pycocotools' crowds: they need not be found, and a detection of their class that
    lies on one by half (or whatever IoU is asked for) and finds no other box is neither right nor wrong.

    Args:
        detection_set: the ground truth.
        predictions: one for each sample, in the same order; `xyxy` in pixels of the picture, `confidence`,
            and `class_id` by the order of `detection_set.class_names`. Give all detections, with scores
            down to 0: a threshold cuts the curve that AP is the area of.

    Raises:
        ValueError: the number of predictions is not that of the samples.
        LabelError: a prediction has a class id that the data set has no name for.
        MissingExtraError: pycocotools is not installed.
    """
    evaluation = compare(detection_set, predictions)
    accumulate(evaluation)
    stats, printed = _summary(evaluation)
    return CocoResult(
        stats,
        tuple(_class_scores(detection_set, evaluation)),
        pictures=len(detection_set),
        boxes=sum(detection_set.class_counts().values()),
        printed=printed,
        ignored=detection_set.ignored(),
    )


def _summary(evaluation: COCOeval) -> tuple[Mapping[str, float], tuple[str, ...]]:
    """The twelve numbers of what `evaluation.eval` holds, and the lines that pycocotools prints of them."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        evaluation.summarize()
    stats = dict(zip(STAT_NAMES, map(float, evaluation.stats), strict=True))
    return MappingProxyType(stats), tuple(printed.getvalue().splitlines())


def compare(
    detection_set: DetectionSet,
    predictions: Sequence[sv.Detections],
    areas: Sequence[tuple[float, float]] | None = None,
) -> COCOeval:
    """Predictions matched to the ground truth, picture by picture; `accumulate` makes curves of it.

    Arguments and errors are those of `coco_evaluate`; `areas` are ranges of box area in square pixels, in the
    place of COCO's all, small, medium and large.
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
        if areas is not None:
            evaluation.params.areaRng = [list(area) for area in areas]
            evaluation.params.areaRngLbl = [f"{low:g}-{high:g}" for low, high in areas]
        evaluation.evaluate()
    return evaluation


def accumulate(evaluation: COCOeval) -> None:
    """Fills `evaluation.eval` with its curves, without what pycocotools says meanwhile."""
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.accumulate()


def iou_index(evaluation: COCOeval, iou: float) -> int:
    """Where an IoU threshold stands on the first axis of `evaluation.eval`'s curves."""
    return int(np.flatnonzero(np.isclose(evaluation.params.iouThrs, iou))[0])


def mean_known(values: npt.NDArray[np.float64]) -> float | None:
    """Mean of what could be measured; pycocotools fills in −1 where a class has no ground truth."""
    known = values[values > -1]
    return float(known.mean()) if known.size else None


def require_pycocotools() -> None:
    """Lets a command that takes minutes fail at once.

    Raises:
        MissingExtraError: pycocotools is not installed.
    """
    if importlib.util.find_spec("pycocotools") is None:
        raise MissingExtraError("evaluating", "train")


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


def _class_scores(detection_set: DetectionSet, evaluation: COCOeval) -> Iterator[ClassScore]:
    precision, at_half = evaluation.eval["precision"], iou_index(evaluation, 0.5)
    for class_id, (name, boxes) in enumerate(detection_set.class_counts().items()):
        curves = precision[:, :, class_id, 0, -1]  # (IoU, recall), for boxes of all areas, 100 detections
        stats, printed = _summary(_of_class(evaluation, class_id))
        yield ClassScore(name, boxes, mean_known(curves), mean_known(curves[at_half]), stats, printed)


def _of_class(evaluation: COCOeval, class_id: int) -> COCOeval:
    """The evaluation as if there were one class; pycocotools averages over the classes of its curves."""
    alone = copy.copy(evaluation)
    kept = slice(class_id, class_id + 1)
    alone.eval = evaluation.eval | {
        "precision": evaluation.eval["precision"][:, :, kept],
        "recall": evaluation.eval["recall"][:, kept],
    }
    return alone
