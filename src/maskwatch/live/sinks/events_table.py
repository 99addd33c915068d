"""The table of events: one schema for SQLite and PostgreSQL, and its versions."""

from __future__ import annotations

import threading

from sqlalchemy import (
    REAL,
    BigInteger,
    Column,
    Connection,
    Double,
    Identity,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    inspect,
    text,
)

HEAD = 2
"""The version of the tables that this program reads and writes: the last revision in `migrations/`."""

VERSION_TABLE = "maskwatch_schema"
"""Alembic's table; its own name, since other programs with migrations may share a database."""

METADATA = MetaData()

_NUMBER = BigInteger().with_variant(Integer(), "sqlite")  # an SQLite row number must be called INTEGER

EVENTS = Table(
    "events",
    METADATA,
    # No number is used twice, so that a follower misses none.
    Column("seq", _NUMBER, Identity(), primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("time_ms", _NUMBER, nullable=False),
    Column("kind", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("run", Text, nullable=False),
    Column("track", _NUMBER),
    Column("state", Text),
    Column("zone", Text),
    Column("record", Text, nullable=False),
    Column("time_s", Double().with_variant(REAL(), "sqlite")),
    Index("events_time", "time_ms"),
    Index("events_kind", "kind", "time_ms"),
    Index("events_source", "source", "time_ms"),
    sqlite_autoincrement=True,
)
"""`time_ms`: milliseconds since 1970 UTC; `time_s`: position in a video in seconds; `record`: the event as
JSON, the same text in every database. The other columns serve queries."""


_ALEMBIC = threading.Lock()  # what its `env.py` talks to is global


def recorded_version(connection: Connection) -> int | None:
    """The version that Alembic recorded; None where it recorded none."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    return int(connection.scalar(text(f"SELECT version_num FROM {VERSION_TABLE}")) or 0)


def upgrade(connection: Connection, version: int) -> None:
    """Brings the tables from a version, 0 for none, to `HEAD`, in the caller's transaction.

    Tables that older programs made without Alembic are stamped with their version first.
    """
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "maskwatch.live.sinks:migrations")
    config.attributes["connection"] = connection
    with _ALEMBIC:
        if version and recorded_version(connection) is None:
            command.stamp(config, f"{version:04}")
        command.upgrade(config, "head")
