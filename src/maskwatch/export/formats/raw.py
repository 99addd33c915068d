"""From the outputs of a model without NMS to detections, as `network.postprocess` defines them."""

from __future__ import annotations

import numpy as np

from maskwatch.export.formats.base import RawModel
from maskwatch.media.images import FloatArray, UInt8Array
from maskwatch.models import IOU_THRESHOLD, MAX_DETECTIONS, ModelMetadata
from maskwatch.runtimes.base import Model, RawDetections


def decoded(raw: RawModel, metadata: ModelMetadata) -> Model:
    """A model with the reference decoder behind it. Needs torch."""
    import torch

    from maskwatch.network.postprocess import select

    def run(
        images_nhwc: UInt8Array,
        score_thresholds: FloatArray | None = None,
        iou_threshold: float | None = None,
        class_agnostic: bool | None = None,
    ) -> RawDetections:
        thresholds = metadata.thresholds if score_thresholds is None else score_thresholds
        result = _nothing(len(images_nhwc))
        for row, (boxes_xyxy, scores) in enumerate(zip(*raw(images_nhwc), strict=True)):
            found = select(
                torch.from_numpy(boxes_xyxy),
                torch.from_numpy(scores),
                metadata.input_size,
                torch.tensor(np.asarray(thresholds, np.float32)),
                IOU_THRESHOLD if iou_threshold is None else iou_threshold,
                class_agnostic is not False,
                metadata.box_voting,
                metadata.calibration,
            )
            count = result.num_detections[row] = len(found.scores)
            result.boxes[row, :count] = found.boxes_xyxy
            result.scores[row, :count] = found.scores
            result.classes[row, :count] = found.class_ids
        return result

    return run


def _nothing(count: int) -> RawDetections:
    return RawDetections(
        np.zeros((count, MAX_DETECTIONS, 4), np.float32),
        np.zeros((count, MAX_DETECTIONS), np.float32),
        np.full((count, MAX_DETECTIONS), -1, np.int64),
        np.zeros(count, np.int64),
    )
