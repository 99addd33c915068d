"""The status of a source: its state and its numbers."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

CaptureState: TypeAlias = Literal["connecting", "live", "waiting", "ended", "failed"]


@dataclass
class CaptureStatus:
    """The status of a source at one moment.

    Attributes:
        name: of the source.
        state: "connecting" before the first frame; "live"; "waiting": lost, and reconnecting automatically,
            or a pipe is silent; "ended" normally; "failed": given up.
        frames: number that arrived.
        dropped: frames that were replaced by newer ones before they were taken.
        reconnects: number of times that the source came back after a loss.
        error: why it is "waiting" or "failed"; empty otherwise. Holds no password.
        fps: frames per second that arrive, over the last ones.
        size: (width, height) of the last frame in pixels; None before the first.
        skipped: frames that a limit on frames per second left out.
        media_time_s: of a file, the position of the newest frame in seconds; None for others, and before the
            first frame.
        duration_s: of a file, its length in seconds by its header; None where that is not known.
    """

    name: str
    state: CaptureState = "connecting"
    frames: int = 0
    dropped: int = 0
    reconnects: int = 0
    error: str = ""
    fps: float = 0.0
    size: tuple[int, int] | None = None
    skipped: int = 0
    media_time_s: float | None = None
    duration_s: float | None = None


class SourceHealth:
    """The running numbers of a source. Written by one thread, read by any.

    Attributes:
        now: the status, of which `fps` is not kept up to date.
        failures: tries since the last frame.

    Args:
        on_change: called with name, state and reason when state or reason changes.
    """

    def __init__(self, name: str, on_change: Callable[[str, CaptureState, str], None]) -> None:
        self.now = CaptureStatus(name)
        self.failures = 0
        self._live_since_s = 0.0
        self._on_change = on_change
        self._times: deque[float] = deque(maxlen=50)

    def arrived(self, now_s: float) -> int:
        """Notes a frame; returns its number."""
        self._times.append(now_s)
        self.now.frames += 1
        if self.now.state != "live":
            self.now.reconnects += self.failures > 0 and self.now.frames > 1
            self.failures, self._live_since_s = 0, now_s
            self.change("live")
        return self.now.frames - 1

    def lost(self) -> float:
        """Notes that the source broke off; returns the seconds for which it was live."""
        lasted_s = time.monotonic() - self._live_since_s if self.now.state == "live" else 0.0
        self.failures += 1
        self._times.clear()
        return lasted_s

    def change(self, state: CaptureState, reason: str = "") -> None:
        """Enters a state."""
        if (state, reason) != (self.now.state, self.now.error):
            self.now.state, self.now.error = state, reason
            self._on_change(self.now.name, state, reason)

    def fps(self) -> float:
        """Frames per second over the last 50; 0 while there are too few. Falls when no more arrive."""
        times = list(self._times)
        if len(times) < 3:
            return 0.0
        step_s = (times[-1] - times[0]) / (len(times) - 1)
        silent_s = time.monotonic() - times[-1]
        span_s = times[-1] - times[0] + (silent_s if silent_s > 2 * step_s else 0.0)
        return (len(times) - 1) / max(span_s, 1e-6)

    def status(self) -> CaptureStatus:
        """A copy that does not change."""
        return replace(self.now, fps=self.fps())
