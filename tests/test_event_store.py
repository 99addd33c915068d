"""Stored events, in SQLite and PostgreSQL alike: each once, found again, migrated."""

from __future__ import annotations

import json
import sqlite3
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from drawn_events import START, event, minute

pytest.importorskip("sqlalchemy", reason="the extra live is not installed")

from sqlalchemy import Double, create_engine, text
from sqlalchemy.types import BigInteger, Integer

from maskwatch.errors import EventError
from maskwatch.live.events import Event
from maskwatch.live.sinks import event_store
from maskwatch.live.sinks.event_databases import open_database
from maskwatch.live.sinks.event_store import EventQuery, EventStore
from maskwatch.live.sinks.events_table import EVENTS, HEAD, METADATA, VERSION_TABLE

# As event files were made before Alembic did it; the second statement list made version 2 of version 1.
OLD_TABLES = (
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
)
AUTOINCREMENT = "SELECT sql LIKE '%AUTOINCREMENT%' FROM sqlite_master WHERE name = 'events'"
OLD_COLUMN = "ALTER TABLE events ADD COLUMN time_s REAL"


def fill(database: Path | str, *events: Event) -> None:
    with EventStore(database, create=True) as store:
        for one in events:
            assert store.add(one)


def tracks(records: list[dict[str, Any]]) -> list[int]:
    return [record["track"] for record in records]


def execute(database: Path | str, *statements: str) -> list[Any]:
    """Runs statements past the store; returns the rows of the last."""
    opened = open_database(database, create=True)
    with opened.begin() as connection:
        rows = [connection.execute(text(statement)) for statement in statements][-1]
        found = [tuple(row) for row in rows] if rows.returns_rows else []
    opened.close()
    return found


def old_file(path: Path, version: int) -> Path:
    """A file of an older program, with one event."""
    connection = sqlite3.connect(path)
    for statement in (*OLD_TABLES, *[OLD_COLUMN] * (version - 1)):
        connection.execute(statement)
    old = {name: value for name, value in event(1).to_record().items() if name != "time_s" or version > 1}
    columns = "id, time_ms, kind, source, run, record"
    values = (event(1).id, 1772362801000, "alert", "door", "run", json.dumps(old))
    connection.execute(f"INSERT INTO events ({columns}) VALUES (?, ?, ?, ?, ?, ?)", values)
    connection.execute(f"PRAGMA application_id = {0x4D574556}")
    connection.execute(f"PRAGMA user_version = {version}")
    connection.commit()
    connection.close()
    return path


def test_each_event_is_there_once(database: Path | str) -> None:
    with EventStore(database, create=True) as store:
        assert store.add(event(1))
        assert not store.add(event(1))
        assert store.add(event(2))
        assert store.count() == 2
        assert [Event.from_record(record) for record in store.records()] == [event(1), event(2)]


def test_queries(database: Path | str) -> None:
    events = [
        event(0),
        event(1, zone="shop"),
        event(2, source="gate"),
        event(3, kind="alert_end", alert=event(0).id, reason="left"),
        event(4, state="mask"),
    ]
    fill(database, *reversed(events))
    with EventStore(database) as store:
        for query, found in (
            (EventQuery(), [0, 1, 2, 3, 4]),
            (EventQuery(since=START + timedelta(seconds=1), until=START + timedelta(seconds=3)), [1, 2]),
            (EventQuery(source=("gate",)), [2]),
            (EventQuery(source=("gate", "door")), [0, 1, 2, 3, 4]),
            (EventQuery(zone=("shop",)), [1]),
            (EventQuery(kind=("alert_end",)), [3]),
            (EventQuery(state=("mask",)), [4]),
            (EventQuery(state=("mask",), kind=("alert_end",)), []),
            (EventQuery(source=("x' OR 1=1 --",)), []),
        ):
            assert tracks(store.records(query)) == found
            assert tracks(list(store.every_record(query))) == found[::-1]  # as they were stored
            assert tracks(store.records(query, limit=2)) == found[-2:]
            assert store.count(query) == len(found)


def test_names_that_no_database_takes(database: Path | str) -> None:
    odd = event(1, source="t\udcffr", zone="a\0b")
    fill(database, odd)
    with EventStore(database) as store:
        (record,) = store.records(EventQuery(source=("t\udcffr",), zone=("a\0b",)))
    assert Event.from_record(record) == odd


def test_followers_miss_nothing(database: Path | str) -> None:
    """Not even what comes with a time of before, as minutes do, or after a deletion of the newest."""
    with EventStore(database, create=True) as store:
        store.add(event(1000))
        seq = store.last_seq()
        store.add(minute(0))
        ((seq, record),) = store.after(seq)
        assert record["kind"] == "minute"
        assert store.delete_before(START + timedelta(days=1)) == 2
        store.add(event(5))
        assert [found["track"] for _, found in store.after(seq)] == [5]
        store.add(event(3))
        assert [found["track"] for _, found in store.newest(limit=5)] == [5, 3]
        assert [found["track"] for _, found in store.newest(EventQuery(until=event(4).time), limit=1)] == [3]


def test_many_are_read_in_pages(database: Path | str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_store, "_PAGE", 3)
    fill(database, *(event(number) for number in range(10)))
    with EventStore(database) as store:
        assert tracks(list(store.every_record())) == list(range(10))


def test_deleting(database: Path | str) -> None:
    fill(database, *(event(number) for number in range(20)))
    with EventStore(database) as store:
        assert store.delete_before(START + timedelta(seconds=15)) == 15
        assert store.delete_before(START + timedelta(seconds=15)) == 0
        store.compact()
        assert tracks(store.records()) == list(range(15, 20))


def test_writers_and_a_follower_at_once(database: Path | str) -> None:
    """Numbers appear in order: who has seen one never misses a lower one."""
    stores = [EventStore(database, create=True) for _ in range(2)]
    done, seen = threading.Event(), list[int]()

    def add(part: int) -> None:
        for number in range(25):
            stores[part % 2].add(event(100 * (part // 2) + number))

    def follow() -> None:
        with EventStore(database) as store:
            seq, last = 0, False
            while not last:
                last = done.is_set()
                if page := store.after(seq):
                    seen.extend(record["track"] for _, record in page)
                    seq = page[-1][0]

    follower = threading.Thread(target=follow)
    threads = [threading.Thread(target=add, args=(part,)) for part in range(4)]
    for thread in (follower, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    follower.join()
    assert [store.count() for store in stores] == [50, 50]  # both stores got the same fifty
    assert sorted(seen) == [*range(25), *range(100, 125)]
    for store in stores:
        store.close()


def test_record_is_json_for_other_programs(database: Path | str) -> None:
    fill(database, event(3, time_s=83.25))
    columns = "id, time_ms, kind, source, run, track, state, zone, time_s, record"
    (row,) = execute(database, f"SELECT {columns} FROM events")
    assert row[:9] == (event(3).id, 1772362803000, "alert", "door", "run-1", 3, "no_mask", None, 83.25)
    assert row[9] == event(3, time_s=83.25).to_json()


def test_a_damaged_event(database: Path | str) -> None:
    fill(database, event(1))
    execute(database, "UPDATE events SET record = '{{'")
    with EventStore(database) as store, pytest.raises(EventError, match=r"damaged \('\{\{'\); restore"):
        store.records()


def test_a_newer_schema_is_refused(database: Path | str) -> None:
    fill(database, event(1))
    execute(database, f"UPDATE {VERSION_TABLE} SET version_num = '0009'")
    with pytest.raises(
        EventError, match=r"has schema 9, this version knows up to 2; install a newer maskwatch"
    ):
        EventStore(database)


def test_migrations_make_the_table_of_the_program(database: Path | str) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.config import Config
    from alembic.migration import MigrationContext
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", "maskwatch.live.sinks:migrations")
    assert ScriptDirectory.from_config(config).get_current_head() == f"{HEAD:04}"

    def same_type(context: Any, own: Any, column: Any, found: Any, wanted: Any) -> bool | None:
        if column.type.as_generic().__class__ in (BigInteger, Double):  # INTEGER and REAL in SQLite
            return not isinstance(found, (Integer, Double)) and "REAL" not in str(found)
        return None

    opened = open_database(database, create=True)
    with opened.begin() as connection:
        options = {"version_table": VERSION_TABLE, "compare_type": same_type}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), METADATA) == []
    opened.close()


def test_an_older_schema_is_migrated(database: Path | str) -> None:
    """As version 1 was; what is in it stays."""
    fill(database, event(1))
    execute(
        database,
        "ALTER TABLE events DROP COLUMN time_s",
        f"UPDATE {VERSION_TABLE} SET version_num = '0001'",
    )
    with EventStore(database) as store:
        assert store.add(event(2, time_s=83.25))
        assert tracks(store.records()) == [1, 2]
    assert execute(database, "SELECT time_s FROM events ORDER BY seq") == [(None,), (83.25,)]
    assert execute(database, f"SELECT version_num FROM {VERSION_TABLE}") == [("0002",)]


@pytest.mark.parametrize("version", [1, 2])
def test_files_of_older_programs_are_taken_over(tmp_path: Path, version: int) -> None:
    path = old_file(tmp_path / "old.sqlite", version)
    with EventStore(path) as store:
        assert store.add(event(2, time_s=83.25))
        assert not store.add(event(1))
        found = [Event.from_record(record) for record in store.records()]
    assert found == [event(1), event(2, time_s=83.25)]
    new = tmp_path / "new.sqlite"
    EventStore(new, create=True).close()
    described = []
    for file in (path, new):
        connection = sqlite3.connect(file)
        described.append(
            [
                connection.execute("PRAGMA user_version").fetchone(),
                connection.execute("PRAGMA application_id").fetchone(),
                [row[1:3] for row in sorted(connection.execute("PRAGMA table_info(events)"))],
                sorted(row[1:4] for row in connection.execute("PRAGMA index_list(events)")),
                connection.execute(AUTOINCREMENT).fetchone(),
            ]
        )
        connection.close()
    assert described[0] == described[1]


def test_a_migration_that_fails_changes_nothing(database: Path | str) -> None:
    fill(database, event(1))
    execute(database, f"UPDATE {VERSION_TABLE} SET version_num = '0001'")  # with the column of version 2
    with pytest.raises(EventError, match="time_s"):
        EventStore(database)
    execute_raw(database, f"UPDATE {VERSION_TABLE} SET version_num = '0002'")
    with EventStore(database) as store:
        assert tracks(store.records()) == [1]


def execute_raw(database: Path | str, statement: str) -> None:
    """Without a look at the version."""
    address = f"sqlite:///{database}" if isinstance(database, Path) else database
    engine = create_engine(address.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        connection.execute(text(statement))
    engine.dispose()


def test_many_programs_make_the_tables_at_once(database: Path | str) -> None:
    if isinstance(database, Path):
        database.parent.mkdir(exist_ok=True)
    opened: list[EventStore] = []
    start = threading.Barrier(4)

    def open_it() -> None:
        start.wait()
        opened.append(EventStore(database, create=True))

    threads = [threading.Thread(target=open_it) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(opened) == 4
    for store in opened:
        store.close()


def test_query_columns_are_those_of_the_table() -> None:
    assert {"source", "zone", "kind", "state"} <= {*EVENTS.c.keys()}
