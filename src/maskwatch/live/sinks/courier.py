"""A courier carries the events of an outbox to their receiver, in order, as often as it takes."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from datetime import datetime

from maskwatch.errors import EventError
from maskwatch.live.events import Event
from maskwatch.live.sinks import SinkState, TryLater
from maskwatch.live.sinks.outbox import Letter, Outbox, Turn

FIRST_RETRY_S = 0.5
LONGEST_RETRY_S = 60.0
LONGEST_ASKED_S = 3600.0
"""A receiver may ask for a longer pause, up to this."""

_LAST_TRIES = 2
"""So many failures in a row are not the end of it when closing."""

_TURN_S = 2.0


class Refused(EventError):
    """The receiver will never take this event."""


class Courier:
    """A thread that hands the events of an outbox over, one after the other.

    Args:
        name: for the thread.
        outbox: closed together with this.
        hand_over: hands one over and returns once the receiver has it; raises `TryLater`, or `Refused`.
        first_retry_s: pause after the first failure; it doubles from one to the next. Each pause is
            shortened by chance to between a half and all of it, lest many programs come back at once.
    """

    def __init__(
        self,
        name: str,
        outbox: Outbox,
        hand_over: Callable[[Letter], None],
        *,
        first_retry_s: float = FIRST_RETRY_S,
    ) -> None:
        self._outbox, self._hand_over, self._first_retry_s = outbox, hand_over, first_retry_s
        self._turn = Turn(outbox.path)
        self._changed = threading.Condition()
        self._news = True
        self._closing = False
        self._deadline = float("inf")
        self._problem: str | None = None
        self._left: SinkState | None = None
        self._thread = threading.Thread(target=self._run, name=f"courier {name}", daemon=True)

    def start(self) -> None:
        """Begins; once `hand_over` can be called."""
        self._thread.start()

    @property
    def closing(self) -> bool:
        """Whether `close` was called; what `hand_over` waits for may then never come."""
        return self._closing

    @property
    def left_s(self) -> float:
        """Seconds that closing leaves for what is being handed over."""
        return max(0.0, self._deadline - time.monotonic())

    def add(self, event: Event) -> None:
        """Takes an event; it is on the disk when this returns.

        Raises:
            EventError: the outbox is full or cannot be written.
            TryLater: it is locked.
        """
        self._outbox.add(event)
        with self._changed:
            self._news = True
            self._changed.notify_all()

    def delete_before(self, when: datetime) -> int:
        """Deletes what has waited, or is parked, since before `when`; returns its number."""
        return self._outbox.delete_before(when)

    def state(self) -> SinkState:
        """What waits, and why; once closed, what was left."""
        if self._left is not None:
            return self._left
        try:
            waiting, parked = self._outbox.counts()
        except EventError as error:
            return SinkState(problem=str(error))
        return SinkState(waiting, parked, self._problem if waiting or parked else None)

    def close(self, timeout_s: float) -> None:
        """Hands over what it can in so many seconds; the rest stays on disk for the next start."""
        with self._changed:
            self._closing = True
            self._deadline = time.monotonic() + timeout_s
            self._changed.notify_all()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        failures = 0
        try:
            while self.left_s > 0:
                pause_s = self._step(failures)
                if pause_s is None:
                    failures = 0
                    if not self._wait_for_news():
                        return
                elif pause_s == 0:
                    failures = 0
                else:
                    # A receiver that is away now will hardly be back in the few seconds left.
                    if self._closing and failures >= _LAST_TRIES:
                        return
                    failures += 1
                    self._pause(pause_s)
        finally:
            self._turn.give_back()
            self._left = self.state()
            self._outbox.close()

    def _step(self, failures: int) -> float | None:
        """Hands one event over; gives the pause before the next, None when there is no next."""
        try:
            if not self._turn.take():
                return _TURN_S if self._outbox.first() else None
            letter = self._outbox.first()
            if letter is None:
                return None
            try:
                self._hand_over(letter)
            except Refused as error:
                self._outbox.park(letter, str(error))
                self._problem = str(error)
            else:
                self._outbox.remove(letter)
                self._problem = None
            return 0
        except TryLater as error:
            self._problem = str(error)
            return self._backoff(failures) if error.after_s is None else min(error.after_s, LONGEST_ASKED_S)
        except Exception as error:  # without its thread nothing would ever be sent again
            self._problem = f"{type(error).__name__}: {error}"
            return self._backoff(failures)

    def _backoff(self, failures: int) -> float:
        longest = min(LONGEST_RETRY_S, self._first_retry_s * 2 ** min(failures, 20))
        return random.uniform(longest / 2, longest)

    def _wait_for_news(self) -> bool:
        with self._changed:
            # Now and then without news too: another program may have added some and gone.
            self._changed.wait_for(lambda: self._news or self._closing, LONGEST_RETRY_S)
            had, self._news = self._news, False
            return had or not self._closing

    def _pause(self, seconds: float) -> None:
        """Waits; the beginning of closing cuts it short."""
        with self._changed:
            if self._closing:
                self._changed.wait(min(seconds, self.left_s))
            else:
                self._changed.wait_for(lambda: self._closing, seconds)
