"""The event file: its settings, what is no event file, and what other programs do with it meanwhile."""

from __future__ import annotations

import sqlite3
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from drawn_events import START, event
from maskwatch.errors import EventError
from maskwatch.live.events import Event
from maskwatch.live.sinks import RetryableError, database

pytest.importorskip("sqlalchemy", reason="the extra live is not installed")

from maskwatch.live.sinks.event_store import EventStore
from maskwatch.live.sinks.sqlite import SqliteSink


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
    with EventStore(path, create=True) as store, store._database.begin() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert connection.exec_driver_sql("PRAGMA secure_delete").scalar() == 1


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


def test_a_file_that_is_deleted_is_made_anew(path: Path) -> None:
    sink = SqliteSink(path)
    sink.send(event(1))
    for file in path.parent.iterdir():
        file.unlink()
    sink.send(event(2))
    sink.close(0)
    with EventStore(path) as store:
        assert tracks(store.records()) == [2]
