"""`maskwatch events …` reads what `--db` wrote."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from drawn_events import COUNTS, START, event, event_id, minute
from maskwatch.cli.app import main
from maskwatch.cli.events_output import print_hours
from maskwatch.cli.options import parse_moment
from maskwatch.errors import OptionError
from maskwatch.live.events import Event
from maskwatch.live.sinks import database
from maskwatch.live.sinks.event_store import EventStore
from maskwatch.live.sinks.outbox import Outbox, outbox_path

Run = Callable[..., tuple[int, str, str]]

NOW = datetime(2026, 3, 1, 15, 0, tzinfo=timezone(timedelta(hours=1)))


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command; exit status, standard output, standard error."""

    def call(*words: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(["events", *map(str, words)])
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return call


@pytest.fixture
def filled(database: Path | str) -> Path | str:
    """A database with a dozen events."""
    with EventStore(database, create=True) as store:
        for one in (
            event(0, kind="source", state="live", track=None, score=None, duration_s=None),
            event(1, zone="entrance"),
            event(2, source="gate", state="mask_incorrect"),
            event(73, kind="alert_end", alert=event_id(1), reason="left", duration_s=74, zone="entrance"),
            event(80, kind="crossing", line="door line", direction="in", state="mask", duration_s=None),
            *(minute(number) for number in range(58, 63)),
            minute(200, source="gate"),
        ):
            store.add(one)
    return database


def test_list(run: Run, filled: Path | str) -> None:
    status, out, _ = run("list", filled)
    assert status == 0
    lines = [re.sub(" {2,}", " | ", line.rstrip()) for line in out.splitlines()]
    assert lines[0] == "time | source | kind | person | state | where | for | sure | more"
    assert lines[1:6] == [
        "2026-03-01 12:00:00 | door | source | live",
        "2026-03-01 12:00:01 | door | alert | 1 | no mask | entrance | 2 s | 91%",
        "2026-03-01 12:00:02 | gate | alert | 2 | mask incorrect | 2 s | 91%",
        "2026-03-01 12:01:13 | door | alert_end | 73 | no mask | entrance | 1 min 14 s | 91% | left",
        "2026-03-01 12:01:20 | door | crossing | 80 | mask | door line | 91% | in",
    ]
    assert lines[6] == "2026-03-01 12:58:00 | door | minute | 4 people"
    assert len(lines) == 12


@pytest.mark.parametrize(
    ("options", "tracks"),
    [
        (["--kind", "alert"], [1, 2]),
        (["--kind", "alert", "--kind", "crossing", "--limit", "2"], [2, 80]),
        (["--source", "gate", "--kind", "alert"], [2]),
        (["--zone", "entrance"], [1, 73]),
        (["--state", "mask_incorrect"], [2]),
        (["--since", "2026-03-01T12:00:02+01:00", "--until", "2026-03-01T11:01:20+00:00"], [2, 73]),
        (["--until", "2026-02-01"], []),
    ],
)
def test_filters(run: Run, filled: Path | str, options: list[str], tracks: list[int]) -> None:
    status, out, _ = run("list", filled, "--json", *options)
    assert status == 0
    assert [Event.from_record(json.loads(line)).track for line in out.splitlines()] == tracks


def test_nothing_found(run: Run, filled: Path | str) -> None:
    assert run("list", filled, "--source", "cellar") == (0, "no events\n", "")
    assert run("hours", filled, "--source", "cellar") == (0, "no counts\n", "")
    assert run("list", filled, "--source", "cellar", "--json") == (0, "", "")


def test_hours(run: Run, filled: Path | str) -> None:
    status, out, _ = run("hours", filled)
    assert status == 0
    lines = [re.sub(" {2,}", " | ", line.strip()) for line in out.splitlines()]
    assert lines == [
        "hour | source | watched | people | mask | no mask | mask incorrect | undecided | masked | alerts"
        " | in | out",
        "2026-03-01 12:00 | door | 2 min 00 s | 8 | 6 | 2 | 0 | 0 | 75% | 2 | 6 | 2",
        "2026-03-01 13:00 | door | 3 min 00 s | 12 | 9 | 3 | 0 | 0 | 75% | 3 | 9 | 3",
        "2026-03-01 15:00 | gate | 1 min 00 s | 4 | 3 | 1 | 0 | 0 | 75% | 1 | 3 | 1",
    ]


def test_hours_on_a_terminal_break_no_word(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = partial(Console, force_terminal=True, color_system=None, width=80)
    monkeypatch.setattr("maskwatch.cli.events_output.Console", terminal)
    row: dict[str, Any] = {"hour": "2026-03-01T12:00:00", "source": "door", "watched_s": 120.0, "people": 8}
    row |= {"by_state": {"mask": 6, "no_mask": 2, "mask_incorrect": 0}, "undecided": 1, "masked_share": 0.75}
    print_hours([row | {"alerts": 2, "in": 0, "out": 0}])
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    assert {"incorrect", "undecided", "masked", "alerts", "2026-03-01", "12:00"} <= {*out.split()}


@pytest.mark.parametrize("source", ["door", "north-wing-entrance"])
def test_hours_with_crossings_break_no_word_either(
    source: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = partial(Console, force_terminal=True, color_system=None, width=80)
    monkeypatch.setattr("maskwatch.cli.events_output.Console", terminal)
    row: dict[str, Any] = {"hour": "2026-03-01T12:00:00", "source": source, "watched_s": 3540, "people": 812}
    row |= {"by_state": {"mask": 601, "no_mask": 190, "mask_incorrect": 21}, "undecided": 14}
    print_hours([row | {"masked_share": 0.74, "alerts": 211, "in": 402, "out": 397}] * 2)
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert max(map(len, lines)) <= 80
    words = " ".join(lines).split()
    for word in ("incorrect", "undecided", "masked", "alerts", "watched", "in", "out", "59", "402", "397"):
        assert word in words
    assert words.count(source) == 4  # twice in each of two tables


def test_hours_as_json_add_up(run: Run, filled: Path | str) -> None:
    status, out, _ = run("hours", filled, "--json", "--source", "door")
    rows = [json.loads(line) for line in out.splitlines()]
    assert status == 0
    assert [row["hour"] for row in rows] == ["2026-03-01T12:00:00+01:00", "2026-03-01T13:00:00+01:00"]
    assert sum(row["people"] for row in rows) == 5 * COUNTS["all"]["people"]  # type: ignore[index]
    assert sum(row["seconds"]["mask"] for row in rows) == 5 * 31.5
    assert rows[0]["masked_share"] == 0.75


def test_hours_of_a_zone(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "zones.sqlite"
    shop = {"people": 0, "by_state": {"mask": 0}, "seconds": {"mask": 0.0}, "alerts": 0}
    with EventStore(file, create=True) as store:
        store.add(minute(0, counts={**COUNTS, "zones": {"shop": shop}}))
        store.add(minute(70))
    _, out, _ = run("hours", file, "--zone", "shop", "--json")
    (row,) = [json.loads(line) for line in out.splitlines()]
    assert (row["zone"], row["people"], row["masked_share"]) == ("shop", 0, None)
    assert "–" in run("hours", file, "--zone", "shop")[1]


def test_export(run: Run, filled: Path | str, tmp_path: Path) -> None:
    table, lines = tmp_path / "out" / "events.csv", tmp_path / "out" / "events.jsonl"
    status, out, err = run(
        "export", filled, "--csv", table, "--jsonl", lines, "--kind", "alert", "--kind", "minute"
    )
    assert (status, out) == (0, "")
    assert err == f"{table}: 8 events\n{lines}: 8 events\n"
    rows = list(csv.DictReader(io.StringIO(table.read_text("utf-8"))))
    assert [row["track"] for row in rows] == ["1", "2", *[""] * 6]
    assert (rows[0]["time"], rows[0]["zone"], rows[0]["x1"]) == (
        "2026-03-01T12:00:01.000+01:00",
        "entrance",
        "",
    )
    assert json.loads(rows[2]["counts"]) == COUNTS
    events = [Event.from_record(json.loads(line)) for line in lines.read_text("utf-8").splitlines()]
    assert events[0] == event(1, zone="entrance")
    status, _, err = run("export", filled, "--csv", table)
    assert status == 2
    assert "exists already; write somewhere else, or overwrite with --force" in err
    assert run("export", filled, "--csv", table, "--force", "--until", "2026-01-01")[0] == 0
    assert len(table.read_text("utf-8").splitlines()) == 1


def test_export_has_a_column_for_every_field(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "box.sqlite"
    with EventStore(file, create=True) as store:
        store.add(event(1, box_xyxy=(1, 2, 3, 4)))
    _, out, _ = run("export", file, "--csv", "-")
    (row,) = csv.DictReader(io.StringIO(out))
    assert {*row} == {*event(1).to_record()} - {"box"} | {"x1", "y1", "x2", "y2"}
    assert [row[name] for name in ("x1", "y1", "x2", "y2")] == ["1.0", "2.0", "3.0", "4.0"]


def test_prune(run: Run, filled: Path | str, tmp_path: Path) -> None:
    with EventStore(filled) as store:
        store.add(event(500, time=datetime.now().astimezone()))
    status, out, _ = run("prune", filled, "--days", "2", "--dry-run")
    assert (status, out.partition(" before")[0]) == (0, "would be deleted: 11 events")
    assert run("prune", filled, "--days", "2")[1].startswith("deleted: 11 events before ")
    with EventStore(filled) as store:
        assert [record["track"] for record in store.records()] == [500]
    assert run("prune", filled, "--days", "1e9")[0] == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["list", "none.sqlite"], "none.sqlite: there is no such file; name the one that --db wrote"),
        (["hours", "text.sqlite"], "text.sqlite: is not an SQLite database; name a file that --db wrote"),
        (
            ["tail", "other.sqlite"],
            "other.sqlite: is a database, but no event file of maskwatch; name another",
        ),
        (["export", "newer.sqlite", "--csv", "-"], "newer.sqlite: has schema 9, this version knows up to 2"),
        (
            ["prune", "locked.sqlite", "--days", "1"],
            "locked.sqlite: is locked by another program; end that one",
        ),
        (
            ["list", "good.sqlite", "--kind", "alarm"],
            "--kind 'alarm' is not one of alert, alert_end, crossing",
        ),
        (["list", "good.sqlite", "--since", "soon"], "--since 'soon' is not a time; write 2h (ago), today"),
        (["export", "good.sqlite"], "nothing to write to; name a file with --csv or --jsonl"),
        (["export", "good.sqlite", "--csv", "-", "--jsonl", "-"], "would mix on standard output"),
        (["dead-letters", "--retry", "--drop"], "--retry and --drop exclude each other"),
        (["dead-letters", "--outboxes", "nowhere"], "--outboxes nowhere: there is no such folder"),
    ],
)
def test_errors(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(database, "BUSY_S", 0.05)
    Path("text.sqlite").write_text("no database at all " * 100)
    for name in ("good", "newer", "locked"):
        EventStore(Path(f"{name}.sqlite"), create=True).close()
    changed = [
        sqlite3.connect(name, isolation_level=None)
        for name in ("other.sqlite", "newer.sqlite", "locked.sqlite")
    ]
    newer = "UPDATE maskwatch_schema SET version_num = '0009'"
    for connection, statement in zip(
        changed, ("CREATE TABLE cats (name)", newer, "BEGIN EXCLUSIVE"), strict=True
    ):
        connection.execute(statement)
    status, out, err = run(*words)
    for connection in changed:
        connection.close()
    assert (status, out) == (2, "")
    assert err.startswith("error: ")
    assert message in err
    assert ";" in err


@pytest.mark.skipif(os.name != "posix", reason="Ctrl-C is sent as a signal")
def test_tail(filled: Path | str) -> None:
    words = [sys.executable, "-m", "maskwatch", "events", "tail", str(filled), "-n", "1", "--kind", "alert"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    first = process.stdout.readline()
    with EventStore(filled) as store:
        store.add(minute(300))
        store.add(event(90, zone="entrance"))
    second = process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert first == "2026-03-01 12:00:02 gate: person 2 mask incorrect for 2 s (91%)\n"
    assert second == "2026-03-01 12:01:30 door: person 90 no mask for 2 s in entrance (91%)\n"
    assert (process.returncode, err) == (130, "")


def test_tail_ends_with_its_file(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "events.sqlite"
    EventStore(path, create=True).close()
    monkeypatch.setattr("time.sleep", lambda _: path.unlink(missing_ok=True))
    status, out, err = run("tail", path, "-n", "0", "--json")
    assert (status, out) == (2, "")
    assert err == f"error: {path}: was deleted; start again once there is a new one\n"


def test_dead_letters(run: Run, tmp_path: Path) -> None:
    assert run("dead-letters", "--outboxes", tmp_path) == (0, f"no outboxes in {tmp_path}\n", "")
    file = outbox_path(tmp_path, "https://host/geheim")
    box = Outbox(file)
    box.add(event(1))
    first = box.first()
    assert first is not None
    box.reject(first, "https://host: the receiver says 404 Not Found; mend it")
    box.add(event(2))
    status, out, _ = run("dead-letters", "--outboxes", tmp_path)
    assert status == 0
    assert out == (
        f"{file.name}: 1 waiting, 1 dead letter\n"
        f"  alert {event_id(1)}: https://host: the receiver says 404 Not Found; mend it\n"
    )
    assert json.loads(run("dead-letters", "--outboxes", tmp_path, "--json")[1])["track"] == 1
    assert run("dead-letters", "--outboxes", tmp_path, "--retry")[1].endswith(": 1 wait again\n")
    assert box.counts() == (2, 0)
    box.reject(first, "no")
    assert run("dead-letters", "--outboxes", tmp_path, "--drop")[1].endswith(": 1 deleted\n")
    assert box.counts() == (1, 0)
    box.close()
    status, out, err = run("parked", "--outboxes", tmp_path)
    assert (status, out) == (0, f"{file.name}: 1 waiting, 0 dead letters\n")
    assert err == "warning: `events parked` is now `events dead-letters`; use the new name\n"


def test_moments() -> None:
    def parsed(text: str) -> datetime:
        moment = parse_moment("--since", text, NOW)
        assert moment is not None
        return moment

    assert parse_moment("--since", None, NOW) is None
    assert parsed("90m") == NOW - timedelta(minutes=90)
    assert parsed("1.5h") == NOW - timedelta(hours=1.5)
    assert parsed("2w") == NOW - timedelta(days=14)
    assert parsed("2026-03-01T12:00+01:00") == START
    assert parsed("2026-03-01T11:00:00Z") == START
    assert parsed("today").replace(tzinfo=None) == datetime(2026, 3, 1)
    assert parsed("yesterday").replace(tzinfo=None) == datetime(2026, 2, 28)
    assert parsed("9:30").replace(tzinfo=None) == datetime(2026, 3, 1, 9, 30)
    assert parsed("9:30:15").replace(tzinfo=None) == datetime(2026, 3, 1, 9, 30, 15)
    assert parsed("2026-02-03 9:30").replace(tzinfo=None) == datetime(2026, 2, 3, 9, 30)
    assert parsed("2026-02-03T9:30:15+01:00") == datetime.fromisoformat("2026-02-03T08:30:15+00:00")
    assert parsed("19:30:15").replace(tzinfo=None) == datetime(2026, 3, 1, 19, 30, 15)
    assert parsed("2026-02-03").replace(tzinfo=None) == datetime(2026, 2, 3)
    assert all(parsed(text).tzinfo is not None for text in ("today", "9:30", "2026-02-03"))
    for wrong in ("", "tomorrow", "25:00", "2026-13-01", "7", "9999999999999w", "-2h"):
        with pytest.raises(OptionError, match="is not a time"):
            parse_moment("--since", wrong, NOW)
