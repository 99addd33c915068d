"""JSON Lines: whole lines only, rotated, repaired after a crash."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drawn_events import event, read_events
from maskwatch.errors import EventError, OutputError
from maskwatch.live.sinks import RetryableError
from maskwatch.live.sinks.jsonl import JsonlSink, numbered


def write(path: Path, *numbers: int) -> None:
    sink = JsonlSink(path)
    for number in numbers:
        sink.send(event(number))
    sink.close(0)


def ids(path: Path) -> list[int]:
    return [int(one.track or 0) for one in read_events(path)]


def test_each_event_is_a_line(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "events.jsonl"
    write(path, 1, 2)
    write(path, 3)
    assert [json.loads(line)["track"] for line in path.read_text("utf-8").splitlines()] == [1, 2, 3]
    assert read_events(path)[2] == event(3)


def test_a_line_is_on_the_disk_when_send_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "events.jsonl"
    sink = JsonlSink(path)
    synced: list[bytes] = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (real(fd), synced.append(path.read_bytes())))
    sink.send(event(1))
    assert synced == [event(1).to_json().encode() + b"\n"]
    sink.close(0)


def test_rotation_keeps_so_many_files(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    length = len(event(10).to_json().encode()) + 1
    sink = JsonlSink(path, max_bytes=3 * length, keep=2)
    for number in range(10, 21):
        sink.send(event(number))
    sink.close(0)
    assert {file.name for file in tmp_path.iterdir()} == {"events.jsonl", "events.jsonl.1", "events.jsonl.2"}
    # Three to a file; the oldest three are gone.
    assert [ids(numbered(path, number)) for number in range(3)] == [[19, 20], [16, 17, 18], [13, 14, 15]]


def test_rotation_may_keep_none_and_takes_a_line_longer_than_the_file(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    sink = JsonlSink(path, max_bytes=10, keep=0)
    sink.send(event(1))
    sink.send(event(2))
    sink.close(0)
    assert [file.name for file in tmp_path.iterdir()] == ["events.jsonl"]
    assert ids(path) == [2]


@settings(max_examples=30, deadline=None)  # it waits for the disk
@given(st.integers(1, 400))
def test_half_a_line_is_taken_away(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    path = tmp_path_factory.mktemp("half") / "events.jsonl"
    write(path, 1, 2)
    whole = path.read_bytes()
    half = event(3).to_json().encode()[:cut]
    path.write_bytes(whole + half)
    sink = JsonlSink(path)
    assert path.read_bytes() == whole
    sink.send(event(4))
    sink.close(0)
    assert ids(path) == [1, 2, 4]


def test_half_a_line_may_be_all_there_is_or_longer_than_a_block(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(event(1).to_json().encode()[:5])
    write(path, 2)
    assert ids(path) == [2]
    long = event(3, reason="x" * 300_000).to_json().encode()
    path.write_bytes(path.read_bytes() + long)
    write(path, 4)
    assert ids(path) == [2, 4]


@pytest.mark.parametrize(
    "content", [b"photo\n", b"\xff\xd8\xff\xe0 no line at all", b'{"schema": "other/1"}\n']
)
def test_what_is_not_ours_is_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)
    with pytest.raises(EventError, match=r"photo.jpg: holds something other than events; name another file"):
        JsonlSink(path)
    assert path.read_bytes() == content


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_no_file(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(OutputError, match="not a regular file"):
        JsonlSink(path)


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="choose another"):
        JsonlSink(tmp_path / "file" / "events.jsonl")
    with pytest.raises(OutputError, match="write somewhere else"):
        JsonlSink(tmp_path)


def test_a_file_that_is_moved_or_deleted_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    sink = JsonlSink(path)
    sink.send(event(1))
    path.rename(tmp_path / "moved.jsonl")
    sink.send(event(2))
    path.unlink()
    sink.send(event(3))
    sink.close(0)
    assert ids(tmp_path / "moved.jsonl") == [1]
    assert ids(path) == [3]


def test_a_full_disk_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "events.jsonl"
    sink = JsonlSink(path)
    sink.send(event(1))
    real = os.write
    room = [50]

    def full(fd: int, data: bytes) -> int:
        written = real(fd, data[: room[0]]) if room[0] else 0
        room[0] -= written
        if not written:
            raise OSError(errno.ENOSPC, "No space left on device")
        return written

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(RetryableError, match=r"No space left on device\); free space"):
        sink.send(event(2))
    monkeypatch.undo()
    assert ids(path) == [1]
    assert path.read_bytes().endswith(b"\n")
    sink.send(event(2))
    sink.close(0)
    assert ids(path) == [1, 2]


def test_old_lines_are_deleted(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    sink = JsonlSink(path)
    for number in range(10):
        sink.send(event(number))
    assert sink.delete_before(event(0).time) == 0
    assert sink.delete_before(event(4).time) == 4
    sink.send(event(10))
    assert ids(path) == [4, 5, 6, 7, 8, 9, 10]
    assert [file.name for file in tmp_path.iterdir()] == ["events.jsonl"]
    assert sink.delete_before(event(99).time) == 7
    sink.send(event(100))
    sink.close(0)
    assert ids(path) == [100]


DAMAGE = [
    b"{]\n",
    b"\0" * 40 + b"\n",
    b"\n",
    b'{"time": "soon"}\n',
    b'{"time": "2026-03-02T08:00:00"}\n',
    b"[1]\n",
    b"\xff\n",
]


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("place", [0, 1, 2, 3, 6])
def test_a_damaged_line_goes_with_the_one_before_it(tmp_path: Path, damage: bytes, place: int) -> None:
    """Deleting goes on at it, wherever it stands; at the beginning it goes with the first readable line."""
    path = tmp_path / "events.jsonl"
    write(path, *range(6))
    lines = path.read_bytes().splitlines(keepends=True)
    lines.insert(place, damage)
    path.write_bytes(b"".join(lines))
    sink = JsonlSink(path)
    assert sink.delete_before(event(0).time) == 0
    assert path.read_bytes() == b"".join(lines)
    gone = 2 + (place <= 2)
    assert sink.delete_before(event(2).time) == gone
    assert path.read_bytes() == b"".join(lines[gone:])
    assert sink.delete_before(event(99).time) == 7 - gone
    sink.send(event(100))
    sink.close(0)
    assert ids(path) == [100]


def test_a_file_whose_first_line_is_damaged_is_still_ours(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    write(path, 1, 2)
    whole = path.read_bytes()
    path.write_bytes(b"\0" * 300 + whole[300:])
    write(path, 3)
    assert path.read_bytes().endswith(b"\n")
    assert path.read_bytes().count(b"\n") == 3
