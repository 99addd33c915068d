"""The loop of watching: newest frames → faces → people → events, and everything that hangs on them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from threading import Event as Flag

from maskwatch.live.capture.core import Capture
from maskwatch.live.capture.frame import LiveFrame
from maskwatch.live.capture.hub import Hub
from maskwatch.live.capture.status import CaptureState, CaptureStatus
from maskwatch.live.events import Event
from maskwatch.live.tracking.faces import FaceFinder
from maskwatch.live.tracking.people_tracker import PeopleTracker
from maskwatch.live.tracking.results import FrameResult, Observer

_WAIT_S = 0.2
"""How long the loop waits for a frame before it looks whether it should stop."""


@dataclass(frozen=True)
class Outputs:
    """Where looks and events go.

    Attributes:
        put: takes each event; must not block.
        observers: see everything.
        thumbnail: stores a picture of an alert and gives its path; None stores none.
    """

    put: Callable[[Event], None]
    observers: Sequence[Observer] = ()
    thumbnail: Callable[[Event, FrameResult], str | None] | None = None


class WatchLoop:
    """Watches sources until all have ended or it is told to stop.

    Args:
        captures: the sources, not started yet.
        finder: one model for all of them.
        people: source name → who is seen there.
        run: name of this run of the program.
        outputs: where it all goes.
        fps: limit on the frames per second of each source; None for none.

    Raises:
        OptionError: as `Hub`.
    """

    def __init__(
        self,
        captures: Sequence[Capture],
        finder: FaceFinder,
        people: Mapping[str, PeopleTracker],
        run: str,
        outputs: Outputs,
        fps: float | None = None,
    ) -> None:
        self._hub = Hub(captures, fps, self._on_state)
        self._finder, self._people, self._run, self._outputs = finder, people, run, outputs
        self._live = frozenset(capture.name for capture in captures if capture.live)
        self._files = frozenset(capture.name for capture in captures if capture.of_file)
        self._stop = Flag()
        self._told: dict[str, CaptureState] = {}
        self._last: dict[str, LiveFrame] = {}

    def stop(self) -> None:
        """Ends `run` soon; from any thread, or from a signal handler."""
        self._stop.set()

    def status(self) -> list[CaptureStatus]:
        """How the sources are doing."""
        return self._hub.status()

    def run(self) -> None:
        """Watches. At the end every open alert is told as "stopped" and the minute that has begun.

        Raises:
            SourceError: a file or webcam that cannot be opened; nothing has been watched then.
        """
        with self._hub:
            try:
                while not self._stop.is_set():
                    finished = self._hub.finished  # asked first, so that last frames are still looked at
                    frames = self._hub.next(_WAIT_S)
                    if frames:
                        self._look(frames)
                    elif finished:
                        break
            finally:
                for source in self._people:
                    self._finish(source)

    def _look(self, frames: Sequence[LiveFrame]) -> None:
        found = self._finder([frame.image_rgb for frame in frames])
        for frame, faces in zip(frames, found, strict=True):
            scene = self._people[frame.source].update(frame, faces)
            result = FrameResult(frame, faces, scene, time.monotonic() - frame.read_s)
            self._last[frame.source] = frame
            for observer in self._outputs.observers:
                observer.on_frame(result)
            for event in scene.events:
                self._tell(event, result)

    def _tell(self, event: Event, result: FrameResult | None = None) -> None:
        if event.kind == "alert" and result is not None and self._outputs.thumbnail is not None:
            event = replace(event, thumbnail=self._outputs.thumbnail(event, result))
        self._outputs.put(event)
        for observer in self._outputs.observers:
            observer.on_event(event)

    def _on_state(self, source: str, state: CaptureState, reason: str) -> None:
        """A further try after one that failed is no news. Who stood before a lost camera is out of sight."""
        if self._told.get(source) == state:
            return
        self._told[source] = state
        last, when = self._last.get(source), self._now(source)
        if state != "live":
            self._finish(source)
        began_s = 0.0 if source in self._files and state == "live" else None
        media_time_s = began_s if last is None else last.media_time_s
        self._tell(
            Event("source", when, source, self._run, time_s=media_time_s, state=state, reason=reason or None)
        )

    def _now(self, source: str) -> datetime:
        """The wall clock; for a file its own, which a fast or slow reader is ahead of or behind."""
        last = self._last.get(source)
        if last is None or source in self._live:
            return datetime.now().astimezone()
        return last.when

    def _finish(self, source: str) -> None:
        last = self._last.pop(source, None)
        if last is not None:
            for event in self._people[source].finish(last):
                self._tell(event)
