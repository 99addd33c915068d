"""The faces of one frame: the boxes of all classes merged to one box per face, with a score of each class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import supervision as sv

from maskwatch.boxes import box_iou
from maskwatch.detector import Detector, Threshold
from maskwatch.media.images import FloatArray, UInt8Array
from maskwatch.models import DEFAULT_MODEL, ModelMetadata

WEAK_SCORE = 0.1
"""Boxes below the threshold of their class are kept down to this score. They continue tracks (the second
association of ByteTrack, https://arxiv.org/abs/2110.06864) and have a small weight in the vote."""

SAME_FACE_IOU = 0.5
"""Boxes that overlap more are one face, detected as several classes."""

DOUBLE_IOU = 0.35
"""Of two confident faces that overlap more, one is a double, as happens on profiles. Of the 16 901 annotated
faces in the training and validation photographs, 12 pairs overlap so much, 7 of them by more than 0.5."""


@dataclass(frozen=True, eq=False)
class Faces:
    """The faces of one frame, best first.

    Attributes:
        boxes_xyxy: float32 (N, 4), pixels of the frame.
        scores: float32 (N, C), score of each class; 0 where the model found none.
        confident: bool (N,), the best class is above its own threshold. Other faces never begin a track.
    """

    boxes_xyxy: FloatArray
    scores: FloatArray
    confident: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.boxes_xyxy)

    @property
    def class_ids(self) -> npt.NDArray[np.int64]:
        """The best class of each face, int64 (N,)."""
        return np.asarray(self.scores.argmax(1), np.int64)

    @classmethod
    def none(cls, classes: int) -> Faces:
        """No faces, for a model of `classes` classes."""
        return cls(np.zeros((0, 4), np.float32), np.zeros((0, classes), np.float32), np.zeros(0, bool))


class FaceFinder:
    """One detector for all sources, with NMS by class, so that a face has a score of each class.

    Args:
        model: name of an embedded model, path of a model file, or a detector that has loaded one.
        threshold: above which score faces are confident, as `Detector` takes it.
        threads: as `Detector` takes it; a given detector keeps its own.

    Raises:
        ModelFileError, OptionError, LabelError: as `Detector`.
    """

    def __init__(
        self,
        model: str | Path | Detector = DEFAULT_MODEL,
        *,
        threshold: Threshold | None = None,
        threads: int | None = None,
    ) -> None:
        if isinstance(model, Detector):
            self.detector = model.variant(threshold=threshold, class_agnostic=False)
        else:
            self.detector = Detector(model, threshold=threshold, class_agnostic=False, threads=threads)

    @property
    def metadata(self) -> ModelMetadata:
        """Metadata of the model file."""
        return self.detector.metadata

    def __call__(self, images_rgb: Sequence[UInt8Array]) -> list[Faces]:
        """The faces of each picture uint8 (H, W, 3), also those below the thresholds."""
        thresholds = self.detector.thresholds
        weak = {name: min(score, WEAK_SCORE) for name, score in thresholds.items()}
        found = self.detector(list(images_rgb), threshold=weak)
        limits = np.array([thresholds[name] for name in self.detector.class_names], np.float32)
        return [merge_classes(detections, limits) for detections in found]


def merge_classes(detections: sv.Detections, thresholds: FloatArray) -> Faces:
    """Merges the boxes of one face, best box first.

    The box of a face is the mean of those that overlap its best box by more than `SAME_FACE_IOU`, weighted by
    score, so that it does not jump when two classes swap ranks. Of two confident faces that then overlap by
    more than `DOUBLE_IOU`, the better one stays; weak faces begin no track and may be a person half hidden.

    Args:
        detections: best first, with `confidence` and `class_id`.
        thresholds: float32 (C,); a face is confident when its best score is above that of its class.
    """
    if not len(detections):
        return Faces.none(len(thresholds))
    assert detections.confidence is not None
    assert detections.class_id is not None
    same = box_iou(detections.xyxy, detections.xyxy) > SAME_FACE_IOU  # (N, N)
    np.fill_diagonal(same, True)  # a box without area has no IoU with itself
    free = np.ones(len(detections), bool)
    boxes, scores = [], []
    for first in range(len(detections)):
        if not free[first]:
            continue
        members = np.flatnonzero(free & same[first])
        free[members] = False
        weights = detections.confidence[members]
        boxes.append(np.average(detections.xyxy[members], axis=0, weights=weights))
        by_class = np.zeros(len(thresholds), np.float32)
        np.maximum.at(by_class, detections.class_id[members], weights)
        scores.append(by_class)
    boxes_xyxy, table = np.array(boxes, np.float32), np.array(scores, np.float32)  # (N, 4), (N, C)
    confident = table.max(1) > thresholds[table.argmax(1)]
    overlap = np.triu(box_iou(boxes_xyxy, boxes_xyxy), 1) > DOUBLE_IOU  # (N, N), the better face first
    double = (overlap & confident[:, None] & confident).any(0)
    return Faces(boxes_xyxy[~double], table[~double], confident[~double])
