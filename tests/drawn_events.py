"""Events that tests send, and conditions that they wait for."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from maskwatch.live.events import Event

START = datetime(2026, 3, 1, 12, 0, tzinfo=timezone(timedelta(hours=1)))

COUNTS = {
    "frames": 300,
    "watched_s": 60.0,
    "all": {
        "people": 4,
        "by_state": {"mask": 3, "no_mask": 1, "mask_incorrect": 0},
        "seconds": {"mask": 31.5, "no_mask": 6.25, "mask_incorrect": 0.0},
        "alerts": 1,
    },
    "zones": {},
    "lines": {"door": {"in": 3, "out": 1}},
}


def event_id(number: int) -> str:
    """The same at each run."""
    return str(uuid.UUID(int=number))


def event(number: int = 0, **fields: Any) -> Event:
    """An alert by default; each number has its own id and second."""
    values: dict[str, Any] = {
        "kind": "alert",
        "time": START + timedelta(seconds=number),
        "source": "door",
        "run": "run-1",
        "id": event_id(number),
        "track": number,
        "state": "no_mask",
        "score": 0.91,
        "duration_s": 2.0,
    }
    return Event(**{**values, **fields})


def minute(number: int, **fields: Any) -> Event:
    """The counts of a minute: four people, three of them masked."""
    values = {"track": None, "state": None, "score": None, "duration_s": None, "counts": COUNTS}
    moment = START + timedelta(minutes=number)
    return event(100_000 + number, **{"kind": "minute", "time": moment, **values, **fields})


def read_events(path: Path) -> list[Event]:
    """All events of a JSON Lines file, without half a line at its end."""
    lines = path.read_bytes().split(b"\n")[:-1]
    return [Event.from_record(json.loads(line)) for line in lines if line]


def wait_until(condition: Callable[[], object], what: str, seconds: float = 30.0) -> None:
    """Asks again and again, up to a generous deadline."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds:g} s in vain: {what}"
        time.sleep(0.01)


def utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC)
