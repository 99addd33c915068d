"""Events in an SQLite file: each once, selected by time, kind, source, zone and state."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any

from maskwatch.errors import EventError
from maskwatch.live.events import Event
from maskwatch.live.sinks import Sink
from maskwatch.live.sinks.database import DatabaseFile, Schema, empty_log, time_ms
from maskwatch.outputs import is_still_at

EVENT_FILE = Schema(
    noun="event file",
    application_id=0x4D574556,  # MWEV
    migrations=(
        (
            # AUTOINCREMENT: no number is used twice, so that a follower misses none.
            """CREATE TABLE events (
                seq INTEGER PRIMARY KEY AUTOINCREMENT,
                id TEXT NOT NULL UNIQUE,
                time_ms INTEGER NOT NULL,
                kind TEXT NOT NULL,
                source TEXT NOT NULL,
                run TEXT NOT NULL,
                track INTEGER,
                state TEXT,
                zone TEXT,
                record TEXT NOT NULL
            )""",
            "CREATE INDEX events_time ON events (time_ms)",
            "CREATE INDEX events_kind ON events (kind, time_ms)",
            "CREATE INDEX events_source ON events (source, time_ms)",
        ),
        ("ALTER TABLE events ADD COLUMN time_s REAL",),
    ),
)
"""`time_ms`: milliseconds since 1970 UTC; `time_s`: position in a video in seconds; `record`: the event as
JSON. The other columns serve queries."""

_PAGE = 500


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

    def where(self) -> tuple[str, list[Any]]:
        """A condition in SQL and its values."""
        parts, values = ["1"], list[Any]()
        for moment, sign in ((self.since, ">="), (self.until, "<")):
            if moment is not None:
                parts.append(f"time_ms {sign} ?")
                values.append(time_ms(moment))
        for one in fields(self)[2:]:
            names = getattr(self, one.name)
            if names:
                parts.append(f"{one.name} IN ({', '.join('?' * len(names))})")
                values += [_storable(name) for name in names]
        return " AND ".join(parts), values


class EventStore(DatabaseFile):
    """An event file; safe for several threads, and for several programs at a time.

    Args:
        path: the file.
        create: make it where there is none.

    Raises:
        EventError: it is missing, is not an event file, was written by a newer version, or cannot be used.
        RetryableError: another program has locked it. So does every method.
        OutputError: its folder cannot be made.
    """

    table = "events"

    def __init__(self, path: Path, *, create: bool = False) -> None:
        super().__init__(path, EVENT_FILE, create=create)

    def add(self, event: Event) -> bool:
        """Stores an event; False when it is there already. It is on the disk when this returns."""
        texts = (event.id, event.kind, event.source, event.run, event.state, event.zone)
        values: list[Any] = [None if text is None else _storable(text) for text in texts]
        values += [time_ms(event.time), event.track, event.time_s, event.to_json()]
        with self._locked() as connection:
            done = connection.execute(
                "INSERT INTO events (id, kind, source, run, state, zone, time_ms, track, time_s, record)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
                values,
            )
            return done.rowcount > 0

    def records(self, query: EventQuery = EventQuery(), *, limit: int | None = None) -> list[dict[str, Any]]:
        """Events as `Event.to_record` wrote them, sorted by time; with `limit` the newest."""
        newest_first = "ORDER BY time_ms DESC, seq DESC LIMIT ?"
        rows = self._select("record", query, newest_first, -1 if limit is None else limit)
        return [self._record(text) for (text,) in reversed(rows)]

    def every_record(self, query: EventQuery = EventQuery()) -> Iterator[dict[str, Any]]:
        """Like `records`, in the order in which they were stored, with few in memory at a time."""
        seq = 0
        while page := self.after(seq, query, limit=_PAGE):
            yield from (record for _, record in page)
            seq = page[-1][0]

    def after(
        self, seq: int, query: EventQuery = EventQuery(), *, limit: int = _PAGE
    ) -> list[tuple[int, dict[str, Any]]]:
        """Number and record of events that were stored after that of number `seq`, in that order."""
        rows = self._select("seq, record", query, "AND seq > ? ORDER BY seq LIMIT ?", seq, limit)
        return [(number, self._record(text)) for number, text in rows]

    def newest(self, query: EventQuery = EventQuery(), *, limit: int) -> list[tuple[int, dict[str, Any]]]:
        """Number and record of the events that were stored last, in that order."""
        rows = self._select("seq, record", query, "ORDER BY seq DESC LIMIT ?", limit)
        return [(number, self._record(text)) for number, text in reversed(rows)]

    def last_seq(self) -> int:
        """Number of the event that was stored last; 0 when there is none."""
        return int(self._select("coalesce(max(seq), 0)", EventQuery())[0][0])

    def count(self, query: EventQuery = EventQuery()) -> int:
        """Number of events."""
        return int(self._select("count(*)", query)[0][0])

    def compact(self) -> None:
        """Returns free space to the system; rewrites the whole file."""
        with self._locked() as connection:
            connection.execute("VACUUM")
            empty_log(connection)

    def _select(self, columns: str, query: EventQuery, more: str = "", *values: int) -> list[tuple[Any, ...]]:
        where, chosen = query.where()
        select = f"SELECT {columns} FROM events WHERE {where} {more}"
        with self._locked() as connection:
            return connection.execute(select, [*chosen, *values]).fetchall()

    def _record(self, text: str) -> dict[str, Any]:
        try:
            record = json.loads(text)
        except ValueError:
            record = None
        if not isinstance(record, dict):
            raise EventError(
                f"{self.path}: an event is damaged ({text[:40]!r}); restore the file from a copy"
            )
        return record


class SqliteSink(Sink):
    """Stores every event in an event file, each once.

    Raises:
        EventError: the file cannot be used.
        OutputError: its folder cannot be made.
    """

    name = "sqlite"
    durable = True

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._store = EventStore(path, create=True)
        self._stat = path.stat()

    def send(self, event: Event) -> None:
        with self._lock:
            self._reopen_if_moved()
            self._store.add(event)

    def delete_before(self, when: datetime) -> int:
        with self._lock:
            self._reopen_if_moved()
            return self._store.delete_before(when)

    def close(self, timeout_s: float) -> None:
        with self._lock:
            self._store.close()

    def _reopen_if_moved(self) -> None:
        """Another program may have moved or deleted the file: the name counts."""
        if not is_still_at(self._path, self._stat):
            self._store.close()
            self._store = EventStore(self._path, create=True)
            self._stat = self._path.stat()


def _storable(text: str) -> str:
    """A text as SQLite takes it: names of files can have halves of characters, which are escaped."""
    return text.encode("utf-8", "backslashreplace").decode()
