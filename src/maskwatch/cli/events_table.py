"""Events and their sums as tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from maskwatch.live.events import Event
from maskwatch.live.output.lines import duration, shown_state, timecode

if TYPE_CHECKING:
    from maskwatch.live.tracking.counts import Counts, PeopleCounts

_PIPE_WIDTH = 200
"""Columns where there is no terminal that knows its own."""


def event_table(records: Iterable[dict[str, Any]]) -> Table:
    """One row for each event, with its position in the video where there is one of a file."""
    events = [Event.from_record(record) for record in records]
    in_video = [">in video"] if any(event.time_s is not None for event in events) else []
    table = _table("time", *in_video, "source", "kind", ">person", "state", "where", ">for", ">sure", "more")
    for event in events:
        table.add_row(
            f"{event.time:%Y-%m-%d %H:%M:%S}",
            *("" if event.time_s is None else timecode(event.time_s) for _ in in_video),
            event.source,
            event.kind,
            "" if event.track is None else str(event.track),
            shown_state(event.state) if event.state else "",
            event.zone or event.line or "",
            "" if event.duration_s is None else duration(event.duration_s),
            "" if event.score is None else f"{min(99, int(100 * event.score))}%",
            _more(event),
        )
    return table


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
        tally = counts.total if zone is None else counts.zones.get(zone)
        if tally is not None:
            rows.append({"hour": hour.isoformat(), "source": source, "zone": zone, **_numbers(counts, tally)})
    return rows


def hour_table(rows: Sequence[dict[str, Any]]) -> Table:
    """One row for each hour and source; crossings only where there are any."""
    states = list(dict.fromkeys(state for row in rows for state in row["by_state"]))
    titles = [f">{shown_state(state)}" for state in states]
    ways = [way for way in ("in", "out") if any(row["in"] or row["out"] for row in rows)]
    counted = (">people", *titles, ">undecided", ">masked", ">alerts", *(f">{way}" for way in ways))
    table = _table("hour", "source", ">watched", *counted)
    for row in rows:
        share = row["masked_share"]
        table.add_row(
            row["hour"][:16].replace("T", " "),
            row["source"],
            duration(row["watched_s"]),
            str(row["people"]),
            *(str(row["by_state"].get(state, 0)) for state in states),
            str(row["undecided"]),
            "–" if share is None else f"{100 * share:.0f}%",
            str(row["alerts"]),
            *(str(row[way]) for way in ways),
        )
    return table


def print_table(table: Table, nothing: str, number: int) -> None:
    """Prints a table as wide as it needs to be in a pipe; `nothing` where it has no rows."""
    console = Console(highlight=False)
    if not number:
        console.print(nothing)
        return
    if not console.is_terminal:
        console = Console(highlight=False, width=_PIPE_WIDTH)
    elif console.measure(table, options=console.options.update(width=_PIPE_WIDTH)).maximum > console.width:
        _make_narrow(table)
    console.print(table)


def _make_narrow(table: Table) -> None:
    """A line for each word of a title, and less between the columns."""
    table.collapse_padding = True
    for column in table.columns:
        column.header = str(column.header).replace(" ", "\n")


def _numbers(counts: Counts, tally: PeopleCounts) -> dict[str, Any]:
    masked = tally.masked_share
    return {
        "frames": counts.frames,
        "watched_s": round(counts.watched_s, 3),
        **tally.to_record(),
        "masked_share": None if masked is None else round(masked, 4),
        "in": sum(ways["in"] for ways in counts.lines.values()),
        "out": sum(ways["out"] for ways in counts.lines.values()),
    }


def _more(event: Event) -> str:
    parts = [event.direction, event.reason, event.thumbnail]
    whole = (event.counts or {}).get("all")
    if isinstance(whole, Mapping):
        people = whole.get("people", 0)
        parts.append(f"{people} {'person' if people == 1 else 'people'}")
    return ", ".join(part for part in parts if part)


def _table(*titles: str) -> Table:
    """Titles that begin with > stand over numbers. What a terminal has no room for is folded, never cut."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in titles:
        right = title.startswith(">")
        table.add_column(title.removeprefix(">"), justify="right" if right else "left", overflow="fold")
    return table
