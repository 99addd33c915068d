"""Raw head outputs to detections, in torch: the twin of what stands inside an exported model file.

Source: `batch_multiclass_non_max_suppression` of the TF Object Detection API: sigmoid scores, NMS on the
unclipped boxes, clipping afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torchvision.ops import batched_nms, clip_boxes_to_image, nms

from maskwatch.network.boxes import decode

MAX_DETECTIONS = 100
IOU_THRESHOLD = 0.6
# NMS looks at this many best (anchor, class) pairs. Greedy NMS only ever looks upwards in score, so the
# result is the unlimited one whenever MAX_DETECTIONS survive.
CANDIDATES = 2000


@dataclass(frozen=True)
class TensorDetections:
    """Detections of one picture, best first.

    boxes_xyxy (D, 4) pixels of the network's input, scores (D,), class_ids (D,) from 0 without background.
    """

    boxes_xyxy: Tensor
    scores: Tensor
    class_ids: Tensor


def detect(
    encodings: Tensor,
    logits: Tensor,
    anchors_xyxy: Tensor,
    size_hw: tuple[int, int],
    *,
    score_threshold: float = 1e-8,
    iou_threshold: float = IOU_THRESHOLD,
    class_agnostic: bool = False,
    candidates: int = CANDIDATES,
) -> list[TensorDetections]:
    """Decode, per-class NMS (or one over all classes), the best hundred of each picture.

    Args:
        encodings: (N, A, 4).
        logits: (N, A, C + 1).
        anchors_xyxy: (A, 4) pixels.
        size_hw: the network's input, to clip to.
    """
    scores = logits[..., 1:].float().sigmoid()  # (N, A, C)
    return [
        _detect_one(
            e.float(), s, anchors_xyxy, size_hw, score_threshold, iou_threshold, class_agnostic, candidates
        )
        for e, s in zip(encodings, scores, strict=True)
    ]


def _detect_one(
    encodings: Tensor,
    scores: Tensor,
    anchors_xyxy: Tensor,
    size_hw: tuple[int, int],
    score_threshold: float,
    iou_threshold: float,
    class_agnostic: bool,
    candidates: int,
) -> TensorDetections:
    num_classes = scores.shape[1]
    best, flat = scores.flatten().topk(min(candidates, scores.numel()))  # (K,)
    flat = flat[best > score_threshold]
    best = best[best > score_threshold]
    anchor_ids, class_ids = flat // num_classes, flat % num_classes
    boxes_xyxy = decode(encodings[anchor_ids], anchors_xyxy[anchor_ids])
    if class_agnostic:
        kept = nms(boxes_xyxy, best, iou_threshold)
    else:
        kept = batched_nms(boxes_xyxy, best, class_ids, iou_threshold)
    kept = kept[:MAX_DETECTIONS]
    return TensorDetections(clip_boxes_to_image(boxes_xyxy[kept], list(size_hw)), best[kept], class_ids[kept])
