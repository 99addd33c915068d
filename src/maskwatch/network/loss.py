"""Losses on matched anchors.

`SSDLoss` is that of the TF Object Detection API (smooth L1 on encodings, sigmoid focal); `GFLLoss` is GIoU on
boxes with quality focal. Both take the same arguments and give the same two numbers.

Several processes that train together divide by the matched anchors of all of them, so that their gradients,
averaged by DDP, are those of one process with all images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

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


class DetectionLoss(Protocol):
    """encodings (N, A, 4), logits (N, A, C + 1), anchors_xyxy (A, 4), N targets → losses of the batch."""

    def __call__(
        self, encodings: Tensor, logits: Tensor, anchors_xyxy: Tensor, targets: list[Targets]
    ) -> Losses: ...


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


def _anchor_weights(targets: list[Targets]) -> Tensor:
    """(N, A, 1): 0 for the anchors of ignore regions, 1 for all others."""
    return torch.stack([target.matches != IGNORED for target in targets])[..., None].float()


def _per_process(amount: Tensor | int, like: Tensor) -> Tensor:
    """The sum of an amount over all processes, at least 1, divided by their number."""
    total = torch.as_tensor(amount, dtype=torch.float32, device=like.device).clone()
    processes = 1
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(total)
        processes = dist.get_world_size()
    return total.clamp(min=1.0) / processes


class SSDLoss:
    """Losses of the TF Object Detection API.

    Localization: Huber (delta 1) on the four codes, summed over matched anchors, divided by their number and
    by four (normalize_loc_loss_by_codesize). Classification: sigmoid focal loss (Lin et al. 2017b) over all
    anchors and columns, the background column with target zero (encode_background_as_zeros), divided by the
    number of matched anchors.
    """

    def __init__(self, alpha: float = 0.25, gamma: float = 2.0) -> None:
        self.alpha, self.gamma = alpha, gamma

    def __call__(
        self, encodings: Tensor, logits: Tensor, anchors_xyxy: Tensor, targets: list[Targets]
    ) -> Losses:
        matched = _Matched.of(targets)
        count = _per_process(len(matched.anchor_ids), logits)
        codes = encode(matched.boxes_xyxy, anchors_xyxy[matched.anchor_ids])
        predicted = encodings[matched.image_ids, matched.anchor_ids].float()
        localization = F.huber_loss(predicted, codes, reduction="sum", delta=1.0) / (4 * count)
        labels = torch.zeros_like(logits, dtype=torch.float32)
        labels[matched.image_ids, matched.anchor_ids, matched.columns] = 1.0
        return Losses(localization, self._focal(logits.float(), labels, _anchor_weights(targets)) / count)

    def _focal(self, logits: Tensor, labels: Tensor, anchor_weights: Tensor) -> Tensor:
        probability = logits.sigmoid()
        error = labels * (1 - probability) + (1 - labels) * probability
        weight = (labels * self.alpha + (1 - labels) * (1 - self.alpha)) * error**self.gamma * anchor_weights
        return (weight * F.binary_cross_entropy_with_logits(logits, labels, reduction="none")).sum()


class GFLLoss:
    """GIoU on the decoded boxes and quality focal loss on the scores, as in GFL (Li et al. 2020).

    The score of the true class learns the IoU of its box, so that NMS keeps the best-placed box (equation 5);
    boxes are weighted by that same score (section 4, "implementation"). The boxes themselves are regressed as
    in SSD, not as distributions. GIoU is that of Rezatofighi et al. 2019.

    Args:
        beta: exponent of the distance to the quality.
        giou_weight: weight of localization against classification.
    """

    def __init__(self, beta: float = 2.0, giou_weight: float = 2.0) -> None:
        self.beta, self.giou_weight = beta, giou_weight

    def __call__(
        self, encodings: Tensor, logits: Tensor, anchors_xyxy: Tensor, targets: list[Targets]
    ) -> Losses:
        matched = _Matched.of(targets)
        predicted = encodings[matched.image_ids, matched.anchor_ids].float()
        boxes_xyxy = decode(predicted, anchors_xyxy[matched.anchor_ids])  # (M, 4)
        quality = paired_iou(boxes_xyxy.detach(), matched.boxes_xyxy)  # (M,)
        scores = logits[matched.image_ids, matched.anchor_ids].detach().float().sigmoid()
        # The most confident column: boxes that are about to be detected are moved first.
        weight = scores[:, 1:].amax(1) if len(scores) else quality
        giou = generalized_box_iou_loss(boxes_xyxy, matched.boxes_xyxy)  # (M,)
        localization = (giou * weight).sum() / _per_process(weight.sum(), logits) * self.giou_weight
        focal = self._quality_focal(logits.float(), matched, quality, _anchor_weights(targets))
        return Losses(localization, focal / _per_process(len(quality), logits))

    def _quality_focal(
        self, logits: Tensor, matched: _Matched, quality: Tensor, anchor_weights: Tensor
    ) -> Tensor:
        labels = torch.zeros_like(logits)
        labels[matched.image_ids, matched.anchor_ids, matched.columns] = quality
        weight = (labels - logits.sigmoid()).abs() ** self.beta * anchor_weights
        return (weight * F.binary_cross_entropy_with_logits(logits, labels, reduction="none")).sum()


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
