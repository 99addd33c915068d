"""The SQLite files of maskwatch: opened, recognised, and with errors that name the next step.

Outboxes use `sqlite3` itself: they are queues on the disk of this machine, never on a server. The events of
`--db` go through SQLAlchemy (`event_databases`), on connections of this module.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import ClassVar, Self

from maskwatch.errors import EventError
from maskwatch.live.sinks import RetryableError
from maskwatch.outputs import make_folder

BUSY_S = 5.0
"""How long a call waits for another program to unlock the file."""

_WAL_BYTES = 4 << 20

_ADVICE = {
    sqlite3.SQLITE_NOTADB: "is not an SQLite database; name a file that --db wrote",
    sqlite3.SQLITE_CORRUPT: "is damaged; restore it from a copy",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened; check the path and its permissions",
    sqlite3.SQLITE_READONLY: "may not be written; check its permissions and those of its folder",
}
_LOCKED = "is locked by another program; end that one, or try again later"
_TRANSIENT = {
    sqlite3.SQLITE_BUSY: _LOCKED,
    sqlite3.SQLITE_LOCKED: _LOCKED,
    sqlite3.SQLITE_FULL: "cannot grow, the disk is full; free space",
    sqlite3.SQLITE_IOERR: "cannot be read or written; check the disk",
}


@dataclass(frozen=True)
class Schema:
    """The tables of a kind of file.

    Attributes:
        noun: for messages.
        application_id: stands in the file's header and identifies it.
        migrations: statements from version n to n+1; `PRAGMA user_version` counts how many were applied.
    """

    noun: str
    application_id: int
    migrations: tuple[tuple[str, ...], ...]


@contextlib.contextmanager
def map_errors(path: Path) -> Iterator[None]:
    """Turns SQLite's errors into those of maskwatch, which name the file.

    Raises:
        RetryableError: it is locked, or the disk is full or fails.
        EventError: it is not a database, or damaged.
    """
    try:
        yield
    except sqlite3.Error as error:
        raise mapped_error(path, error) from None


def mapped_error(path: Path, error: BaseException | None) -> EventError:
    """An error of SQLite as one of maskwatch, see `map_errors`."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # without what an extended code adds
    if code in _TRANSIENT:
        return RetryableError(f"{path}: {_TRANSIENT[code]}")
    return EventError(f"{path}: " + _ADVICE.get(code, f"cannot be used ({error}); restore it from a copy"))


class DatabaseFile:
    """An SQLite file of a schema; safe for several threads, and for several programs at a time.

    Every statement is its own transaction. A context manager that closes the file.

    Args:
        path: the file.
        schema: what it holds; an older version is migrated.
        create: make it where there is none.

    Raises:
        EventError: it is missing, something else, written by a newer version, or cannot be used.
        RetryableError: another program has locked it. So does every method.
        OutputError: its folder cannot be made.
    """

    table: ClassVar[str]
    """Of the events, with a column `time_ms`."""

    def __init__(self, path: Path, schema: Schema, *, create: bool) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._connection = connect(path, schema.noun, schema.application_id, create=create)
        try:
            with map_errors(path):
                _migrate(self._connection, path, schema)
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextlib.contextmanager
    def _locked(self) -> Iterator[sqlite3.Connection]:
        with self._lock, map_errors(self.path):
            yield self._connection

    def delete_before(self, when: datetime) -> int:
        """Deletes the events before `when`; returns their number. New events reuse their space."""
        with self._locked() as connection:
            done = connection.execute(f"DELETE FROM {self.table} WHERE time_ms < ?", [time_ms(when)])
            empty_log(connection)
            return done.rowcount


def connect(path: Path, noun: str, application_id: int, *, create: bool) -> sqlite3.Connection:
    """Opens a file, or a new one that is still empty; every statement is its own transaction.

    Args:
        noun: what the file is, for messages.
        application_id: stands in its header.
        create: make it where there is none.

    Raises: as `DatabaseFile`.
    """
    if create:
        make_folder(path.parent)
    elif not path.is_file():
        raise EventError(f"{path}: there is no such file; name the one that --db wrote")
    with map_errors(path):
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode={'rwc' if create else 'rw'}",
            uri=True,
            timeout=BUSY_S,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            empty = not pragma(connection, "schema_version")
            if empty and not create:
                raise EventError(f"{path}: is empty; name the {noun} that --db wrote")
            if not empty and pragma(connection, "application_id") != application_id:
                raise EventError(f"{path}: is a database, but no {noun} of maskwatch; name another file")
            # FULL: in WAL a commit is on the disk when it returns. secure_delete: what is deleted is
            # overwritten.
            for setting in ("synchronous = FULL", "secure_delete = ON", f"journal_size_limit = {_WAL_BYTES}"):
                connection.execute(f"PRAGMA {setting}")
        except BaseException:
            connection.close()
            raise
    return connection


def check_version(name: object, version: int, known: int) -> None:
    """Raises `EventError` if the tables of a file or database are newer than this program knows."""
    if version > known:
        raise EventError(
            f"{name}: has schema {version}, this version knows up to {known}; install a newer maskwatch"
        )


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Commits the whole block, or nothing of it."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def empty_log(connection: sqlite3.Connection) -> None:
    """Moves the log of the file into it, where deleted rows must not survive.

    Does nothing while another program reads.
    """
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def pragma(connection: sqlite3.Connection, name: str) -> int:
    """The value of a pragma that is a number."""
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def time_ms(moment: datetime) -> int:
    """Milliseconds since 1970 UTC."""
    return round(moment.timestamp() * 1000)


def _migrate(connection: sqlite3.Connection, path: Path, schema: Schema) -> None:
    version, known = pragma(connection, "user_version"), len(schema.migrations)
    check_version(path, version, known)
    if version == known:
        return
    connection.execute("PRAGMA journal_mode = WAL")
    with transaction(connection):
        # Read again: another program may have migrated the file meanwhile.
        for number in range(pragma(connection, "user_version"), known):
            for statement in schema.migrations[number]:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number + 1}")
        connection.execute(f"PRAGMA application_id = {schema.application_id}")
