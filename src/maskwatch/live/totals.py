"""What a run of watching adds up to, for its last lines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import RenderableType
from rich.table import Table

from maskwatch.live.counts import Counts
from maskwatch.live.events import Event
from maskwatch.live.health import CaptureStatus
from maskwatch.live.lines import duration, shown_state
from maskwatch.live.watch import Viewer


class Totals(Viewer):
    """Adds up the minutes of every source."""

    def __init__(self, class_names: Sequence[str]) -> None:
        self._names = tuple(class_names)
        self._counts: dict[str, Counts] = {}

    def event(self, event: Event) -> None:
        if event.kind == "minute" and event.counts is not None:
            counts = Counts.from_record(event.counts)
            if event.source in self._counts:
                self._counts[event.source].add(counts)
            else:
                self._counts[event.source] = counts

    def table(self, statuses: Iterable[CaptureStatus]) -> RenderableType:
        """One line a source: people by state, alerts, seconds watched, frames in and dropped."""
        table = Table(box=None, pad_edge=False)
        table.add_column("source", no_wrap=True)
        for name in ("people", *map(shown_state, self._names), "alerts", "watched", "frames", "dropped"):
            table.add_column(name, justify="right")
        for status in statuses:
            counts = self._counts.get(status.name)
            people = {} if counts is None else counts.total.people
            table.add_row(
                status.name,
                str(sum(people.values())),
                *(str(people.get(name, 0)) for name in self._names),
                "0" if counts is None else str(counts.total.alerts),
                duration(0.0 if counts is None else counts.watched_s),
                str(status.frames),
                str(status.dropped),
            )
        return table
