"""Encoding boxes relative to anchors, and decoding them.

Source: `FasterRcnnBoxCoder` of the TF Object Detection API with scale factors 10, 10, 5, 5 (Ren et al.
2015, section 3.1.2, times the usual inverse deviations).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

CENTRE_SCALE = 10.0
SIZE_SCALE = 5.0
# Keeps sizes positive for the logarithm; the API adds as much, to normalised sizes.
_EPSILON = 1e-8
# exp() of a wild encoding at the start of a training would be infinite and its gradient not a number;
# 1000/16 is the bound that Detectron chose.
_MAX_LOG_SIZE = math.log(1000.0 / 16)


def centre_size(boxes_xyxy: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(..., 4) → cx, cy, w, h, each (...)."""
    x0, y0, x1, y1 = boxes_xyxy.unbind(-1)
    return (x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0


def encode(boxes_xyxy: Tensor, anchors_xyxy: Tensor) -> Tensor:
    """Boxes (..., 4) and their anchors (..., 4), both in pixels → encodings (..., 4) as ty, tx, th, tw."""
    ax, ay, aw, ah = centre_size(anchors_xyxy)
    bx, by, bw, bh = centre_size(boxes_xyxy)
    ty = (by - ay) / ah * CENTRE_SCALE
    tx = (bx - ax) / aw * CENTRE_SCALE
    th = torch.log(bh.clamp(min=_EPSILON) / ah) * SIZE_SCALE
    tw = torch.log(bw.clamp(min=_EPSILON) / aw) * SIZE_SCALE
    return torch.stack([ty, tx, th, tw], -1)


def decode(encodings: Tensor, anchors_xyxy: Tensor) -> Tensor:
    """The inverse of `encode`: boxes (..., 4) xyxy in pixels, not clipped."""
    ax, ay, aw, ah = centre_size(anchors_xyxy)
    ty, tx, th, tw = encodings.unbind(-1)
    cx = tx / CENTRE_SCALE * aw + ax
    cy = ty / CENTRE_SCALE * ah + ay
    half_w = torch.exp((tw / SIZE_SCALE).clamp(max=_MAX_LOG_SIZE)) * aw / 2
    half_h = torch.exp((th / SIZE_SCALE).clamp(max=_MAX_LOG_SIZE)) * ah / 2
    return torch.stack([cx - half_w, cy - half_h, cx + half_w, cy + half_h], -1)


def paired_iou(a_xyxy: Tensor, b_xyxy: Tensor) -> Tensor:
    """(M, 4), (M, 4) → (M,) IoU of each pair; `torchvision.ops.box_iou` has only the IoU of all with all."""
    top_left = torch.maximum(a_xyxy[:, :2], b_xyxy[:, :2])
    bottom_right = torch.minimum(a_xyxy[:, 2:], b_xyxy[:, 2:])
    intersection = (bottom_right - top_left).clamp(min=0).prod(1)
    area_a = (a_xyxy[:, 2:] - a_xyxy[:, :2]).clamp(min=0).prod(1)
    area_b = (b_xyxy[:, 2:] - b_xyxy[:, :2]).prod(1)
    return intersection / (area_a + area_b - intersection).clamp(min=1e-9)
