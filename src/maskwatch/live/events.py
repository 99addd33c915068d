"""Events, as JSON objects of a versioned schema, which docs/events.md describes."""

from __future__ import annotations

import dataclasses
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, TypeAlias, get_args

from maskwatch.errors import EventError

EVENT_SCHEMA = "maskwatch.event/1"
"""The number rises when a field changes its meaning or is removed, not when fields are added."""

EventKind: TypeAlias = Literal["alert", "alert_end", "crossing", "minute", "source"]
EVENT_KINDS: tuple[str, ...] = get_args(EventKind)

_NUMBERS = ("time_s", "score", "duration_s")
_REQUIRED = ("kind", "source", "run", "id")
_TYPES: dict[str, Any] = {  # of fields that are not texts
    "counts": Mapping,
    **dict.fromkeys(("track", "width", "height"), int),
    **dict.fromkeys(_NUMBERS, (int, float)),
}


def new_id() -> str:
    """A unique id for an event, by which receivers drop duplicates."""
    return str(uuid.uuid4())


@dataclass(frozen=True)
class Event:
    """Something that happened.

    Attributes:
        kind: "alert": a person has been in an alerting state for longer than the dwell; "alert_end": the
            alert ended; "crossing": a person crossed a line; "minute": the counts of a full minute;
            "source": the state of a source changed.
        time: when, with time zone. For a "minute", its beginning. For a file, when watching began plus the
            seconds of the video since.
        source: short name of the camera or file.
        run: id of the run of the program. Track numbers are unique within a run and a source.
        id: of the event, unique.
        time_s: of a file, the position in the video in seconds, for a "minute" of its beginning; None for a
            camera.
        track: number of the person; None where the event is not about a person.
        state: the person's state (a class name) or, for "source", "live", "waiting", "ended" or "failed".
        score: share of the state in the vote over the track, 0..1.
        zone: name of the zone; None for the whole picture.
        line, direction: name of the line that was crossed, and "in" or "out".
        duration_s: for "alert" how long the state has lasted so far, for "alert_end" in total.
        alert: for "alert_end" the `id` of its "alert".
        reason: for "alert_end" "changed", "left", "static" or "stopped"; for "source" the error.
        box_xyxy: the face in pixels of the frame.
        width, height: of the frame in pixels.
        model, model_version: name and version of the model.
        thumbnail: path of the stored picture; None without one.
        clip: for "alert" and "alert_end", path of the recording; the file exists once it is complete.
        counts: for "minute", see docs/events.md.
    """

    kind: EventKind
    time: datetime
    source: str
    run: str
    id: str = field(default_factory=new_id)
    time_s: float | None = None
    track: int | None = None
    state: str | None = None
    score: float | None = None
    zone: str | None = None
    line: str | None = None
    direction: Literal["in", "out"] | None = None
    duration_s: float | None = None
    alert: str | None = None
    reason: str | None = None
    box_xyxy: tuple[float, float, float, float] | None = None
    width: int | None = None
    height: int | None = None
    model: str | None = None
    model_version: str | None = None
    thumbnail: str | None = None
    clip: str | None = None
    counts: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.time.tzinfo is None:
            raise ValueError("the time of an event needs a time zone")

    def to_record(self) -> dict[str, Any]:
        """A plain dictionary for `json.dumps` with all fields, None where one does not apply."""
        record = {"schema": EVENT_SCHEMA, **dataclasses.asdict(self)}
        record["time"] = self.time.isoformat(timespec="milliseconds")
        record["box"] = record.pop("box_xyxy")
        if record["box"] is not None:
            record["box"] = [round(float(value), 1) for value in record["box"]]
        for name in _NUMBERS:
            if record[name] is not None:
                record[name] = round(float(record[name]), 4)
        return record

    def to_json(self) -> str:
        """One line of JSON, valid UTF-8 even if the name of a file is not: a byte of it becomes `\\udcff`."""
        text = json.dumps(self.to_record(), ensure_ascii=False, allow_nan=False)
        return text.encode("utf-8", "backslashreplace").decode()

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Event:
        """Reads what `to_record` wrote, by this version or a later one of the same schema.

        Raises:
            EventError: the record is not an event of this schema.
        """
        if record.get("schema") != EVENT_SCHEMA:
            raise EventError(
                f"an event of schema {record.get('schema')!r} cannot be read, only {EVENT_SCHEMA!r}; "
                "install the version of maskwatch that wrote it"
            )
        names = {field.name for field in dataclasses.fields(cls)}
        values = {name: value for name, value in record.items() if name in names}
        try:
            for name, value in values.items():
                _check(name, value)
            values["id"] = record["id"]  # required: the default would be a new id
            values["time"] = datetime.fromisoformat(record["time"])
            if record.get("box") is not None:
                x1, y1, x2, y2 = (float(value) for value in record["box"])
                values["box_xyxy"] = x1, y1, x2, y2
            return cls(**values)
        except (KeyError, TypeError, ValueError) as error:
            raise EventError(
                f"event {record.get('id')!r} cannot be read ({error}); restore the file from a copy"
            ) from None


def _check(name: str, value: object) -> None:
    """Raises `TypeError` if a field has the wrong type; the kind may be one of a later version."""
    if value is None and name not in _REQUIRED:
        return
    if not isinstance(value, _TYPES.get(name, str)) or isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}")
