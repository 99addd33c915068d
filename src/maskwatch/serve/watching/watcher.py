"""Watching beside serving: a plan, run in a thread of the service."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import sys
import threading
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from maskwatch.detector import Detector
from maskwatch.errors import MaskwatchError
from maskwatch.live.capture.status import CaptureStatus
from maskwatch.live.config import WatchConfig
from maskwatch.live.loop import Outputs, WatchLoop, open_pipeline
from maskwatch.live.run import open_thumbnails, retention_thread
from maskwatch.live.sinks.delivery import SinkStatus
from maskwatch.live.sinks.factory import open_delivery
from maskwatch.serve.watching.views import Views


class Watching:
    """Watches from `start` to `close`.

    Args:
        plan: windows, terminals and recordings are not for here; sinks, thumbnails and their age are.
        detector: has loaded the plan's model already; None loads it.
        keep_faces: show and store faces as they are.

    Raises:
        MaskwatchError: something of the plan cannot be done.
    """

    def __init__(self, plan: WatchConfig, detector: Detector | None, *, keep_faces: bool) -> None:
        self._parts = parts = open_pipeline(plan, detector)
        self.views = Views(parts.zones, parts.finder.metadata.classes, keep_faces=keep_faces)
        pictures = open_thumbnails(plan.thumbnails, _say, keep_faces=keep_faces)
        with contextlib.ExitStack() as opened:
            self._delivery = delivery = opened.enter_context(open_delivery(plan.sinks, on_error=_say))
            self._sweeping = retention_thread(plan, list(parts.trackers), delivery, _say)
            outputs = Outputs(
                put=delivery.put,
                observers=[self.views] if pictures is None else [self.views, pictures],
                thumbnail=None if pictures is None else pictures.try_store,
            )
            self._watch = WatchLoop(parts, outputs)
            self._opened = opened.pop_all()  # nothing has failed, so `close` closes it
        self._thread = threading.Thread(target=self._run, name="watch")

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begins; `loop` is where others wait for what is new."""
        self.views.news.attach(loop)
        self._opened.enter_context(self._sweeping)
        self._thread.start()

    def close(self) -> None:
        """Ends well: open alerts are told as stopped, and events go where they should."""
        self._watch.stop()
        if self._thread.ident is not None:
            self._thread.join()
        self._opened.close()

    def has(self, source: str) -> bool:
        """Whether a source of that name is watched."""
        return source in self._parts.trackers

    def sources(self) -> Sequence[CaptureStatus]:
        """How each source is doing."""
        return self._watch.status()

    def sinks(self) -> Sequence[SinkStatus]:
        """How each sink is doing."""
        return self._delivery.status()

    def describe(self) -> dict[str, Any]:
        """What `GET /v1/watch` says."""
        events, _ = self.views.events()
        return {
            "run": self._parts.run,
            "sources": [self._source(status) for status in self.sources()],
            "sinks": [dataclasses.asdict(status) for status in self.sinks()],
            "events": [event.to_record() for event in events],
        }

    def _source(self, status: CaptureStatus) -> dict[str, Any]:
        view = self.views.newest(status.name)
        people = [] if view is None else [one for one in view.people if one.seen]
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
                    "zones": list(one.zones),
                    "box": [round(float(value), 1) for value in one.box_xyxy],
                }
                for one in people
            ],
            "counts": self.views.counts(status.name),
            "stream": f"/v1/watch/{quote(status.name)}.mjpg",
        }

    def _run(self) -> None:
        try:
            self._watch.run()
        except MaskwatchError as error:  # a file or webcam that cannot be opened; serving goes on
            _say("watch", f"{error}; watching has ended, serving goes on")


def _say(name: str, text: str) -> None:
    print(f"{name}: {text}", file=sys.stderr, flush=True)
