"""Annotated pictures and videos of `maskwatch detect --out`, with `--blur` without faces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import supervision as sv

from maskwatch.boxes import box_iou
from maskwatch.detector import BATCH_SIZE, Detector
from maskwatch.drawing.annotate import draw
from maskwatch.drawing.blur import blur, cover_thresholds
from maskwatch.drawing.privacy_mask import Boxes, PrivacyMask
from maskwatch.media.images import UInt8Array
from maskwatch.media.videos import Frame, WriteFrame

_Drawing: TypeAlias = tuple[Frame, sv.Detections]

_SAME_BOX_IOU = 0.9


class Annotator:
    """Draws detections into pictures; with `blurred`, blurs all faces first, also those of low scores."""

    def __init__(self, detector: Detector, *, blurred: bool) -> None:
        self._detector, self.blurred = detector, blurred

    def boxes_to_hide(self, images_rgb: list[UInt8Array], found: Sequence[sv.Detections]) -> list[Boxes]:
        """Boxes (N, 4) to blur in each picture, those `found` in it first; none without `blurred`.

        The network runs once more. One run with lower thresholds would change the records: in NMS, a box
        below the threshold can win over one above it.
        """
        if not self.blurred:
            return [np.zeros((0, 4))] * len(images_rgb)
        faint = self._detector(images_rgb, threshold=cover_thresholds(self._detector.thresholds))
        return [
            np.concatenate([one.xyxy, _others(one.xyxy, other.xyxy)], dtype=np.float64)
            for one, other in zip(found, faint, strict=True)
        ]

    def annotate(self, image_rgb: UInt8Array, shown: sv.Detections, hidden_xyxy: Boxes) -> UInt8Array:
        """A copy of the picture (H, W, 3), with `hidden_xyxy` blurred and the detections `shown` drawn."""
        return draw(blur(image_rgb, hidden_xyxy) if self.blurred else image_rgb, shown)


class VideoAnnotator:
    """Annotates a video. To blur faces, frames wait in a `PrivacyMask`."""

    def __init__(self, annotator: Annotator, write: WriteFrame) -> None:
        self._annotator, self._write = annotator, write
        self._batch: list[tuple[Frame, sv.Detections, sv.Detections]] = []
        self._mask: PrivacyMask[_Drawing] | None = PrivacyMask() if annotator.blurred else None

    def add(self, frame: Frame, found: sv.Detections, shown: sv.Detections) -> None:
        """Takes the next frame, its detections, and those of them to draw."""
        self._batch.append((frame, found, shown))
        if len(self._batch) == BATCH_SIZE:
            self._annotate_batch()

    def finish(self) -> None:
        """Writes the last frames."""
        self._annotate_batch()
        if self._mask is not None:
            self._write_all(self._mask.finish())

    def _annotate_batch(self) -> None:
        batch, self._batch = self._batch, []
        images, found = [frame.image_rgb for frame, _, _ in batch], [one for _, one, _ in batch]
        boxes = self._annotator.boxes_to_hide(images, found) if batch else []
        for (frame, one, shown), boxes_xyxy in zip(batch, boxes, strict=True):
            drawing = (frame, shown)
            if self._mask is None:
                self._write_all([(drawing, boxes_xyxy)])
            else:
                confident = np.arange(len(boxes_xyxy)) < len(one)
                self._write_all(self._mask.add(drawing, frame.time_s, boxes_xyxy, confident=confident))

    def _write_all(self, drawings: Sequence[tuple[_Drawing, Boxes]]) -> None:
        for (frame, shown), hidden_xyxy in drawings:
            image_rgb = self._annotator.annotate(frame.image_rgb, shown, hidden_xyxy)
            self._write(image_rgb, frame.time_s, frame.duration_s)


def _others(known_xyxy: npt.NDArray[Any], boxes_xyxy: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The `boxes_xyxy` (N, 4) that are not among `known_xyxy` (K, 4)."""
    if not len(known_xyxy):
        return boxes_xyxy
    return np.asarray(boxes_xyxy[box_iou(known_xyxy, boxes_xyxy).max(axis=0) < _SAME_BOX_IOU])
