"""A run of `maskwatch watch`: checks everything first, then opens, connects and closes the parts."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from types import FrameType
from typing import Any

from rich.console import Console

from maskwatch.live.config import WatchConfig
from maskwatch.live.loop import Outputs, WatchLoop
from maskwatch.live.output.recorder import Recording
from maskwatch.live.output.screen import Screen
from maskwatch.live.output.terminal import JsonLines, PlainLines, Totals, progress_on_stderr
from maskwatch.live.output.window import Window
from maskwatch.live.pipeline import Pipeline, open_pipeline
from maskwatch.live.sinks.delivery import Delivery, OnError
from maskwatch.live.sinks.factory import open_delivery
from maskwatch.live.storage import check_recordings, open_recorders, open_thumbnails, retention_thread


def run_watch(config: WatchConfig) -> bool:
    """Watches until the sources have ended, or Ctrl-C or SIGTERM; True when no source was given up.

    Raises:
        MaskwatchError: something in the configuration is not possible; nothing has been watched then.
    """
    pipeline = open_pipeline(config)
    check_recordings(config, pipeline.captures)
    with contextlib.ExitStack() as stack:
        on_error = partial(_print_error, Console(stderr=True, highlight=False))
        delivery = stack.enter_context(open_delivery(config.sinks, on_error=on_error))
        return _Run(config, pipeline, delivery, on_error).go(stack)


@dataclass(frozen=True)
class _Run:
    """The parts of one run and how they are connected."""

    config: WatchConfig
    pipeline: Pipeline
    delivery: Delivery
    on_error: OnError

    def go(self, stack: contextlib.ExitStack) -> bool:
        config, model = self.config, self.pipeline.finder.metadata
        console = Console(highlight=False)
        totals = Totals(model.title, model.classes)
        loop = self._open_loop(totals, stack)
        screen = self._screen(loop)
        loop.add_observer(screen)
        if not config.json_lines:
            console.print(f"model: {model.title}")
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
        thumbnails = open_thumbnails(config.thumbnails, self.on_error, keep_faces=config.keep_faces)
        outputs = Outputs(
            put=self.delivery.put,
            observers=[totals] if thumbnails is None else [totals, thumbnails],
            thumbnail=None if thumbnails is None else thumbnails.try_store,
        )
        loop = WatchLoop(self.pipeline, outputs)
        if config.save_video is not None:
            recorders = open_recorders(config, list(self.pipeline.trackers))
            loop.add_observer(stack.enter_context(Recording(recorders, zones, classes, self.on_error)))
        if config.show:
            loop.add_observer(stack.enter_context(Window(classes, zones, loop.stop)))
        return loop

    def _screen(self, loop: WatchLoop) -> JsonLines | PlainLines | Screen:
        if self.config.json_lines:
            return JsonLines(sys.stdout)
        if not sys.stdout.isatty():
            return PlainLines(sys.stdout)
        classes = self.pipeline.finder.metadata.classes
        return Screen(loop.status, self.delivery.status, classes, self.config.people.alerting(classes))


@contextlib.contextmanager
def _stop_on_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Ctrl-C and SIGTERM call `stop`; the second signal ends the program as it always does."""
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


def _print_error(console: Console, name: str, text: str) -> None:
    console.print(f"{name}: {text}", markup=False, soft_wrap=True)
