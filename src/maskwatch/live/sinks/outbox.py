"""An outbox: events on disk until their receiver has them. Shared by all programs with one receiver."""

from __future__ import annotations

import hashlib
import os
import re
import sqlite3
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from maskwatch.errors import EventError
from maskwatch.live.events import Event
from maskwatch.live.sinks.database import Layout, open_database, pragma, telling, transaction
from maskwatch.live.sinks.sqlite import time_ms

MAX_OUTBOX_BYTES = 64 << 20
"""About a hundred thousand events. A full outbox takes no more, for it has promised to keep what it has."""

MAX_PARKED = 1000
"""Refused events that are kept to be looked at; the oldest go."""

OUTBOX_SUFFIX = ".outbox.sqlite"

_OUTBOX_FILE = Layout(
    noun="outbox",
    application_id=0x4D574F42,  # MWOB
    migrations=(
        (
            """CREATE TABLE outbox (
                seq INTEGER PRIMARY KEY AUTOINCREMENT,
                id TEXT NOT NULL UNIQUE,
                time_ms INTEGER NOT NULL,
                kind TEXT NOT NULL,
                record TEXT NOT NULL,
                parked TEXT,
                parked_ms INTEGER
            )""",
            "CREATE INDEX outbox_parked ON outbox (parked IS NULL, seq)",
        ),
    ),
)


@dataclass(frozen=True)
class Letter:
    """An event in an outbox.

    Attributes:
        seq: its place.
        id, kind: of the event.
        body: the event as JSON.
        reason: why the receiver refused it for good; None while it waits.
    """

    seq: int
    id: str
    kind: str
    body: str
    reason: str | None = None


class Outbox:
    """Keeps events in order until they are removed, on disk from the moment `add` returns.

    Args:
        path: the file; made where there is none and `create` is given.
        max_bytes: how large it may grow.

    Raises:
        EventError: the file cannot be used.
        TryLater: another program has locked it. So does every method.
        OutputError: its folder cannot be made.
    """

    def __init__(self, path: Path, *, create: bool = True, max_bytes: int = MAX_OUTBOX_BYTES) -> None:
        self.path = path
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._connection = open_database(path, _OUTBOX_FILE, create=create)

    def add(self, event: Event) -> None:
        """Takes an event; one that waits already is not taken twice.

        Raises:
            EventError: the outbox is full.
        """
        values = (event.id, time_ms(event.time), event.kind, event.to_json())
        with self._lock, telling(self.path):
            if self._used_bytes() >= self._max_bytes:
                raise EventError(
                    f"{self.path}: holds {self._max_bytes >> 20} MiB of events that the receiver has not "
                    "got; mend the receiver, the events of now are lost"
                )
            self._connection.execute(
                "INSERT INTO outbox (id, time_ms, kind, record) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (id) DO NOTHING",
                values,
            )

    def first(self) -> Letter | None:
        """The event that has waited longest."""
        return next(self._letters("parked IS NULL", 1), None)

    def parked(self) -> list[Letter]:
        """Those that the receiver refused, the oldest first."""
        return list(self._letters("NOT parked IS NULL", MAX_PARKED))

    def remove(self, letter: Letter) -> None:
        """The receiver has it.

        Without waiting for the disk: should the power fail now, the event is sent once more.
        """
        with self._lock, telling(self.path):
            self._connection.execute("PRAGMA synchronous = NORMAL")
            try:
                self._connection.execute("DELETE FROM outbox WHERE seq = ?", [letter.seq])
            finally:
                self._connection.execute("PRAGMA synchronous = FULL")

    def park(self, letter: Letter, reason: str) -> None:
        """The receiver will never take it; the others go on."""
        with self._lock, telling(self.path), transaction(self._connection):
            self._connection.execute(
                "UPDATE outbox SET parked = ?, parked_ms = ? WHERE seq = ?",
                [reason, round(time.time() * 1000), letter.seq],
            )
            self._connection.execute(
                "DELETE FROM outbox WHERE seq IN (SELECT seq FROM outbox WHERE NOT parked IS NULL"
                " ORDER BY seq DESC LIMIT -1 OFFSET ?)",
                [MAX_PARKED],
            )

    def retry_parked(self) -> int:
        """Lets the parked ones wait again, before all others; returns their number."""
        return self._write("UPDATE outbox SET parked = NULL, parked_ms = NULL WHERE NOT parked IS NULL")

    def drop_parked(self) -> int:
        """Deletes the parked ones; returns their number."""
        return self._write("DELETE FROM outbox WHERE NOT parked IS NULL")

    def delete_before(self, when: datetime) -> int:
        """Deletes the events of before `when`, whether the receiver has got them or not."""
        number = self._write("DELETE FROM outbox WHERE time_ms < ?", time_ms(when))
        with self._lock, telling(self.path):  # what was deleted must not survive in the log beside the file
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return number

    def counts(self) -> tuple[int, int]:
        """How many wait, and how many are parked."""
        with self._lock, telling(self.path):
            select = "SELECT count(*), count(parked) FROM outbox"
            both, parked = self._connection.execute(select).fetchone()
        return both - parked, parked

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def _letters(self, where: str, limit: int) -> Iterator[Letter]:
        select = f"SELECT seq, id, kind, record, parked FROM outbox WHERE {where} ORDER BY seq LIMIT ?"
        with self._lock, telling(self.path):
            rows = self._connection.execute(select, [limit]).fetchall()
        return (Letter(*row) for row in rows)

    def _write(self, statement: str, *values: object) -> int:
        with self._lock, telling(self.path):
            return int(self._connection.execute(statement, values).rowcount)

    def _used_bytes(self) -> int:
        pages = pragma(self._connection, "page_count") - pragma(self._connection, "freelist_count")
        return pages * pragma(self._connection, "page_size")


class Turn:
    """The right to send from an outbox: one program at a time has it, or events would overtake each other.

    Held as a lock on an SQLite file, which every system gives back when the program dies, however it dies.
    """

    def __init__(self, outbox: Path) -> None:
        self._path = outbox.with_name(f"{outbox.name}.turn")
        self._connection: sqlite3.Connection | None = None

    def take(self) -> bool:
        """Whether it is ours; asks again where it was not.

        Raises:
            EventError: the file cannot be used.
        """
        if self._connection is None:
            with telling(self._path):
                connection = sqlite3.connect(
                    self._path, timeout=0, isolation_level=None, check_same_thread=False
                )
                try:
                    connection.execute("BEGIN EXCLUSIVE")
                    self._connection = connection
                except sqlite3.Error as error:
                    connection.close()
                    if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                        raise
        return self._connection is not None

    def give_back(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def outbox_folder() -> Path:
    """Where outboxes lie when nothing else is said: systemd's StateDirectory=, or the user's own folder."""
    given = os.environ.get("STATE_DIRECTORY", "").split(":")[0]
    if given:
        return Path(given)
    from platformdirs import user_state_path

    return user_state_path("maskwatch", appauthor=False)


def outbox_path(folder: Path, receiver: str) -> Path:
    """The file for a receiver: readable, and without what an address may hold of secrets."""
    host = re.sub(
        r"[^a-z0-9.-]+", "_", receiver.partition("://")[2].partition("/")[0].rpartition("@")[2].lower()
    )
    digest = hashlib.sha256(receiver.encode("utf-8", "backslashreplace")).hexdigest()[:12]
    return folder / f"{host[:80]}-{digest}{OUTBOX_SUFFIX}"
