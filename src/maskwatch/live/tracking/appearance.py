"""What a person looks like around the face: colours that tell two people apart who pass each other."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from maskwatch.media.images import FloatArray, UInt8Array

# The part of the picture that is looked at, in widths and heights of the face: hair, face and collar.
_REGION = ((-0.2, 1.2), (-0.3, 1.6))
_CELLS = (3, 6)  # across and down
_SAMPLES = 6  # along each side of a cell
_DARK = 16.0  # of 255; added to all values, so that noise in the dark has little weight
# In ten real clips, the colours of one person at two times within 1.5 s deviate by 0.05 to 0.09 in the middle
# and by 0.22 to 0.41 in one case of twenty; those of two people by 0.28 to 0.54.
_SAME, _OTHER = 0.1, 0.3


def colours(image_rgb: UInt8Array, box_xyxy: FloatArray) -> FloatArray:
    """The colours of hair, face and collar, float32 (54,): the logarithms of 3 × 6 means, less their mean.

    They do not depend on the exposure. Beyond the edge of the picture its outermost pixels are repeated.

    Args:
        image_rgb: uint8 (H, W, 3).
        box_xyxy: the face, float (4,) in pixels.
    """
    places = []
    for axis, (low, high) in enumerate(_REGION):
        count = _CELLS[axis] * _SAMPLES
        start, size = float(box_xyxy[axis]), float(box_xyxy[axis + 2] - box_xyxy[axis])
        steps = low + (high - low) * (np.arange(count) + 0.5) / count
        places.append((start + size * steps).clip(0, image_rgb.shape[1 - axis] - 1).astype(np.intp))
    sampled = image_rgb[places[1][:, None], places[0]].astype(np.float32)  # (36, 18, 3)
    cells = sampled.reshape(_CELLS[1], _SAMPLES, _CELLS[0], _SAMPLES, 3).mean((1, 3))
    logs = np.log(cells + _DARK).ravel()
    return np.asarray(logs - logs.mean(), np.float32)


def unlikeness(one: FloatArray, other: FloatArray) -> npt.NDArray[np.float32]:
    """How unlike colours (..., 54) are: 0 as one person mostly is at two times, 1 as two people are."""
    deviation = np.sqrt(np.square(one - other).mean(-1))
    return np.asarray(((deviation - _SAME) / (_OTHER - _SAME)).clip(0, 1), np.float32)
