"""Fingerprints of pictures, to find duplicates: a checksum, a thumbnail, and corners.

Not ImageHash 4.3: one of its hashes takes 1.5 to 11 ms a photograph (the crop-resistant one 280 ms), where
decoding takes 2.8 ms and this fingerprint 1 ms, and a hash of 64 bits offers no second measure to check a
candidate by. `benchmarks/duplicates.py` measures recall, false alarms and cost.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
import numpy.typing as npt

from maskwatch.media.images import UInt8Array

THUMB_SIDE = 64
SMALL_SIDE = 192
"""Longest side, pixels, of the small picture in which corners are detected."""

# Two octave steps of 1.2: a crop that enlarges corners up to 1.3 times still shares them.
_CORNERS, _LEVELS, _STEP = 100, 2, 1.2
_PATCH, _MARGIN, _CONTRAST = 31, 15, 20


@dataclass(frozen=True, eq=False)
class Fingerprint:
    """About 8 KB a picture.

    Attributes:
        size_hw: of the picture as shown.
        checksum: equal if all decoded pixels are equal.
        thumb: uint8 (64, 64), grey, squashed to a square.
        points_xy: float32 (K, 2), corners in pixels of `thumb`; at most 100.
        descriptors: uint8 (K, 32), ORB (Rublee et al., "ORB: an efficient alternative to SIFT or SURF",
            ICCV 2011).
    """

    size_hw: tuple[int, int]
    checksum: tuple[int, ...]
    thumb: UInt8Array
    points_xy: npt.NDArray[np.float32]
    descriptors: UInt8Array


def fingerprint(image_rgb: UInt8Array, size_hw: tuple[int, int] | None = None) -> Fingerprint:
    """The fingerprint of a picture.

    Args:
        image_rgb: (H, W, 3), the picture, or a reduced one with a longer side of `SMALL_SIDE` at least.
        size_hw: of the original of a reduced picture.
    """
    height, width = size_hw or (image_rgb.shape[0], image_rgb.shape[1])
    # The green channel is most of the luminance, at a third of the cost of grey.
    green = np.asarray(cv2.extractChannel(image_rgb, 1), np.uint8)
    # A checksum of all three channels takes twice the time; the sums distinguish recoloured ones.
    sums = (int(value) for value in cv2.sumElems(image_rgb)[:3])
    small = _small(green)
    thumb = cv2.resize(small, (THUMB_SIDE, THUMB_SIDE), interpolation=cv2.INTER_AREA)
    points_xy, descriptors = _corners(small)
    return Fingerprint(
        (height, width),
        (height, width, zlib.crc32(green.tobytes()), *sums),
        np.asarray(thumb, np.uint8),
        np.asarray(points_xy * THUMB_SIDE / np.array(small.shape[1::-1]), np.float32),
        descriptors,
    )


def _small(grey: UInt8Array) -> UInt8Array:
    """Longest side `SMALL_SIDE`: whole steps by area, which OpenCV does fast, the rest bilinear."""
    height, width = grey.shape
    step = min(max(height, width) // SMALL_SIDE, height, width)
    if step > 1:
        whole = grey[: height - height % step, : width - width % step]
        shrunk = cv2.resize(whole, (width // step, height // step), interpolation=cv2.INTER_AREA)
        grey = np.asarray(shrunk, np.uint8)
    scale = SMALL_SIDE / max(height, width)
    size_wh = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(grey, size_wh, interpolation=cv2.INTER_LINEAR), np.uint8)


@cache
def _detector() -> cv2.ORB:
    return cv2.ORB.create(
        nfeatures=_CORNERS,
        scaleFactor=_STEP,
        nlevels=_LEVELS,
        edgeThreshold=_MARGIN,
        patchSize=_PATCH,
        fastThreshold=_CONTRAST,
    )


def _corners(small: UInt8Array) -> tuple[npt.NDArray[np.float32], UInt8Array]:
    """Corners (K, 2) in pixels of `small`, and their descriptors (K, 32)."""
    keypoints, found = _detector().detectAndCompute(small, None)
    if found is None:
        return np.zeros((0, 2), np.float32), np.zeros((0, 32), np.uint8)
    points = np.array([keypoint.pt for keypoint in keypoints], np.float32).reshape(-1, 2)  # (K, 2)
    return points, np.asarray(found, np.uint8)
