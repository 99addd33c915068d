"""Sinks: where events go. `factory` opens what `settings` asks for, `delivery` feeds the sinks.

A sink calls an event stored only once it would survive the end of the program and a power cut.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import datetime

from maskwatch.errors import EventError
from maskwatch.live.events import EVENT_KINDS, Event

ALL_KINDS: frozenset[str] = frozenset(EVENT_KINDS)


class TryLater(EventError):
    """An event cannot be taken now; the sink gets it again, after `after_s` seconds where that is given."""

    def __init__(self, message: str, after_s: float | None = None) -> None:
        super().__init__(message)
        self.after_s = after_s


@dataclass(frozen=True)
class SinkState:
    """The events that a sink has taken but not delivered yet.

    Attributes:
        waiting: events on disk that the receiver has not taken yet.
        dead_letters: events on disk that the receiver refused permanently.
        problem: why the events wait; None when nothing is wrong.
    """

    waiting: int = 0
    dead_letters: int = 0
    problem: str | None = None


class Sink(ABC):
    """Takes events one after the other, all from one thread.

    Attributes:
        name: short; stands in status lines.
        kinds: the kinds of events that it gets.
        durable: True when an event that `send` took survives the end of the program.
    """

    name: str
    kinds: frozenset[str] = ALL_KINDS
    durable: bool = False

    @abstractmethod
    def send(self, event: Event) -> None:
        """Takes one event; may block.

        Raises:
            TryLater: the event is sent again.
            EventError: the event is lost; the next one may be taken.
        """

    def close(self, timeout_s: float) -> None:
        """Closes the sink, in the thread of `send`; what is being delivered has `timeout_s` to finish."""
        del timeout_s

    def cancel(self) -> None:  # noqa: B027 - most sinks need none
        """Ends a `send` or `close` that takes too long; called from another thread."""

    def delete_before(self, when: datetime) -> int:
        """Deletes the stored events before `when`; called from another thread.

        Returns:
            the number of events.
        """
        del when
        return 0

    def state(self) -> SinkState:
        """What waits inside; called from any thread, must not block for long."""
        return SinkState()
