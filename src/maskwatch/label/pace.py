"""How fast boxes are drawn."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

BREAK_S = 300.0
"""A longer pause between two pictures is a break, and counts as this long."""


class Pace:
    """Counts the boxes of this session.

    Args:
        now_s: the clock.
    """

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s, self._lock = now_s, threading.Lock()
        self._boxes, self._active_s = 0, 0.0
        self._last_s: float | None = None

    def add(self, boxes: int) -> None:
        """Counts a picture that was saved, with so many boxes more than before."""
        with self._lock:
            now_s = self._now_s()
            if self._last_s is not None:  # the time of the first picture is not known
                self._active_s += min(BREAK_S, now_s - self._last_s)
                self._boxes += max(0, boxes)
            self._last_s = now_s

    def boxes_per_hour(self) -> float | None:
        """None before the second picture."""
        with self._lock:
            return round(self._boxes / self._active_s * 3600, 1) if self._active_s else None
