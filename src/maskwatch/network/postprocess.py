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
) -> list[TensorDetections]:
    """Decode, per-class NMS (or one over all classes), the best hundred of each picture.

    Args:
        encodings: (N, A, 4).
        logits: (N, A, C + 1).
        anchors_xyxy: (A, 4) pixels.
        size_hw: the network's input, to clip to.
        score_threshold: what a score must exceed.
        iou_threshold: of two boxes that overlap more, the weaker goes.
        class_agnostic: boxes of all classes compete, not only those of the same.
    """
    boxes_xyxy = decode(encodings.float(), anchors_xyxy)  # (N, A, 4)
    scores = logits[..., 1:].float().sigmoid()  # (N, A, C)
    thresholds = scores.new_full((scores.shape[-1],), score_threshold)
    return [
        select(boxes, rows, size_hw, thresholds, iou_threshold, class_agnostic)
        for boxes, rows in zip(boxes_xyxy, scores, strict=True)
    ]


def select(
    boxes_xyxy: Tensor,
    scores: Tensor,
    size_hw: tuple[int, int],
    score_thresholds: Tensor,
    iou_threshold: float = IOU_THRESHOLD,
    class_agnostic: bool = False,
) -> TensorDetections:
    """The detections of one picture among all its boxes (A, 4) and scores (A, C).

    `score_thresholds` (C,) holds what the scores of each class must exceed.
    """
    num_classes = scores.shape[1]
    best, pair = scores.flatten().topk(min(CANDIDATES, scores.numel()))  # (K,)
    counts = best > score_thresholds[pair % num_classes]
    best, pair = best[counts], pair[counts]
    boxes_xyxy, class_ids = boxes_xyxy[pair // num_classes], pair % num_classes
    if class_agnostic:
        kept = nms(boxes_xyxy, best, iou_threshold)
    else:
        kept = batched_nms(boxes_xyxy, best, class_ids, iou_threshold)
    kept = kept[:MAX_DETECTIONS]
    return TensorDetections(clip_boxes_to_image(boxes_xyxy[kept], list(size_hw)), best[kept], class_ids[kept])
