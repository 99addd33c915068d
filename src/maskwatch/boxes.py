"""Geometry of boxes in NumPy; on tensors, torchvision does it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def box_iou(a_xyxy: npt.NDArray[Any], b_xyxy: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Intersection over union (A, B) of boxes (A, 4) with boxes (B, 4); 0 for two boxes without area.

    `supervision.box_iou_batch` takes most of a second to import. Here float32 also stays float32, so that a
    comparison with a threshold gives the same as in a model file.
    """
    a, b = a_xyxy[:, None], b_xyxy[None]
    shared = (np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])).clip(0).prod(-1)
    area_a, area_b = (a[..., 2:] - a[..., :2]).prod(-1), (b[..., 2:] - b[..., :2]).prod(-1)
    union = area_a + area_b - shared  # (A, B)
    iou = np.zeros(union.shape, np.result_type(union, "f"))
    return np.asarray(np.divide(shared, union, out=iou, where=union > 0))
