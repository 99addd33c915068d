"""Counts of people for compliance. They can be added: minutes to hours, hours to days."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

from maskwatch.errors import EventError
from maskwatch.live.events import Event
from maskwatch.live.tracking.zones import Direction, Zones

MASKED_STATE = "mask"
"""The class whose share of all people is the masked share."""

Number = TypeVar("Number", int, float)


def _add(into: dict[str, Number], other: Mapping[str, Number]) -> None:
    for name, value in other.items():
        into[name] = into.get(name, 0) + value


@dataclass
class PeopleCounts:
    """Counts of one zone, or of the whole source.

    Attributes:
        people: people by the first state that was decided here; each person counts once.
        seconds: person-seconds by state, while in sight.
        alerts: alerts that began.
        undecided: people who left before a state was decided; not among `people`.
    """

    people: dict[str, int]
    seconds: dict[str, float]
    alerts: int = 0
    undecided: int = 0

    @classmethod
    def empty(cls, class_names: Sequence[str]) -> PeopleCounts:
        """All zeros."""
        return cls(dict.fromkeys(class_names, 0), dict.fromkeys(class_names, 0.0))

    def add(self, other: PeopleCounts) -> None:
        """Adds other counts."""
        _add(self.people, other.people)
        _add(self.seconds, other.seconds)
        self.alerts += other.alerts
        self.undecided += other.undecided

    def share(self, states: Iterable[str]) -> float | None:
        """The share of people in one of these states, 0..1; None without people."""
        total = sum(self.people.values())
        return sum(self.people.get(state, 0) for state in set(states)) / total if total else None

    @property
    def masked_share(self) -> float | None:
        """The share of people with a mask, 0..1; None without people, and for a model without that class."""
        return self.share([MASKED_STATE]) if MASKED_STATE in self.people else None

    def to_record(self) -> dict[str, Any]:
        """A plain dictionary for `json.dumps`."""
        return {
            "people": sum(self.people.values()),
            "by_state": dict(self.people),
            "undecided": self.undecided,
            "seconds": {name: round(value, 3) for name, value in self.seconds.items()},
            "alerts": self.alerts,
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> PeopleCounts:
        """Reads what `to_record` wrote; older records have no `undecided`."""
        people = {str(name): int(value) for name, value in record["by_state"].items()}
        seconds = {str(name): float(value) for name, value in record["seconds"].items()}
        return cls(people, seconds, int(record["alerts"]), int(record.get("undecided", 0)))


@dataclass
class Counts:
    """Counts of one source over some time: in total, by zone, by line.

    Attributes:
        frames: number of analysed frames.
        watched_s: seconds that they cover; less than the time that has passed where the source was away.
    """

    total: PeopleCounts
    zones: dict[str, PeopleCounts] = field(default_factory=dict)
    lines: dict[str, dict[str, int]] = field(default_factory=dict)
    frames: int = 0
    watched_s: float = 0.0

    @classmethod
    def empty(cls, class_names: Sequence[str], zones: Zones) -> Counts:
        """All zeros, for each zone and each line."""
        by_zone = {zone.name: PeopleCounts.empty(class_names) for zone in zones.zones}
        by_line = {line.name: {"in": 0, "out": 0} for line in zones.lines}
        return cls(PeopleCounts.empty(class_names), by_zone, by_line)

    def add(self, other: Counts) -> None:
        """Adds other counts; zones and lines of either are kept."""
        self.total.add(other.total)
        for name, people in other.zones.items():
            self.zones.setdefault(name, PeopleCounts({}, {})).add(people)
        for name, crossings in other.lines.items():
            _add(self.lines.setdefault(name, {"in": 0, "out": 0}), crossings)
        self.frames += other.frames
        self.watched_s += other.watched_s

    def to_record(self) -> dict[str, Any]:
        """The content of `Event.counts`."""
        return {
            "frames": self.frames,
            "watched_s": round(self.watched_s, 3),
            "all": self.total.to_record(),
            "zones": {name: people.to_record() for name, people in self.zones.items()},
            "lines": {name: dict(crossings) for name, crossings in self.lines.items()},
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Counts:
        """Reads what `to_record` wrote.

        Raises:
            EventError: the record is not one of these.
        """
        try:
            zones = {str(name): PeopleCounts.from_record(people) for name, people in record["zones"].items()}
            lines = {
                str(name): {direction: int(crossings[direction]) for direction in ("in", "out")}
                for name, crossings in record["lines"].items()
            }
            total = PeopleCounts.from_record(record["all"])
            return cls(total, zones, lines, int(record["frames"]), float(record["watched_s"]))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise EventError(
                f"counts {dict(record)!r:.200} cannot be read ({error!r}); restore the file from a copy"
            ) from None


def sum_by_hour(events: Iterable[Event]) -> dict[tuple[str, datetime], Counts]:
    """Adds up the "minute" events by source and hour (its beginning, in the time zone of the events).

    Raises:
        EventError: the counts of an event cannot be read.
    """
    hours: dict[tuple[str, datetime], Counts] = {}
    for event in events:
        if event.kind == "minute" and event.counts is not None:
            key = event.source, event.time.replace(minute=0, second=0, microsecond=0)
            hours.setdefault(key, Counts(PeopleCounts({}, {}))).add(Counts.from_record(event.counts))
    return hours


class MinuteCounts:
    """Counts of one source, minute by minute of the wall clock.

    Everything counts in the minute of the frame that shows it. A minute ends with the first frame of a later
    one, or with `flush`: a minute in which the source was lost has two parts, a minute without frames none.
    When the clock is set back, the minute that has begun continues.
    """

    def __init__(self, class_names: Sequence[str], zones: Zones) -> None:
        self._class_names, self._zones = tuple(class_names), zones
        self._start: datetime | None = None
        self._counts = Counts.empty(self._class_names, zones)

    def begin_frame(self, when: datetime, covers_s: float) -> tuple[datetime, Counts] | None:
        """Call before counting what is in a frame; returns a minute that has ended, with its beginning.

        Args:
            when: of the frame.
            covers_s: seconds since the frame before, 0 for the first.
        """
        minute = when.replace(second=0, microsecond=0)
        ended = None
        if self._start is None:
            self._start = minute
        elif minute.astimezone(UTC) > self._start.astimezone(UTC):
            ended = self.flush()
            self._start = minute
        self._counts.frames += 1
        self._counts.watched_s += covers_s
        return ended

    def flush(self) -> tuple[datetime, Counts] | None:
        """Ends the minute that has begun; None when it has no frame."""
        if self._start is None:
            return None
        ended = self._start, self._counts
        self._start, self._counts = None, Counts.empty(self._class_names, self._zones)
        return ended

    def people(self, zone: str | None) -> PeopleCounts:
        """The counts of the minute that has begun, to add to: of a zone, or with None of the whole source."""
        return self._counts.total if zone is None else self._counts.zones[zone]

    def crossing(self, line: str, direction: Direction) -> None:
        """Counts a person who crossed a line."""
        self._counts.lines[line][direction] += 1
