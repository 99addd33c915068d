"""Whether the matcher assigns enough anchors to the boxes of the data, at the size of the network."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from maskwatch.data import DetectionSet, Sample
from maskwatch.diagnosis.check import CheckState, Finding
from maskwatch.network.anchors import anchors_xyxy
from maskwatch.training.checkpoint import anchors_of
from maskwatch.training.crops import MIN_SIDE
from maskwatch.training.module import matcher_of
from maskwatch.training.recipe import Recipe

# The matcher assigns every box one anchor; a box with no more contributes next to nothing to the loss.
FEW = 1
MANY_POOR = (0.2, 0.5)  # shares of boxes with few anchors that are suspect, and broken
MAX_PICTURES = 400


def check_anchors(detection_set: DetectionSet, recipe: Recipe | None) -> Finding:
    """How many anchors the recipe's matcher assigns to each box, and which boxes are too small."""
    name = "anchors"
    if recipe is None:
        return Finding(name, "skipped", "the model file does not say which anchors it has")
    owned, sides, least_anchor = _count(detection_set, recipe)
    if not len(owned):
        return Finding(name, "skipped", "no box has an area")
    smallest, mean_side = sides.min(1), np.sqrt(sides.prod(1))
    none, poor, tiny = (float(part.mean()) for part in (owned == 0, owned <= FEW, smallest < MIN_SIDE))
    values = {
        "boxes": len(owned), "without anchor": none, "with at most one": poor,
        "median": float(np.median(owned)), f"below {MIN_SIDE:g} px": tiny,
        "median side": float(np.median(smallest)),
    }  # fmt: skip
    text = (
        f"median {np.median(owned):g} a box; {none:.0%} of {len(owned)} boxes have none, {poor:.0%} at most "
        f"{FEW}; {tiny:.0%} are below {MIN_SIDE:g} px at {recipe.size} (median {np.median(smallest):.0f} px)"
    )
    worst = max(poor, tiny)
    state: CheckState = "broken" if worst > MANY_POOR[1] else "suspect" if worst > MANY_POOR[0] else "ok"
    if state == "ok":
        return Finding(name, state, text, values=values)
    small = tiny > MANY_POOR[0] or float(np.median(mean_side[owned <= FEW])) < least_anchor / 2
    return Finding(name, state, text, _advice(recipe, small), values)


def _count(
    detection_set: DetectionSet, recipe: Recipe
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32], float]:
    """Anchors of each box (G,), its sides (G, 2) and that of the smallest anchor, in pixels of the input."""
    size_hw = (recipe.size, recipe.size)
    spec = anchors_of(recipe)
    anchors = anchors_xyxy(spec, size_hw)
    match = matcher_of(recipe, spec, anchors, size_hw)
    counts, sides = [np.empty(0, np.int64)], [np.empty((0, 2), np.float32)]
    boxed = [sample for sample in map(Sample.counted, detection_set.samples) if len(sample)]
    for sample in boxed[:MAX_PICTURES]:
        boxes = _on_canvas(sample, recipe)
        owners = match(torch.from_numpy(boxes)).numpy()
        counts.append(np.bincount(owners[owners >= 0], minlength=len(boxes)))
        sides.append(boxes[:, 2:] - boxes[:, :2])
    least = float((anchors[:, 2:] - anchors[:, :2]).min())
    return np.concatenate(counts), np.concatenate(sides), least


def _advice(recipe: Recipe, small: bool) -> str:
    if small:
        return f"too small for this size: train larger (--set size={2 * recipe.size}) or crop the pictures"
    if recipe.matcher == "iou":
        return "the shapes do not fit: change aspect_ratios or anchor_scale, or --set matcher=atss"
    return "the shapes do not fit: change aspect_ratios or anchor_scale of the recipe"


def _on_canvas(sample: Sample, recipe: Recipe) -> npt.NDArray[np.float32]:
    """(G, 4) float32, pixels of the network's input; those without area are left out."""
    height, width = sample.size_hw
    if recipe.resize == "letterbox":
        scale_xy = np.full(2, min(recipe.size / height, recipe.size / width))
    else:
        scale_xy = np.array([recipe.size / width, recipe.size / height])
    boxes = sample.boxes_xyxy * np.tile(scale_xy, 2)
    kept = (boxes[:, 2:] > boxes[:, :2]).all(1)
    return np.asarray(boxes[kept], np.float32)
