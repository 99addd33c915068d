"""What `maskwatch detect --out` writes: boxes drawn in and, with `--blur`, nobody who can be recognised."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import supervision as sv

from maskwatch.boxes import box_iou
from maskwatch.detector import Detector
from maskwatch.drawing.annotate import draw
from maskwatch.drawing.blur import blur, cover_thresholds
from maskwatch.drawing.privacy_mask import Boxes, Cover
from maskwatch.media.images import UInt8Array
from maskwatch.media.videos import Frame, WriteFrame

_Drawing: TypeAlias = tuple[Frame, sv.Detections]

_SAME_BOX_IOU = 0.9


class Painter:
    """Draws detections into pictures, and hides faces first if that is wanted.

    Args:
        detector: finds the faces to hide, the unsure ones too.
        blurred: whether to hide them.
    """

    def __init__(self, detector: Detector, *, blurred: bool) -> None:
        self._detector, self.blurred = detector, blurred

    def to_hide(self, images_rgb: list[UInt8Array], found: Sequence[sv.Detections]) -> list[Boxes]:
        """Boxes (N, 4) to hide in each picture, those `found` in it first; none without `blurred`.

        The network runs once more for them. The results of one run with lower scores would not do for the
        records: an unsure box can win over the one that counts.
        """
        if not self.blurred:
            return [np.zeros((0, 4))] * len(images_rgb)
        faint = self._detector(images_rgb, threshold=cover_thresholds(self._detector.thresholds))
        return [
            np.concatenate([one.xyxy, _others(one.xyxy, other.xyxy)], dtype=np.float64)
            for one, other in zip(found, faint, strict=True)
        ]

    def paint(self, image_rgb: UInt8Array, detections: sv.Detections, hidden_xyxy: Boxes) -> UInt8Array:
        """A copy of the picture in which boxes are hidden and detections drawn."""
        return draw(blur(image_rgb, hidden_xyxy) if self.blurred else image_rgb, detections)


class DrawnVideo:
    """A video that is being drawn. Frames wait until it is known where their faces are, see `Cover`."""

    def __init__(self, painter: Painter, write: WriteFrame) -> None:
        self._painter, self._write = painter, write
        self._cover: Cover[_Drawing] | None = Cover() if painter.blurred else None

    def add(
        self, frames: Sequence[Frame], found: Sequence[sv.Detections], drawn: Sequence[sv.Detections]
    ) -> None:
        """Takes the next frames: all that was found in each, and what of it is drawn."""
        boxes = self._painter.to_hide([frame.image_rgb for frame in frames], found)
        for frame, one, detections, boxes_xyxy in zip(frames, found, drawn, boxes, strict=True):
            drawing = (frame, detections)
            sure = np.arange(len(boxes_xyxy)) < len(one)
            if self._cover is None:
                self._paint(drawing, boxes_xyxy)
            else:
                for known, hidden_xyxy in self._cover.add(drawing, frame.time_s, boxes_xyxy, sure=sure):
                    self._paint(known, hidden_xyxy)

    def finish(self) -> None:
        """Writes the frames that still wait."""
        if self._cover is not None:
            for known, hidden_xyxy in self._cover.finish():
                self._paint(known, hidden_xyxy)

    def _paint(self, drawing: _Drawing, hidden_xyxy: Boxes) -> None:
        frame, detections = drawing
        image_rgb = self._painter.paint(frame.image_rgb, detections, hidden_xyxy)
        self._write(image_rgb, frame.time_s, frame.duration_s)


def _others(known_xyxy: npt.NDArray[Any], boxes_xyxy: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Those of `boxes_xyxy` (N, 4) that are not `known_xyxy` (K, 4) once more."""
    if not len(known_xyxy) or not len(boxes_xyxy):
        return boxes_xyxy
    new = box_iou(known_xyxy, boxes_xyxy).max(axis=0) < _SAME_BOX_IOU
    return boxes_xyxy[np.flatnonzero(new)]
