"""kill -9 in the middle of a thousand events: what was said to be stored is there."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from drawn_events import read_events
from receiver import HANG_UP, SECRET, Receiver

pytest.importorskip("requests", reason="the extra live is not installed")

from maskwatch.live.events import Event
from maskwatch.live.sinks.event_store import EventStore
from maskwatch.live.sinks.jsonl import numbered

EVENTS = 1000
KILLS = 4
CHILD = Path(__file__).with_name("event_child.py")

Reported = defaultdict[str, set[int]]
"""Numbers of events by the sink that said that it has stored them."""


def run(folder: Path, url: str, reported: Reported, kill_after: int | None) -> None:
    """Starts the program where its predecessor can have come to, and kills it after so many reports."""
    first = next((n for n in range(EVENTS) if any(n not in one for one in sinks(reported))), EVENTS)
    process = subprocess.Popen(
        [sys.executable, str(CHILD), str(folder), url, str(first), str(EVENTS)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "MASKWATCH_WEBHOOK_SECRET": SECRET},
    )
    assert process.stdout is not None
    with process.stdout:
        for count, line in enumerate(process.stdout):
            name, number = line.split()
            reported[name].add(int(number))
            if count == kill_after:
                process.kill()  # the lines that are in the pipe by now are still read
    assert process.wait() == (0 if kill_after is None else -9)


def sinks(reported: Reported) -> list[set[int]]:
    return [reported[name] for name in ("jsonl", "sqlite", "webhook")]


@pytest.mark.slow
def test_kill_in_the_middle_of_a_thousand_events(folder: Path) -> None:
    chance = random.Random(7)
    reported: Reported = defaultdict(set)

    def answer(number: int) -> int:
        return chance.choices([204, 503, HANG_UP], [994, 3, 3])[0]

    with Receiver(answer) as receiver:
        for _ in range(KILLS):
            run(folder, receiver.url, reported, kill_after=chance.randrange(50, 500))
            check(folder, receiver, reported)
        assert any(len(one) < EVENTS for one in sinks(reported)), "it was killed too late to mean anything"
        everything = list(range(EVENTS))
        for _ in range(10):  # a program that ends does not wait for a receiver that fails again and again
            run(folder, receiver.url, reported, kill_after=None)
            check(folder, receiver, reported)
            if {*receiver.accepted()} == {*everything}:
                break
        assert [sorted(one) for one in sinks(reported)] == [everything] * 3
        assert list(dict.fromkeys(receiver.accepted())) == everything, "in order, and none is missing"


def check(folder: Path, receiver: Receiver, reported: Reported) -> None:
    with EventStore(folder / "events.sqlite") as store:
        stored = [record["track"] for record in store.every_record()]
    assert max(Counter(stored).values(), default=1) == 1
    assert reported["sqlite"] <= {*stored}
    lines = {one.track for number in range(20) for one in read(numbered(folder / "events.jsonl", number))}
    assert reported["jsonl"] <= lines
    arrived = list(dict.fromkeys(receiver.accepted()))
    assert arrived == sorted(arrived)


def read(path: Path) -> list[Event]:
    return read_events(path) if path.exists() else []
