"""The event: what it writes, it reads again; what is none, it refuses."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drawn_events import event, minute
from maskwatch.errors import EventError
from maskwatch.live.events import EVENT_KINDS, EVENT_SCHEMA, Event, new_id

ZONES = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
TIMES = st.datetimes(datetime(1980, 1, 1), datetime(2200, 1, 1), timezones=ZONES)
TEXTS = st.text(max_size=20)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False, width=32)


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


EVENTS = st.builds(
    Event,
    kind=st.sampled_from(EVENT_KINDS),
    time=TIMES,
    source=TEXTS,
    run=TEXTS,
    id=st.uuids().map(str),
    track=maybe(st.integers(0, 2**31)),
    state=maybe(TEXTS),
    score=maybe(st.floats(0, 1)),
    zone=maybe(TEXTS),
    line=maybe(TEXTS),
    direction=st.sampled_from([None, "in", "out"]),
    duration_s=maybe(st.floats(0, 1e6)),
    time_s=maybe(st.floats(0, 1e6)),
    alert=maybe(st.uuids().map(str)),
    reason=maybe(TEXTS),
    box_xyxy=maybe(st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS)),
    width=maybe(st.integers(1, 10_000)),
    height=maybe(st.integers(1, 10_000)),
    model=maybe(TEXTS),
    model_version=maybe(TEXTS),
    thumbnail=maybe(TEXTS),
    clip=maybe(TEXTS),
    counts=maybe(st.dictionaries(TEXTS, st.integers() | NUMBERS, max_size=3)),
)


@settings(deadline=None)
@given(EVENTS)
def test_what_is_written_is_read_again(one: Event) -> None:
    line = one.to_json()
    assert "\n" not in line
    read = Event.from_record(json.loads(line))
    # Once rounded, nothing changes any more.
    assert read.to_record() == one.to_record()
    assert Event.from_record(read.to_record()) == read
    assert abs(read.time - one.time) < timedelta(milliseconds=1)
    assert read.time.utcoffset() == one.time.utcoffset()
    assert (read.id, read.source, read.state, read.counts) == (one.id, one.source, one.state, one.counts)


def test_record_has_every_field() -> None:
    record = event(7, box_xyxy=(1.04, 2, 3, 4.06), score=0.123456).to_record()
    assert record["schema"] == EVENT_SCHEMA == "maskwatch.event/1"
    assert record["time"] == "2026-03-01T12:00:07.000+01:00"
    assert record["box"] == [1.0, 2.0, 3.0, 4.1]
    assert record["score"] == 0.1235
    assert record["zone"] is None
    assert "box_xyxy" not in record
    assert (record["time_s"], event(time_s=61.23456).to_record()["time_s"]) == (None, 61.2346)
    assert len(record) == 24


def test_name_that_is_no_utf8() -> None:
    one = event(source="t\udcffr")
    line = one.to_json()
    assert "t\\udcffr" in line
    line.encode()
    assert Event.from_record(json.loads(line)).source == "t\udcffr"


def test_fields_of_a_later_version_are_left_out() -> None:
    record = {**minute(1).to_record(), "mood": "good"}
    assert Event.from_record(record) == minute(1)


def test_ids_differ() -> None:
    assert len({new_id() for _ in range(100)}) == 100


def test_time_needs_its_zone() -> None:
    with pytest.raises(ValueError, match="time zone"):
        event(time=datetime(2026, 1, 1))
    assert event(time=datetime(2026, 1, 1, tzinfo=UTC)).to_record()["time"] == "2026-01-01T00:00:00.000+00:00"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"schema": "maskwatch.event/2"}, "install the version of maskwatch that wrote it"),
        ({"schema": None}, "schema None cannot be read"),
        ({"time": "yesterday"}, "Invalid isoformat"),
        ({"time": 7}, "cannot be read"),
        ({"time": "2026-01-01T00:00:00"}, "time zone"),
        ({"kind": None}, "kind is None"),
        ({"source": ["door"]}, r"source is \['door'\]"),
        ({"id": 3}, "id is 3"),
        ({"track": "7"}, "track is '7'"),
        ({"track": True}, "track is True"),
        ({"score": "high"}, "score is 'high'"),
        ({"box": [1, 2, 3]}, "not enough values"),
        ({"box": 5}, "cannot be read"),
        ({"counts": [1]}, r"counts is \[1\]"),
    ],
)
def test_what_is_no_event_is_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(EventError, match=message) as caught:
        Event.from_record({**event().to_record(), **changed})
    assert ";" in str(caught.value)


@pytest.mark.parametrize("missing", ["time", "id", "kind", "source", "run"])
def test_fields_that_must_be_there(missing: str) -> None:
    record = event().to_record()
    del record[missing]
    with pytest.raises(EventError, match=missing):
        Event.from_record(record)


def test_numbers_that_json_lacks_are_no_event() -> None:
    with pytest.raises(ValueError, match="JSON"):
        event(duration_s=float("nan")).to_json()
