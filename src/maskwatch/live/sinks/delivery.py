"""Delivers every event to every sink that wants it. No sink ever blocks the watching."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from maskwatch.errors import MaskwatchError
from maskwatch.live.events import Event
from maskwatch.live.sinks import Backlog, Sink
from maskwatch.live.sinks.dispatcher import Dispatcher, RetryPolicy, describe_error
from maskwatch.text import plural

QUEUE_SIZE = 4096
"""Events that wait in memory for one sink; at one a second that is more than an hour."""

CLOSE_S = 10.0
"""How long `close` waits for the queues to run empty."""

_FIRST_RETRY_S = 0.1
_LONGEST_RETRY_S = 5.0
_CANCEL_S = 1.0
_BACKLOG_S = 1.0
"""How often the backlog of a sink is read."""

OnStored = Callable[[str, str], None]
"""Receives the name of a sink and the id of an event."""

OnError = Callable[[str, str], None]
"""Receives the name of a sink and what is wrong, or that it works again."""


@dataclass(frozen=True)
class SinkStatus:
    """How a sink is doing.

    Attributes:
        sent: events that it has taken; a `durable` sink has stored them.
        waiting: events in memory, or on disk for an unreachable receiver.
        lost: events that it did not get (queue full, error, end of the program) or that the receiver refused
            permanently; `maskwatch events dead-letters` lists the latter.
        error: what is wrong now, or with the last event; None without a problem.
    """

    name: str
    sent: int
    waiting: int
    lost: int
    error: str | None


def ignore(name: str, text: str) -> None:
    """The default of both callbacks."""


class _SinkQueue:
    """The bounded queue of one sink, and the dispatcher that empties it into `Sink.send`."""

    def __init__(self, sink: Sink, size: int, on_stored: OnStored, on_error: OnError) -> None:
        self.sink = sink
        self._size, self._on_stored = size, on_stored
        self._on_error = partial(on_error, sink.name)
        self._lock = threading.Lock()
        self._events: deque[Event] = deque()
        self._current: Event | None = None
        """The event that is being sent; it no longer counts for the size of the queue."""
        self._sent = self._lost = self._dropped_in_a_row = 0
        self._error: str | None = None
        self._closed = False
        self._backlog, self._reported = self._read_backlog(), Backlog()
        self._read_s = float("-inf")
        policy = RetryPolicy(_FIRST_RETRY_S, _LONGEST_RETRY_S, poll_s=_BACKLOG_S)
        self._dispatcher = Dispatcher(
            f"sink {sink.name}", self, sink.send, policy, on_step=self._report, on_end=self._end
        )
        self._dispatcher.start()

    def put(self, event: Event) -> None:
        with self._lock:
            full = self._closed or len(self._events) >= self._size
            if full:
                self._lost += 1
                self._dropped_in_a_row += 1
            else:
                self._events.append(event)
            first = full and self._dropped_in_a_row == 1
        if not full:
            self._dispatcher.wake()
        elif first:
            self._on_error(f"{plural(self._size, 'event')} wait already; new ones are dropped")

    def first(self) -> Event | None:
        with self._lock:
            if self._current is None and self._events:
                self._current = self._events.popleft()
            return self._current

    def remove(self, event: Event) -> None:
        if self.sink.durable:
            self._on_stored(self.sink.name, event.id)
        with self._lock:
            self._current = None
            self._sent += 1
            before, self._error = self._error, None
            dropped, self._dropped_in_a_row = self._dropped_in_a_row, 0
        if dropped:
            self._on_error(f"takes events again; {dropped} were dropped meanwhile")
        elif before is not None:
            self._on_error("takes events again")

    def reject(self, event: Event, reason: str) -> None:
        with self._lock:
            self._current = None
            self._lost += 1
        self._set_error(reason)

    def status(self) -> SinkStatus:
        """The backlog is that of the last second: reading it may take as long as its disk does."""
        with self._lock:
            return SinkStatus(
                self.sink.name,
                sent=self._sent,
                waiting=len(self._events) + (self._current is not None) + self._backlog.waiting,
                lost=self._lost + self._backlog.dead_letters,
                error=self._error or self._backlog.problem,
            )

    def begin_close(self, timeout_s: float) -> None:
        with self._lock:
            self._closed = True
        self._dispatcher.begin_close(timeout_s)

    def end_close(self) -> None:
        """Waits for the deadline, then cancels what the sink is doing."""
        if not self._dispatcher.join():
            self.sink.cancel()
            self._dispatcher.join(_CANCEL_S)
        with self._lock:
            left = len(self._events) + (self._current is not None)
            self._lost += left
            self._events.clear()
            self._current = None
        if left:
            self._on_error(f"{plural(left, 'event')} lost: the program ends before they were taken")

    def _end(self) -> None:
        if self._current is not None:  # no time is left to retry it
            self.reject(self._current, self._error or "the program ends")
        try:
            self.sink.close(self._dispatcher.left_s)
        except Exception as error:  # no caller is left to raise it to
            self._set_error(describe_error(error))
        self._backlog = self._read_backlog()
        if waiting := self._backlog.waiting:
            self._on_error(f"on the disk for the next start: {plural(waiting, 'event')}")

    def _report(self) -> None:
        """Reports what has changed. Reads the backlog once a second, not for every event."""
        if self._dispatcher.problem is not None:
            self._set_error(self._dispatcher.problem)
        now_s = time.monotonic()
        if now_s - self._read_s < _BACKLOG_S:
            return
        self._read_s, before = now_s, self._reported
        self._backlog = self._reported = self._read_backlog()
        if self._backlog.dead_letters > before.dead_letters:
            refused = f"{plural(self._backlog.dead_letters, 'event')} refused permanently"
            self._on_error(f"{refused}; list them with: maskwatch events dead-letters")
        if self._backlog.problem != before.problem:
            self._on_error(self._backlog.problem or "delivers again")

    def _read_backlog(self) -> Backlog:
        try:
            return self.sink.backlog()
        except Exception as error:  # a bug in a sink must not end its thread
            return Backlog(problem=describe_error(error))

    def _set_error(self, text: str) -> None:
        with self._lock:
            changed = text != self._error
            self._error = text
        if changed:
            self._on_error(text)


class Delivery:
    """A bounded queue and a thread for each sink; a context manager that closes the sinks.

    Args:
        sinks: each gets the events of its `kinds`, in order.
        on_stored: called once a durable sink has stored an event.
        on_error: called when an error of a sink begins, changes or ends, and when events are dropped. Both
            callbacks run in the threads of the sinks, `on_error` also in that of `put`; they must be quick
            and must not raise.
        queue_size: events that may wait in memory for each sink.
    """

    def __init__(
        self,
        sinks: Sequence[Sink],
        *,
        on_stored: OnStored = ignore,
        on_error: OnError = ignore,
        queue_size: int = QUEUE_SIZE,
    ) -> None:
        self._queues = [_SinkQueue(sink, queue_size, on_stored, on_error) for sink in sinks]
        self._closed = False

    def put(self, event: Event) -> None:
        """Hands an event to every sink that wants its kind; never blocks. A full queue drops it."""
        for queue in self._queues:
            if event.kind in queue.sink.kinds:
                queue.put(event)

    def status(self) -> tuple[SinkStatus, ...]:
        """The status of each sink, in their order; never blocks."""
        return tuple(queue.status() for queue in self._queues)

    def delete_before(self, when: datetime) -> int:
        """Deletes the events before `when` that sinks have stored, including those that wait on disk.

        Returns:
            the number of events; an event in two sinks counts twice.

        Raises:
            EventError: a sink failed; the others have deleted theirs.
        """
        number, errors = 0, list[MaskwatchError]()
        for queue in self._queues:
            try:
                number += queue.sink.delete_before(when)
            except MaskwatchError as error:
                errors.append(error)
        if errors:
            raise errors[0]
        return number

    def close(self, timeout_s: float = CLOSE_S) -> None:
        """Waits at most `timeout_s` seconds until the sinks have taken all events, and closes them."""
        if self._closed:
            return
        self._closed = True
        for queue in self._queues:
            queue.begin_close(timeout_s)
        for queue in self._queues:
            queue.end_close()

    def __enter__(self) -> Delivery:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
