"""Raw head outputs to detections, in torch; a model file does the same in its graph.

Source: `batch_multiclass_non_max_suppression` of the TF Object Detection API: sigmoid scores, NMS on the
unclipped boxes, clipping afterwards. Box voting, which the API can do too, comes between the two.

Thresholds and results are in calibrated scores. NMS and voting go by the scores of the network: a rare class
has lower calibrated scores and would lose more of the faces that two classes compete for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import batched_nms, box_iou, clip_boxes_to_image, nms

from maskwatch.models import CANDIDATES, IOU_THRESHOLD, MAX_DETECTIONS, Calibration
from maskwatch.network.boxes import decode

_TINY = 1e-30


@dataclass(frozen=True)
class TensorDetections:
    """Detections of one image, best first.

    boxes_xyxy (D, 4) pixels of the network's input, scores (D,), class_ids (D,) from 0 without background.
    """

    boxes_xyxy: Tensor
    scores: Tensor
    class_ids: Tensor

    def take(self, rows: Tensor) -> TensorDetections:
        """The detections at a mask or indices."""
        return TensorDetections(self.boxes_xyxy[rows], self.scores[rows], self.class_ids[rows])


def detect(
    encodings: Tensor,
    logits: Tensor,
    anchors_xyxy: Tensor,
    size_hw: tuple[int, int],
    *,
    score_threshold: float | Sequence[float] = 1e-8,
    class_agnostic: bool = False,
    voting: bool = False,
    calibration: Calibration = (),
) -> list[TensorDetections]:
    """Decode, per-class NMS (or one over all classes), the best hundred of each image.

    Args:
        encodings, logits, anchors_xyxy: (N, A, 4), (N, A, C + 1) and, in pixels, (A, 4).
        size_hw: the network's input, to clip to.
        score_threshold: minimum score (exclusive), of all classes or of each.
        class_agnostic: boxes of all classes compete, not only those of the same.
        voting: as in `vote`.
        calibration: as in `calibrate`.
    """
    boxes_xyxy = decode(encodings.float(), anchors_xyxy.to(encodings.device))  # (N, A, 4)
    scores = logits[..., 1:].float().sigmoid()  # (N, A, C)
    thresholds = scores.new_tensor(score_threshold).expand(scores.shape[-1])
    return [
        select(
            boxes,
            rows,
            size_hw,
            thresholds,
            class_agnostic=class_agnostic,
            voting=voting,
            calibration=calibration,
        )
        for boxes, rows in zip(boxes_xyxy, scores, strict=True)
    ]


def select(
    boxes_xyxy: Tensor,
    scores: Tensor,
    size_hw: tuple[int, int],
    score_thresholds: Tensor,
    iou_threshold: float = IOU_THRESHOLD,
    class_agnostic: bool = False,
    voting: bool = False,
    calibration: Calibration = (),
) -> TensorDetections:
    """The detections of one image among all its boxes (A, 4) and scores (A, C).

    Calibrated scores must exceed `score_thresholds` (C,) of their class. Boxes below it vote too, so that the
    position of a box does not depend on the thresholds. Of two boxes that overlap by more than
    `iou_threshold`, NMS suppresses the one with the lower score before calibration.
    """
    candidates = best_pairs(boxes_xyxy, scores)
    calibrated = calibrate(candidates.scores, candidates.class_ids, calibration)
    rows = torch.nonzero(calibrated > score_thresholds[candidates.class_ids]).squeeze(1)
    counted = candidates.take(rows)
    if class_agnostic:
        kept = nms(counted.boxes_xyxy, counted.scores, iou_threshold)
    else:
        kept = batched_nms(counted.boxes_xyxy, counted.scores, counted.class_ids, iou_threshold)
    best = rows[kept[:MAX_DETECTIONS]]
    best = best[calibrated[best].argsort(descending=True, stable=True)]
    found = candidates.take(best)
    boxes_xyxy = vote(found, candidates) if voting else found.boxes_xyxy
    return TensorDetections(clip_boxes_to_image(boxes_xyxy, list(size_hw)), calibrated[best], found.class_ids)


def best_pairs(boxes_xyxy: Tensor, scores: Tensor, count: int = CANDIDATES) -> TensorDetections:
    """The best `count` pairs of a box (A, 4) and a class, by score (A, C); boxes not clipped."""
    num_classes = scores.shape[1]
    best, pair = scores.flatten().topk(min(count, scores.numel()))  # (K,)
    return TensorDetections(boxes_xyxy[pair // num_classes], best, pair % num_classes)


def calibrate(scores: Tensor, class_ids: Tensor, calibration: Calibration) -> Tensor:
    """(K,) scores that are shares of hits: logit(p) = slope · logit(s) + offset, by class.

    Computed as p = o / (o + (1 − s)^slope) with o = e^offset · s^slope, which has a value at 0 and at 1 and,
    with slope 1 and offset 0, is s to the last bit in float32. Source: Platt, "Probabilistic outputs for
    support vector machines", 1999, on the logit of the score.

    Args:
        scores, class_ids: (K,) of the network.
        calibration: of each class; empty returns the scores.
    """
    if not calibration:
        return scores
    slopes, offsets = scores.new_tensor(calibration)[class_ids].unbind(1)  # (K,)
    odds = offsets.exp() * scores**slopes
    return odds / (odds + (1 - scores) ** slopes)


def vote(found: TensorDetections, candidates: TensorDetections) -> Tensor:
    """(D, 4) boxes after voting: each the weighted mean of the candidates of its class that overlap it.

    The box of the highest score need not be the best-placed one, and its neighbours mostly belong to the same
    face. Source: Gidaris and Komodakis 2015, section 4.2. The weight
    score² · max(2 IoU − 1, 0)³ is ours, chosen on `val`; it starts from 0 at an IoU of a half, so that
    rounding moves no box. Scores are those of the network, not calibrated.
    """
    iou = box_iou(found.boxes_xyxy, candidates.boxes_xyxy)  # (D, K)
    nearness = (2 * iou - 1).clamp(min=0)
    same_class = found.class_ids[:, None] == candidates.class_ids
    weights = same_class * candidates.scores**2 * nearness**3
    total = weights.sum(1, keepdim=True)
    voted = weights @ candidates.boxes_xyxy / total.clamp(min=_TINY)
    return torch.where(total > 0, voted, found.boxes_xyxy)  # an empty box overlaps nothing, not even itself
