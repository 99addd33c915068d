"""What is deleted, when, and what never is. The clock is the tests' own."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from live_scenes import frame_result
from maskwatch.errors import OptionError
from maskwatch.live.capture.frame import LiveFrame
from maskwatch.live.events import Event
from maskwatch.live.output.clips import AlertClips, ClipSettings
from maskwatch.live.output.recorder import PART_S, Recorder
from maskwatch.live.output.retention import Retention, clip_rule, log_rule, recording_rule, thumbnail_rule
from maskwatch.live.output.thumbnails import Thumbnails
from maskwatch.live.sinks.event_store import EventStore
from maskwatch.live.sinks.jsonl import JsonlSink, numbered

NOW = datetime(2025, 3, 1, 12, 0, 0, tzinfo=UTC)
JPEG = b"\xff\xd8\xff\xe0 picture"


def picture(folder: Path, day: datetime, content: bytes = JPEG) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"{day:%Y%m%dT%H%M%SZ}_door_t3_00aa11bb.jpg"
    path.write_bytes(content)
    return path


def days_ago(days: float) -> datetime:
    return NOW - timedelta(days=days)


def test_what_is_older_goes_and_the_rest_stays(tmp_path: Path) -> None:
    old = [picture(tmp_path, days_ago(days)) for days in (400, 31, 30.0001)]
    young = [picture(tmp_path, days_ago(days)) for days in (29.999, 1, 0)]
    deleted = Retention(30, [thumbnail_rule(tmp_path)]).run(NOW)
    assert deleted is not None
    assert str(deleted) == "deleted what is older than 30 days: 3 pictures"
    assert sorted(tmp_path.iterdir()) == sorted(young)
    assert not any(path.exists() for path in old)


def test_it_runs_at_once_and_then_every_hour(tmp_path: Path) -> None:
    retention = Retention(1, [thumbnail_rule(tmp_path)])
    assert retention.run(NOW) is not None
    path = picture(tmp_path, days_ago(2))
    assert retention.run(NOW + timedelta(minutes=59, seconds=59)) is None
    assert path.exists()
    done = retention.run(NOW + timedelta(hours=1))
    assert str(done) == "deleted what is older than 1 days: 1 picture"
    assert str(retention.run(NOW + timedelta(hours=2))) == ""
    assert retention.run(NOW - timedelta(days=5)) is not None  # a clock that was set back stops nothing


def test_files_of_others_are_never_touched(tmp_path: Path) -> None:
    long_ago = days_ago(1000)
    foreign = tmp_path / "pictures"
    ours = picture(foreign, long_ago)
    kept = [
        foreign / name
        for name in (
            "holiday.jpg",
            "20220101T000000Z.jpg",
            "20220101T000000Z_door_t3_00aa11bb.png",
            "20220101T000000Z_door_t3_00aa11bb.jpg.txt",
            "x20220101T000000Z_door_t3_00aa11bb.jpg",
            "20229901T000000Z_door_t3_00aa11bb.jpg",  # no date
            "20220101T000000Z_door t3_00aa11bb.jpg",
            "２０２２0101T000000Z_door_t3_00aa11bb.jpg",
        )
    ]
    for path in kept:
        path.write_bytes(JPEG)
        os.utime(path, (0, 0))
    kept.append(picture(foreign / "deeper", long_ago))
    kept.append(picture(foreign, long_ago - timedelta(days=1), b"a text under a name like ours"))
    (foreign / f"{long_ago - timedelta(days=2):%Y%m%dT%H%M%SZ}_door_t3_00aa11bb.jpg").mkdir()
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(JPEG)
    link = foreign / f"{long_ago - timedelta(days=3):%Y%m%dT%H%M%SZ}_door_t3_00aa11bb.jpg"
    link.symlink_to(secret)
    deleted = Retention(1, [thumbnail_rule(foreign)]).run(NOW)
    assert str(deleted) == "deleted what is older than 1 days: 1 picture"
    assert not ours.exists()
    assert all(path.exists() for path in [*kept, secret, link])
    assert len(list(foreign.iterdir())) == len(kept) + 2


def test_what_the_writers_write_is_known(tmp_path: Path) -> None:
    """Real files of all kinds, from the writers themselves."""
    frame = LiveFrame("door", 0, 0.0, NOW, 0.0, np.zeros((48, 64, 3), np.uint8))
    event = Event("alert", NOW, "door", "run", track=1, box_xyxy=(1, 1, 9, 9))
    thumbnail = Thumbnails(tmp_path / "pictures").store(event, frame_result(frame, [[1, 1, 9, 9]]))
    with AlertClips(ClipSettings(tmp_path / "clips"), {}, ()) as clips:
        clips.on_frame(frame_result(frame))
        assert clips.path_of(event) is not None
    video = tmp_path / "videos/door.mp4"
    with Recorder(video, 10, part_s=PART_S) as recorder:
        recorder.add(frame_result(frame))
    log = tmp_path / "events.jsonl"
    sink = JsonlSink(log, max_bytes=10)
    for _ in range(3):
        sink.send(event)
    sink.close(1)
    written = (NOW - timedelta(hours=1)).timestamp()
    for path in (log, numbered(log, 1), numbered(log, 2)):
        os.utime(path, (written, written))
    with EventStore(tmp_path / "events.db", create=True) as store:
        store.add(event)
        kinds = [thumbnail_rule(thumbnail.parent), clip_rule(tmp_path / "clips")]
        kinds += [recording_rule(video), log_rule(log)]
        retention = Retention(7, kinds, [store.delete_before])
        assert str(retention.run(NOW + timedelta(days=6.9))) == ""
        assert str(retention.run(NOW + timedelta(days=7.1))) == (
            "deleted what is older than 7 days: 1 picture, 1 clip, 1 recording, 2 logs, 1 event"
        )
        assert store.records() == []
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix not in (".db",)]
    assert [path for path in files if "events.db" not in path.name] == [log]  # still written to


def test_a_picture_that_was_being_written_when_the_program_died(tmp_path: Path) -> None:
    path = picture(tmp_path, days_ago(3))
    part = path.with_name(f".{path.stem}.part.jpg")
    path.rename(part)
    clip = tmp_path / f".{days_ago(3):%Y%m%dT%H%M%SZ}_door_t3_no-mask_00aa11bb.part.mp4"
    clip.write_bytes(b"\0\0\0\x1cftyp")
    (tmp_path / clip.name[1:]).write_bytes(b"a text under a name like ours")
    Retention(1, [thumbnail_rule(tmp_path), clip_rule(tmp_path)]).run(NOW)
    assert [path.name for path in tmp_path.iterdir()] == [clip.name[1:]]


def test_events_are_forgotten_before_the_same_moment() -> None:
    asked = []

    def forget(when: datetime) -> int:
        asked.append(when)
        return 120

    deleted = Retention(30, [], [forget]).run(NOW)
    assert asked == [datetime(2025, 1, 30, 12, 0, 0, tzinfo=UTC)]
    assert str(deleted) == "deleted what is older than 30 days: 120 events"


def test_what_fails_is_said_and_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = picture(tmp_path, days_ago(9)), picture(tmp_path, days_ago(8))
    unlink = Path.unlink

    def refuse(path: Path, missing_ok: bool = False) -> None:
        if path == first:
            raise PermissionError(1, "Operation not permitted")
        unlink(path, missing_ok=missing_ok)

    def locked(_: datetime) -> int:
        raise RuntimeError("database is locked")

    monkeypatch.setattr(Path, "unlink", refuse)
    retention = Retention(1, [thumbnail_rule(tmp_path / "gone"), thumbnail_rule(tmp_path)], [locked])
    deleted = retention.run(NOW)
    assert deleted is not None
    assert not second.exists()
    assert deleted.failures == (
        f"{first}: cannot be deleted (Operation not permitted); delete it by hand",
        "events before 2025-02-28 12:00 cannot be deleted (database is locked)",
    )
    assert str(deleted).startswith("deleted what is older than 1 days: 1 picture; ")
    monkeypatch.setattr(Path, "unlink", unlink)
    assert str(retention.run(NOW + timedelta(hours=1))).startswith(
        "deleted what is older than 1 days: 1 picture"
    )


@pytest.mark.parametrize("days", [0, -1, 0.05, float("nan"), float("inf"), 1e9])
def test_days_that_make_no_sense(days: float) -> None:
    with pytest.raises(
        OptionError, match=re.escape(f"--retain {days:g}") + r".*write for example --retain 30"
    ):
        Retention(days, [])
