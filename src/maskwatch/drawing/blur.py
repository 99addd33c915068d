"""Blurs faces so that they cannot be recognised."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
import numpy.typing as npt

from maskwatch.media.images import UInt8Array

# Mild pixelation is useless: from mosaics of some 6×7 cells a network recognised 40 people about as well
# as from the originals (McPherson, Shokri and Shmatikov, "Defeating Image Obfuscation with Deep Learning",
# 2016), and an attacker who blurs the gallery too compares like with like (Newton, Sweeney and Malin,
# "Preserving Privacy by De-identifying Face Images", 2005). What counts is how much is left, not how it
# looks. Here that is nine mean colours for each patch, face and margin together, two by two for a face.
CELLS = 3
"""Mean colours along each side of a patch: all that is left of a face, however large it is."""

MARGIN = 0.25
"""Of the box, added on each side: hair, ears and chin identify people too, and boxes are not exact."""

COVER_SCORE = 0.1
"""What scores more is covered, whether it counts as a face or not.

At the thresholds of maskwatch-640, 87% of the faces of `unseen/webcam` and 80% of those of `unseen/crowds`
lie under a patch, at this score 98% and 99%. For it the patches take a seventh more of the picture, much of
which is faces too small to count (benchmarks/blur.py).
"""

_SMALLEST_CELL = 4  # pixels; of a smaller one too much would be left
_SMALLEST_PATCH = 12.0  # pixels


def blur(image_rgb: UInt8Array, boxes_xyxy: npt.ArrayLike) -> UInt8Array:
    """Makes faces unrecognisable in a copy of a picture (H, W, 3) RGB.

    Each box grows by `MARGIN`; what lies under it becomes `CELLS` × `CELLS` mean colours with smooth passages
    between them. Nothing else of the pixels there is left, so no program can bring the face back. The size of
    the face makes no difference. Where patches overlap, the later one is made of what the earlier one left.

    Args:
        image_rgb: uint8 (H, W, 3).
        boxes_xyxy: (N, 4) in pixels, in any order; may reach over the border or lie outside.

    Raises:
        ValueError: a coordinate is no finite number, which would leave a face uncovered.
    """
    boxes = np.asarray(boxes_xyxy, np.float64).reshape(-1, 4)
    if not np.isfinite(boxes).all():
        raise ValueError(f"boxes to blur must be finite: {boxes[~np.isfinite(boxes).all(axis=1)][0]}")
    blurred = np.array(image_rgb, np.uint8)
    grown = np.array([_patch(box_xyxy) for box_xyxy in boxes], np.float64).reshape(-1, 4)
    # Large patches last: they leave the fewest edges of others, and so the least of any face.
    for patch_xyxy in grown[np.argsort(_areas(grown), kind="stable")]:
        _smear(blurred, patch_xyxy)
    return blurred


def cover_thresholds(thresholds: Mapping[str, float]) -> dict[str, float]:
    """Class name → score above which a face is covered, from those above which one counts."""
    return {name: min(value, COVER_SCORE) for name, value in thresholds.items()}


def _patch(box_xyxy: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The box with its margin, never smaller than some pixels."""
    center = (box_xyxy[:2] + box_xyxy[2:]) / 2
    size = np.maximum((box_xyxy[2:] - box_xyxy[:2]) * (1 + 2 * MARGIN), _SMALLEST_PATCH)
    return np.concatenate([center - size / 2, center + size / 2])


def _areas(boxes_xyxy: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    area: npt.NDArray[np.float64] = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).prod(axis=1)
    return area


def _smear(image_rgb: UInt8Array, patch_xyxy: npt.NDArray[np.float64]) -> None:
    height, width = image_rgb.shape[:2]
    x1, y1 = (int(value) for value in np.floor(np.clip(patch_xyxy[:2], 0, (width, height))))
    x2, y2 = (int(value) for value in np.ceil(np.clip(patch_xyxy[2:], 0, (width, height))))
    if x2 <= x1 or y2 <= y1:
        return
    columns = _edges(x2 - x1, patch_xyxy[2] - patch_xyxy[0])
    rows = _edges(y2 - y1, patch_xyxy[3] - patch_xyxy[1])
    part = image_rgb[y1:y2, x1:x2].astype(np.uint64)
    sums = np.add.reduceat(np.add.reduceat(part, rows[:-1], axis=0), columns[:-1], axis=1)  # (rows, cols, 3)
    counts = np.diff(rows)[:, None, None] * np.diff(columns)[None, :, None]
    colors = (sums / counts).round().astype(np.uint8)
    image_rgb[y1:y2, x1:x2] = cv2.resize(colors, (x2 - x1, y2 - y1), interpolation=cv2.INTER_LINEAR)


def _edges(visible: int, whole: float) -> npt.NDArray[np.int64]:
    """Where cells begin and end along a side of which `visible` pixels are inside the picture.

    Half a face at the border gets half the cells: what is left of it does not get finer.
    """
    cells = min(round(CELLS * visible / whole), visible // _SMALLEST_CELL)
    return np.linspace(0, visible, max(1, cells) + 1).round().astype(np.int64)
