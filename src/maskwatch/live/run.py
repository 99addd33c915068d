"""A run of `maskwatch watch`: checks everything first, then opens, connects and closes the parts."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console

from maskwatch.hard_cases import HardCaseStore, notice
from maskwatch.live.capture.hwaccel import open_device
from maskwatch.live.config import WatchConfig
from maskwatch.live.loop import Outputs, WatchLoop, WatchPipeline, open_pipeline
from maskwatch.live.output.clips import AlertClips, ClipSettings
from maskwatch.live.output.hard_cases import HardCases
from maskwatch.live.output.recorder import PART_S, Recorder, Recording
from maskwatch.live.output.retention import (
    Retention,
    clip_rule,
    hard_case_rules,
    log_rule,
    recording_rule,
    thumbnail_rule,
)
from maskwatch.live.output.screen import Screen
from maskwatch.live.output.terminal import JsonLines, PlainLines, Totals, progress_on_stderr
from maskwatch.live.output.thumbnails import Thumbnails
from maskwatch.live.output.window import Window
from maskwatch.live.sinks.delivery import Delivery, OnError
from maskwatch.live.sinks.factory import open_delivery
from maskwatch.outputs import check_targets

_RECORDED_FPS = 25.0  # without a limit; frames have their own times, so it only places the key frames
_RETENTION_CHECK_S = 60.0  # `Retention.run` does its work once an hour


def run_watch(config: WatchConfig) -> bool:
    """Watches until the sources have ended, or Ctrl-C or SIGTERM; True when no source was given up.

    Raises:
        MaskwatchError: something in the configuration is not possible; nothing was watched.
    """
    pipeline = open_pipeline(config)
    if config.retain_days is None:  # otherwise the names of recordings are always new
        sources = [capture.path for capture in pipeline.captures if capture.path is not None]
        check_targets(list(config.video_paths(list(pipeline.trackers)).values()), sources, force=config.force)
    console = Console(stderr=True, highlight=False)

    def on_error(name: str, text: str) -> None:
        console.print(f"{name}: {text}", markup=False, soft_wrap=True)

    device, reason = open_device(config.capture.hwaccel)
    if device is None and reason:
        on_error("hwaccel", f"decoding on the processor, since no device can be opened ({reason})")
    if config.keep_hard is not None:
        on_error("keep-hard", notice(config.keep_hard))
    with contextlib.ExitStack() as stack:
        delivery = stack.enter_context(
            open_delivery(config.sinks, pipeline.finder.metadata.classes, on_error=on_error)
        )
        return _WatchRun(config, pipeline, delivery, on_error).go(stack)


@dataclass(frozen=True)
class _WatchRun:
    """The parts of one run."""

    config: WatchConfig
    pipeline: WatchPipeline
    delivery: Delivery
    on_error: OnError

    def go(self, stack: contextlib.ExitStack) -> bool:
        config, title = self.config, self.pipeline.title
        console = Console(highlight=False)
        totals = Totals(title, self.pipeline.finder.metadata.classes)
        loop = self._open_loop(totals, stack)
        screen = self._screen(loop)
        loop.add_observer(screen)
        if not config.json_lines:
            console.print(f"model: {title}")
        if not isinstance(screen, Screen):
            stack.enter_context(progress_on_stderr(loop.status))
        retention = retention_thread(config, list(self.pipeline.trackers), self.delivery, self.on_error)
        with retention, _stop_on_signals(loop.stop), screen:
            loop.run()
        statuses = loop.status()
        if not config.json_lines:
            console.print(totals.table(statuses))
        return all(status.state != "failed" for status in statuses)

    def _open_loop(self, totals: Totals, stack: contextlib.ExitStack) -> WatchLoop:
        """The loop with all observers except the screen."""
        config, zones, classes = self.config, self.pipeline.zones, self.pipeline.finder.metadata.classes
        outputs = Outputs(self.delivery.put, [totals])
        outputs = stack.enter_context(
            with_pictures(outputs, config, self.pipeline, self.on_error, keep_faces=config.keep_faces)
        )
        loop = WatchLoop(self.pipeline, outputs)
        if config.save_video is not None:
            recording = Recording(self._recorders(), zones, classes, self.on_error)
            loop.add_observer(stack.enter_context(recording))
        if config.show:
            loop.add_observer(stack.enter_context(Window(classes, zones, loop.stop)))
        return loop

    def _recorders(self) -> dict[str, Recorder]:
        """A recorder for each source, by name."""
        config, fps = self.config, self.config.fps or _RECORDED_FPS
        part_s = None if config.retain_days is None else PART_S
        return {
            name: Recorder(path, fps, keep_faces=config.keep_faces, part_s=part_s, force=config.force)
            for name, path in config.video_paths(list(self.pipeline.trackers)).items()
        }

    def _screen(self, loop: WatchLoop) -> JsonLines | PlainLines | Screen:
        if self.config.json_lines:
            return JsonLines(sys.stdout)
        if not sys.stdout.isatty():
            return PlainLines(sys.stdout, self.pipeline.describe)
        classes = self.pipeline.finder.metadata.classes
        alerting = self.config.people.alerting(classes)
        return Screen(loop.status, self.delivery.status, classes, alerting, self.pipeline.describe)


@contextlib.contextmanager
def with_pictures(
    outputs: Outputs, config: WatchConfig, pipeline: WatchPipeline, on_error: OnError, *, keep_faces: bool
) -> Iterator[Outputs]:
    """Inside the block, adds thumbnails and clips of alerts, and hard cases, to the outputs, as configured.

    Raises:
        OutputError: a folder cannot be made.
    """
    with contextlib.ExitStack() as stack:
        if config.thumbnails is not None:
            thumbnails = Thumbnails(config.thumbnails, keep_faces=keep_faces, on_error=on_error)
            observers = [*outputs.observers, thumbnails]
            outputs = replace(outputs, observers=observers, thumbnail=thumbnails.try_store)
        if config.clips is not None:
            settings = ClipSettings(
                config.clips, keep_faces, config.fps or _RECORDED_FPS, config.people.alerts.dwell_s
            )
            clips = AlertClips(settings, pipeline.zones, pipeline.finder.metadata.classes, on_error)
            stack.enter_context(clips)
            outputs = replace(outputs, observers=[*outputs.observers, clips], clip=clips.path_of)
        if config.keep_hard is not None:
            detector, store = pipeline.finder.detector, HardCaseStore(config.keep_hard)
            hard = HardCases(store, detector.name, detector.thresholds, on_error)
            stack.enter_context(hard)
            outputs = replace(outputs, observers=[*outputs.observers, hard])
        yield outputs


def retention_thread(
    config: WatchConfig, names: Sequence[str], delivery: Delivery, on_error: OnError
) -> contextlib.AbstractContextManager[None]:
    """Inside the block, a thread deletes stored data older than `retain_days`.

    Args:
        names: of the sources.

    Raises:
        OptionError: `retain_days` is too short or too long.
    """
    if config.retain_days is None:
        return contextlib.nullcontext()
    rules = [] if config.thumbnails is None else [thumbnail_rule(config.thumbnails)]
    rules += [] if config.clips is None else [clip_rule(config.clips)]
    rules += [] if config.keep_hard is None else hard_case_rules(config.keep_hard)
    rules += [recording_rule(path) for path in config.video_paths(names).values()]
    if config.sinks.events is not None:
        rules.append(log_rule(config.sinks.events))
    return _running(Retention(config.retain_days, rules, [delivery.delete_before]), on_error)


def hard_case_retention(
    days: float | None, folder: Path, on_error: OnError
) -> contextlib.AbstractContextManager[None]:
    """As `retention_thread`, for a service that only stores hard cases."""
    if days is None:
        return contextlib.nullcontext()
    return _running(Retention(days, hard_case_rules(folder)), on_error)


@contextlib.contextmanager
def _running(retention: Retention, on_error: OnError) -> Iterator[None]:
    stop = threading.Event()

    def run() -> None:
        while True:
            deleted = retention.run(datetime.now().astimezone())
            if deleted is not None and str(deleted):
                on_error("retain", str(deleted))
            if stop.wait(_RETENTION_CHECK_S):
                return

    thread = threading.Thread(target=run, name="retention")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextlib.contextmanager
def _stop_on_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Ctrl-C and SIGTERM call `stop`; a second signal has its usual effect."""
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
