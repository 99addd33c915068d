"""How fast boxes are drawn."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

PAUSE_S = 120.0
"""After a longer time without a change, the person was away: neither this time nor what ends it counts."""

LEAST_S, LEAST_BOXES = 180.0, 10
"""With less work, one picture changes the rate by a lot."""


class Pace:
    """Counts the boxes of this session, and the time spent on them.

    Args:
        now_s: the clock.
    """

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s, self._lock = now_s, threading.Lock()
        self._boxes, self._active_s = 0, 0.0
        self._last_s: float | None = None

    def add(self, boxes: int) -> None:
        """Counts a picture that was saved, with so many boxes more than before, or fewer."""
        with self._lock:
            now_s = self._now_s()
            # How long the first picture took is not known.
            if self._last_s is not None and now_s - self._last_s <= PAUSE_S:
                self._active_s += now_s - self._last_s
                self._boxes += boxes
            self._last_s = now_s

    def boxes_per_hour(self) -> float | None:
        """None before it means something."""
        with self._lock:
            if self._active_s < LEAST_S or self._boxes < LEAST_BOXES:
                return None
            return round(self._boxes / self._active_s * 3600, 1)
