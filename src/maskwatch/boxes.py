"""Boxes in NumPy: IoU, and detections without supervision. On tensors, torchvision computes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import supervision as sv

AnyDetections: TypeAlias = "sv.Detections | BoxDetections"


@dataclass(frozen=True)
class BoxDetections:
    """What a `Detector` puts into `supervision.Detections`, under the same names.

    Importing supervision takes longer than everything else that the faces of one picture need.

    Attributes:
        xyxy: float32 (N, 4) in pixels of the picture.
        confidence: float32 (N,), descending.
        class_id: int64 (N,).
        data: "class_name" → str (N,).
    """

    xyxy: npt.NDArray[np.float32]
    confidence: npt.NDArray[np.float32]
    class_id: npt.NDArray[np.int64]
    data: dict[str, npt.NDArray[np.str_]]

    def __len__(self) -> int:
        return len(self.xyxy)

    def __getitem__(self, kept: npt.NDArray[np.bool_]) -> BoxDetections:
        data = {key: values[kept] for key, values in self.data.items()}
        return BoxDetections(self.xyxy[kept], self.confidence[kept], self.class_id[kept], data)

    def to_supervision(self) -> sv.Detections:
        """The same detections in the type that `Detector` returns."""
        import supervision as sv

        return sv.Detections(self.xyxy, None, self.confidence, self.class_id, data={**self.data})


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
