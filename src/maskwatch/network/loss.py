"""Losses on matched anchors.

`ssd_loss` is that of the TF Object Detection API (smooth L1 on encodings, sigmoid focal); `gfl_loss` is GIoU
on boxes with quality focal.

Several processes that train together divide by the matched anchors of all of them, so that their gradients,
averaged by DDP, are those of one process with all images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import generalized_box_iou_loss

from maskwatch.network.boxes import decode, encode, paired_iou
from maskwatch.network.layers import SeparableConv2d
from maskwatch.network.matching import IGNORED
from maskwatch.network.ssd import SSD


@dataclass(frozen=True)
class Targets:
    """The targets of an image's anchors.

    matches (A,): ground truth of each anchor, −1 for background, −2 for an anchor that the loss ignores;
    boxes_xyxy (G, 4) pixels; class_ids (G,) from 0.
    """

    matches: Tensor
    boxes_xyxy: Tensor
    class_ids: Tensor


@dataclass(frozen=True)
class Losses:
    """Scalars, already normalised."""

    localization: Tensor
    classification: Tensor


DetectionLoss: TypeAlias = Callable[[Tensor, Tensor, Tensor, list[Targets]], Losses]
"""encodings (N, A, 4), logits (N, A, C + 1), anchors_xyxy (A, 4), N targets → losses of the batch."""

FOCAL_ALPHA = 0.25
FOCAL_GAMMA = 2.0
# Exponent of the distance to the quality.
QUALITY_BETA = 2.0
# Weight of localization against classification.
GIOU_WEIGHT = 2.0


@dataclass(frozen=True)
class _Matched:
    """The matched anchors of a batch, end to end (M of them)."""

    image_ids: Tensor  # (M,)
    anchor_ids: Tensor  # (M,)
    boxes_xyxy: Tensor  # (M, 4)
    columns: Tensor  # (M,) logit column of the class

    @classmethod
    def of(cls, targets: list[Targets]) -> _Matched:
        images, anchors, boxes, columns = [], [], [], []
        for image_id, target in enumerate(targets):
            anchor_ids = (target.matches >= 0).nonzero().squeeze(1)
            truths = target.matches[anchor_ids]
            images.append(torch.full_like(anchor_ids, image_id))
            anchors.append(anchor_ids)
            boxes.append(target.boxes_xyxy[truths])
            columns.append(target.class_ids[truths] + 1)
        return cls(torch.cat(images), torch.cat(anchors), torch.cat(boxes), torch.cat(columns))


def _per_process(amount: Tensor | int, like: Tensor) -> Tensor:
    """The sum of an amount over all processes, at least 1, divided by their number."""
    total = torch.as_tensor(amount, dtype=torch.float32, device=like.device).clone()
    processes = 1
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(total)
        processes = dist.get_world_size()
    return total.clamp(min=1.0) / processes


def ssd_loss(encodings: Tensor, logits: Tensor, anchors_xyxy: Tensor, targets: list[Targets]) -> Losses:
    """Losses of the TF Object Detection API.

    Localization: Huber (delta 1) on the four codes, summed over matched anchors, divided by their number and
    by four (normalize_loc_loss_by_codesize). Classification: sigmoid focal loss (Lin et al. 2017b) over all
    anchors and columns, the background column with target zero (encode_background_as_zeros), divided by the
    number of matched anchors.
    """
    matched = _Matched.of(targets)
    count = _per_process(len(matched.anchor_ids), logits)
    codes = encode(matched.boxes_xyxy, anchors_xyxy[matched.anchor_ids])
    predicted = encodings[matched.image_ids, matched.anchor_ids].float()
    localization = F.huber_loss(predicted, codes, reduction="sum", delta=1.0) / (4 * count)
    logits = logits.float()
    labels = torch.zeros_like(logits)
    labels[matched.image_ids, matched.anchor_ids, matched.columns] = 1.0
    probability = logits.sigmoid()
    error = labels * (1 - probability) + (1 - labels) * probability
    weight = (labels * FOCAL_ALPHA + (1 - labels) * (1 - FOCAL_ALPHA)) * error**FOCAL_GAMMA
    return Losses(localization, _cross_entropy(logits, labels, weight, targets) / count)


def gfl_loss(encodings: Tensor, logits: Tensor, anchors_xyxy: Tensor, targets: list[Targets]) -> Losses:
    """GIoU on the decoded boxes and quality focal loss on the scores, as in GFL (Li et al. 2020).

    The score of the true class learns the IoU of its box, so that NMS keeps the best-placed box (equation 5);
    boxes are weighted by that same score (section 4, "implementation"). The boxes themselves are regressed as
    in SSD, not as distributions. GIoU is that of Rezatofighi et al. 2019.
    """
    matched = _Matched.of(targets)
    predicted = encodings[matched.image_ids, matched.anchor_ids].float()
    boxes_xyxy = decode(predicted, anchors_xyxy[matched.anchor_ids])  # (M, 4)
    quality = paired_iou(boxes_xyxy.detach(), matched.boxes_xyxy)  # (M,)
    scores = logits[matched.image_ids, matched.anchor_ids].detach().float().sigmoid()
    # The most confident column: boxes that are about to be detected are moved first.
    weight = scores[:, 1:].amax(1) if len(scores) else quality
    giou = generalized_box_iou_loss(boxes_xyxy, matched.boxes_xyxy)  # (M,)
    localization = (giou * weight).sum() / _per_process(weight.sum(), logits) * GIOU_WEIGHT
    logits = logits.float()
    labels = torch.zeros_like(logits)
    labels[matched.image_ids, matched.anchor_ids, matched.columns] = quality
    weight = (labels - logits.sigmoid()).abs() ** QUALITY_BETA
    focal = _cross_entropy(logits, labels, weight, targets)
    return Losses(localization, focal / _per_process(len(quality), logits))


def _cross_entropy(logits: Tensor, labels: Tensor, weight: Tensor, targets: list[Targets]) -> Tensor:
    """The weighted sum over all anchors (N, A, C + 1) but those of ignore regions."""
    counted = torch.stack([target.matches != IGNORED for target in targets])[..., None].float()  # (N, A, 1)
    return (weight * counted * F.binary_cross_entropy_with_logits(logits, labels, reduction="none")).sum()


def l2_regularization(network: SSD, weight: float) -> Tensor:
    """`weight`/2 times the squared norm of the regularised kernels.

    Which kernels count is the API's: all of the backbone, the 1×1 laterals, and of each separable
    convolution in pyramid and tower only the depthwise kernel (Keras' SeparableConv2D knows its pointwise
    regulariser by another name than the API sets). The two predictor layers, biases and BatchNorms are free.
    """
    regularized = [*network.backbone.modules(), *network.fpn.children()]
    parts = [*network.fpn.modules(), *network.head.tower.modules()]
    regularized += [m.depthwise for m in parts if isinstance(m, SeparableConv2d)]
    kernels = [m.weight for m in regularized if isinstance(m, nn.Conv2d)]
    return torch.stack([kernel.float().square().sum() for kernel in kernels]).sum() * (weight / 2)
