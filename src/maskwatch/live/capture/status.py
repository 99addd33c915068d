"""The status of a source: its state and its numbers."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

CaptureState: TypeAlias = Literal["connecting", "live", "waiting", "ended", "failed"]


@dataclass(frozen=True)
class CaptureStatus:
    """The status of a source at one moment.

    Attributes:
        name: of the source.
        state: "connecting" before the first frame; "live"; "waiting": lost, and reconnecting automatically,
            or a pipe is silent; "ended" normally; "failed": given up.
        frames: number that arrived.
        dropped: frames that were replaced by newer ones before they were taken.
        skipped: frames that a limit on frames per second left out.
        reconnects: number of times that the source came back after a loss.
        error: why it is "waiting" or "failed"; empty otherwise. Holds no password.
        fps: frames per second that arrive, over the last ones.
        size: (width, height) of the last frame in pixels; None before the first.
        media_time_s: of a file, the position of the newest frame in seconds; None for others, and before the
            first frame.
        duration_s: of a file, its length in seconds by its header; None where that is not known.
    """

    name: str
    state: CaptureState
    frames: int
    dropped: int
    reconnects: int
    error: str
    fps: float
    size: tuple[int, int] | None
    skipped: int = 0
    media_time_s: float | None = None
    duration_s: float | None = None


class SourceHealth:
    """The running numbers of a source. Written by one thread, read by any.

    Args:
        on_change: called with state and reason when either changes.
    """

    def __init__(self, on_change: Callable[[CaptureState, str], None]) -> None:
        self.state: CaptureState = "connecting"
        self.error = ""
        self.frames = 0
        self.dropped = self.skipped = 0
        self.media_time_s: float | None = None
        self.duration_s: float | None = None
        self.reconnects = 0
        self.failures = 0
        """Tries since the last frame."""
        self.size: tuple[int, int] | None = None
        self.live_since_s = 0.0
        self._on_change = on_change
        self._times: deque[float] = deque(maxlen=50)

    def arrived(self, now_s: float) -> int:
        """Notes a frame; returns its number."""
        self._times.append(now_s)
        self.frames += 1
        if self.state != "live":
            self.reconnects += self.failures > 0 and self.frames > 1
            self.failures, self.live_since_s = 0, now_s
            self.change("live")
        return self.frames - 1

    def lost(self) -> float:
        """Notes that the source broke off; returns the seconds for which it was live."""
        lasted = time.monotonic() - self.live_since_s if self.state == "live" else 0.0
        self.failures += 1
        self._times.clear()
        return lasted

    def change(self, state: CaptureState, reason: str = "") -> None:
        """Enters a state."""
        if (state, reason) != (self.state, self.error):
            self.state, self.error = state, reason
            self._on_change(state, reason)

    def fps(self) -> float:
        """Frames per second over the last 50; 0 while there are too few. Falls when no more arrive."""
        times = list(self._times)
        if len(times) < 3:
            return 0.0
        step = (times[-1] - times[0]) / (len(times) - 1)
        silent = time.monotonic() - times[-1]
        return (len(times) - 1) / max(times[-1] - times[0] + (silent if silent > 2 * step else 0.0), 1e-6)

    def status(self, name: str) -> CaptureStatus:
        """A copy that does not change."""
        return CaptureStatus(
            name=name,
            state=self.state,
            frames=self.frames,
            dropped=self.dropped,
            reconnects=self.reconnects,
            error=self.error,
            fps=self.fps(),
            size=self.size,
            skipped=self.skipped,
            media_time_s=self.media_time_s,
            duration_s=self.duration_s,
        )
