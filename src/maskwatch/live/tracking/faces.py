"""The faces of one frame: the boxes of all classes merged to one box per face, with a score of each class.

`FaceFinder` looks at the whole frame and at its tiles, and merges what it finds there to one face as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import supervision as sv

from maskwatch.boxes import box_iou
from maskwatch.detector import Detector, Threshold
from maskwatch.live.tracking.tiles import Tile, Tiles
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

_SAME_FACE_COVERED = 0.5
# Boxes from two looks at a frame are one face if more of the smaller one is covered: IoU is low where the
# tile shows a face well and the whole frame hardly does, or where a border cuts it. SAHI calls it IOS.


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
        lanes: pictures that go through the network side by side, one a call. As many lanes as cores, with
            one thread each, cost less than one batch with as many threads, which wait for each other.

    Raises:
        ModelFileError, OptionError, LabelError: as `Detector`.
    """

    def __init__(
        self,
        model: str | Path | Detector = DEFAULT_MODEL,
        *,
        threshold: Threshold | None = None,
        threads: int | None = None,
        lanes: int = 1,
    ) -> None:
        self._lanes = ThreadPoolExecutor(lanes, "detect") if lanes > 1 else None
        if isinstance(model, Detector):
            self.detector = model.variant(threshold=threshold, class_agnostic=False)
        else:
            self.detector = Detector(model, threshold=threshold, class_agnostic=False, threads=threads)

    @property
    def metadata(self) -> ModelMetadata:
        """Metadata of the model file."""
        return self.detector.metadata

    def __call__(self, images_rgb: Sequence[UInt8Array], tiles: Sequence[Tiles] | None = None) -> list[Faces]:
        """The faces of each picture uint8 (H, W, 3), also those below the thresholds.

        Args:
            tiles: of each picture, looked at in the same batch; None for none.
        """
        parts = tiles or [Tiles()] * len(images_rgb)
        looks: list[UInt8Array] = []
        for image, part in zip(images_rgb, parts, strict=True):
            looks += [image, *(tile.crop(image) for tile in part.tiles)]
        found = iter(self._find(looks))
        faces = []
        for image, part in zip(images_rgb, parts, strict=True):
            whole, in_tiles = next(found), [next(found) for _ in part.tiles]
            faces.append(merge_tiles(whole, part, in_tiles, (image.shape[1], image.shape[0])))
        return faces

    def _find(self, images_rgb: Sequence[UInt8Array]) -> list[Faces]:
        thresholds = self.detector.thresholds
        weak = {name: min(score, WEAK_SCORE) for name, score in thresholds.items()}
        if self._lanes is None:
            found = self.detector(list(images_rgb), threshold=weak)
        else:
            found = list(self._lanes.map(lambda image: self.detector(image, threshold=weak), images_rgb))
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


def merge_tiles(whole: Faces, tiles: Tiles, in_tiles: Sequence[Faces], size_wh: tuple[int, int]) -> Faces:
    """Merges the faces of the whole frame and of its tiles to one box per face, in pixels of the frame.

    Of several boxes of a face, the most certain stays as it is, but a large face is that of the whole frame,
    and a box that a tile may have cut stays only where there is no other. Such a face is not confident.

    Args:
        whole: of the whole frame.
        in_tiles: of each tile, in pixels of the tile.
        size_wh: of the frame.
    """
    if not in_tiles:
        return whole
    height = whole.boxes_xyxy[:, 3] - whole.boxes_xyxy[:, 1]
    parts, ranks = [whole], [np.where(whole.confident & (height >= tiles.large_face), 0, 1)]
    for tile, faces in zip(tiles.tiles, in_tiles, strict=True):
        part, cut = _in_frame(tile, faces, size_wh)
        parts.append(part)
        ranks.append(np.where(cut, 2, 1))
    boxes_xyxy = np.concatenate([part.boxes_xyxy for part in parts])
    scores = np.concatenate([part.scores for part in parts])
    confident = np.concatenate([part.confident for part in parts])
    look = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    same = (_covered(boxes_xyxy) > _SAME_FACE_COVERED) & (look[:, None] != look)  # (N, N)
    kept: list[int] = []
    for index in np.lexsort((-scores.max(1), np.concatenate(ranks))):
        if not same[index, kept].any():
            kept.append(int(index))
    kept.sort(key=lambda index: -scores[index].max())
    return Faces(boxes_xyxy[kept], scores[kept], confident[kept])


def _in_frame(tile: Tile, faces: Faces, size_wh: tuple[int, int]) -> tuple[Faces, npt.NDArray[np.bool_]]:
    """Faces of a tile in pixels of the frame, and which of them it may cut."""
    boxes_xyxy = tile.to_frame(faces.boxes_xyxy)
    cut = tile.cuts(boxes_xyxy, size_wh)
    return replace(faces, boxes_xyxy=boxes_xyxy, confident=faces.confident & ~cut), cut


def _covered(boxes_xyxy: FloatArray) -> FloatArray:
    """The share of the smaller of two boxes (N, 4) that the other covers: (N, N)."""
    a, b = boxes_xyxy[:, None], boxes_xyxy[None]
    shared = (np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])).clip(0).prod(-1)
    areas = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).prod(-1)
    smaller = np.minimum(areas[:, None], areas)
    return np.asarray(np.divide(shared, smaller, out=np.zeros_like(shared), where=smaller > 0))
