"""Frames that come faster than they were filmed are held back until it is their time."""

from __future__ import annotations

import time
from dataclasses import dataclass
from threading import Event

# A time stamp that asks for a longer wait is a jump (a stream that began anew), and no pause.
_LONGEST_WAIT_S = 10.0
# An HLS stream that is late by more has run dry: the next frames come on a new schedule, or else a whole
# segment would rush by at once.
_LATE_S = 0.25


@dataclass
class Pacer:
    """Maps the time stamps of frames to the clock.

    Attributes:
        slip: a late frame begins a new schedule. Without it, one that is late is not held back at all.
    """

    slip: bool = False
    _began_s: float | None = None

    def hold(self, pts_s: float, stop: Event) -> None:
        """Returns when the frame of time stamp `pts_s`, in seconds, is due, or when `stop` is set."""
        now = time.monotonic()
        began = now - pts_s if self._began_s is None else self._began_s
        wait = began + pts_s - now
        if wait > _LONGEST_WAIT_S or (self.slip and wait < -_LATE_S):
            began, wait = now - pts_s, 0.0
        self._began_s = began
        if wait > 0:
            stop.wait(wait)
