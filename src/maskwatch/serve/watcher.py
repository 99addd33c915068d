"""The watcher: watches cameras in a thread of the service, and reports what it sees."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, get_args
from urllib.parse import quote

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from maskwatch.detector import Detector
from maskwatch.errors import MaskwatchError
from maskwatch.live.capture.status import CaptureState, CaptureStatus
from maskwatch.live.config import WatchConfig
from maskwatch.live.loop import Outputs, WatchLoop, open_pipeline
from maskwatch.live.run import retention_thread, with_pictures
from maskwatch.live.sinks.delivery import SinkStatus
from maskwatch.live.sinks.factory import open_delivery
from maskwatch.serve.live_state import LiveState


class Watcher:
    """Watches cameras within `running`.

    Args:
        config: its windows, terminal output and recordings are not used; sinks, thumbnails, clips and
            their age are.
        loaded: returns the detector that has already loaded a model; None loads it.
        keep_faces: show and store faces as they are.

    Raises:
        MaskwatchError: something of the config cannot be done.
    """

    def __init__(
        self, config: WatchConfig, loaded: Callable[[str], Detector | None], *, keep_faces: bool
    ) -> None:
        self._pipeline = pipeline = open_pipeline(config, loaded)
        self.state = LiveState(pipeline.zones, pipeline.finder.metadata.classes, keep_faces=keep_faces)
        with contextlib.ExitStack() as opened:
            delivery = open_delivery(config.sinks, pipeline.finder.metadata.classes, on_error=_say)
            self._delivery = opened.enter_context(delivery)
            self._retention = retention_thread(config, list(pipeline.trackers), delivery, _say)
            outputs = opened.enter_context(
                with_pictures(
                    Outputs(delivery.put, [self.state]), config, pipeline, _say, keep_faces=keep_faces
                )
            )
            self._watch = WatchLoop(pipeline, outputs)
            self._opened = opened.pop_all()  # nothing has failed, so `_close` closes it
        self._thread = threading.Thread(target=self._run, name="watch")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Watches for the length of the block. At the end open alerts end, and sinks send their events."""
        self.state.notifier.attach(asyncio.get_running_loop())
        try:
            self._opened.enter_context(self._retention)
            self._thread.start()
            yield
        finally:
            await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._watch.stop()
        if self._thread.ident is not None:
            self._thread.join()
        self._opened.close()

    def has(self, source: str) -> bool:
        """Whether a source of that name is watched."""
        return source in self._pipeline.trackers

    def sources(self) -> Sequence[CaptureStatus]:
        """The status of each source."""
        return self._watch.status()

    def sinks(self) -> Sequence[SinkStatus]:
        """The status of each sink."""
        return self._delivery.status()

    def describe(self) -> dict[str, Any]:
        """The document of `GET /v1/watch`."""
        events, _ = self.state.events()
        return {
            "run": self._pipeline.run,
            "sources": [self._source(status) for status in self.sources()],
            "sinks": [dataclasses.asdict(status) for status in self.sinks()],
            "events": [event.to_record() for event in events],
        }

    def _source(self, status: CaptureStatus) -> dict[str, Any]:
        frame = self.state.newest(status.name)
        people = [] if frame is None else [one for one in frame.people if one.seen]
        return {
            "name": status.name,
            "state": status.state,
            "reason": status.error,
            "fps": round(status.fps, 2),
            "frames": status.frames,
            "dropped": status.dropped,
            "width": None if status.size is None else status.size[0],
            "height": None if status.size is None else status.size[1],
            "people": [
                {
                    "track": one.track,
                    "state": one.state,
                    "since_s": round(one.since_s, 1),
                    "alert": one.alert,
                    "static": one.static,
                    "zones": list(one.zones),
                    "box": [round(float(value), 1) for value in one.box_xyxy],
                }
                for one in people
            ],
            "counts": self.state.counts(status.name),
            "stream": f"/v1/watch/{quote(status.name)}.mjpg",
        }

    def _run(self) -> None:
        try:
            self._watch.run()
        except MaskwatchError as error:  # a file or webcam that cannot be opened
            _say("watch", f"{error}; watching has ended, serving goes on")


def _say(name: str, text: str) -> None:
    print(f"{name}: {text}", file=sys.stderr, flush=True)


class WatchMetrics(Collector):
    """Metrics of sources and sinks, read at each scrape.

    Args:
        sources: returns the status of each source.
        sinks: returns the status of each sink.
    """

    def __init__(
        self, sources: Callable[[], Sequence[CaptureStatus]], sinks: Callable[[], Sequence[SinkStatus]]
    ) -> None:
        self._sources, self._sinks = sources, sinks

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """The current numbers."""
        state = GaugeMetricFamily(
            "maskwatch_source_state", "1 for the state that a source is in.", labels=["source", "state"]
        )
        frames = CounterMetricFamily("maskwatch_source_frames", "Frames that came in.", labels=["source"])
        reconnects = CounterMetricFamily(
            "maskwatch_source_reconnects", "Times that a lost source came back.", labels=["source"]
        )
        for source in self._sources():
            for name in get_args(CaptureState):
                state.add_metric([source.name, name], float(name == source.state))
            frames.add_metric([source.name], source.frames)
            reconnects.add_metric([source.name], source.reconnects)
        yield from (state, frames, reconnects)
        sent = CounterMetricFamily("maskwatch_sink_events", "Events that a sink took.", labels=["sink"])
        waiting = GaugeMetricFamily("maskwatch_sink_events_waiting", "Events that wait.", labels=["sink"])
        # A gauge, since it falls when refused events are deleted or sent again.
        lost = GaugeMetricFamily(
            "maskwatch_sink_events_lost", "Events that were dropped or refused for good.", labels=["sink"]
        )
        trouble = GaugeMetricFamily("maskwatch_sink_trouble", "1 while something is wrong.", labels=["sink"])
        for sink in self._sinks():
            sent.add_metric([sink.name], sink.sent)
            waiting.add_metric([sink.name], sink.waiting)
            lost.add_metric([sink.name], sink.lost)
            trouble.add_metric([sink.name], float(sink.error is not None))
        yield from (sent, waiting, lost, trouble)
