"""What watching shows: events as lines, totals, the screen, people drawn in a frame."""

from __future__ import annotations

import io
import os
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from drawn_events import event
from maskwatch.live.capture.status import CaptureStatus
from maskwatch.live.events import Event
from maskwatch.live.output.drawing import draw_people
from maskwatch.live.output.screen import Screen
from maskwatch.live.output.terminal import Totals
from maskwatch.live.sinks.delivery import SinkStatus
from maskwatch.live.sinks.event_text import duration, event_line
from maskwatch.live.tracking.results import Person


def test_the_summary_fits_80_columns_whatever_the_names() -> None:
    names = ("mask", "no_mask", "mask_incorrect")
    totals = Totals("maskwatch-320 (320x320)", names)
    tally = {
        "people": 1234,
        "by_state": {"mask": 1000, "no_mask": 200, "mask_incorrect": 34},
        "undecided": 56,
        "seconds": {},
        "alerts": 789,
    }
    counts = {"frames": 9, "watched_s": 90_000.0, "all": tally, "zones": {}, "lines": {}}
    source = "a-name-as-long-as-it-may-be-0123456789-x"
    totals.on_event(event(0, kind="minute", source=source, counts=counts))
    statuses = [CaptureStatus(source, "ended", 2_700_000, 12, 0, "", 25.0, (640, 480), 1_350_000)]
    console = Console(record=True, width=80, file=io.StringIO())
    console.print(totals.table(statuses))
    shown = console.export_text()
    assert "…" not in shown
    assert max(map(len, shown.splitlines())) <= 80
    words = " ".join(shown.split())
    assert "people mask mask incorrect undecided masked alerts" in words
    assert "1234 1000 200 34 56 81% 789" in words
    assert "25 h 00 min 2700000 1350000 12" in words
    assert "model: maskwatch-320 (320x320)" in words
    other = Totals("helmets", ("helmet", "head"))
    console.print(other.table(statuses))
    assert "masked" not in console.export_text()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"duration_s": 2.2, "score": 0.913}, "person 7 no mask for 2 s (91%)"),
        ({"duration_s": 65, "zone": "desk"}, "person 7 no mask for 1 min 05 s in desk"),
        ({"kind": "alert_end", "reason": "left", "duration_s": 9}, "person 7 gone, no mask after 9 s"),
        ({"kind": "alert_end", "reason": "changed", "duration_s": 9}, "person 7 no longer no mask after 9 s"),
        ({"kind": "crossing", "line": "gate", "direction": "in"}, "person 7 went in over gate (no mask)"),
        ({"kind": "source", "state": "waiting", "reason": "no route"}, "waiting: no route"),
    ],
)
def test_an_event_as_a_line(fields: dict[str, Any], said: str) -> None:
    record = {
        **event(0).to_record(),
        **dict.fromkeys(("zone", "line", "direction", "duration_s", "score", "reason", "counts")),
        "kind": "alert", "source": "door", "track": 7, "state": "no_mask",
        "time": "2026-01-02T03:04:05+01:00",
        **fields,
    }  # fmt: skip
    assert event_line(Event.from_record(record)) == f"03:04:05 door: {said}"
    assert event_line(Event.from_record({**record, "time_s": 3723.9})) == f"1:02:03 door: {said}"


def test_who_is_undecided_is_drawn_in_grey() -> None:
    box = np.array([40, 40, 120, 120], np.float32)
    person = Person(7, box, None, 0.0, 0.4, (), seen=True, alert=False)
    image = np.zeros((160, 160, 3), np.uint8)
    drawn = draw_people(image, [person], ("mask", "no_mask"))
    red, green, blue = map(int, drawn[80, 40])
    assert red == green == blue > 100
    assert drawn[:40].max() > 100  # the label: 7 undecided 0 s
    assert not draw_people(image, [replace(person, seen=False)], ("mask",)).any()


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.4, "0 s"), (59.4, "59 s"), (61, "1 min 01 s"), (4320, "1 h 12 min")]
)
def test_durations(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_the_screen_shows_sources_sinks_and_events() -> None:
    statuses = [
        CaptureStatus("door", "live", 100, 80, 0, "", 25.0, (640, 480)),
        CaptureStatus("hall", "waiting", 0, 0, 3, "connection refused", 0.0, None),
    ]
    sinks = [SinkStatus("webhook", 5, 2, 1, "no answer")]
    describe = lambda source, size_wh: f"{source} {size_wh[0]}x{size_wh[1]}"  # noqa: E731
    screen = Screen(lambda: statuses, lambda: sinks, ("mask", "no_mask"), ("no_mask",), describe)
    screen.on_event(event(0, kind="source", source="door", state="live"))
    console = Console(record=True, width=100, file=open(os.devnull, "w"))  # noqa: SIM115, PTH123
    console.print(screen.render())
    console.file.close()
    rows = [text.split() for text in console.export_text().splitlines()]
    assert rows[0] == ["source", "state", "fps", "age", "dropped", "people", "now"]
    assert rows[1] == ["door", "live", "0.0", "0", "ms", "80", "none"]
    assert rows[2] == ["hall", "waiting", "–", "–", "0", "connection", "refused"]
    assert rows[4] == ["webhook", "5", "2", "1", "no", "answer"]
    assert rows[5][1:] == ["door:", "live,", "door", "640x480"]
