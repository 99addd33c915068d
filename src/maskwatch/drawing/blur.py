"""Blurs faces so that they cannot be recognised."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from maskwatch.boxes import box_iou
from maskwatch.media.images import UInt8Array

# Mild pixelation is useless: from mosaics of some 6×7 cells a network recognised 40 people about as well
# as from the originals (McPherson, Shokri and Shmatikov, "Defeating Image Obfuscation with Deep Learning",
# 2016), and an attacker who blurs the gallery too compares like with like (Newton, Sweeney and Malin,
# "Preserving Privacy by De-identifying Face Images", 2005). So little information may be left: here nine mean
# colours for each patch of face and margin, of which about four are of the face.
CELLS = 3
"""Mean colours along each side of a patch, whatever its size."""

MARGIN = 0.25
"""Of the box, added on each side: hair, ears and chin identify people too, and boxes are not exact."""

COVER_SCORE = 0.1
"""Detections with higher scores are covered, even if they do not count as faces.

At the thresholds of maskwatch-640, patches cover 87% of the faces of `unseen/webcam` and 80% of those of
`unseen/crowds`; at this score, 98% and 99%. They then cover a seventh more of the picture, much of it faces
too small to count (benchmarks/blur.py).
"""

_SAME_BOX_IOU = 0.9  # of two boxes of one face
_SMALLEST_CELL = 4  # pixels; a smaller one leaves too much
_SMALLEST_PATCH = 12.0  # pixels


def blur(image_rgb: UInt8Array, boxes_xyxy: npt.ArrayLike) -> UInt8Array:
    """Makes faces unrecognisable in a copy of a picture (H, W, 3) RGB.

    Each box grows by `MARGIN`, and its content becomes `CELLS` × `CELLS` mean colours, interpolated. Nothing
    else is left of the pixels, so no program can restore the face. Where patches overlap, the smaller one is
    blurred first.

    Args:
        image_rgb: uint8 (H, W, 3).
        boxes_xyxy: (N, 4) in pixels; may reach over the border or lie outside.

    Raises:
        ValueError: a coordinate is not finite, which would leave a face uncovered.
    """
    boxes = np.asarray(boxes_xyxy, np.float64).reshape(-1, 4)
    if not np.isfinite(boxes).all():
        raise ValueError(f"boxes to blur must be finite: {boxes[~np.isfinite(boxes).all(axis=1)][0]}")
    blurred = np.array(image_rgb, np.uint8)
    center = (boxes[:, :2] + boxes[:, 2:]) / 2
    size = np.maximum((boxes[:, 2:] - boxes[:, :2]) * (1 + 2 * MARGIN), _SMALLEST_PATCH)  # (N, 2)
    patches_xyxy = np.concatenate([center - size / 2, center + size / 2], axis=1)  # (N, 4)
    # Large patches last: they leave the fewest edges of others, and so the least of any face.
    for patch_xyxy in patches_xyxy[np.argsort(size.prod(axis=1), kind="stable")]:
        _blur_patch(blurred, patch_xyxy)
    return blurred


def cover_thresholds(thresholds: Mapping[str, float]) -> dict[str, float]:
    """Class name → score above which a face is covered, from the thresholds of a detector."""
    return {name: min(value, COVER_SCORE) for name, value in thresholds.items()}


def boxes_to_blur(found_xyxy: npt.NDArray[Any], faint_xyxy: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Boxes (N, 4) to blur in a picture: those `found` in it first, then those at `cover_thresholds`.

    The network runs once for each. One run with lower thresholds would change what is reported: in NMS, a box
    below the threshold can win over one above it.
    """
    new_xyxy = faint_xyxy
    if len(found_xyxy):
        new_xyxy = faint_xyxy[box_iou(found_xyxy, faint_xyxy).max(axis=0) < _SAME_BOX_IOU]
    return np.concatenate([found_xyxy, new_xyxy], dtype=np.float64)


def _blur_patch(image_rgb: UInt8Array, patch_xyxy: npt.NDArray[np.float64]) -> None:
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
    """Edges of the cells along a side of `whole` pixels, `visible` of them inside the picture.

    Half a face at the border gets half the cells, so that they do not become finer.
    """
    cells = min(round(CELLS * visible / whole), visible // _SMALLEST_CELL)
    return np.linspace(0, visible, max(1, cells) + 1).round().astype(np.int64)
