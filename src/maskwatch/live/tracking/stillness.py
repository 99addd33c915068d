"""Faces that never move: pictures on a wall, on a poster or on a screen."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from maskwatch.media.images import FloatArray

_SMOOTHING_S = 1.0  # boxes scatter from frame to frame even where nothing moves
_REACH = 0.03  # in face heights; a head moves further within minutes


@dataclass
class Stillness:
    """Since when a face has not moved.

    Its box is averaged over about a second, and has moved when an edge of that is more than `_REACH` face
    heights from where it was.

    Attributes:
        box_xyxy: where the face was at `since_s`, float32 (4,).
        since_s: on the source's clock.
    """

    box_xyxy: FloatArray
    since_s: float
    _mean: FloatArray = field(init=False)
    _time_s: float = field(init=False)

    def __post_init__(self) -> None:
        self._mean, self._time_s = self.box_xyxy, self.since_s

    def add(self, time_s: float, box_xyxy: FloatArray) -> bool:
        """Takes the box of the next detection; True when the face has moved."""
        new = 1 - math.exp(-max(0.0, time_s - self._time_s) / _SMOOTHING_S)
        self._mean = (self._mean + new * (box_xyxy - self._mean)).astype(np.float32)
        self._time_s = time_s
        moved = not same_place(self._mean, self.box_xyxy)
        if moved:
            self.box_xyxy, self.since_s = self._mean, time_s
        return moved


def same_place(a_xyxy: FloatArray, b_xyxy: FloatArray, reach: float = _REACH) -> bool:
    """Whether no edge of two boxes differs by more than `reach` face heights."""
    return float(np.abs(a_xyxy - b_xyxy).max()) <= reach * float(b_xyxy[3] - b_xyxy[1])
