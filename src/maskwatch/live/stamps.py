"""The two clocks of a frame: the source's own and the wall's."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta

_STEP_S = 0.04  # between frames of a file that says nothing


def _now() -> datetime:
    return datetime.now().astimezone()


@dataclass
class Stamps:
    """Gives each frame of a source its times.

    Attributes:
        of_file: the source's clock is the place in the file, and the wall clock runs with it from the moment
            that watching began; otherwise both are those of the arrival. Cameras' own time stamps are not
            used: they begin anew with each connection, and few can be trusted.
    """

    of_file: bool
    _began_s: float = field(default_factory=time.monotonic)
    _began: datetime = field(default_factory=_now)
    _first_pts_s: float | None = None
    _last_s: float | None = None

    def stamp(self, now_s: float, pts_s: float | None) -> tuple[float, datetime]:
        """`time_s` and `when` of a frame that came at `now_s` of `time.monotonic` with its own time stamp."""
        if not self.of_file:
            self._last_s = max(self._last_s or 0.0, now_s - self._began_s)
            return self._last_s, _now()
        last = self._last_s
        if pts_s is None:
            place = 0.0 if last is None else last + _STEP_S
        else:
            self._first_pts_s = pts_s if self._first_pts_s is None else self._first_pts_s
            place = max(pts_s - self._first_pts_s, last or 0.0)
        self._last_s = place
        return place, self._began + timedelta(seconds=place)
