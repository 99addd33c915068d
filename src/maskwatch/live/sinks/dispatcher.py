"""Sends the events of a queue in order, one at a time, and retries until each has been taken."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from maskwatch.errors import MaskwatchError
from maskwatch.live.sinks import RetryableError
from maskwatch.live.timing import Backoff

_LONGEST_ASKED_S = 3600.0
"""The longest pause that a receiver may ask for."""

_LOCKED_S = 2.0

_Event = TypeVar("_Event")


class EventQueue(Protocol[_Event]):
    """Where a dispatcher takes events from. When a method raises, the dispatcher tries again later."""

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
        poll_s: how often an empty queue is checked without a `wake`; other programs may have added to it.
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
        send: sends one event and returns once it has been taken. `RetryableError` keeps it at the head of the
            queue; any other error rejects it.
        policy: when a failed event is sent again.
        may_send: called before each event; False while another program sends from the same queue.
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
        """Ends the wait for new events."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    @property
    def closing(self) -> bool:
        """Whether the dispatcher is about to end; `send` should not wait for an unreachable receiver."""
        return self._deadline is not None

    @property
    def left_s(self) -> float:
        """Seconds until the deadline; infinite while the dispatcher is not closing."""
        return float("inf") if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def begin_close(self, timeout_s: float) -> None:
        """Leaves `timeout_s` seconds to empty the queue."""
        with self._changed:
            self._deadline = time.monotonic() + timeout_s
            self._changed.notify_all()

    def join(self, more_s: float = 0.0) -> bool:
        """Waits for the thread until `more_s` seconds after the deadline; returns whether it has ended."""
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
                    # An unreachable receiver hardly comes back in the few seconds left.
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
            except RetryableError:
                raise
            except Exception as error:  # a bug must not stop the events that follow
                self._queue.reject(event, describe_error(error))
                self.problem = describe_error(error)
            else:
                self._queue.remove(event)
                self.problem = None
            return 0.0
        except RetryableError as error:
            self.problem = str(error)
            return min(error.after_s or self._policy.pause_s(failures), _LONGEST_ASKED_S)
        except Exception as error:  # of the queue itself; the thread must survive it
            self.problem = describe_error(error)
            return self._policy.pause_s(failures)

    def _wait_for_events(self) -> bool:
        """Waits for a `wake`; returns False when there was none and the dispatcher closes."""
        with self._changed:
            self._changed.wait_for(lambda: self._woken or self.closing, self._policy.poll_s)
            woken, self._woken = self._woken, False
            return woken or not self.closing

    def _pause(self, seconds: float) -> None:
        """Waits; `begin_close` cuts the pause short, so that a retry comes in time."""
        with self._changed:
            if self.closing:
                self._changed.wait(min(seconds, self.left_s))
            else:
                self._changed.wait_for(lambda: self.closing, seconds)


def describe_error(error: Exception) -> str:
    """An error as a message; a bug with its type."""
    return str(error) if isinstance(error, MaskwatchError) else f"{type(error).__name__}: {error}"
