"""The live view on a terminal."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Column, Table
from rich.text import Text

from maskwatch.labels import color_rgb
from maskwatch.live.capture.status import CaptureStatus
from maskwatch.live.events import Event
from maskwatch.live.output.terminal import QUIET_KINDS, Describe, live_line, progress_bars
from maskwatch.live.sinks.delivery import SinkStatus
from maskwatch.live.sinks.event_text import duration, state_text
from maskwatch.live.tracking.results import FrameResult, Observer, Person

_EVENTS_SHOWN = 8
_ALERTING_SHOWN = 6
_RATE_WINDOW_S = 3.0


@dataclass
class _SourceView:
    """What the screen shows of one source."""

    age_s: float = 0.0
    people: Counter[str | None] = field(default_factory=Counter)
    alerting: tuple[Person, ...] = ()
    times_s: deque[float] = field(default_factory=lambda: deque(maxlen=200))

    def rate(self, now_s: float) -> float:
        recent = [moment for moment in self.times_s if now_s - moment <= _RATE_WINDOW_S]
        return len(recent) / _RATE_WINDOW_S if len(recent) < 2 else (len(recent) - 1) / (now_s - recent[0])


class Screen(Observer):
    """A live view: sources, frames per second, age of the frame, people, last events, sinks.

    Args:
        statuses: returns the status of every source.
        sinks: returns the status of every sink.
        class_names: in the order of their ids, for the colours.
        alert_classes: people in these states are listed, with the duration of the state.
        describe: as `PlainLines` takes it.
    """

    def __init__(
        self,
        statuses: Callable[[], Sequence[CaptureStatus]],
        sinks: Callable[[], Sequence[SinkStatus]],
        class_names: Sequence[str],
        alert_classes: Sequence[str],
        describe: Describe = lambda *_: "",
    ) -> None:
        self._statuses, self._sinks, self._describe = statuses, sinks, describe
        self._styles = {name: "rgb({},{},{})".format(*color_rgb(i)) for i, name in enumerate(class_names)}
        self._alert_classes = frozenset(alert_classes)
        self._views: dict[str, _SourceView] = {}
        self._events: deque[Event] = deque(maxlen=_EVENTS_SHOWN)
        self._lock = threading.Lock()
        self._live = Live(get_renderable=self.render, console=Console(), refresh_per_second=4)

    def __enter__(self) -> Screen:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def on_frame(self, result: FrameResult) -> None:
        with self._lock:
            view = self._views.setdefault(result.frame.source, _SourceView())
            view.age_s = result.age_s
            view.times_s.append(time.monotonic())
            view.people = Counter(person.shown_state for person in result.scene.people)
            view.alerting = tuple(
                person for person in result.scene.people if person.state in self._alert_classes
            )

    def on_event(self, event: Event) -> None:
        if event.kind in QUIET_KINDS:
            return
        with self._lock:
            self._events.append(event)
            if event.kind == "source" and event.state != "live":
                self._views.pop(event.source, None)  # no one is in sight

    def render(self) -> RenderableType:
        """The current view."""
        # Before the lock, for which the loop of watching waits: a sink may be slow to answer.
        statuses, sinks = self._statuses(), self._sinks()
        with self._lock:
            parts: list[RenderableType] = [self._sources(statuses)]
            if (bars := progress_bars(statuses)).row_count:
                parts.append(bars)
            parts += self._alerting()
            if sinks:
                parts.append(_sink_table(sinks))
            sizes = {status.name: status.size for status in statuses}
            parts += [self._line(event, sizes.get(event.source)) for event in self._events]
        return Group(*parts)

    def _line(self, event: Event, size_wh: tuple[int, int] | None) -> Text:
        live = event.kind == "source" and event.state == "live"
        detail = self._describe(event.source, size_wh) if live and size_wh is not None else ""
        return Text(live_line(event, detail), style=self._styles.get(event.state or "", ""))

    def _sources(self, statuses: Sequence[CaptureStatus]) -> Table:
        names = (Column(name, no_wrap=True) for name in ("source", "state"))
        numbers = (Column(name, justify="right", no_wrap=True) for name in ("fps", "age", "dropped"))
        table = Table(*names, *numbers, "people now", box=None, pad_edge=False)
        now_s = time.monotonic()
        for status in statuses:
            view = self._views.get(status.name, _SourceView())
            fresh = status.state == "live"
            table.add_row(
                status.name,
                Text(status.state, style="" if fresh else "yellow"),
                f"{view.rate(now_s):.1f}" if fresh else "–",
                f"{1000 * view.age_s:.0f} ms" if fresh else "–",
                str(status.dropped),
                self._people(view.people) if fresh else Text(status.error or "", style="yellow"),
            )
        return table

    def _alerting(self) -> list[RenderableType]:
        """People in a state that is an alert, the longest first."""
        people = [(name, person) for name, view in self._views.items() for person in view.alerting]
        people.sort(key=lambda pair: -pair[1].since_s)
        return [
            Text(
                f"{name}: person {person.track} {state_text(person.state)} for {duration(person.since_s)}",
                style=self._styles.get(person.state or "", ""),
            )
            for name, person in people[:_ALERTING_SHOWN]
        ]

    def _people(self, people: Counter[str | None]) -> Text:
        parts = [
            Text(f"{count} {state_text(state)}", style=self._styles.get(state or "", "dim"))
            for state, count in sorted(people.items(), key=lambda pair: str(pair[0]))
        ]
        return Text(", ").join(parts) if parts else Text("none", style="dim")


def _sink_table(sinks: Sequence[SinkStatus]) -> Table:
    numbers = (Column(name, justify="right") for name in ("sent", "waiting", "lost"))
    table = Table("sink", *numbers, "last error", box=None, pad_edge=False)
    for sink in sinks:
        table.add_row(sink.name, str(sink.sent), str(sink.waiting), str(sink.lost), sink.error or "")
    return table
