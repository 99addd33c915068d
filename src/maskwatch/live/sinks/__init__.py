"""Sinks: where events go. `settings.open_delivery` opens what a user named, `delivery` feeds them.

A sink that stores says so only once the event would survive the end of the program and of the power.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import datetime

from maskwatch.errors import EventError
from maskwatch.live.events import EVENT_KINDS, Event

ALL_KINDS: frozenset[str] = frozenset(EVENT_KINDS)


class TryLater(EventError):
    """An event that could not be taken now, but may be in a while: the sink gets it again."""

    def __init__(self, message: str, after_s: float | None = None) -> None:
        super().__init__(message)
        self.after_s = after_s


@dataclass(frozen=True)
class SinkState:
    """What a sink knows of events that it took but has not handed on yet.

    Attributes:
        waiting: events on disk that the receiver has not got yet.
        parked: events on disk that the receiver refused for good.
        problem: what keeps the waiting ones; None when nothing does.
    """

    waiting: int = 0
    parked: int = 0
    problem: str | None = None


class Sink(ABC):
    """Takes events, one after the other, all from one thread.

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
            TryLater: it shall come again.
            EventError: it cannot be taken; the next one may.
        """

    def close(self, timeout_s: float) -> None:
        """Ends; called once, from the thread of `send`. What is handed on may take `timeout_s` to finish."""
        del timeout_s

    def cancel(self) -> None:  # noqa: B027 - most sinks need none
        """Ends a `send` or `close` that takes too long; called from another thread."""

    def delete_before(self, when: datetime) -> int:
        """Deletes what it stored of before `when` for good; called from another thread.

        Returns:
            the number of events.
        """
        del when
        return 0

    def state(self) -> SinkState:
        """What waits inside; called from any thread, must not block for long."""
        return SinkState()
