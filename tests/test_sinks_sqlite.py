"""The event file: each event once, found again, migrated, and clear about what it is not."""

from __future__ import annotations

import json
import sqlite3
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from drawn_events import START, event, minute
from maskwatch.errors import EventError
from maskwatch.live.events import Event
from maskwatch.live.sinks import RetryableError, database, sqlite
from maskwatch.live.sinks.database import Schema
from maskwatch.live.sinks.sqlite import EVENT_FILE, EventQuery, EventStore, SqliteSink


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "events.sqlite"


def fill(path: Path, *events: Event) -> None:
    with EventStore(path, create=True) as store:
        for one in events:
            assert store.add(one)


def tracks(records: list[dict[str, Any]]) -> list[int]:
    return [record["track"] for record in records]


def execute(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


def test_each_event_is_there_once(path: Path) -> None:
    with EventStore(path, create=True) as store:
        assert store.add(event(1))
        assert not store.add(event(1))
        assert store.add(event(2))
        assert store.count() == 2
        assert [Event.from_record(record) for record in store.records()] == [event(1), event(2)]


def test_settings_of_the_file(path: Path) -> None:
    fill(path, event(1))
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA user_version").fetchone() == (2,)
    assert connection.execute("PRAGMA application_id").fetchone() == (0x4D574556,)
    indices = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'index'")}
    assert {"events_time", "events_kind", "events_source"} <= indices
    connection.close()


def test_a_commit_waits_for_the_disk(path: Path) -> None:
    with EventStore(path, create=True) as store:
        assert database.pragma(store._connection, "synchronous") == 2
        assert database.pragma(store._connection, "secure_delete") == 1


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (EventQuery(), [0, 1, 2, 3, 4]),
        (EventQuery(since=START + timedelta(seconds=1), until=START + timedelta(seconds=3)), [1, 2]),
        (EventQuery(source=("gate",)), [2]),
        (EventQuery(source=("gate", "door")), [0, 1, 2, 3, 4]),
        (EventQuery(zone=("shop",)), [1]),
        (EventQuery(kind=("alert_end",)), [3]),
        (EventQuery(state=("mask",)), [4]),
        (EventQuery(state=("mask",), kind=("alert_end",)), []),
        (EventQuery(source=("x' OR 1=1 --",)), []),
    ],
)
def test_queries(path: Path, query: EventQuery, found: list[int]) -> None:
    events = [
        event(0),
        event(1, zone="shop"),
        event(2, source="gate"),
        event(3, kind="alert_end", alert=event(0).id, reason="left"),
        event(4, state="mask"),
    ]
    fill(path, *reversed(events))
    with EventStore(path) as store:
        assert tracks(store.records(query)) == found
        assert tracks(list(store.every_record(query))) == found[::-1]  # as they were stored
        assert tracks(store.records(query, limit=2)) == found[-2:]


def test_names_that_are_no_utf8(path: Path) -> None:
    fill(path, event(1, source="t\udcffr"))
    with EventStore(path) as store:
        (record,) = store.records(EventQuery(source=("t\udcffr",)))
    assert Event.from_record(record) == event(1, source="t\udcffr")


def test_followers_miss_nothing(path: Path) -> None:
    """Not even what comes with a time of before, as minutes do, or after a deletion of the newest."""
    with EventStore(path, create=True) as store:
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


def test_many_are_read_in_pages(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "_PAGE", 3)
    fill(path, *(event(number) for number in range(10)))
    with EventStore(path) as store:
        assert tracks(list(store.every_record())) == list(range(10))


def test_what_is_deleted_is_gone_from_the_disk(path: Path) -> None:
    fill(path, *(event(number, reason=f"Anna-{number}") for number in range(300)))
    with EventStore(path) as store:
        assert store.delete_before(START + timedelta(seconds=200)) == 200
        assert store.delete_before(START + timedelta(seconds=200)) == 0
        assert tracks(store.records())[0] == 200
        size = path.stat().st_size
        store.compact()
        assert path.stat().st_size < size
        on_disk = b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert b"Anna-250" in on_disk
    assert b"Anna-150" not in on_disk


def test_a_newer_schema_is_refused(path: Path) -> None:
    fill(path, event(1))
    execute(path, "PRAGMA user_version = 9")
    with pytest.raises(
        EventError, match=r"has schema 9, this version knows up to 2; install a newer maskwatch"
    ):
        EventStore(path)


def test_an_older_schema_is_migrated(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(path, event(1))
    newer = Schema(
        EVENT_FILE.noun,
        EVENT_FILE.application_id,
        (
            *EVENT_FILE.migrations,
            ("ALTER TABLE events ADD COLUMN mood TEXT", "UPDATE events SET mood = 'good'"),
        ),
    )
    monkeypatch.setattr(sqlite, "EVENT_FILE", newer)
    with EventStore(path) as store:
        assert tracks(store.records()) == [1]
        assert store.add(event(2))
        assert store._select("mood", EventQuery(), "ORDER BY seq") == [("good",), (None,)]
    monkeypatch.undo()
    with pytest.raises(EventError, match="has schema 3"):
        EventStore(path)


def test_a_file_of_the_first_version_gets_the_place_in_the_film(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    connection = sqlite3.connect(path)
    for statement in (
        *EVENT_FILE.migrations[0],
        f"PRAGMA application_id = {EVENT_FILE.application_id}",
        "PRAGMA user_version = 1",
    ):
        connection.execute(statement)
    old = {name: value for name, value in event(1).to_record().items() if name != "time_s"}
    columns = "id, time_ms, kind, source, run, record"
    values = ("a", 1, "alert", "door", "run", json.dumps(old))
    connection.execute(f"INSERT INTO events ({columns}) VALUES (?, ?, ?, ?, ?, ?)", values)
    connection.commit()
    connection.close()
    with EventStore(path) as store:
        assert store.add(event(2, time_s=83.25))
        assert [Event.from_record(record) for record in store.records()] == [
            event(1),
            event(2, time_s=83.25),
        ]
        assert store._select("time_s", EventQuery(), "ORDER BY seq") == [(None,), (83.25,)]


def test_a_migration_that_fails_changes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(path, event(1))
    broken = Schema(
        EVENT_FILE.noun,
        EVENT_FILE.application_id,
        (*EVENT_FILE.migrations, ("ALTER TABLE events ADD COLUMN mood TEXT", "UPDATE nowhere SET x = 1")),
    )
    with monkeypatch.context() as patch:
        patch.setattr(sqlite, "EVENT_FILE", broken)
        with pytest.raises(EventError, match="no such table: nowhere"):
            EventStore(path)
    with EventStore(path) as store:
        assert tracks(store.records()) == [1]


def test_files_that_are_no_event_files(tmp_path: Path) -> None:
    with pytest.raises(EventError, match=r"none.sqlite: there is no such file; name the one that --db wrote"):
        EventStore(tmp_path / "none.sqlite")
    assert not (tmp_path / "none.sqlite").exists()
    text = tmp_path / "text.sqlite"
    text.write_text("Dear diary, " * 200)
    for create in (False, True):
        with pytest.raises(EventError, match="is not an SQLite database"):
            EventStore(text, create=create)
    (tmp_path / "empty.sqlite").touch()
    with pytest.raises(EventError, match="is empty"):
        EventStore(tmp_path / "empty.sqlite")
    other = tmp_path / "other.sqlite"
    execute(other, "CREATE TABLE cats (name TEXT)")
    before = other.read_bytes()
    for create in (False, True):
        with pytest.raises(EventError, match="is a database, but no event file of maskwatch"):
            EventStore(other, create=create)
    assert other.read_bytes() == before
    with pytest.raises(EventError, match="cannot be opened"):
        EventStore(tmp_path, create=True)


def test_a_locked_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_S", 0.05)
    fill(path, event(1))
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    sink = SqliteSink(path)
    with pytest.raises(
        RetryableError, match="is locked by another program; end that one, or try again later"
    ):
        sink.send(event(2))
    with EventStore(path) as store:
        assert tracks(store.records()) == [1]  # reading goes on
    other.execute("ROLLBACK")
    other.close()
    sink.send(event(2))
    sink.close(0)
    with EventStore(path) as store:
        assert tracks(store.records()) == [1, 2]


def test_a_damaged_event(path: Path) -> None:
    fill(path, event(1))
    execute(path, "UPDATE events SET record = '{{'")
    with EventStore(path) as store, pytest.raises(EventError, match=r"damaged \('\{\{'\); restore"):
        store.records()


def test_several_threads_and_stores_at_once(path: Path) -> None:
    stores = [EventStore(path, create=True) for _ in range(2)]

    def add(part: int) -> None:
        for number in range(25):
            stores[part % 2].add(event(100 * (part // 2) + number))

    threads = [threading.Thread(target=add, args=(part,)) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [store.count() for store in stores] == [50, 50]  # both stores got the same fifty
    for store in stores:
        store.close()


def test_a_file_that_is_deleted_is_made_anew(path: Path) -> None:
    sink = SqliteSink(path)
    sink.send(event(1))
    for file in path.parent.iterdir():
        file.unlink()
    sink.send(event(2))
    sink.close(0)
    with EventStore(path) as store:
        assert tracks(store.records()) == [2]


def test_record_is_json_for_other_programs(path: Path) -> None:
    fill(path, event(3))
    connection = sqlite3.connect(path)
    row = connection.execute(
        "SELECT id, time_ms, kind, source, run, track, state, zone, record FROM events"
    ).fetchone()
    connection.close()
    assert row[:8] == (event(3).id, 1772362803000, "alert", "door", "run-1", 3, "no_mask", None)
    assert json.loads(row[8]) == event(3).to_record()
