"""What a run stores besides events, and for how long: recordings, thumbnails, and the thread that deletes."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path, PurePath

from maskwatch.live.capture.core import Capture
from maskwatch.live.config import WatchConfig
from maskwatch.live.output.recorder import PART_S, Recorder
from maskwatch.live.output.retention import (
    Retention,
    RetentionRule,
    log_rule,
    recording_rule,
    thumbnail_rule,
)
from maskwatch.live.output.thumbnails import Thumbnails
from maskwatch.live.sinks.delivery import Delivery, OnError
from maskwatch.media.sources import Source
from maskwatch.outputs import check_targets

_RECORDED_FPS = 25.0
"""Of recordings without a limit; frames have their own times, so it only sets the key frames."""

_CHECK_S = 60.0
"""How often `Retention.run` is called; it works once an hour."""


def check_recordings(config: WatchConfig, captures: Sequence[Capture]) -> None:
    """Checks that recordings replace no file unasked; with `retain_days` their names are always new.

    Raises:
        OutputError: a file exists, or is itself a source.
    """
    if config.retain_days is None:
        targets = config.video_paths([capture.name for capture in captures])
        files = [Source(one.name, "video", PurePath(one.name), one.path) for one in captures]
        check_targets(list(targets.values()), files, force=config.force)


def open_recorders(config: WatchConfig, names: Sequence[str]) -> dict[str, Recorder]:
    """A recorder for each source."""
    return {
        name: Recorder(
            path,
            config.fps or _RECORDED_FPS,
            keep_faces=config.keep_faces,
            part_s=None if config.retain_days is None else PART_S,
            force=config.force,
        )
        for name, path in config.video_paths(names).items()
    }


def open_thumbnails(folder: Path | None, on_error: OnError, *, keep_faces: bool) -> Thumbnails | None:
    """Stores a picture of each alert in `folder`; None without a folder."""
    return None if folder is None else Thumbnails(folder, keep_faces=keep_faces, on_error=on_error)


def retention_thread(
    config: WatchConfig, names: Sequence[str], delivery: Delivery, on_error: OnError
) -> contextlib.AbstractContextManager[None]:
    """While it is entered, stored data older than `retain_days` is deleted in a thread.

    Args:
        names: of the sources.

    Raises:
        OptionError: `retain_days` is too short or too long.
    """
    if config.retain_days is None:
        return contextlib.nullcontext()
    retention = Retention(config.retain_days, _rules(config, names), [delivery.delete_before])
    return _running(retention, on_error)


def _rules(config: WatchConfig, names: Sequence[str]) -> list[RetentionRule]:
    rules = [] if config.thumbnails is None else [thumbnail_rule(config.thumbnails)]
    rules += [recording_rule(path) for path in config.video_paths(names).values()]
    if config.sinks.events is not None:
        rules.append(log_rule(config.sinks.events))
    return rules


@contextlib.contextmanager
def _running(retention: Retention, on_error: OnError) -> Iterator[None]:
    stop = threading.Event()

    def run() -> None:
        while True:
            deleted = retention.run(datetime.now().astimezone())
            if deleted is not None and str(deleted):
                on_error("retain", str(deleted))
            if stop.wait(_CHECK_S):
                return

    thread = threading.Thread(target=run, name="retention")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
