"""Numbers for compliance: once a person, minute by minute, and they add up."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone

import pytest

from live_scenes import BARE, MASK, MODEL, START, Play, face
from maskwatch.errors import EventError
from maskwatch.live.events import Event
from maskwatch.live.tracking.alerts import AlertSettings
from maskwatch.live.tracking.counts import Counts, MinuteCounts, PeopleCounts, sum_by_hour
from maskwatch.live.tracking.face_tracker import TrackSettings
from maskwatch.live.tracking.people_tracker import PeopleTracker
from maskwatch.live.tracking.settings import PeopleSettings
from maskwatch.live.tracking.zones import Line, Zone, Zones

SETTINGS = PeopleSettings(AlertSettings(2.0, 10.0), tracks=TrackSettings(lost_s=2.0, reach=1.0))
RIGHT = Zone("right", ((0.5, 0.0), (1.0, 0.0), (1.0, 1.0), (0.5, 1.0)))
GATE = Line("gate", ((0.5, 1.0), (0.5, 0.0)))
HERE, THERE = face(100), face(450)


def play(zones: Zones | None = None, start: datetime = START) -> Play:
    return Play(PeopleTracker("door", "run", MODEL, SETTINGS, zones), start)


def minutes(scenes: Play) -> list[tuple[str, Counts]]:
    return [
        (f"{event.time:%H:%M}", Counts.from_record(event.counts))
        for _, event in scenes.events
        if event.counts is not None
    ]


def test_a_person_counts_once_in_the_minute_in_which_the_state_was_decided() -> None:
    scenes = play(start=START + timedelta(seconds=55)).show(10, (HERE, BARE), (THERE, MASK)).finish()
    (first, one), (second, two) = minutes(scenes)
    assert (first, second) == ("12:00", "12:01")
    assert one.total.people == {"mask": 1, "no_mask": 1, "mask_incorrect": 0}
    assert two.total.people == {"mask": 0, "no_mask": 0, "mask_incorrect": 0}
    assert (one.total.alerts, two.total.alerts) == (1, 0)
    assert one.total.share(["mask"]) == 0.5
    assert two.total.share(["mask"]) is None


def test_the_minute_comes_with_the_first_frame_after_it() -> None:
    scenes = play(start=START + timedelta(seconds=59)).show(1)
    assert scenes.events == []
    scenes.show(0.1)
    ((time_s, event),) = scenes.events
    assert (time_s, event.kind, event.time, event.source) == (1.0, "minute", START, "door")
    assert (event.model, event.track, event.state) == ("made-up", None, None)
    assert event.counts is not None
    assert (event.counts["frames"], event.counts["watched_s"]) == (10, 0.9)
    assert event.counts["all"] == {
        "people": 0,
        "by_state": {"mask": 0, "no_mask": 0, "mask_incorrect": 0},
        "undecided": 0,
        "seconds": {"mask": 0, "no_mask": 0, "mask_incorrect": 0},
        "alerts": 0,
    }


def test_seconds_by_state_with_drop_outs_and_the_time_before_the_decision() -> None:
    """From the second frame to the last; a second out of sight is in between, one at the end is not."""
    scenes = play().show(3, (HERE, BARE)).show(1).show(2, (HERE, BARE)).show(1).finish()
    ((_, counts),) = minutes(scenes)
    assert counts.total.seconds["no_mask"] == pytest.approx(5.8)
    assert counts.total.seconds["mask"] == 0
    assert counts.watched_s == pytest.approx(6.9)


def test_undecided_people_do_not_count() -> None:
    ((_, counts),) = minutes(play().show(0.6, (HERE, BARE)).show(3).finish())
    assert sum(counts.total.people.values()) == 0
    assert sum(counts.total.seconds.values()) == 0


def test_zones_and_lines() -> None:
    scenes = play(Zones((RIGHT,), (GATE,)))
    for number in range(60):
        scenes.step((face(100 + 6 * number), MASK))
    ((_, counts),) = minutes(scenes.finish())
    assert counts.total.people["mask"] == 1
    assert counts.zones["right"].people["mask"] == 1
    assert counts.total.seconds["mask"] == pytest.approx(5.8)
    # x = 300 is passed at 3.4 s.
    assert counts.zones["right"].seconds["mask"] == pytest.approx(2.5, abs=0.15)
    assert counts.lines == {"gate": {"in": 1, "out": 0}}


def test_only_zones() -> None:
    zones = Zones((RIGHT,), only_zones=True)
    ((_, counts),) = minutes(play(zones).show(4, (HERE, BARE), (THERE, MASK)).finish())
    assert counts.total.people == {"mask": 1, "no_mask": 0, "mask_incorrect": 0}
    assert counts.total.seconds["no_mask"] == 0
    assert counts.total.alerts == 0


def test_parts_of_a_minute_and_minutes_add_up_to_hours() -> None:
    start = START + timedelta(minutes=58, seconds=50)
    scenes = play(start=start).show(12, (HERE, BARE)).finish().skip(10).show(60, (THERE, MASK)).finish()
    parts = minutes(scenes)
    assert [name for name, _ in parts] == ["12:58", "12:59", "12:59", "13:00"]
    hours = sum_by_hour(event for _, event in scenes.events)
    assert [(source, f"{hour:%H:%M}") for source, hour in hours] == [("door", "12:00"), ("door", "13:00")]
    noon = hours["door", START]
    assert noon.total.people == {"mask": 1, "no_mask": 1, "mask_incorrect": 0}
    assert noon.frames == sum(counts.frames for _, counts in parts[:3])
    assert noon.total.alerts == 1
    everything = sum(hour.total.seconds["mask"] for hour in hours.values())
    assert everything == pytest.approx(59.8)


def test_adding_zones_and_lines() -> None:
    one = Counts.empty(MODEL.classes, Zones((RIGHT,), (GATE,)))
    two = Counts.empty(MODEL.classes, Zones((RIGHT,), (GATE,)))
    for counts in (one, two):
        counts.zones["right"].people["mask"] += 2
        counts.lines["gate"]["in"] += 1
    hour = Counts(PeopleCounts({}, {}))
    hour.add(one)
    hour.add(two)
    assert hour.zones["right"].people["mask"] == 4
    assert hour.lines == {"gate": {"in": 2, "out": 0}}
    assert one.zones["right"].people["mask"] == 2, "what was added is left as it was"
    assert Counts.from_record(json.loads(json.dumps(hour.to_record()))) == hour


def test_a_clock_that_is_set_back_or_changes_its_zone() -> None:
    counts = MinuteCounts(MODEL.classes, Zones())
    assert counts.begin_frame(START + timedelta(minutes=5), 0) is None
    assert counts.begin_frame(START, 1.0) is None
    summer = timezone(timedelta(hours=2))
    assert counts.begin_frame((START + timedelta(minutes=5)).astimezone(summer), 1.0) is None
    ended = counts.begin_frame((START + timedelta(minutes=6)).astimezone(summer), 1.0)
    assert ended is not None
    assert (ended[0], ended[1].frames) == (START + timedelta(minutes=5), 3)


def test_invalid_counts() -> None:
    with pytest.raises(EventError, match="cannot be read"):
        Counts.from_record({"all": 3})
    with pytest.raises(EventError, match="'lines'"):
        sum_by_hour(
            [
                Event(
                    "minute",
                    START,
                    "door",
                    "run",
                    counts={"all": {"by_state": {}, "seconds": {}, "alerts": 0}, "zones": {}},
                )
            ]
        )
