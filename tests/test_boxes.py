"""IoU of boxes, against literal geometry and supervision's own."""

from __future__ import annotations

import numpy as np
import supervision as sv

from maskwatch.boxes import box_iou


def test_iou_of_boxes_that_can_be_checked_by_hand() -> None:
    boxes = np.array([[0, 0, 2, 2], [1, 0, 3, 2], [5, 5, 6, 6], [0, 0, 0, 0]], np.float32)
    expected = [[1, 1 / 3, 0, 0], [1 / 3, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    np.testing.assert_allclose(box_iou(boxes, boxes), expected, rtol=1e-6)
    assert box_iou(boxes[:0], boxes).shape == (0, 4)
    assert box_iou(boxes[:2], boxes[:0]).shape == (2, 0)


def test_iou_is_that_of_supervision_in_the_precision_of_the_boxes() -> None:
    random = np.random.default_rng(3)
    corners = random.uniform(0, 600, (40, 2, 2)).astype(np.float32)
    boxes = np.concatenate([corners.min(1), corners.max(1)], axis=1)
    found = box_iou(boxes[:15], boxes[15:])
    assert found.dtype == np.float32
    assert box_iou(boxes.astype(np.float64), boxes.astype(np.float64)).dtype == np.float64
    np.testing.assert_allclose(found, sv.box_iou_batch(boxes[:15], boxes[15:]), atol=1e-6)
