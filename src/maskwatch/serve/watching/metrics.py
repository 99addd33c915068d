"""Sources and sinks of what is watched beside, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import get_args

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from maskwatch.live.capture.status import CaptureState, CaptureStatus
from maskwatch.live.sinks.delivery import SinkStatus

Family = CounterMetricFamily | GaugeMetricFamily


class WatchMetrics(Collector):
    """Reads the numbers when they are asked for.

    Args:
        sources: how each source is doing.
        sinks: how each sink is doing.
    """

    def __init__(
        self, sources: Callable[[], Sequence[CaptureStatus]], sinks: Callable[[], Sequence[SinkStatus]]
    ) -> None:
        self._sources, self._sinks = sources, sinks

    def collect(self) -> Iterator[Family]:
        """The numbers of now."""
        yield from _of_sources(self._sources())
        yield from _of_sinks(self._sinks())


def _of_sources(statuses: Sequence[CaptureStatus]) -> list[Family]:
    state = GaugeMetricFamily(
        "maskwatch_source_state", "1 for the state that a source is in.", labels=["source", "state"]
    )
    frames = CounterMetricFamily("maskwatch_source_frames", "Frames that came in.", labels=["source"])
    reconnects = CounterMetricFamily(
        "maskwatch_source_reconnects", "Times that a lost source came back.", labels=["source"]
    )
    for status in statuses:
        for name in get_args(CaptureState):
            state.add_metric([status.name, name], float(name == status.state))
        frames.add_metric([status.name], status.frames)
        reconnects.add_metric([status.name], status.reconnects)
    return [state, frames, reconnects]


def _of_sinks(statuses: Sequence[SinkStatus]) -> list[Family]:
    events = CounterMetricFamily("maskwatch_sink_events", "Events that a sink took.", labels=["sink"])
    waiting = GaugeMetricFamily("maskwatch_sink_events_waiting", "Events that wait.", labels=["sink"])
    # No counter: it falls when events that were refused are deleted or sent again.
    lost = GaugeMetricFamily(
        "maskwatch_sink_events_lost", "Events that were dropped or refused for good.", labels=["sink"]
    )
    trouble = GaugeMetricFamily("maskwatch_sink_trouble", "1 while something is wrong.", labels=["sink"])
    for status in statuses:
        events.add_metric([status.name], status.sent)
        waiting.add_metric([status.name], status.waiting)
        lost.add_metric([status.name], status.lost)
        trouble.add_metric([status.name], float(status.error is not None))
    return [events, waiting, lost, trouble]
