"""A whole run of watching: everything is checked first, then the parts are opened, joined and closed."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console

from maskwatch.detector import Detector, Threshold
from maskwatch.errors import OptionError
from maskwatch.live.capture.capture import Capture, CaptureSettings, open_captures
from maskwatch.live.loop import Outlets, Viewer, Watch
from maskwatch.live.output.progress import progress_on_stderr
from maskwatch.live.output.recorder import PART_S, Recorder
from maskwatch.live.output.recording import Pictures, Recording, Trouble
from maskwatch.live.output.retention import Kept, Retention, kept_logs, kept_recordings, kept_thumbnails
from maskwatch.live.output.screen import JsonLines, PlainLines, Screen
from maskwatch.live.output.thumbnails import Thumbnails
from maskwatch.live.output.totals import Totals
from maskwatch.live.output.window import Window, check_display
from maskwatch.live.sinks.delivery import Delivery
from maskwatch.live.sinks.settings import SinkSettings, open_delivery
from maskwatch.live.tracking.faces import FaceFinder
from maskwatch.live.tracking.people import People
from maskwatch.live.tracking.settings import PeopleSettings
from maskwatch.live.tracking.zones import Places
from maskwatch.live.tracking.zones_file import check_sources, read_places
from maskwatch.outputs import check_targets

_RECORDED_FPS = 25.0
"""Of recordings of sources that do not say; frames have their own times, so it only sets the key frames."""

_SWEEP_S = 60.0
"""How often `Retention` is asked; it does something once an hour."""


@dataclass(frozen=True)
class WatchPlan:
    """What a user wants watched, and how.

    Attributes:
        sources: as `open_captures` takes them.
        model, threshold, threads: as `FaceFinder` takes them.
        fps: limit on the frames per second of each source; None for none.
        zones: a file of zones and lines.
        save_video: MP4 file; with several sources each gets its name added.
        thumbnails: folder for pictures of alerts.
        keep_faces: leave faces in stored pictures as they are.
        retain_days: delete what is stored once it is so old; None for never.
        json_lines: print events as JSON Lines.
        show: open a window.
        force: replace a video that exists.
    """

    sources: tuple[str, ...]
    model: str
    threshold: Threshold | None = None
    threads: int | None = None
    fps: float | None = None
    capture: CaptureSettings = field(default_factory=CaptureSettings)
    people: PeopleSettings = field(default_factory=PeopleSettings)
    zones: Path | None = None
    sinks: SinkSettings = field(default_factory=SinkSettings)
    save_video: Path | None = None
    thumbnails: Path | None = None
    keep_faces: bool = False
    retain_days: float | None = None
    json_lines: bool = False
    show: bool = False
    force: bool = False

    def __post_init__(self) -> None:
        if self.save_video is not None and self.save_video.suffix.lower() != ".mp4":
            raise OptionError(
                f"--save-video {self.save_video}: only MP4 is written; name a file ending in .mp4"
            )
        if self.keep_faces and self.save_video is None and self.thumbnails is None:
            raise OptionError("--keep-faces changes what is stored; add --save-video or --thumbnails")
        sinks = (self.sinks.db, self.sinks.events, self.sinks.webhook, self.sinks.mqtt)
        if self.retain_days is not None and not any((self.save_video, self.thumbnails, *sinks)):
            raise OptionError(
                "--retain deletes what this command stored; add something that stores, as --db, --events "
                "or --thumbnails"
            )
        if self.show:
            check_display()


@dataclass(frozen=True)
class Parts:
    """What a plan needs to watch, opened but not started; sources by name. `run` names the run."""

    captures: list[Capture]
    finder: FaceFinder
    people: Mapping[str, People]
    places: Mapping[str, Places]
    run: str


def open_parts(plan: WatchPlan, detector: Detector | None = None) -> Parts:
    """The parts of a plan.

    Args:
        detector: has loaded the plan's model already; None loads it.

    Raises:
        MaskwatchError: something of the plan cannot be done.
    """
    captures = open_captures(plan.sources, plan.capture)
    names = [capture.name for capture in captures]
    places = _places(plan, names)
    finder = FaceFinder(detector or plan.model, threshold=plan.threshold, threads=plan.threads)
    run = uuid.uuid4().hex[:12]
    people = {name: People(name, run, finder.metadata, plan.people, places[name]) for name in names}
    return Parts(captures, finder, people, places, run)


def run_watch(plan: WatchPlan) -> bool:
    """Watches until the sources have ended, or Ctrl-C or SIGTERM; True when no source was given up.

    Raises:
        MaskwatchError: something of the plan cannot be done; nothing has been watched then.
    """
    parts = open_parts(plan)
    _check_recordings(plan, parts.captures)
    with contextlib.ExitStack() as stack:
        trouble = partial(_print_trouble, Console(stderr=True, highlight=False))
        delivery = stack.enter_context(open_delivery(plan.sinks, on_trouble=trouble))
        return _Run(plan, parts, delivery, trouble).go(stack)


@dataclass(frozen=True)
class _Run:
    """The parts of one run, and how they hang together."""

    plan: WatchPlan
    parts: Parts
    delivery: Delivery
    trouble: Trouble

    def go(self, stack: contextlib.ExitStack) -> bool:
        parts, classes = self.parts, self.parts.finder.metadata.classes
        totals = Totals(self.parts.finder.metadata.title, classes)
        viewers: list[Viewer] = [totals]
        pictures = open_pictures(self.plan.thumbnails, self.trouble, keep_faces=self.plan.keep_faces)
        watch = Watch(
            parts.captures,
            parts.finder,
            parts.people,
            parts.run,
            Outlets(
                put=self.delivery.put,
                viewers=viewers,  # still filled below: some viewers need the watch
                thumbnail=None if pictures is None else pictures.store,
            ),
            self.plan.fps,
        )
        if pictures is not None:
            viewers.append(pictures)
        if self.plan.save_video is not None:
            recording = Recording(self._recorders(self.plan.save_video), parts.places, classes, self.trouble)
            viewers.append(stack.enter_context(recording))
        if self.plan.show:
            viewers.append(stack.enter_context(Window(classes, parts.places, watch.stop)))
        screen = self._screen(watch)
        viewers.append(screen)
        if not self.plan.json_lines:
            Console(highlight=False).print(f"model: {self.parts.finder.metadata.title}")
        if not isinstance(screen, Screen):
            stack.enter_context(progress_on_stderr(watch.status))
        with sweeping(self.plan, parts, self.delivery, self.trouble), _stopping(watch.stop), screen:
            watch.run()
        statuses = watch.status()
        if not self.plan.json_lines:
            Console(highlight=False).print(totals.table(statuses))
        return all(status.state != "failed" for status in statuses)

    def _screen(self, watch: Watch) -> JsonLines | PlainLines | Screen:
        if self.plan.json_lines:
            return JsonLines(sys.stdout)
        if not sys.stdout.isatty():
            return PlainLines(sys.stdout)
        classes = self.parts.finder.metadata.classes
        alerting = self.plan.people.alerting(classes)
        return Screen(watch.status, self.delivery.status, classes, alerting)

    def _recorders(self, path: Path) -> dict[str, Recorder]:
        part_s = None if self.plan.retain_days is None else PART_S
        return {
            name: Recorder(
                target,
                self.plan.fps or _RECORDED_FPS,
                keep_faces=self.plan.keep_faces,
                part_s=part_s,
                force=self.plan.force,
            )
            for name, target in _video_paths(path, list(self.parts.people)).items()
        }


def open_pictures(folder: Path | None, trouble: Trouble, *, keep_faces: bool) -> Pictures | None:
    """What stores a picture of each alert in `folder`; None where there is none."""
    return None if folder is None else Pictures(Thumbnails(folder, keep_faces=keep_faces), trouble)


def sweeping(
    plan: WatchPlan, parts: Parts, delivery: Delivery, trouble: Trouble
) -> contextlib.AbstractContextManager[None]:
    """While it is entered, what the plan stores is deleted once it is too old.

    Raises:
        OptionError: the plan keeps things for too short or too long a time.
    """
    if plan.retain_days is None:
        return contextlib.nullcontext()
    kept = _kept(plan, list(parts.people))
    return _sweeping(Retention(plan.retain_days, kept, [delivery.delete_before]), trouble)


def _places(plan: WatchPlan, names: list[str]) -> dict[str, Places]:
    if plan.zones is None:
        return {name: Places() for name in names}
    places = read_places(plan.zones)
    check_sources(places, names, plan.zones)
    return {name: places.for_source(name) for name in names}


def _video_paths(path: Path, names: list[str]) -> dict[str, Path]:
    if len(names) == 1:
        return {names[0]: path}
    return {name: path.with_name(f"{path.stem}_{name}{path.suffix}") for name in names}


def _check_recordings(plan: WatchPlan, captures: Sequence[Capture]) -> None:
    """Parts of a recording that is kept for some days have names of their own, which no other run gives."""
    if plan.save_video is None or plan.retain_days is not None:
        return
    targets = _video_paths(plan.save_video, [capture.name for capture in captures])
    check_targets(list(targets.values()), [one.path for one in captures if one.path], force=plan.force)


def _kept(plan: WatchPlan, names: list[str]) -> list[Kept]:
    kept = [] if plan.thumbnails is None else [kept_thumbnails(plan.thumbnails)]
    if plan.save_video is not None:
        kept += [kept_recordings(path) for path in _video_paths(plan.save_video, names).values()]
    if plan.sinks.events is not None:
        kept.append(kept_logs(plan.sinks.events))
    return kept


@contextlib.contextmanager
def _sweeping(retention: Retention, trouble: Trouble) -> Iterator[None]:
    """Deletes what is old, in a thread of its own, since large files take their time."""
    over = threading.Event()

    def sweep() -> None:
        while True:
            deleted = retention.run(datetime.now().astimezone())
            if deleted is not None and str(deleted):
                trouble("retain", str(deleted))
            if over.wait(_SWEEP_S):
                return

    thread = threading.Thread(target=sweep, name="retention")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextlib.contextmanager
def _stopping(stop: Callable[[], None]) -> Iterator[None]:
    """Ctrl-C and SIGTERM stop the watching; the second one ends the program as it always does."""
    before: dict[signal.Signals, Any] = {}

    def on_signal(number: int, frame: FrameType | None) -> None:
        del frame
        signal.signal(number, before[signal.Signals(number)])
        stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        before[number] = signal.signal(number, on_signal)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _print_trouble(console: Console, name: str, text: str) -> None:
    console.print(f"{name}: {text}", markup=False, soft_wrap=True)
