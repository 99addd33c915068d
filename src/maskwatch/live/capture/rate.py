"""The limit on frames per second."""

from __future__ import annotations

from dataclasses import dataclass

from maskwatch.errors import OptionError

# Time stamps are rounded: the frame at 0.2 s of a file may stand there as 0.1999.
_CLOSE_ENOUGH_S = 1e-3


@dataclass
class RateLimit:
    """Lets at most `fps` frames per second through, measured on any clock that does not go back.

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
        """Seconds until the next frame may pass; 0 when it may now."""
        wait = 0.0 if self._due_s is None else self._due_s - now_s
        return wait if wait > _CLOSE_ENOUGH_S else 0.0

    def passed(self, now_s: float) -> None:
        """A frame has passed."""
        if self.fps is not None:
            # Counted from when it was due and not from now, or else 25 would become 24.
            due = now_s if self._due_s is None else self._due_s
            self._due_s = max(due + 1 / self.fps, now_s)
