"""`maskwatch events export`: events as CSV and JSON Lines."""

from __future__ import annotations

import contextlib
import csv
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from maskwatch.cli.json_file import is_stdout
from maskwatch.errors import OptionError

if TYPE_CHECKING:
    from maskwatch.live.sinks.sqlite import EventQuery, EventStore

CSV_COLUMNS = (
    "schema", "time", "kind", "source", "run", "id", "track", "state", "score", "zone", "line", "direction",
    "duration_s", "alert", "reason", "x1", "y1", "x2", "y2", "width", "height", "model", "model_version",
    "thumbnail", "counts", "time_s",
)  # fmt: skip


def export_events(
    store: EventStore, query: EventQuery, csv_file: Path | None, jsonl_file: Path | None, *, force: bool
) -> None:
    """Writes the files that are asked for, each whole or not at all.

    Raises:
        OptionError: none is asked for, or both for standard output.
        OutputError: a file exists, or cannot be written.
    """
    from maskwatch.outputs import check_targets

    if csv_file is None and jsonl_file is None:
        raise OptionError("nothing to write to; name a file with --csv or --jsonl, - for standard output")
    if is_stdout(csv_file) and is_stdout(jsonl_file):
        raise OptionError("--csv - and --jsonl - would mix on standard output; give one of them a file")
    files = [path for path in (csv_file, jsonl_file) if path is not None and not is_stdout(path)]
    check_targets(files, [], force=force)
    for path, start in ((csv_file, _csv_rows), (jsonl_file, _json_lines)):
        if path is not None:
            with _target(path) as file:
                number = _copy(store, query, start(file))
            print(f"{path}: {number} events", file=sys.stderr)


def _copy(store: EventStore, query: EventQuery, add: Callable[[dict[str, Any]], None]) -> int:
    number = 0
    for record in store.every_record(query):
        add(record)
        number += 1
    return number


def _csv_rows(file: TextIO) -> Callable[[dict[str, Any]], None]:
    rows = csv.writer(file, lineterminator="\n")
    rows.writerow(CSV_COLUMNS)

    def add(record: dict[str, Any]) -> None:
        values = dict(record)
        values |= zip(("x1", "y1", "x2", "y2"), record.get("box") or (), strict=False)
        if record.get("counts") is not None:
            values["counts"] = json.dumps(record["counts"], ensure_ascii=False)
        rows.writerow([values.get(name) for name in CSV_COLUMNS])

    return add


def _json_lines(file: TextIO) -> Callable[[dict[str, Any]], None]:
    return lambda record: print(json.dumps(record, ensure_ascii=False), file=file)


@contextlib.contextmanager
def _target(path: Path) -> Iterator[TextIO]:
    if is_stdout(path):
        yield sys.stdout
        return
    from maskwatch.outputs import new_file

    with new_file(path) as part, part.open("w", encoding="utf-8", errors="backslashreplace") as file:
        yield file
