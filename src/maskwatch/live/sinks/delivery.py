"""Delivery: every event to every sink that wants it, and no sink ever stalls the watching."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType

from maskwatch.errors import MaskwatchError
from maskwatch.live.events import Event
from maskwatch.live.sinks import Sink, SinkState, TryLater

QUEUE_SIZE = 4096
"""Events that wait in memory for one sink; at one a second that is more than an hour."""

CLOSE_S = 10.0
"""How long `close` waits for the queues to run empty."""

_FIRST_RETRY_S = 0.1
_LONGEST_RETRY_S = 5.0
_CANCEL_S = 1.0
_LOOK_S = 1.0
"""How often a sink is asked what its receiver is doing."""

Stored = Callable[[str, str], None]
"""Takes the name of a sink and the id of an event."""

Trouble = Callable[[str, str], None]
"""Takes the name of a sink and what is wrong, or that it is well again."""


@dataclass(frozen=True)
class SinkStatus:
    """How a sink is doing.

    Attributes:
        sent: events that it took. A `durable` sink had stored each of them by then.
        waiting: events in memory, or on disk for a receiver that is away.
        lost: events that it did not get (queue full, error, end of the program) or whose receiver refused
            them for good; the latter can be looked at with `maskwatch events parked`.
        error: what is wrong now, or was with the last event; None when all is well.
    """

    name: str
    sent: int
    waiting: int
    lost: int
    error: str | None


def ignore(name: str, text: str) -> None:
    """Stands for a callback that nobody gave."""
    del name, text


class _Lane:
    """One sink, its thread and its queue."""

    def __init__(self, sink: Sink, size: int, on_stored: Stored, on_trouble: Trouble) -> None:
        self.sink = sink
        self._size, self._on_stored, self._on_trouble = size, on_stored, on_trouble
        self._changed = threading.Condition()
        self._queue: deque[Event] = deque()
        self._busy = False
        self._deadline: float | None = None  # set when closing
        self._sent = self._lost = self._streak = 0
        self._error: str | None = None
        self._inner, self._told = self._state(), SinkState()
        self._look_s = float("-inf")
        self._thread = threading.Thread(target=self._run, name=f"sink {sink.name}", daemon=True)
        self._thread.start()

    def put(self, event: Event) -> None:
        with self._changed:
            full = len(self._queue) >= self._size or self._deadline is not None
            if full:
                self._lost += 1
                self._streak += 1
            else:
                self._queue.append(event)
                self._changed.notify_all()
            first = full and self._streak == 1
        if first:
            self._on_trouble(self.sink.name, f"{_events(self._size)} wait already; new ones are dropped")

    def status(self) -> SinkStatus:
        """As the sink was when its own thread last looked: asking it may take as long as its disk does."""
        with self._changed:
            inner = self._inner
            return SinkStatus(
                self.sink.name,
                sent=self._sent,
                waiting=len(self._queue) + self._busy + inner.waiting,
                lost=self._lost + inner.parked,
                error=self._error or inner.problem,
            )

    def begin_close(self, deadline: float) -> None:
        with self._changed:
            self._deadline = deadline
            self._changed.notify_all()

    def end_close(self) -> None:
        """Waits for the deadline, then ends what the sink is at."""
        assert self._deadline is not None
        self._thread.join(max(0.0, self._deadline - time.monotonic()))
        if self._thread.is_alive():
            self.sink.cancel()
            self._thread.join(_CANCEL_S)
        with self._changed:
            left = len(self._queue) + self._busy
            self._lost += left
            self._queue.clear()
            self._busy = False
        if left:
            self._on_trouble(self.sink.name, f"{_events(left)} lost: the program ends before they were taken")

    def _run(self) -> None:
        while not self._is_over():
            event = self._next()
            if event is not None:
                self._deliver(event)
                with self._changed:
                    self._busy = False
            self._look()
        try:
            self.sink.close(self._left_s())
        except Exception as error:  # nobody waits for it any more; said like any other trouble
            self._say(_text(error))
        self._inner = self._state()
        if waiting := self._inner.waiting:
            self._on_trouble(self.sink.name, f"on the disk for the next start: {_events(waiting)}")

    def _is_over(self) -> bool:
        with self._changed:
            if self._deadline is None:
                return False
            return not self._queue or time.monotonic() >= self._deadline

    def _next(self) -> Event | None:
        """The next event; None when there was none for a while, or closing has begun."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._deadline is not None, _LOOK_S)
            if not self._queue:
                return None
            self._busy = True
            return self._queue.popleft()

    def _look(self) -> None:
        """Says what has changed between the sink and its receiver; not with every event."""
        now_s = time.monotonic()
        if now_s - self._look_s < _LOOK_S:
            return
        self._look_s, before = now_s, self._told
        self._inner = self._told = self._state()
        if self._inner.parked > before.parked:
            refused = f"{_events(self._inner.parked)} refused for good"
            self._on_trouble(self.sink.name, f"{refused}; look at them with: maskwatch events parked")
        if self._inner.problem != before.problem:
            self._on_trouble(self.sink.name, self._inner.problem or "delivers again")

    def _state(self) -> SinkState:
        try:
            return self.sink.state()
        except Exception as error:  # as in `_deliver`
            return SinkState(problem=_text(error))

    def _deliver(self, event: Event) -> None:
        delay_s = _FIRST_RETRY_S
        while True:
            try:
                self.sink.send(event)
            except TryLater as error:
                self._say(_text(error))
                if not self._pause(error.after_s or delay_s):
                    self._lose(_text(error))
                    return
                delay_s = min(2 * delay_s, _LONGEST_RETRY_S)
            except Exception as error:  # a sink with a defect must not take the others with it
                self._lose(_text(error))
                return
            else:
                self._done(event)
                return

    def _pause(self, seconds: float) -> bool:
        """Waits before another try; False when there is no time left for one."""
        with self._changed:
            if self._deadline is None:
                # Closing cuts the pause short, so that the next try comes while there is time for it.
                self._changed.wait_for(lambda: self._deadline is not None, seconds)
                return True
            left_s = self._deadline - time.monotonic()
            if left_s > 0:
                self._changed.wait(min(seconds, left_s))
            return left_s > 0

    def _done(self, event: Event) -> None:
        if self.sink.durable:
            self._on_stored(self.sink.name, event.id)
        with self._changed:
            self._sent += 1
            was, self._error = self._error, None
            dropped, self._streak = self._streak, 0
        if dropped:
            self._on_trouble(self.sink.name, f"takes events again; {dropped} were dropped meanwhile")
        elif was is not None:
            self._on_trouble(self.sink.name, "takes events again")

    def _lose(self, text: str) -> None:
        with self._changed:
            self._lost += 1
        self._say(text)

    def _say(self, text: str) -> None:
        with self._changed:
            new = text != self._error
            self._error = text
        if new:
            self._on_trouble(self.sink.name, text)

    def _left_s(self) -> float:
        return 0.0 if self._deadline is None else max(0.0, self._deadline - time.monotonic())


def _events(number: int) -> str:
    return f"{number} event{'' if number == 1 else 's'}"


def _text(error: Exception) -> str:
    """Our own messages as they are; of a defect also what kind it is."""
    return str(error) if isinstance(error, MaskwatchError) else f"{type(error).__name__}: {error}"


class Delivery:
    """A thread and a bounded queue for each sink. Closing it closes the sinks.

    Args:
        sinks: each gets the events of its `kinds`, in order.
        on_stored: called once an event is safe with a durable sink; see `Stored`.
        on_trouble: called when a sink's trouble begins, changes or ends, and when events are dropped.
            Both are called from the threads of the sinks, `on_trouble` also from that of `put`; they must
            be quick and must not raise.
        queue_size: events that may wait in memory for each sink.
    """

    def __init__(
        self,
        sinks: Sequence[Sink],
        *,
        on_stored: Stored = ignore,
        on_trouble: Trouble = ignore,
        queue_size: int = QUEUE_SIZE,
    ) -> None:
        self._lanes = [_Lane(sink, queue_size, on_stored, on_trouble) for sink in sinks]
        self._closed = False

    def put(self, event: Event) -> None:
        """Hands an event to every sink that wants its kind; never blocks. A full queue drops it."""
        for lane in self._lanes:
            if event.kind in lane.sink.kinds:
                lane.put(event)

    def status(self) -> tuple[SinkStatus, ...]:
        """How each sink is doing, in their order; what waits on a disk as of a second ago. Never blocks."""
        return tuple(lane.status() for lane in self._lanes)

    def delete_before(self, when: datetime) -> int:
        """Deletes what the sinks stored of before `when`, that which still waits on disk included.

        Takes a moment: it writes to the disk.

        Returns:
            the number of events; one that two sinks had stored counts twice.

        Raises:
            EventError: a sink could not; the others have.
        """
        number, errors = 0, list[MaskwatchError]()
        for lane in self._lanes:
            try:
                number += lane.sink.delete_before(when)
            except MaskwatchError as error:
                errors.append(error)
        if errors:
            raise errors[0]
        return number

    def close(self, timeout_s: float = CLOSE_S) -> None:
        """Waits until the sinks have taken what waits for them, at most so long, and closes them."""
        if self._closed:
            return
        self._closed = True
        deadline = time.monotonic() + timeout_s
        for lane in self._lanes:
            lane.begin_close(deadline)
        for lane in self._lanes:
            lane.end_close()

    def __enter__(self) -> Delivery:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
