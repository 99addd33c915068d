"""A dispatcher sends the events of a queue in order, one at a time, and retries until each has been taken."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from maskwatch.errors import MaskwatchError
from maskwatch.live.sinks import TryLater
from maskwatch.live.timing import Backoff

LONGEST_ASKED_S = 3600.0
"""A receiver may ask for a longer pause than the policy's, up to this."""

_LOCKED_S = 2.0

_Event = TypeVar("_Event")


class EventQueue(Protocol[_Event]):
    """What a dispatcher takes events from; it may raise, and is then asked again."""

    def first(self) -> _Event | None:
        """The event that has waited longest: the same one until it is removed or rejected."""

    def remove(self, event: _Event) -> None:
        """The event has been taken."""

    def reject(self, event: _Event, reason: str) -> None:
        """The event will never be taken; the next one may."""


@dataclass(frozen=True)
class RetryPolicy:
    """When a failed event is sent again.

    Attributes:
        first_s, longest_s: pauses in seconds, see `Backoff`.
        closing_retries: failures in a row that end the dispatcher while it closes; None retries until the
            deadline.
        poll_s: how often an empty queue is checked without a `wake`, since other programs may add to it.
    """

    first_s: float
    longest_s: float
    closing_retries: int | None = None
    poll_s: float = 1.0

    def pause_s(self, failures: int) -> float:
        """The pause in seconds after so many failures in a row before this one."""
        return Backoff(self.first_s, self.longest_s, failures).next_wait()


class Dispatcher(Generic[_Event]):
    """A thread that sends the events of a queue.

    Args:
        name: of the thread.
        queue: where the events come from.
        send: sends one event and returns once it has been taken. `TryLater` keeps it at the head of the
            queue; any other error rejects it.
        policy: when a failed event is sent again.
        may_send: asked before each event; False while another program sends from the same queue.
        on_step: called in the thread after each attempt, also on an empty queue.
        on_end: called in the thread at its end.
    """

    def __init__(
        self,
        name: str,
        queue: EventQueue[_Event],
        send: Callable[[_Event], None],
        policy: RetryPolicy,
        *,
        may_send: Callable[[], bool] = lambda: True,
        on_step: Callable[[], None] = lambda: None,
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        self._queue, self._send, self._policy = queue, send, policy
        self._may_send, self._on_step, self._on_end = may_send, on_step, on_end
        self._changed = threading.Condition()
        self._woken = True
        self._deadline: float | None = None
        self.problem: str | None = None
        """What went wrong with the last event; None when it was taken."""
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begins to send."""
        self._thread.start()

    def wake(self) -> None:
        """Sends at once what was added to the queue."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    @property
    def closing(self) -> bool:
        """Whether the dispatcher is about to end; `send` should not wait for a receiver that is away."""
        return self._deadline is not None

    @property
    def left_s(self) -> float:
        """Seconds that are left until the deadline; infinite while the dispatcher is not closing."""
        return float("inf") if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def begin_close(self, timeout_s: float) -> None:
        """Gives the dispatcher so many seconds to empty the queue."""
        with self._changed:
            self._deadline = time.monotonic() + timeout_s
            self._changed.notify_all()

    def join(self, more_s: float = 0.0) -> bool:
        """Waits for the thread until the deadline and `more_s` seconds longer; whether it has ended."""
        self._thread.join(self.left_s + more_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        failures = 0
        try:
            while self.left_s > 0:
                pause_s = self._attempt(failures)
                self._on_step()
                if not pause_s:
                    failures = 0
                    if pause_s is None and not self._wait_for_events():
                        return
                else:
                    # A receiver that is away now will hardly be back in the few seconds left.
                    retries = self._policy.closing_retries
                    if self.closing and retries is not None and failures >= retries:
                        return
                    failures += 1
                    self._pause(pause_s)
        finally:
            self._on_end()

    def _attempt(self, failures: int) -> float | None:
        """Sends one event; returns the pause before the next one, None when the queue is empty."""
        try:
            if not self._may_send():
                return _LOCKED_S if self._queue.first() else None
            event = self._queue.first()
            if event is None:
                return None
            try:
                self._send(event)
            except TryLater:
                raise
            except Exception as error:  # a defect must not stop the events that follow
                self._queue.reject(event, describe(error))
                self.problem = describe(error)
            else:
                self._queue.remove(event)
                self.problem = None
            return 0.0
        except TryLater as error:
            self.problem = str(error)
            return min(error.after_s or self._policy.pause_s(failures), LONGEST_ASKED_S)
        except Exception as error:  # of the queue itself; without this thread nothing would be sent any more
            self.problem = describe(error)
            return self._policy.pause_s(failures)

    def _wait_for_events(self) -> bool:
        """Waits for news of the queue; False when it is empty and the dispatcher closes."""
        with self._changed:
            self._changed.wait_for(lambda: self._woken or self.closing, self._policy.poll_s)
            woken, self._woken = self._woken, False
            return woken or not self.closing

    def _pause(self, seconds: float) -> None:
        """Waits; the beginning of closing cuts the pause short, so that a retry comes in time."""
        with self._changed:
            if self.closing:
                self._changed.wait(min(seconds, self.left_s))
            else:
                self._changed.wait_for(lambda: self.closing, seconds)


def describe(error: Exception) -> str:
    """An error as a message; of a defect also its type."""
    return str(error) if isinstance(error, MaskwatchError) else f"{type(error).__name__}: {error}"
