"""Stored events, each once, selected by time, kind, source, zone and state."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from sqlalchemy import ColumnElement, delete, func, select

from maskwatch.errors import EventError
from maskwatch.live.events import Event
from maskwatch.live.sinks.database import time_ms
from maskwatch.live.sinks.event_databases import open_database
from maskwatch.live.sinks.events_table import EVENTS

_PAGE = 500
_COLUMNS = EVENTS.c


@dataclass(frozen=True)
class EventQuery:
    """Selects events; None and () select all.

    Attributes:
        since, until: `since` ≤ time < `until`.
        source, zone, kind, state: any of these.
    """

    since: datetime | None = None
    until: datetime | None = None
    source: tuple[str, ...] = ()
    zone: tuple[str, ...] = ()
    kind: tuple[str, ...] = ()
    state: tuple[str, ...] = ()

    def conditions(self) -> list[ColumnElement[bool]]:
        """All of them must be true for an event."""
        found: list[ColumnElement[bool]] = []
        if self.since is not None:
            found.append(_COLUMNS.time_ms >= time_ms(self.since))
        if self.until is not None:
            found.append(_COLUMNS.time_ms < time_ms(self.until))
        for one in fields(self)[2:]:
            if names := getattr(self, one.name):
                found.append(_COLUMNS[one.name].in_([_storable(name) for name in names]))
        return found


class EventStore:
    """The events in an SQLite file or a PostgreSQL database; safe for several threads and programs at a time.

    A context manager that closes it.

    Args:
        target: the file, or `postgresql://user@host/name`.
        create: make the file, or the tables, where there are none.

    Raises:
        EventError: it is missing, holds something else, was written by a newer version, or cannot be used.
        RetryableError: another program has locked it, or the server cannot be used now. So does every method.
        OptionError: the address is not valid.
        OutputError: the folder of the file cannot be made.
        MissingExtraError: the extra `postgres` is not installed.
    """

    def __init__(self, target: Path | str, *, create: bool = False) -> None:
        self._database = open_database(target, create=create)
        self.name = self._database.name
        """For messages: the path, or the address without its password."""

    def close(self) -> None:
        """Closes the file or the connections."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def exists(self) -> bool:
        """Whether the file is still there; a server counts as there, even while it is away."""
        return self._database.path is None or self._database.path.exists()

    def add(self, event: Event) -> bool:
        """Stores an event; False when it is there already. It is on the disk when this returns."""
        values: dict[str, Any] = {
            "time_ms": time_ms(event.time),
            "track": event.track,
            "time_s": event.time_s,
            "record": event.to_json(),
        }
        for name in ("id", "kind", "source", "run", "state", "zone"):
            text = getattr(event, name)
            values[name] = None if text is None else _storable(text)
        # inline: the number is not asked for, so that a writer needs no right but INSERT.
        insert = self._database.insert(EVENTS).values(values).inline()
        statement = insert.on_conflict_do_nothing(index_elements=["id"])
        with self._database.begin() as connection:
            self._database.before_insert(connection)
            done = connection.execute(statement, execution_options={"preserve_rowcount": True})
            return done.rowcount > 0

    def delete_before(self, when: datetime) -> int:
        """Deletes the events before `when`; returns their number. New events reuse their space."""
        with self._database.begin() as connection:
            done = connection.execute(delete(EVENTS).where(_COLUMNS.time_ms < time_ms(when)))
            self._database.after_delete(connection)
            return done.rowcount

    def records(self, query: EventQuery = EventQuery(), *, limit: int | None = None) -> list[dict[str, Any]]:
        """Events as `Event.to_record` wrote them, sorted by time; with `limit` the newest."""
        newest_first = (_COLUMNS.time_ms.desc(), _COLUMNS.seq.desc())
        rows = self._select([_COLUMNS.record], query.conditions(), newest_first, limit)
        return [self._record(text) for (text,) in reversed(rows)]

    def every_record(self, query: EventQuery = EventQuery()) -> Iterator[dict[str, Any]]:
        """Like `records`, in the order in which they were stored, with few in memory at a time."""
        seq = 0 if query.since is None else self._first_seq(query) - 1
        while page := self.after(seq, query, limit=_PAGE):
            yield from (record for _, record in page)
            seq = page[-1][0]

    def after(
        self, seq: int, query: EventQuery = EventQuery(), *, limit: int = _PAGE
    ) -> list[tuple[int, dict[str, Any]]]:
        """Number and record of events that were stored after that of number `seq`, in that order."""
        where = [*query.conditions(), _COLUMNS.seq > seq]
        rows = self._select([_COLUMNS.seq, _COLUMNS.record], where, [_COLUMNS.seq], limit)
        return [(number, self._record(text)) for number, text in rows]

    def newest(self, query: EventQuery = EventQuery(), *, limit: int) -> list[tuple[int, dict[str, Any]]]:
        """Number and record of the events that were stored last, in that order."""
        columns = [_COLUMNS.seq, _COLUMNS.record]
        rows = self._select(columns, query.conditions(), [_COLUMNS.seq.desc()], limit)
        return [(number, self._record(text)) for number, text in reversed(rows)]

    def last_seq(self) -> int:
        """Number of the event that was stored last; 0 when there is none."""
        return int(self._select([func.coalesce(func.max(_COLUMNS.seq), 0)])[0][0])

    def count(self, query: EventQuery = EventQuery()) -> int:
        """Number of events."""
        return int(self._select([func.count()], query.conditions())[0][0])

    def compact(self) -> None:
        """Frees the space of deleted events; rewrites the whole file of SQLite."""
        self._database.compact()

    def _first_seq(self, query: EventQuery) -> int:
        """Of the selected events the lowest number, or 1.

        + 0: otherwise PostgreSQL looks for it along the numbers, through all events before `since`.
        """
        return int(self._select([func.coalesce(func.min(_COLUMNS.seq + 0), 1)], query.conditions())[0][0])

    def _select(
        self,
        columns: Sequence[ColumnElement[Any]],
        where: Sequence[ColumnElement[bool]] = (),
        order: Sequence[ColumnElement[Any]] = (),
        limit: int | None = None,
    ) -> list[tuple[Any, ...]]:
        statement = select(*columns).select_from(EVENTS).where(*where).order_by(*order).limit(limit)
        with self._database.begin() as connection:
            return [tuple(row) for row in connection.execute(statement)]

    def _record(self, text: str) -> dict[str, Any]:
        try:
            record = json.loads(text)
        except ValueError:
            record = None
        if not isinstance(record, dict):
            raise EventError(f"{self.name}: an event is damaged ({text[:40]!r}); restore it from a copy")
        return record


def _storable(text: str) -> str:
    """A text as databases take it: names of files can have halves of characters, which are escaped."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")
