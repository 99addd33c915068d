"""Annotated pictures and videos of `maskwatch detect --out`, with `--blur` without faces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from maskwatch.boxes import AnyDetections
from maskwatch.detector import BATCH_SIZE, Detector
from maskwatch.drawing.annotate import draw
from maskwatch.drawing.blur import blur, boxes_to_blur, cover_thresholds
from maskwatch.drawing.privacy_mask import Boxes, PrivacyMask
from maskwatch.media.images import UInt8Array
from maskwatch.media.videos import Frame, WriteFrame

_Drawing: TypeAlias = tuple[Frame, AnyDetections]


def faces_to_blur(
    detector: Detector, images_rgb: list[UInt8Array], found: Sequence[AnyDetections]
) -> list[Boxes]:
    """Boxes (N, 4) to blur in each picture: those `found` in it first, then faces of low scores."""
    faint = detector(images_rgb, threshold=cover_thresholds(detector.thresholds))
    return [boxes_to_blur(one.xyxy, other.xyxy) for one, other in zip(found, faint, strict=True)]


class VideoAnnotator:
    """Draws detections into a video. With `blurred`, frames wait in a `PrivacyMask` for their boxes."""

    def __init__(self, detector: Detector, write: WriteFrame, *, blurred: bool) -> None:
        self._detector, self._write = detector, write
        self._batch: list[tuple[Frame, AnyDetections, AnyDetections]] = []
        self._mask: PrivacyMask[_Drawing] | None = PrivacyMask() if blurred else None

    def add(self, frame: Frame, found: AnyDetections, shown: AnyDetections) -> None:
        """Takes the next frame, its detections, and those of them to draw."""
        if self._mask is None:
            self._write(draw(frame.image_rgb, shown), frame.time_s, frame.duration_s)
            return
        self._batch.append((frame, found, shown))
        if len(self._batch) == BATCH_SIZE:
            self._blur_batch(self._mask)

    def finish(self) -> None:
        """Writes the last frames."""
        if self._mask is not None:
            self._blur_batch(self._mask)
            self._write_blurred(self._mask.finish())

    def _blur_batch(self, mask: PrivacyMask[_Drawing]) -> None:
        batch, self._batch = self._batch, []
        images, found = [frame.image_rgb for frame, _, _ in batch], [one for _, one, _ in batch]
        boxes = faces_to_blur(self._detector, images, found)
        for (frame, one, shown), boxes_xyxy in zip(batch, boxes, strict=True):
            confident = np.arange(len(boxes_xyxy)) < len(one)
            self._write_blurred(mask.add((frame, shown), frame.time_s, boxes_xyxy, confident=confident))

    def _write_blurred(self, drawings: Sequence[tuple[_Drawing, Boxes]]) -> None:
        for (frame, shown), hidden_xyxy in drawings:
            self._write(draw(blur(frame.image_rgb, hidden_xyxy), shown), frame.time_s, frame.duration_s)
