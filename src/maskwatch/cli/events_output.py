"""What `maskwatch events` prints and writes: tables of events and of their sums, CSV, JSON Lines."""

from __future__ import annotations

import contextlib
import csv
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from rich.console import Console
from rich.table import Table

from maskwatch.cli.json_file import is_stdout
from maskwatch.errors import OptionError
from maskwatch.live.events import Event
from maskwatch.live.sinks.event_text import duration, percent, state_text, timecode
from maskwatch.outputs import check_targets, new_file

if TYPE_CHECKING:
    from maskwatch.live.sinks.event_store import EventQuery, EventStore
    from maskwatch.live.tracking.counts import Counts, PeopleCounts

CSV_COLUMNS = (
    "schema", "time", "kind", "source", "run", "id", "track", "state", "score", "zone", "line", "direction",
    "duration_s", "alert", "reason", "x1", "y1", "x2", "y2", "width", "height", "model", "model_version",
    "thumbnail", "counts", "time_s", "clip",
)  # fmt: skip

_PIPE_WIDTH = 200
"""Columns of a table in a pipe."""


def export_events(
    store: EventStore, query: EventQuery, csv_file: Path | None, jsonl_file: Path | None, *, force: bool
) -> None:
    """Writes the files that are not None, each whole or not at all.

    Raises:
        OptionError: both are None, or both are standard output.
        OutputError: a file exists, or cannot be written.
    """
    if csv_file is None and jsonl_file is None:
        raise OptionError("nothing to write to; name a file with --csv or --jsonl, - for standard output")
    if is_stdout(csv_file) and is_stdout(jsonl_file):
        raise OptionError("--csv - and --jsonl - would mix on standard output; give one of them a file")
    files = [path for path in (csv_file, jsonl_file) if path is not None and not is_stdout(path)]
    check_targets(files, [], force=force)
    for path, writer in ((csv_file, _csv_writer), (jsonl_file, _json_writer)):
        if path is not None:
            number = 0
            with _target(path) as file:
                write = writer(file)
                for number, record in enumerate(store.every_record(query), 1):  # noqa: B007
                    write(record)
            print(f"{path}: {number} events", file=sys.stderr)


def _csv_writer(file: TextIO) -> Callable[[dict[str, Any]], None]:
    rows = csv.DictWriter(file, CSV_COLUMNS, extrasaction="ignore", lineterminator="\n")
    rows.writeheader()

    def write(record: dict[str, Any]) -> None:
        values = {**record, **dict(zip(("x1", "y1", "x2", "y2"), record.get("box") or (), strict=False))}
        if record.get("counts") is not None:
            values["counts"] = json.dumps(record["counts"], ensure_ascii=False)
        rows.writerow(values)

    return write


def _json_writer(file: TextIO) -> Callable[[dict[str, Any]], None]:
    return lambda record: print(json.dumps(record, ensure_ascii=False), file=file)


@contextlib.contextmanager
def _target(path: Path) -> Iterator[TextIO]:
    if is_stdout(path):
        yield sys.stdout
        return
    with new_file(path) as part, part.open("w", encoding="utf-8", errors="backslashreplace") as file:
        yield file


def print_events(records: Iterable[dict[str, Any]]) -> None:
    """One row for each event; with its position in the video where a source is a file."""
    events = [Event.from_record(record) for record in records]
    columns: dict[str, list[str]] = {
        "time": [f"{event.time:%Y-%m-%d %H:%M:%S}" for event in events],
        ">in video": ["" if event.time_s is None else timecode(event.time_s) for event in events],
        "source": [event.source for event in events],
        "kind": [event.kind for event in events],
        ">person": ["" if event.track is None else str(event.track) for event in events],
        "state": [state_text(event.state) if event.state else "" for event in events],
        "where": [event.zone or event.line or "" for event in events],
        ">for": ["" if event.duration_s is None else duration(event.duration_s) for event in events],
        ">sure": ["" if event.score is None else percent(event.score) for event in events],
        "more": [_more(event) for event in events],
    }
    if not any(columns[">in video"]):
        del columns[">in video"]
    _print("no events", columns)


def hour_rows(records: Iterable[dict[str, Any]], zone: str | None) -> list[dict[str, Any]]:
    """Sums by hour and source, as dictionaries for JSON; all numbers but `masked_share` can be added up.

    Args:
        records: of minutes.
        zone: take the numbers of this zone instead of the whole source; hours without it are left out.

    Raises:
        EventError: the counts of a minute cannot be read.
    """
    from maskwatch.live.tracking.counts import sum_by_hour

    summed = sum_by_hour(Event.from_record(record) for record in records)
    rows = []
    for (source, hour), counts in sorted(summed.items(), key=lambda item: (item[0][1], item[0][0])):
        people = counts.total if zone is None else counts.zones.get(zone)
        if people is not None:
            numbers = _numbers(counts, people)
            rows.append({"hour": hour.isoformat(), "source": source, "zone": zone, **numbers})
    return rows


def print_hours(rows: Sequence[dict[str, Any]]) -> None:
    """One row for each hour and source, crossings only where there are any; two tables if one is too wide."""
    from maskwatch.live.tracking.counts import MASKED_STATE

    hours: dict[str, list[str]] = {
        "hour": [row["hour"][:16].replace("T", " ") for row in rows],
        "source": [row["source"] for row in rows],
    }
    watched = {">watched": [duration(row["watched_s"]) for row in rows]}
    people = {">people": [str(row["people"]) for row in rows]}
    for state in dict.fromkeys(state for row in rows for state in row["by_state"]):
        people[f">{state_text(state)}"] = [str(row["by_state"].get(state, 0)) for row in rows]
    people[">undecided"] = [str(row["undecided"]) for row in rows]
    if any(MASKED_STATE in row["by_state"] for row in rows):
        shares = [row["masked_share"] for row in rows]
        people[">masked"] = ["–" if share is None else f"{100 * share:.0f}%" for share in shares]
    alerts = {">alerts": [str(row["alerts"]) for row in rows]}
    if any(row["in"] or row["out"] for row in rows):
        alerts |= {f">{way}": [str(row[way]) for row in rows] for way in ("in", "out")}
    wide = hours | watched | people | alerts
    if _fits(Console(highlight=False), wide):
        _print("no counts", wide)
    else:
        _print("no counts", hours | people, hours | watched | alerts)


def _numbers(counts: Counts, people: PeopleCounts) -> dict[str, Any]:
    masked = people.masked_share
    return {
        "frames": counts.frames,
        "watched_s": round(counts.watched_s, 3),
        **people.to_record(),
        "masked_share": None if masked is None else round(masked, 4),
        "in": sum(ways["in"] for ways in counts.lines.values()),
        "out": sum(ways["out"] for ways in counts.lines.values()),
    }


def _more(event: Event) -> str:
    parts = [event.direction, event.reason, event.thumbnail or event.clip]
    whole = (event.counts or {}).get("all")
    if isinstance(whole, Mapping):
        people = whole.get("people", 0)
        parts.append(f"{people} {'person' if people == 1 else 'people'}")
    return ", ".join(part for part in parts if part)


def _print(nothing: str, columns: dict[str, list[str]], *more: dict[str, list[str]]) -> None:
    """Prints tables one below the other, at full width in a pipe; `nothing` where there are no rows."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_PIPE_WIDTH)
    if not any(columns.values()):
        console.print(nothing)
        return
    for number, one in enumerate((columns, *more)):
        if number:
            console.print()
        console.print(_table(one, narrow=not _fits(console, one)))


def _fits(console: Console, columns: dict[str, list[str]]) -> bool:
    """Whether a terminal is wide enough for a table; a pipe always is."""
    limit = console.options.update(width=_PIPE_WIDTH)
    return not console.is_terminal or console.measure(_table(columns), options=limit).maximum <= console.width


def _table(columns: dict[str, list[str]], *, narrow: bool = False) -> Table:
    """Titles that begin with > are those of numbers. Text too wide for the terminal is folded, never cut.

    A narrow table has a line for each word of a title, and less space between the columns.
    """
    table = Table(box=None, pad_edge=False, header_style="bold", collapse_padding=narrow)
    for title in columns:
        text = title.removeprefix(">")
        table.add_column(
            text.replace(" ", "\n") if narrow else text,
            justify="right" if title.startswith(">") else "left",
            overflow="fold",
        )
    for row in zip(*columns.values(), strict=True):
        table.add_row(*row)
    return table
