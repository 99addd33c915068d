"""What a run of watching adds up to, for its last lines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Group, RenderableType
from rich.table import Table

from maskwatch.live.capture.status import CaptureStatus
from maskwatch.live.events import Event
from maskwatch.live.output.lines import duration, shown_state
from maskwatch.live.tracking.counts import MASKED_STATE, Counts, PeopleCounts
from maskwatch.live.tracking.results import Observer


class Totals(Observer):
    """Adds up the minutes of every source.

    Args:
        model: name of the model, for the last line.
        class_names: its classes, in the order of their ids.
    """

    def __init__(self, model: str, class_names: Sequence[str]) -> None:
        self._model, self._names = model, tuple(class_names)
        self._counts: dict[str, Counts] = {}

    def on_event(self, event: Event) -> None:
        if event.kind == "minute" and event.counts is not None:
            counts = Counts.from_record(event.counts)
            if event.source in self._counts:
                self._counts[event.source].add(counts)
            else:
                self._counts[event.source] = counts

    def table(self, statuses: Iterable[CaptureStatus]) -> RenderableType:
        """Two lines a source: its people by state and alerts; seconds watched, frames in and lost.

        Two tables, since one would be wider than 80 columns.
        """
        listed = list(statuses)
        return Group(self._people(listed), "", self._pictures(listed), "", f"model: {self._model}")

    def _people(self, statuses: Sequence[CaptureStatus]) -> Table:
        masked = ["masked"] if MASKED_STATE in self._names else []
        table = _table("people", *map(shown_state, self._names), "undecided", *masked, "alerts")
        for status in statuses:
            tally = PeopleCounts({}, {})
            if status.name in self._counts:
                tally = self._counts[status.name].total
            share = tally.masked_share
            table.add_row(
                status.name,
                str(sum(tally.people.values())),
                *(str(tally.people.get(name, 0)) for name in self._names),
                str(tally.undecided),
                *("–" if share is None else f"{100 * share:.0f}%" for _ in masked),
                str(tally.alerts),
            )
        return table

    def _pictures(self, statuses: Sequence[CaptureStatus]) -> Table:
        """Frames that were left out on purpose, by a limit, only where there are any."""
        skipped = ["left out"] if any(status.skipped for status in statuses) else []
        table = _table("watched", "frames", *skipped, "dropped")
        for status in statuses:
            counts = self._counts.get(status.name)
            table.add_row(
                status.name,
                duration(0.0 if counts is None else counts.watched_s),
                str(status.frames),
                *(str(status.skipped) for _ in skipped),
                str(status.dropped),
            )
        return table


def _table(*titles: str) -> Table:
    """Sources and numbers. A title has a line for each word; what is too wide all the same is folded."""
    table = Table(box=None, pad_edge=False)
    table.add_column("source", overflow="fold")
    for title in titles:
        table.add_column(title.replace(" ", "\n"), justify="right", overflow="fold")
    return table
