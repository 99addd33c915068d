"""The two clocks of a frame: the source's own and the wall's."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta


def _now() -> datetime:
    return datetime.now().astimezone()


@dataclass
class FrameClock:
    """Gives each frame of a source its times.

    Attributes:
        of_file: the source's clock is the position in the video, and the wall clock runs with it from the
            first frame; otherwise both are those of the arrival. Cameras' own time stamps are not used: they
            begin anew with each connection, and few can be trusted.
    """

    of_file: bool
    _began_s: float = field(default_factory=time.monotonic)
    _began: datetime | None = None
    _last_s: float = 0.0

    def stamp(self, now_s: float, media_time_s: float | None) -> tuple[float, datetime]:
        """`time_s` and `when` of a frame that came at `now_s` of `time.monotonic`."""
        if not self.of_file or media_time_s is None:
            self._last_s = max(self._last_s, now_s - self._began_s)
            return self._last_s, _now()
        if self._began is None:
            self._began = _now() - timedelta(seconds=media_time_s)
        return media_time_s, self._began + timedelta(seconds=media_time_s)
