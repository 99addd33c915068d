"""Detections → JSON and CSV records. The schema is described in docs/records.md."""

from __future__ import annotations

import contextlib
import csv
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TextIO

import supervision as sv

from maskwatch._version import __version__
from maskwatch.outputs import replacing, writing

JSON_SCHEMA = "maskwatch.detections/1"
CSV_SCHEMA = "1"
"""Go up when a field changes its meaning or goes away; new fields may come without."""

_PLACE_COLUMNS = ("schema", "source", "kind", "frame", "time_s", "width", "height")
CSV_COLUMNS = (*_PLACE_COLUMNS, "class", "class_id", "score", "x1", "y1", "x2", "y2")


@dataclass(frozen=True)
class Result:
    """What was found in one picture or one frame.

    Attributes:
        source: name of the file, URL, or "-".
        width, height: of the picture in pixels, as it is shown.
        frame, time_s: index and time in seconds of a video's frame; None for a picture.
    """

    source: str
    width: int
    height: int
    detections: sv.Detections
    frame: int | None = None
    time_s: float | None = None

    @property
    def kind(self) -> str:
        return "picture" if self.frame is None else "video"


class RecordWriter(Protocol):
    """Takes the results one by one."""

    def add(self, result: Result) -> None: ...

    def fail(self, source: str, reason: str) -> None: ...

    def close(self) -> None: ...


def to_records(detections: sv.Detections) -> list[dict[str, Any]]:
    """One plain dictionary for each detection, ready for `json.dumps`.

    Keys: `class`, `class_id`, `score` (0..1) and `box`, [x1, y1, x2, y2] in pixels of the picture.
    """
    names = detections.data.get("class_name", [None] * len(detections))
    scores = [None] * len(detections) if detections.confidence is None else detections.confidence
    class_ids = [None] * len(detections) if detections.class_id is None else detections.class_id
    return [
        {
            "class": None if name is None else str(name),
            "class_id": None if class_id is None else int(class_id),
            "score": None if score is None else round(float(score), 4),
            "box": [round(float(value), 2) for value in box_xyxy],
        }
        for name, class_id, score, box_xyxy in zip(names, class_ids, scores, detections.xyxy, strict=True)
    ]


def to_record(result: Result) -> dict[str, Any]:
    """One entry of `results`, ready for `json.dumps`."""
    return {
        "source": result.source,
        "kind": result.kind,
        "frame": result.frame,
        "time_s": None if result.time_s is None else round(result.time_s, 4),
        "width": result.width,
        "height": result.height,
        "detections": to_records(result.detections),
    }


class RecordFile:
    """A file of records, or standard output; every failure is an `OutputError`."""

    def __init__(self, file: TextIO, path: Path) -> None:
        self._file, self._path = file, path

    def write(self, text: str) -> int:
        with writing(self._path):
            return self._file.write(text)

    def flush(self) -> None:
        with writing(self._path):
            self._file.flush()


@contextlib.contextmanager
def open_record_file(name: str) -> Iterator[RecordFile]:
    """Opens a file for records, or standard output for "-"; a file appears when the block ends without error.

    Raises:
        OutputError: it cannot be written.
    """
    if name == "-":
        yield RecordFile(sys.stdout, Path("standard output"))
        return
    path = Path(name)
    in_place = path.exists() and not path.is_file()  # a device or a pipe
    with contextlib.nullcontext(path) if in_place else replacing(path) as part:
        with writing(path):
            file = part.open("w", encoding="utf-8", newline="")
        try:
            records = RecordFile(file, path)
            yield records
            records.flush()
        finally:
            with contextlib.suppress(OSError):  # what could not be written was reported by flush
                file.close()


class JsonWriter:
    """Writes one JSON document, result by result, so that a long video needs no memory."""

    def __init__(self, file: RecordFile, model: dict[str, Any]) -> None:
        self._file = file
        self._failures: list[dict[str, str]] = []
        self._separator = "\n"
        head = {"schema": JSON_SCHEMA, "maskwatch": __version__, "model": model}
        self._file.write(json.dumps(head, ensure_ascii=False)[:-1] + ',\n"results": [')

    def add(self, result: Result) -> None:
        self._file.write(self._separator + json.dumps(to_record(result), ensure_ascii=False))
        self._separator = ",\n"

    def fail(self, source: str, reason: str) -> None:
        self._failures.append({"source": source, "reason": reason})

    def close(self) -> None:
        self._file.write(f'\n],\n"failures": {json.dumps(self._failures, ensure_ascii=False)}}}\n')
        self._file.flush()


class CsvWriter:
    """Writes one row for each detection; a picture without any has no row, nor has a failure."""

    def __init__(self, file: RecordFile) -> None:
        self._file = file
        self._rows = csv.writer(file, lineterminator="\n")
        self._rows.writerow(CSV_COLUMNS)

    def add(self, result: Result) -> None:
        time_s = None if result.time_s is None else round(result.time_s, 4)
        head = (CSV_SCHEMA, result.source, result.kind, result.frame, time_s, result.width, result.height)
        for record in to_records(result.detections):
            tail = (record["class"], record["class_id"], record["score"])
            self._rows.writerow([*head, *tail, *record["box"]])

    def fail(self, source: str, reason: str) -> None:
        pass  # the table holds detections only; the caller names the failures

    def close(self) -> None:
        self._file.flush()
