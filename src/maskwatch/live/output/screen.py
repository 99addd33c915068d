"""What a person at the terminal sees: a live table there, plain lines in a pipe, JSON for machines."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from maskwatch.labels import color_rgb
from maskwatch.live.capture.status import CaptureStatus
from maskwatch.live.events import Event
from maskwatch.live.output.lines import duration, line, shown_state
from maskwatch.live.output.progress import progress_bars
from maskwatch.live.sinks.delivery import SinkStatus
from maskwatch.live.tracking.results import FrameResult, Observer, Person

_EVENTS_SHOWN = 8
_ALARMING_SHOWN = 6
_RATE_WINDOW_S = 3.0
_QUIET_KINDS = frozenset(["minute"])
"""Kinds that are stored, and would only drive the others off a screen."""


class _Lines(Observer):
    def __init__(self, file: TextIO) -> None:
        self._file = file

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        pass


class JsonLines(_Lines):
    """Every event as a line of JSON."""

    def on_event(self, event: Event) -> None:
        print(event.to_json(), file=self._file, flush=True)


class PlainLines(_Lines):
    """Every event as a line of text, for logs."""

    def on_event(self, event: Event) -> None:
        if event.kind not in _QUIET_KINDS:
            print(line(event), file=self._file, flush=True)


@dataclass
class _Seen:
    """What the screen knows of one source."""

    age_s: float = 0.0
    people: Counter[str | None] = field(default_factory=Counter)
    alarming: tuple[Person, ...] = ()
    times_s: deque[float] = field(default_factory=lambda: deque(maxlen=200))

    def rate(self, now_s: float) -> float:
        recent = [moment for moment in self.times_s if now_s - moment <= _RATE_WINDOW_S]
        return len(recent) / _RATE_WINDOW_S if len(recent) < 2 else (len(recent) - 1) / (now_s - recent[0])


class Screen(Observer):
    """A live view on a terminal: sources, frames a second, age of the frame, people, last events, sinks.

    Args:
        statuses: gives the state of every source.
        sinks: gives the state of every sink.
        class_names: in the order of their ids, for the colours.
        alert_classes: states whose people are listed with how long they have lasted.
    """

    def __init__(
        self,
        statuses: Callable[[], Sequence[CaptureStatus]],
        sinks: Callable[[], Sequence[SinkStatus]],
        class_names: Sequence[str],
        alert_classes: Sequence[str],
        console: Console | None = None,
    ) -> None:
        self._statuses, self._sinks = statuses, sinks
        self._styles = {name: "rgb({},{},{})".format(*color_rgb(i)) for i, name in enumerate(class_names)}
        self._alert_classes = frozenset(alert_classes)
        self._seen: dict[str, _Seen] = {}
        self._events: deque[Event] = deque(maxlen=_EVENTS_SHOWN)
        self._lock = threading.Lock()
        self._live = Live(
            get_renderable=self.render, console=console or Console(), refresh_per_second=4, transient=False
        )

    def __enter__(self) -> Screen:
        self._live.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._live.stop()

    def on_frame(self, result: FrameResult) -> None:
        with self._lock:
            seen = self._seen.setdefault(result.frame.source, _Seen())
            seen.age_s = result.age_s
            seen.times_s.append(time.monotonic())
            seen.people = Counter(person.state for person in result.scene.people)
            seen.alarming = tuple(
                person for person in result.scene.people if person.state in self._alert_classes
            )

    def on_event(self, event: Event) -> None:
        if event.kind in _QUIET_KINDS:
            return
        with self._lock:
            self._events.append(event)
            if event.kind == "source" and event.state != "live":
                self._seen.pop(event.source, None)  # whoever was there is out of sight

    def render(self) -> RenderableType:
        """The whole view, as it is now."""
        statuses, sinks = self._statuses(), self._sinks()  # first: the watching loop waits for the lock
        with self._lock:
            parts: list[RenderableType] = [self._sources(statuses)]
            if (bars := progress_bars(statuses)).row_count:
                parts.append(bars)
            parts += self._alarming()
            if sinks:
                parts.append(_sink_table(sinks))
            parts += [
                Text(line(event), style=self._styles.get(event.state or "", "")) for event in self._events
            ]
        return Group(*parts)

    def _line(self, event: Event) -> Text:
        return Text(line(event), style=self._styles.get(event.state or "", ""))

    def _sources(self, statuses: Sequence[CaptureStatus]) -> Table:
        table = Table(box=None, pad_edge=False)
        table.add_column("source", no_wrap=True)
        table.add_column("state", no_wrap=True)
        for name in ("fps", "age", "dropped"):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("people now")
        now_s = time.monotonic()
        for status in statuses:
            seen = self._seen.get(status.name, _Seen())
            fresh = status.state == "live"
            table.add_row(
                status.name,
                Text(status.state, style="" if fresh else "yellow"),
                f"{seen.rate(now_s):.1f}" if fresh else "–",
                f"{1000 * seen.age_s:.0f} ms" if fresh else "–",
                str(status.dropped),
                self._people(seen.people) if fresh else Text(status.error or "", style="yellow"),
            )
        return table

    def _alarming(self) -> list[RenderableType]:
        """Who is in a state that is watched for, the longest first."""
        people = [(name, person) for name, seen in self._seen.items() for person in seen.alarming]
        people.sort(key=lambda pair: -pair[1].since_s)
        return [
            Text(
                f"{name}: person {person.track} {shown_state(person.state)} for {duration(person.since_s)}",
                style=self._styles.get(person.state or "", ""),
            )
            for name, person in people[:_ALARMING_SHOWN]
        ]

    def _people(self, people: Counter[str | None]) -> Text:
        parts = [
            Text(f"{count} {shown_state(state)}", style=self._styles.get(state or "", "dim"))
            for state, count in sorted(people.items(), key=lambda pair: str(pair[0]))
            if count
        ]
        return Text(", ").join(parts) if parts else Text("nobody", style="dim")


def _sink_table(sinks: Sequence[SinkStatus]) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("sink", "sent", "waiting", "lost", "last error"):
        table.add_column(name, justify="left" if name in ("sink", "last error") else "right")
    for sink in sinks:
        table.add_row(sink.name, str(sink.sent), str(sink.waiting), str(sink.lost), sink.error or "")
    return table
