"""Outboxes: events on disk until their receiver has them. All programs with one receiver share one."""

from __future__ import annotations

import hashlib
import os
import re
import sqlite3
import time
from abc import abstractmethod
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from maskwatch.errors import EventError
from maskwatch.live.events import Event
from maskwatch.live.sinks import Backlog, RetryableError, Sink
from maskwatch.live.sinks.database import DatabaseFile, Schema, map_errors, pragma, time_ms, transaction
from maskwatch.live.sinks.dispatcher import Dispatcher, RetryPolicy, describe_error

MAX_OUTBOX_BYTES = 64 << 20
"""About a hundred thousand events. A full outbox takes no more: it keeps the events it has taken."""

MAX_DEAD_LETTERS = 1000
"""Dead letters that are kept; the oldest are deleted first."""

RETRY_POLICY = RetryPolicy(0.5, 60.0, closing_retries=2, poll_s=60.0)

OUTBOX_SUFFIX = ".outbox.sqlite"

# `parked` is the reason of a dead letter; None while an event waits.
_OUTBOX_FILE = Schema(
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
class QueuedEvent:
    """An event in an outbox.

    Attributes:
        seq: its position.
        id, kind: of the event.
        body: the event as JSON.
        reason: why the receiver refused a dead letter; None while the event waits.
    """

    seq: int
    id: str
    kind: str
    body: str
    reason: str | None = None


class Outbox(DatabaseFile):
    """Keeps events in order until they are removed, on disk from the moment `add` returns."""

    table = "outbox"

    def __init__(self, path: Path, *, create: bool = True) -> None:
        super().__init__(path, _OUTBOX_FILE, create=create)

    def add(self, event: Event) -> None:
        """Takes an event; one that waits already is not taken twice.

        Raises:
            EventError: the outbox is full.
        """
        values = (event.id, time_ms(event.time), event.kind, event.to_json())
        with self._locked() as connection:
            pages = pragma(connection, "page_count") - pragma(connection, "freelist_count")
            if pages * pragma(connection, "page_size") >= MAX_OUTBOX_BYTES:
                raise EventError(
                    f"{self.path}: holds {MAX_OUTBOX_BYTES >> 20} MiB of events that the receiver has not "
                    "taken; repair the receiver, new events are lost until then"
                )
            connection.execute(
                "INSERT INTO outbox (id, time_ms, kind, record) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (id) DO NOTHING",
                values,
            )

    def first(self) -> QueuedEvent | None:
        """The event that has waited longest."""
        return next(iter(self._events("parked IS NULL", 1)), None)

    def dead_letters(self) -> list[QueuedEvent]:
        """The events that the receiver refused, the oldest first."""
        return self._events("NOT parked IS NULL", MAX_DEAD_LETTERS)

    def remove(self, event: QueuedEvent) -> None:
        """Deletes an event that the receiver has taken.

        It does not wait for the disk: if the power fails now, the event is sent once more.
        """
        with self._locked() as connection:
            connection.execute("PRAGMA synchronous = NORMAL")
            try:
                connection.execute("DELETE FROM outbox WHERE seq = ?", [event.seq])
            finally:
                connection.execute("PRAGMA synchronous = FULL")

    def reject(self, event: QueuedEvent, reason: str) -> None:
        """Makes an event a dead letter, so that the next ones are sent."""
        with self._locked() as connection, transaction(connection):
            connection.execute(
                "UPDATE outbox SET parked = ?, parked_ms = ? WHERE seq = ?",
                [reason, round(time.time() * 1000), event.seq],
            )
            connection.execute(
                "DELETE FROM outbox WHERE seq IN (SELECT seq FROM outbox WHERE NOT parked IS NULL"
                " ORDER BY seq DESC LIMIT -1 OFFSET ?)",
                [MAX_DEAD_LETTERS],
            )

    def retry_dead_letters(self) -> int:
        """Queues the dead letters again, before all other events; returns their number."""
        return self._write("UPDATE outbox SET parked = NULL, parked_ms = NULL WHERE NOT parked IS NULL")

    def delete_dead_letters(self) -> int:
        """Deletes the dead letters; returns their number."""
        return self._write("DELETE FROM outbox WHERE NOT parked IS NULL")

    def counts(self) -> tuple[int, int]:
        """How many events wait, and how many are dead letters."""
        with self._locked() as connection:
            select = "SELECT count(*), count(parked) FROM outbox"
            both, dead = connection.execute(select).fetchone()
        return both - dead, dead

    def _events(self, where: str, limit: int) -> list[QueuedEvent]:
        select = f"SELECT seq, id, kind, record, parked FROM outbox WHERE {where} ORDER BY seq LIMIT ?"
        with self._locked() as connection:
            return [QueuedEvent(*row) for row in connection.execute(select, [limit])]

    def _write(self, statement: str) -> int:
        with self._locked() as connection:
            return connection.execute(statement).rowcount


class SenderLock:
    """The right to send from an outbox: one program at a time has it, so that events stay in order.

    It is a lock on an SQLite file, which every system releases when the program ends or crashes.
    """

    def __init__(self, outbox: Path) -> None:
        self._path = outbox.with_name(f"{outbox.name}.turn")  # the name that older versions lock too
        self._connection: sqlite3.Connection | None = None

    def acquire(self) -> bool:
        """Tries to get the lock; returns whether this program has it."""
        if self._connection is None:
            with map_errors(self._path):
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

    def release(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class OutboxSink(Sink):
    """A sink whose receiver may be unreachable: events wait in an outbox, and a dispatcher delivers them.

    An event counts as stored once it is in the outbox. A subclass implements `deliver` and calls `start`.

    Args:
        path: of the outbox.

    Raises:
        EventError, OutputError: the outbox cannot be used.
    """

    durable = True

    def __init__(self, path: Path) -> None:
        self._outbox = Outbox(path)
        self._sender_lock = SenderLock(path)
        self._last_backlog: Backlog | None = None
        self._dispatcher = Dispatcher(
            f"outbox of {self.name}",
            self._outbox,
            self._deliver,
            RETRY_POLICY,
            may_send=self._sender_lock.acquire,
            on_end=self._end,
        )

    @abstractmethod
    def deliver(self, event: QueuedEvent) -> None:
        """Sends one event and returns once the receiver has taken it.

        Raises:
            RetryableError: the event is sent again.
            EventError: the receiver will never take it; it becomes a dead letter.
        """

    def start(self) -> None:
        """Begins to deliver."""
        self._dispatcher.start()

    def send(self, event: Event) -> None:
        self._outbox.add(event)
        self._dispatcher.wake()

    def delete_before(self, when: datetime) -> int:
        return self._outbox.delete_before(when)

    def backlog(self) -> Backlog:
        """What waits, and why; after `close`, what is left."""
        if self._last_backlog is not None:
            return self._last_backlog
        try:
            waiting, dead = self._outbox.counts()
        except EventError as error:
            return Backlog(problem=str(error))
        return Backlog(waiting, dead, self._dispatcher.problem if waiting or dead else None)

    def close(self, timeout_s: float) -> None:
        """Delivers what it can in `timeout_s` seconds; the rest stays on disk for the next start."""
        self._dispatcher.begin_close(timeout_s)
        self._dispatcher.join()

    def _deliver(self, event: QueuedEvent) -> None:
        try:
            self.deliver(event)
        except EventError:
            raise
        except Exception as error:  # a bug: the outbox keeps what it has taken
            raise RetryableError(describe_error(error)) from error

    def _end(self) -> None:
        self._sender_lock.release()
        self._last_backlog = self.backlog()
        self._outbox.close()


def outbox_folder() -> Path:
    """The default folder of outboxes: systemd's StateDirectory=, or the user's folder for state."""
    given = os.environ.get("STATE_DIRECTORY", "").split(":")[0]
    if given:
        return Path(given)
    from platformdirs import user_state_path

    return user_state_path("maskwatch", appauthor=False)


def outbox_path(folder: Path, receiver: str) -> Path:
    """The file for a receiver: a readable name without the secrets that an address may hold."""
    host = re.sub(
        r"[^a-z0-9.-]+", "_", receiver.partition("://")[2].partition("/")[0].rpartition("@")[2].lower()
    )
    digest = hashlib.sha256(receiver.encode("utf-8", "backslashreplace")).hexdigest()[:12]
    return folder / f"{host[:80]}-{digest}{OUTBOX_SUFFIX}"
