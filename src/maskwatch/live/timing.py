"""Clocks and waits: when to retry, how many frames pass, when a frame is due, what its time is."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from threading import Event

from maskwatch.errors import OptionError

# Timestamps are rounded: the frame at 0.2 s of a file may be stamped 0.1999.
_ROUNDING_S = 1e-3
# Of a step, by which due times follow key frames; clocks differ by less than a thousandth.
_DRIFT = 0.005
# A timestamp further ahead is a jump (a stream that restarted), not a pause.
_LONGEST_HOLD_S = 10.0
# After a longer delay the next frames get a new schedule. Otherwise a whole segment would pass at once.
_LATE_S = 0.25


@dataclass
class Backoff:
    """Exponential backoff with jitter: waits double up to a cap, each randomly shortened.

    The jitter spreads out the retries of cameras that failed together ("Exponential Backoff And Jitter", AWS
    Architecture Blog, 2015: "equal jitter").

    Attributes:
        first_s, cap_s: seconds; a wait is between half and all of min(cap_s, first_s · 2^tries).
    """

    first_s: float = 1.0
    cap_s: float = 30.0
    tries: int = 0

    def next_wait(self) -> float:
        """Seconds to wait before the next try; counts the try."""
        longest = min(self.cap_s, self.first_s * 2.0 ** min(self.tries, 32))
        self.tries += 1
        return longest * (0.5 + 0.5 * random.random())

    def reset(self) -> None:
        """Starts over, after a success."""
        self.tries = 0


@dataclass
class RateLimit:
    """Passes at most `fps` frames per second of any clock that does not go back.

    Attributes:
        fps: None for no limit.

    Raises:
        OptionError: `fps` is not above zero.
    """

    fps: float | None = None
    _due_s: float | None = None

    def __post_init__(self) -> None:
        if self.fps is not None and not 0 < self.fps < float("inf"):
            raise OptionError(f"{self.fps:g} frames per second: give a number above 0")

    def remaining(self, now_s: float) -> float:
        """Seconds until the next frame may pass; 0 when it may pass now."""
        wait = 0.0 if self._due_s is None else self._due_s - now_s
        return wait if wait > _ROUNDING_S else 0.0

    def passed(self, now_s: float, key_s: float | None = None) -> None:
        """Notes that a frame has passed.

        Args:
            key_s: when it arrived, if it is a key frame; the times at which frames are due slowly move there,
                so that key frames stay among the frames that pass although two clocks never agree.
        """
        if self.fps is not None:
            step_s = 1 / self.fps
            # Counted from when it was due and not from now, or else 25 would become 24.
            due = now_s if self._due_s is None else self._due_s
            most_s = _DRIFT * step_s
            drift_s = 0.0 if key_s is None else min(max(key_s - due, -most_s), most_s)
            self._due_s = max(due + drift_s + step_s, now_s)


@dataclass
class Pacer:
    """Holds back frames that arrive faster than they were filmed.

    Attributes:
        slip: a late frame starts a new schedule; otherwise it passes at once.
    """

    slip: bool = False
    _began_s: float | None = None

    def hold(self, pts_s: float, stop: Event) -> None:
        """Returns when the frame of timestamp `pts_s`, in seconds, is due, or when `stop` is set."""
        now_s = time.monotonic()
        wait_s = 0.0 if self._began_s is None else self._began_s + pts_s - now_s
        if self._began_s is None or wait_s > _LONGEST_HOLD_S or (self.slip and wait_s < -_LATE_S):
            self._began_s, wait_s = now_s - pts_s, 0.0
        if wait_s > 0:
            stop.wait(wait_s)


@dataclass
class FrameClock:
    """Assigns each frame of a source its two times.

    Attributes:
        of_file: the time of a frame is its position in the video, and the wall clock runs with it from the
            first frame. Otherwise both are those of the arrival, since the timestamps of cameras restart
            with each connection and are often wrong.
    """

    of_file: bool
    _began_s: float = field(default_factory=time.monotonic)
    _began: datetime | None = None
    _last_s: float = 0.0

    def stamp(self, now_s: float, media_time_s: float | None) -> tuple[float, datetime]:
        """`LiveFrame.clock_s` and `LiveFrame.when` of a frame that arrived at `now_s` of `time.monotonic`."""
        if not self.of_file or media_time_s is None:
            self._last_s = max(self._last_s, now_s - self._began_s)
            return self._last_s, datetime.now().astimezone()
        position = timedelta(seconds=media_time_s)
        if self._began is None:
            self._began = datetime.now().astimezone() - position
        return media_time_s, self._began + position
