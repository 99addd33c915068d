"""SQLite and PostgreSQL behind one interface: opened, migrated, with errors that name the next step."""

from __future__ import annotations

import contextlib
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, inspect, make_url
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.pool import QueuePool

from maskwatch.errors import EventError, MissingExtraError, OptionError
from maskwatch.live.sinks import RetryableError
from maskwatch.live.sinks.database import check_version, connect, mapped_error
from maskwatch.live.sinks.events_table import EVENTS, HEAD, recorded_version, upgrade
from maskwatch.live.sinks.settings import parse_database, read_secret
from maskwatch.net.addresses import Address, shown_argument

DB_PASSWORD = "MASKWATCH_DB_PASSWORD"

EVENT_FILE_ID = 0x4D574556
"""`PRAGMA application_id` of an event file: MWEV."""

_CONNECT_S = 5
_UNACKNOWLEDGED_MS = 20_000
_LOCK_S = 5
_IDLE_S = 10
# Advisory locks of a database are numbers that all its programs share; these are MWEV and MWMI.
_ORDER_LOCK, _MIGRATION_LOCK = EVENT_FILE_ID, 0x4D574D49

# Classes of SQLSTATE: the values are refused; the server is busy, shut down or about to start.
_BAD_DATA, _BUSY = ("22", "23"), ("08", "40", "53", "55", "57")
# What libpq and servers report before there is a SQLSTATE, in English; whether it is a refusal; what to do.
_CAUSES = (
    (
        re.compile("authentication|no password supplied|pg_hba.conf|role .* does not exist"),
        True,
        f"check user and password ({DB_PASSWORD}, PGPASSWORD, ~/.pgpass) and the server's pg_hba.conf",
    ),
    (re.compile("database .* does not exist"), True, "create it: createdb -h HOST -O USER NAME"),
    (
        re.compile("permission denied|no schema has been selected"),
        True,
        "grant the role the rights that docs/events.md lists",
    ),
    (re.compile("invalid .*(option|value)|definition of service"), True, "check the address"),
    (re.compile("(resolve|translate) host"), False, "check the name of the host"),
)


class RefusedError(RetryableError):
    """A server answers and refuses; it is asked again, since the cause can be removed while events wait."""


class EventDatabase(ABC):
    """An engine, and what differs between the databases.

    Attributes:
        name: for messages, without a password.
        path: of a file; None on a server.
        insert: SQLAlchemy's INSERT with `on_conflict_do_nothing`.
    """

    name: str
    path: Path | None = None
    engine: Engine
    insert: Callable[..., Any]

    def prepare(self, *, create: bool) -> None:
        """Checks the tables and brings them up to date; makes them if `create`."""
        with self.begin() as connection:
            version = self._version(connection)
        if not version and not create:
            raise EventError(f"{self.name}: holds no events of maskwatch; name what --db wrote")
        if version < HEAD:
            with self.begin() as connection:
                self._lock_tables(connection)
                version = self._version(connection)  # another program may have migrated meanwhile
                if version < HEAD:
                    upgrade(connection, version)
                    self._mark(connection)

    @contextlib.contextmanager
    def begin(self) -> Iterator[Connection]:
        """A transaction; commits at the end of the block.

        Raises:
            RetryableError: the database cannot be used now.
            EventError: it refuses what was sent, or is damaged.
        """
        try:
            with self.engine.begin() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise self._mapped(error) from None

    def close(self) -> None:
        """Closes the connections."""
        self.engine.dispose()

    def _version(self, connection: Connection) -> int:
        version = recorded_version(connection)
        if version is None:
            version = self._unrecorded_version(connection)
        check_version(self.name, version, HEAD)
        return version

    def before_insert(self, connection: Connection) -> None:  # noqa: B027 - SQLite needs none of it
        """Called in the transaction of an INSERT."""

    def after_delete(self, connection: Connection) -> None:  # noqa: B027
        """Called in the transaction of a DELETE."""

    @abstractmethod
    def compact(self) -> None:
        """Frees the space of deleted events."""

    @abstractmethod
    def _unrecorded_version(self, connection: Connection) -> int:
        """The version of tables that Alembic has not recorded; 0 where there are none."""

    @abstractmethod
    def _lock_tables(self, connection: Connection) -> None:
        """Lets one program at a time migrate, until the end of the transaction."""

    def _mark(self, connection: Connection) -> None:  # noqa: B027
        """Called after a migration, in its transaction."""

    @abstractmethod
    def _mapped(self, error: SQLAlchemyError) -> EventError: ...


class SqliteDatabase(EventDatabase):
    """A file. Every statement is its own transaction, on disk when it returns."""

    insert = staticmethod(sqlite.insert)

    def __init__(self, path: Path, *, create: bool) -> None:
        self.path, self.name = path, str(path)
        # One connection: threads wait for each other, not for a lock of the file.
        self.engine = create_engine(
            "sqlite://",
            creator=lambda: connect(path, "event file", EVENT_FILE_ID, create=create),
            poolclass=QueuePool,
            pool_size=1,
            max_overflow=0,
            pool_timeout=None,
            hide_parameters=True,
        )

    def after_delete(self, connection: Connection) -> None:
        """Moves the log of the file into it, where deleted rows must not survive.

        Does nothing while another program reads.
        """
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").all()

    def compact(self) -> None:
        """Rewrites the whole file."""
        with self.begin() as connection:
            connection.exec_driver_sql("VACUUM")
            self.after_delete(connection)

    def _unrecorded_version(self, connection: Connection) -> int:
        return int(connection.exec_driver_sql("PRAGMA user_version").scalar_one())

    def _lock_tables(self, connection: Connection) -> None:
        connection.exec_driver_sql("PRAGMA journal_mode = WAL")
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    def _mark(self, connection: Connection) -> None:
        """Also where programs look that know no Alembic: they refuse what is newer than they are."""
        connection.exec_driver_sql(f"PRAGMA user_version = {HEAD}")
        connection.exec_driver_sql(f"PRAGMA application_id = {EVENT_FILE_ID}")

    def _mapped(self, error: SQLAlchemyError) -> EventError:
        assert self.path is not None
        return mapped_error(self.path, getattr(error, "orig", None) or error)


class PostgresqlDatabase(EventDatabase):
    """A database on a server.

    Args:
        address: `postgresql://…`. libpq finds what it leaves out: PGHOST, PGUSER, PGSERVICE, ~/.pgpass.

    Raises:
        OptionError: the address is not valid.
        MissingExtraError: the extra `postgres` is not installed.
    """

    insert = staticmethod(postgresql.insert)

    def __init__(self, address: str) -> None:
        url = _parse(address)
        self.name = database_name(address)
        try:
            self.engine = create_engine(
                url,
                connect_args=_connect_args(url),
                pool_size=1,
                max_overflow=1,  # for `delete_before`, which may take long
                pool_pre_ping=True,  # a server that was restarted meanwhile is no error
                hide_parameters=True,
            )
        except ImportError as error:
            raise MissingExtraError(f"--db postgresql:// ({error})", "postgres") from None

    def before_insert(self, connection: Connection) -> None:
        """Makes writers commit in the order of their numbers, so that a follower misses none.

        The lock ends with the transaction, and a writer that vanishes in it is cut off by the server.
        """
        connection.exec_driver_sql(
            f"SELECT set_config('lock_timeout', '{_LOCK_S}s', true),"
            f" set_config('idle_in_transaction_session_timeout', '{_IDLE_S}s', true),"
            f" pg_advisory_xact_lock({_ORDER_LOCK})"
        )

    def compact(self) -> None:
        """Makes the space of deleted rows free for new ones; otherwise the server does so later."""
        try:
            with self.engine.connect() as connection:
                own = connection.execution_options(isolation_level="AUTOCOMMIT")
                own.exec_driver_sql(f"VACUUM (ANALYZE) {EVENTS.name}")
        except SQLAlchemyError as error:
            raise self._mapped(error) from None

    def _unrecorded_version(self, connection: Connection) -> int:
        if inspect(connection).has_table(EVENTS.name):
            raise EventError(
                f"{self.name}: has a table {EVENTS.name} that is not maskwatch's; name another database, or "
                "another schema: ?options=-csearch_path=NAME"
            )
        return 0

    def _lock_tables(self, connection: Connection) -> None:
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})")

    def _mapped(self, error: SQLAlchemyError) -> EventError:
        cause = error.orig if isinstance(error, DBAPIError) else error
        text = (
            " ".join(str(cause).partition("\n")[0].split())
            .removeprefix("connection failed: ")
            .removeprefix("connection is bad: ")
        )
        state = getattr(cause, "sqlstate", None)
        if state is not None and state.startswith(_BAD_DATA):
            return EventError(f"{self.name}: {text}; look at its constraints and encoding")
        for pattern, refuses, advice in _CAUSES:
            if pattern.search(text):
                return (RefusedError if refuses else RetryableError)(f"{self.name}: {text}; {advice}")
        if state is None:
            return RetryableError(
                f"{self.name}: {text}; check that the server runs and can be reached from here"
            )
        kind = RetryableError if state.startswith(_BUSY) else RefusedError
        return kind(f"{self.name}: {text}; look into the log of the server")


def open_database(target: Path | str, *, create: bool) -> EventDatabase:
    """The database of a path or address, up to date; see `EventDatabase.prepare`."""
    named = parse_database(str(target))
    database: EventDatabase = (
        SqliteDatabase(named, create=create) if isinstance(named, Path) else PostgresqlDatabase(named)
    )
    try:
        database.prepare(create=create)
    except BaseException:
        database.close()
        raise
    return database


def database_name(address: str) -> str:
    """An address for messages: without password and options; raises as `PostgresqlDatabase`."""
    url = _parse(address)
    shown = URL.create("postgresql", url.username, None, url.host, url.port, url.database)
    return shown.render_as_string()


def _parse(address: str) -> URL:
    try:
        with contextlib.suppress(ValueError):  # no host, or several: libpq's own forms
            address = Address.parse(address).url  # with any characters in the password
        url = make_url(address).set(drivername="postgresql+psycopg")
    except (ArgumentError, ValueError):
        raise OptionError(
            f"--db {shown_argument(address)!r} is not a valid address; write postgresql://user@host:5432/name"
        ) from None
    password = None if url.password else read_secret(DB_PASSWORD)
    return url if password is None else url.set(password=password)


def _connect_args(url: URL) -> dict[str, Any]:
    """Bounds of waiting, unless the address or the environment sets them."""
    limits: dict[str, Any] = {
        "connect_timeout": _CONNECT_S,
        "tcp_user_timeout": _UNACKNOWLEDGED_MS,
        "fallback_application_name": "maskwatch",
    }
    if "PGCONNECT_TIMEOUT" in os.environ:
        del limits["connect_timeout"]
    # Prepared statements would not survive poolers such as PgBouncer.
    own = {"prepare_threshold": None, "client_encoding": "utf8"}
    return own | {name: value for name, value in limits.items() if name not in url.query}
