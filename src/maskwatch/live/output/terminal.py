"""Output to a terminal or a pipe: events as lines, progress of video files, totals at the end."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Self, TextIO, TypeAlias

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Column, Table

from maskwatch.live.capture.status import CaptureStatus
from maskwatch.live.events import Event
from maskwatch.live.sinks.event_text import duration, event_line, state_text, timecode
from maskwatch.live.tracking.counts import MASKED_STATE, Counts, PeopleCounts
from maskwatch.live.tracking.results import FrameResult, Observer

QUIET_KINDS = frozenset(["minute"])
"""Kinds that are stored but not shown: they would push the others off the screen."""

Describe: TypeAlias = Callable[[str, tuple[int, int]], str]
"""Returns what stands behind `live`, for a source and the size (width, height) of its frames."""

_BAR_WIDTH = 30


class _Lines(Observer):
    def __init__(self, file: TextIO) -> None:
        self._file = file

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class JsonLines(_Lines):
    """Every event as a line of JSON."""

    def on_event(self, event: Event) -> None:
        print(event.to_json(), file=self._file, flush=True)


class PlainLines(_Lines):
    """Every event as a line of text, for logs.

    Args:
        describe: for the lines of sources that go live.
    """

    def __init__(self, file: TextIO, describe: Describe) -> None:
        super().__init__(file)
        self._describe = describe
        self._went_live: dict[str, Event] = {}  # by source, until the first frame tells its size

    def on_frame(self, result: FrameResult) -> None:
        frame = result.frame
        height, width = frame.image_rgb.shape[:2]
        self._print_live(frame.source, self._describe(frame.source, (width, height)))

    def on_event(self, event: Event) -> None:
        if event.kind == "source" and event.state == "live":
            self._went_live[event.source] = event
        elif event.kind not in QUIET_KINDS:
            self._print_live(event.source)
            print(event_line(event), file=self._file, flush=True)

    def _print_live(self, source: str, detail: str = "") -> None:
        event = self._went_live.pop(source, None)
        if event is not None:
            print(live_line(event, detail), file=self._file, flush=True)


def live_line(event: Event, detail: str) -> str:
    """A source that goes live: `12:03:44 door: live, 1920x1080, faces from 72 px`."""
    return event_line(event) + (f", {detail}" if detail else "")


class Totals(Observer):
    """Adds up the minutes of every source.

    Args:
        model: name of the model, for the last line.
        class_names: its classes, in the order of their ids.
    """

    def __init__(self, model: str, class_names: Sequence[str]) -> None:
        self._model, self._names = model, tuple(class_names)
        self._counts = defaultdict[str, Counts](lambda: Counts(PeopleCounts({}, {})))

    def on_event(self, event: Event) -> None:
        if event.kind == "minute" and event.counts is not None:
            self._counts[event.source].add(Counts.from_record(event.counts))

    def table(self, statuses: Iterable[CaptureStatus]) -> RenderableType:
        """Two tables, since one would be wider than 80 columns.

        Of each source: people by state and alerts; time watched, frames read and dropped.
        """
        listed = list(statuses)
        return Group(self._people(listed), "", self._frames(listed), "", f"model: {self._model}")

    def _people(self, statuses: Sequence[CaptureStatus]) -> Table:
        masked = ["masked"] if MASKED_STATE in self._names else []
        table = _table("people", *map(state_text, self._names), "undecided", *masked, "alerts")
        for status in statuses:
            total = self._counts[status.name].total
            share = total.masked_share
            table.add_row(
                status.name,
                str(sum(total.people.values())),
                *(str(total.people.get(name, 0)) for name in self._names),
                str(total.undecided),
                *("–" if share is None else f"{100 * share:.0f}%" for _ in masked),
                str(total.alerts),
            )
        return table

    def _frames(self, statuses: Sequence[CaptureStatus]) -> Table:
        """Frames that `--fps` left out have a column if there are any."""
        skipped = ["left out"] if any(status.skipped for status in statuses) else []
        table = _table("watched", "frames", *skipped, "dropped")
        for status in statuses:
            table.add_row(
                status.name,
                duration(self._counts[status.name].watched_s),
                str(status.frames),
                *(str(status.skipped) for _ in skipped),
                str(status.dropped),
            )
        return table


def _table(*titles: str) -> Table:
    """A table of sources and numbers. Each word of a title has its line; columns too wide are folded."""
    numbers = (Column(title.replace(" ", "\n"), justify="right", overflow="fold") for title in titles)
    return Table(Column("source", overflow="fold"), *numbers, box=None, pad_edge=False)


def progress_bars(statuses: Sequence[CaptureStatus]) -> Table:
    """A progress bar for each source that is a video file."""
    table = Table.grid(padding=(0, 1))
    table.add_column(overflow="fold")
    for status in statuses:
        if status.media_time_s is not None:
            table.add_row(status.name, _bar(status), _position_text(status))
    return table


def progress_on_stderr(statuses: Callable[[], Sequence[CaptureStatus]]) -> AbstractContextManager[object]:
    """Shows the bars inside the block, unless standard output is a terminal, which shows the events."""
    if sys.stdout.isatty() or not sys.stderr.isatty():
        return nullcontext()
    return Live(
        get_renderable=lambda: progress_bars(statuses()),
        console=Console(stderr=True),
        refresh_per_second=4,
        transient=True,
        redirect_stdout=False,
    )


def _bar(status: CaptureStatus) -> RenderableType:
    assert status.media_time_s is not None
    if status.state == "ended":
        return ProgressBar(1, 1, _BAR_WIDTH)
    if status.duration_s is None:
        return ProgressBar(None, 0, _BAR_WIDTH, pulse=True)
    return ProgressBar(status.duration_s, min(status.media_time_s, status.duration_s), _BAR_WIDTH)


def _position_text(status: CaptureStatus) -> str:
    assert status.media_time_s is not None
    of = "" if status.duration_s is None else f" of {timecode(status.duration_s)}"
    return timecode(status.media_time_s) + of
