"""Detections → JSON and CSV records. The schema is described in docs/records.md."""

from __future__ import annotations

import contextlib
import csv
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO, TypeAlias

from maskwatch._version import __version__
from maskwatch.boxes import AnyDetections
from maskwatch.outputs import atomic_write, output_errors

JSON_SCHEMA = "maskwatch.detections/1"
CSV_SCHEMA = "1"
"""The numbers go up when a field changes its meaning or disappears; new fields do not count."""

_FRAME_COLUMNS = ("schema", "source", "kind", "frame", "time_s", "width", "height")
CSV_COLUMNS = (*_FRAME_COLUMNS, "class", "class_id", "score", "x1", "y1", "x2", "y2")


@dataclass(frozen=True)
class Result:
    """The detections of one picture or frame.

    Attributes:
        source: name of the file, URL, or "-".
        width, height: of the picture in pixels, with its orientation applied.
        frame, time_s: index and time in seconds of a video frame; None for a picture.
    """

    source: str
    width: int
    height: int
    detections: AnyDetections
    frame: int | None = None
    time_s: float | None = None

    @property
    def kind(self) -> str:
        return "picture" if self.frame is None else "video"


def to_records(detections: AnyDetections) -> list[dict[str, Any]]:
    """One dictionary for each detection, ready for `json.dumps`.

    Keys: `class`, `class_id`, `score` (0..1) and `box`, [x1, y1, x2, y2] in pixels of the picture.
    """
    unknown = [None] * len(detections)
    names = detections.data.get("class_name", unknown)
    scores = unknown if detections.confidence is None else detections.confidence
    class_ids = unknown if detections.class_id is None else detections.class_id
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
    """An open file, or standard output; an error is an `OutputError`."""

    def __init__(self, file: TextIO, path: Path) -> None:
        self._file, self._path = file, path

    def write(self, text: str) -> int:
        with output_errors(self._path):
            return self._file.write(text)

    def flush(self) -> None:
        with output_errors(self._path):
            self._file.flush()


@contextlib.contextmanager
def open_record_file(name: str) -> Iterator[RecordFile]:
    """Opens a file for records, or standard output for "-"; raises `OutputError`.

    A regular file appears when the block ends without error.
    """
    if name == "-":
        yield RecordFile(sys.stdout, Path("standard output"))
        return
    path = Path(name)
    in_place = path.exists() and not path.is_file()  # a device or a pipe
    with contextlib.nullcontext(path) if in_place else atomic_write(path) as part:
        with output_errors(path):
            file = part.open("w", encoding="utf-8", newline="")
        try:
            records = RecordFile(file, path)
            yield records
            records.flush()
        finally:
            with contextlib.suppress(OSError):  # flush has reported it
                file.close()


class JsonWriter:
    """Writes one JSON document, result by result, so that memory does not grow with a video."""

    def __init__(self, file: RecordFile, model: dict[str, Any]) -> None:
        self._file = file
        self._failures: list[dict[str, str]] = []
        self._separator = "\n"
        head = {"schema": JSON_SCHEMA, "maskwatch": __version__, "model": model}
        self._file.write(json.dumps(head, ensure_ascii=False)[:-1] + ',\n"results": [')

    def add(self, result: Result) -> None:
        self.add_record(to_record(result))

    def add_record(self, record: dict[str, Any]) -> None:
        """Adds what `to_record` returned."""
        self._file.write(self._separator + json.dumps(record, ensure_ascii=False))
        self._separator = ",\n"

    def fail(self, source: str, reason: str) -> None:
        self._failures.append({"source": source, "reason": reason})

    def close(self) -> None:
        self._file.write(f'\n],\n"failures": {json.dumps(self._failures, ensure_ascii=False)}}}\n')
        self._file.flush()


class CsvWriter:
    """Writes one row for each detection; pictures without any, and failures, have no row."""

    def __init__(self, file: RecordFile) -> None:
        self._file = file
        self._rows = csv.writer(file, lineterminator="\n")
        self._rows.writerow(CSV_COLUMNS)

    def add(self, result: Result) -> None:
        self.add_record(to_record(result))

    def add_record(self, record: dict[str, Any]) -> None:
        """Adds what `to_record` returned."""
        *frame, records = record.values()
        for record in records:
            *what, box_xyxy = record.values()
            self._rows.writerow([CSV_SCHEMA, *frame, *what, *box_xyxy])

    def fail(self, source: str, reason: str) -> None:
        """Does nothing."""

    def close(self) -> None:
        self._file.flush()


RecordWriter: TypeAlias = JsonWriter | CsvWriter
