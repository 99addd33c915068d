"""The loop of watching: newest frames → faces → people → events, to the sinks and to all observers.

`open_pipeline` opens the parts of a configuration, `WatchLoop` runs them.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from threading import Event as Flag

from maskwatch.detector import Detector
from maskwatch.live.capture.core import Capture, open_captures
from maskwatch.live.capture.frame import LiveFrame
from maskwatch.live.capture.group import CaptureGroup
from maskwatch.live.capture.status import CaptureState, CaptureStatus
from maskwatch.live.config import WatchConfig
from maskwatch.live.events import Event
from maskwatch.live.model_choice import ModelChoice, choose_model, seconds_per_picture
from maskwatch.live.tracking.faces import FaceFinder
from maskwatch.live.tracking.people_tracker import PeopleTracker
from maskwatch.live.tracking.results import FrameResult, Observer
from maskwatch.live.tracking.tiles import TilePlan, Tiles
from maskwatch.live.tracking.zones import Zones
from maskwatch.live.tracking.zones_file import check_sources, read_zones
from maskwatch.system import usable_cores

_WAIT_S = 0.2  # for a frame, before the loop checks whether to stop


@dataclass(frozen=True)
class WatchPipeline:
    """What turns sources into events, opened and not started.

    Attributes:
        finder: one model for all sources.
        trackers, zones: by source.
        run: name of this run of the program.
        fps: limit on the frames per second of each source; None for none.
        file_fps: the same for files that do not play at their own pace, instead of `fps`.
        tile_plans: by source; a source without one is looked at as a whole.
        title: the model, for people.
    """

    captures: Sequence[Capture]
    finder: FaceFinder
    trackers: Mapping[str, PeopleTracker]
    zones: Mapping[str, Zones]
    run: str
    fps: float | None = None
    file_fps: float | None = None
    tile_plans: Mapping[str, TilePlan] = field(default_factory=dict)
    title: str = ""

    def describe(self, source: str, size_wh: tuple[int, int]) -> str:
        """The frames of a source for people, see `TilePlan.describe`; empty for one without a plan."""
        plan = self.tile_plans.get(source)
        return "" if plan is None else plan.describe(size_wh)


@dataclass(frozen=True)
class Outputs:
    """Where results and events go.

    Attributes:
        put: takes each event; must not block.
        observers: receive all results and events.
        thumbnail: stores a picture of an alert and returns its path; None stores none.
        clip: returns the path of the clip of an alert or its end; None for no clips.
    """

    put: Callable[[Event], None]
    observers: Sequence[Observer] = ()
    thumbnail: Callable[[Event, FrameResult], str | None] | None = None
    clip: Callable[[Event], str | None] | None = None


class WatchLoop:
    """Watches the sources of a pipeline until all have ended or `stop` is called.

    Raises:
        OptionError: as `CaptureGroup`.
    """

    def __init__(self, pipeline: WatchPipeline, outputs: Outputs) -> None:
        captures = pipeline.captures
        self._group = CaptureGroup(captures, pipeline.fps, self._on_state)
        for capture in captures:
            if not capture.live and pipeline.file_fps is not None:
                capture.limit(pipeline.file_fps)
        self._pipeline, self._outputs = pipeline, outputs
        self._observers = list(outputs.observers)
        self._captures = {capture.name: capture for capture in captures}
        self._stop = Flag()
        self._reported: dict[str, CaptureState] = {}
        self._last: dict[str, LiveFrame] = {}

    def add_observer(self, observer: Observer) -> None:
        """Adds an observer that needs the loop itself; before `run`."""
        self._observers.append(observer)

    def stop(self) -> None:
        """Ends `run` soon; may be called from any thread or a signal handler."""
        self._stop.set()

    def status(self) -> list[CaptureStatus]:
        """The status of each source."""
        return self._group.status()

    def run(self) -> None:
        """Watches. At the end it reports every open alert as "stopped", and the minute that has begun.

        Raises:
            SourceError: a file or webcam cannot be opened; nothing was watched.
        """
        with self._group:
            try:
                while not self._stop.is_set():
                    finished = self._group.finished  # read first, so that the last frames are analysed too
                    frames = self._group.next(_WAIT_S)
                    if frames:
                        self._analyse(frames)
                    elif finished:
                        break
            finally:
                for source in self._pipeline.trackers:
                    self._finish(source)

    def _analyse(self, frames: Sequence[LiveFrame]) -> None:
        tiles = [self._tiles(frame) for frame in frames]
        found = self._pipeline.finder([frame.image_rgb for frame in frames], tiles)
        for frame, faces in zip(frames, found, strict=True):
            scene = self._pipeline.trackers[frame.source].update(frame, faces)
            result = FrameResult(frame, faces, scene, time.monotonic() - frame.read_s)
            self._last[frame.source] = frame
            for observer in self._observers:
                observer.on_frame(result)
            for event in scene.events:
                self._emit(event, result)

    def _tiles(self, frame: LiveFrame) -> Tiles:
        plan, (height, width) = self._pipeline.tile_plans.get(frame.source), frame.image_rgb.shape[:2]
        return Tiles() if plan is None else plan.tiles((width, height))

    def _emit(self, event: Event, result: FrameResult | None = None) -> None:
        if event.kind == "alert" and result is not None and self._outputs.thumbnail is not None:
            event = replace(event, thumbnail=self._outputs.thumbnail(event, result))
        if self._outputs.clip is not None:
            event = replace(event, clip=self._outputs.clip(event))
        self._outputs.put(event)
        for observer in self._observers:
            observer.on_event(event)

    def _on_state(self, source: str, state: CaptureState, reason: str) -> None:
        """Reports a new state, not each failed try; the people of a source that is lost have left."""
        if self._reported.get(source) == state:
            return
        self._reported[source] = state
        last, capture = self._last.get(source), self._captures[source]
        if state != "live":
            self._finish(source)
        # A file has its own clock, as it is read faster or slower than it was filmed.
        when = datetime.now().astimezone() if last is None or capture.live else last.when
        began_s = 0.0 if capture.of_file and state == "live" else None
        time_s = began_s if last is None else last.media_time_s
        run = self._pipeline.run
        self._emit(Event("source", when, source, run, time_s=time_s, state=state, reason=reason or None))

    def _finish(self, source: str) -> None:
        last = self._last.pop(source, None)
        if last is not None:
            for event in self._pipeline.trackers[source].finish(last):
                self._emit(event)


def open_pipeline(
    config: WatchConfig, loaded: Callable[[str], Detector | None] = lambda _: None
) -> WatchPipeline:
    """Opens what a configuration names.

    Args:
        loaded: returns the detector that has already loaded a model; None loads it.

    Raises:
        MaskwatchError: something in the configuration is not possible.
    """
    captures = open_captures(config.sources, config.capture)
    names = [capture.name for capture in captures]
    zones = Zones()
    if config.zones is not None:
        zones = read_zones(config.zones)
        check_sources(zones, names, config.zones)
    by_source = {name: zones.for_source(name) for name in names}
    lanes, threads = _share_threads(config.runtime.threads, len(names))
    runtime = replace(config.runtime, threads=threads)
    choice = choose_model(
        config,
        cameras=sum(capture.live for capture in captures),
        files=sum(not capture.live for capture in captures),
        load=lambda model: loaded(model) or Detector(model, **asdict(runtime)),
        measure=lambda detector: seconds_per_picture(detector) / lanes,
    )
    if loaded(str(choice.detector.path)) is not None:
        lanes = 1  # that detector has its own threads
    finder = FaceFinder(choice.detector, threshold=config.threshold, lanes=lanes)
    run = uuid.uuid4().hex[:12]
    trackers = {name: PeopleTracker(name, run, finder.metadata, config.people, zones) for name in names}
    plans = {capture.name: _tile_plan(config, choice, capture, by_source) for capture in captures}
    return WatchPipeline(
        captures, finder, trackers, by_source, run, config.fps, choice.file_fps, plans, choice.title
    )


def _tile_plan(
    config: WatchConfig, choice: ModelChoice, capture: Capture, zones: Mapping[str, Zones]
) -> TilePlan:
    return TilePlan(
        choice.detector.input_size,
        zones[capture.name],
        config.tiles,
        choice.live_looks if capture.live else choice.file_looks,
        config.people.min_height,
    )


def _share_threads(threads: int | None, sources: int) -> tuple[int, int]:
    """Lanes of the network and threads of each: one source has all, several share them out.

    A number also for one source: ONNX Runtime's threads then do not wait busily between frames.
    """
    available = usable_cores() if threads is None else threads
    lanes = max(1, min(sources, available))  # `Detector` refuses fewer than one thread
    return lanes, available // lanes
