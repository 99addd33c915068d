"""Matching of anchors and ground truths.

A matcher takes the anchors (A, 4) and ground truths (G, 4) of one image, in pixels. It returns (A,) int64:
for each anchor the index of its ground truth, or `UNMATCHED`. `ignore_anchors` then marks the anchors of
ignore regions as `IGNORED`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torchvision.ops import box_area, box_iou

from maskwatch.network.boxes import centre_size

UNMATCHED = -1
IGNORED = -2

# An anchor with at least this share inside an ignore region has no background loss.
IGNORE_COVERAGE = 0.5


def match_iou(
    anchors_xyxy: Tensor, boxes_xyxy: Tensor, size_hw: tuple[int, int], threshold: float = 0.5
) -> Tensor:
    """Each anchor takes its best ground truth from `threshold` up; each ground truth gets its best anchor.

    Source: `ArgMaxMatcher` of the TF Object Detection API with force_match_for_each_row.

    Args:
        size_hw: the network's input. Overlaps are compared in shares of it, as in the API: symmetric
            anchors tie but for the rounding, and the same rounding breaks the ties alike.
        threshold: least IoU of a match that is not forced.
    """
    if not len(boxes_xyxy):
        return torch.full((len(anchors_xyxy),), UNMATCHED, device=anchors_xyxy.device)
    height, width = size_hw
    share = torch.tensor([1 / width, 1 / height] * 2, device=anchors_xyxy.device)
    iou = box_iou(boxes_xyxy * share, anchors_xyxy * share)  # (G, A)
    best_iou, matches = iou.max(0)  # (A,)
    matches = torch.where(best_iou >= threshold, matches, UNMATCHED)
    # Forced in the order of the ground truths; where two share their best anchor the first keeps it, since
    # the API takes the argmax over a one-hot column.
    for truth in range(len(boxes_xyxy) - 1, -1, -1):
        matches[iou[truth].argmax()] = truth
    return matches


def match_atss(
    anchors_xyxy: Tensor, boxes_xyxy: Tensor, level_counts: Sequence[int], candidates: int = 9
) -> Tensor:
    """Adaptive Training Sample Selection: an IoU threshold for each ground truth, from its own candidates.

    On every level the `candidates` anchors whose centres are nearest to the ground truth's are candidates;
    those with an IoU of at least mean + deviation of them, and with their centre inside the box, match.
    So small faces get anchors too, although none overlaps them by half; a ground truth that would get none
    (smaller than a cell) gets its best one.

    Source: Zhang et al. 2020, algorithm 1. As in its authors' implementation, the deviation is that of a
    sample (divided by K − 1). The weights of version 0.1 were trained with the one divided by K.

    Args:
        anchors_xyxy: level by level.
        level_counts: anchors of each level, A in all.
        candidates: of a ground truth at each level, all anchor shapes together.
    """
    anchors, truths = len(anchors_xyxy), len(boxes_xyxy)
    if not truths:
        return torch.full((anchors,), UNMATCHED, device=anchors_xyxy.device)
    iou = box_iou(boxes_xyxy, anchors_xyxy)  # (G, A)
    chosen = _nearest(anchors_xyxy, boxes_xyxy, level_counts, candidates)  # (G, K)
    candidate_iou = iou.gather(1, chosen)
    sample = min(1, chosen.shape[1] - 1)  # of a single candidate there is no deviation
    threshold = candidate_iou.mean(1, keepdim=True) + candidate_iou.std(1, correction=sample, keepdim=True)
    centre_x, centre_y, *_ = centre_size(anchors_xyxy)
    x, y = centre_x[chosen], centre_y[chosen]  # (G, K)
    x0, y0, x1, y1 = boxes_xyxy[:, :, None].unbind(1)  # each (G, 1)
    inside = (x > x0) & (x < x1) & (y > y0) & (y < y1)
    positive = inside & (candidate_iou >= threshold)
    claims = torch.full_like(iou, -1.0).scatter(1, chosen, torch.where(positive, candidate_iou, -1.0))
    # An anchor that several ground truths claim goes to the one it overlaps most.
    best, matches = claims.max(0)
    matches = torch.where(best >= 0, matches, UNMATCHED)
    for truth in range(truths):
        if not (matches == truth).any():
            free = torch.where(matches == UNMATCHED, iou[truth], -1.0)
            matches[free.argmax()] = truth
    return matches


def ignore_anchors(
    matches: Tensor, anchors_xyxy: Tensor, regions_xyxy: Tensor, match: Callable[[Tensor], Tensor]
) -> Tensor:
    """Marks the anchors that would match an ignore region, or are inside one, as `IGNORED`.

    Anchors that match a ground truth keep it. Coverage is the intersection as a share of the anchor, as COCO
    compares a detection with a crowd: a region may hold many faces, each far smaller than itself.

    Args:
        matches: (A,) the result of `match` for the ground truths.
        regions_xyxy: (R, 4) pixels.
        match: the matcher, boxes (G, 4) → (A,).
    """
    if not len(regions_xyxy):
        return matches
    top_left = torch.maximum(regions_xyxy[:, None, :2], anchors_xyxy[None, :, :2])  # (R, A, 2)
    bottom_right = torch.minimum(regions_xyxy[:, None, 2:], anchors_xyxy[None, :, 2:])
    covered = (bottom_right - top_left).clamp(min=0).prod(2) / box_area(anchors_xyxy)  # (R, A)
    ignored = (covered.amax(0) >= IGNORE_COVERAGE) | (match(regions_xyxy) >= 0)
    return torch.where((matches == UNMATCHED) & ignored, IGNORED, matches)


def _nearest(
    anchors_xyxy: Tensor, boxes_xyxy: Tensor, level_counts: Sequence[int], candidates: int
) -> Tensor:
    """(G, K) indices of the anchors of each level whose centres are nearest to each box's."""
    ax, ay, *_ = centre_size(anchors_xyxy)
    bx, by, *_ = centre_size(boxes_xyxy)
    distance = (ax[None] - bx[:, None]).square() + (ay[None] - by[:, None]).square()  # (G, A)
    chosen, start = [], 0
    for count in level_counts:
        level = distance[:, start : start + count]
        chosen.append(level.topk(min(candidates, count), largest=False).indices + start)
        start += count
    return torch.cat(chosen, 1)
