"""Several sources as one: their frames in turn."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from threading import Event

from maskwatch.errors import OptionError
from maskwatch.live.capture.core import CLOSE_S, Capture
from maskwatch.live.capture.frame import LiveFrame
from maskwatch.live.capture.status import CaptureState, CaptureStatus

MAX_BATCH = 8
"""Most frames that `CaptureGroup.next` returns at once."""

_MOST_CHANGES = 1000  # of states; more can only wait while `next` is not called


class CaptureGroup:
    """Starts captures, returns their frames in turn, and closes them. A context manager.

    Args:
        captures: not started yet, with different names.
        fps: limit on the frames per second of each source; None for none.
        on_state: called with name, state ("live", "waiting", "ended", "failed") and reason when the state of
            a source has changed; called by `next`, so in the thread that takes the frames.

    Raises:
        OptionError: there is no capture, two have the same name, or `fps` is not above zero.
    """

    def __init__(
        self,
        captures: Sequence[Capture],
        fps: float | None = None,
        on_state: Callable[[str, CaptureState, str], None] | None = None,
    ) -> None:
        names = [capture.name for capture in captures]
        if not names:
            raise OptionError("no source to watch; name one, for example 0 for the first webcam")
        if len(set(names)) < len(names):
            raise OptionError(f"two sources are named {max(names, key=names.count)!r}; rename one")
        self._order = tuple(captures)
        self._turns = list(captures)  # in the order in which they are read next
        self._on_state = on_state
        self._changes: deque[tuple[str, CaptureState, str]] = deque(maxlen=_MOST_CHANGES)
        self._wake = Event()
        for capture in captures:
            capture.limit(fps)
            capture.on_frame = self._wake.set
            capture.on_state = self._note

    def __enter__(self) -> CaptureGroup:
        """Starts all captures.

        Raises:
            SourceError: a file or webcam cannot be opened; no capture runs then.
        """
        try:
            for capture in self._order:
                capture.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def next(self, timeout_s: float) -> list[LiveFrame]:
        """At least one frame, as soon as there is one, and at most one of each source.

        Empty when none has arrived within `timeout_s` seconds, or when all sources have ended. Sources whose
        frames were returned come last the next time.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            self._wake.clear()  # before collecting, so that a frame that arrives meanwhile is not missed
            self._report()
            frames = self._collect()
            left = deadline - time.monotonic()
            if frames:
                return frames  # later changes of state are reported after these frames
            if left <= 0 or self.finished:
                return []
            early = [wait for capture in self._order if (wait := capture.ready_in()) is not None]
            self._wake.wait(min([left, *early]))

    @property
    def finished(self) -> bool:
        """Whether no source has or will have a frame, and all changes of state have been reported."""
        return all(capture.finished for capture in self._order) and not self._changes

    def status(self) -> list[CaptureStatus]:
        """The status of each source, in the order of `captures`."""
        return [capture.status() for capture in self._order]

    def close(self) -> None:
        """Ends all captures within two seconds."""
        deadline = time.monotonic() + CLOSE_S
        for capture in self._order:
            capture.stop()
        for capture in self._order:
            capture.close(max(0.0, deadline - time.monotonic()))

    def _collect(self) -> list[LiveFrame]:
        frames: list[LiveFrame] = []
        for capture in tuple(self._turns):
            if len(frames) == MAX_BATCH:
                break
            frame = capture.take() if capture.ready_in() == 0 else None
            if frame is not None:
                frames.append(frame)
                self._turns.remove(capture)
                self._turns.append(capture)
        return frames

    def _note(self, name: str, state: CaptureState, reason: str) -> None:
        self._changes.append((name, state, reason))
        self._wake.set()

    def _report(self) -> None:
        """Reports the changes of state; the loss of a source only after its last frame has been returned."""
        busy = {capture.name for capture in self._order if capture.ready_in() is not None}
        held: list[tuple[str, CaptureState, str]] = []
        for _ in range(len(self._changes)):
            name, state, reason = self._changes.popleft()
            if name in {one[0] for one in held} or (state != "live" and name in busy):
                held.append((name, state, reason))
            elif self._on_state is not None:
                self._on_state(name, state, reason)
        self._changes.extendleft(reversed(held))
