"""Sinks: where events go. `factory` opens what `settings` names, `delivery` feeds the sinks.

An event counts as stored once it survives the end of the program and a power cut.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import datetime

from maskwatch.errors import EventError
from maskwatch.live.events import EVENT_KINDS, Event

ALL_KINDS: frozenset[str] = frozenset(EVENT_KINDS)


class RetryableError(EventError):
    """An event cannot be taken now; it is sent again, after `after_s` seconds if given."""

    def __init__(self, message: str, after_s: float | None = None) -> None:
        super().__init__(message)
        self.after_s = after_s


@dataclass(frozen=True)
class Backlog:
    """The events that a sink has taken but not delivered yet.

    Attributes:
        waiting: events on disk that the receiver has not taken yet.
        dead_letters: events on disk that the receiver refused permanently.
        problem: why events wait; None when nothing is wrong.
    """

    waiting: int = 0
    dead_letters: int = 0
    problem: str | None = None


class Sink(ABC):
    """Takes events one after the other, all in one thread.

    Attributes:
        name: for status lines.
        kinds: the kinds of events that it gets.
        durable: an event is stored once `send` has returned.
    """

    name: str
    kinds: frozenset[str] = ALL_KINDS
    durable: bool = False

    @abstractmethod
    def send(self, event: Event) -> None:
        """Takes one event; may block.

        Raises:
            RetryableError: the event is sent again.
            EventError: the event is lost; the next one may be taken.
        """

    def close(self, timeout_s: float) -> None:  # noqa: B027 - many sinks need none
        """Closes the sink, in the thread of `send`; what waits inside has `timeout_s` seconds to finish."""

    def cancel(self) -> None:  # noqa: B027
        """Ends a `send` or `close` that takes too long; called from another thread."""

    def delete_before(self, when: datetime) -> int:
        """Deletes the stored events before `when` and returns their number; called from another thread."""
        return 0

    def backlog(self) -> Backlog:
        """What waits inside; called from any thread."""
        return Backlog()
