"""How far the watching of video files has got, on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from maskwatch.live.capture.status import CaptureStatus
from maskwatch.live.output.lines import timecode

_BAR_WIDTH = 30


def progress_bars(statuses: Sequence[CaptureStatus]) -> Table:
    """A bar for each source that is a video file; no rows where there is none."""
    table = Table.grid(padding=(0, 1))
    table.add_column(overflow="fold")
    for status in statuses:
        if status.media_time_s is not None:
            table.add_row(status.name, _bar(status), _places(status))
    return table


def progress_on_stderr(statuses: Callable[[], Sequence[CaptureStatus]]) -> AbstractContextManager[object]:
    """The bars while it is entered, on a terminal that does not show the lines or records as well."""
    if sys.stdout.isatty() or not sys.stderr.isatty():
        return nullcontext()
    return Live(
        get_renderable=lambda: progress_bars(statuses()),
        console=Console(stderr=True),
        refresh_per_second=4,
        transient=True,
        redirect_stdout=False,
    )


def _bar(status: CaptureStatus) -> RenderableType:
    assert status.media_time_s is not None
    if status.state == "ended":
        return ProgressBar(1, 1, _BAR_WIDTH)
    if status.duration_s is None:
        return ProgressBar(None, 0, _BAR_WIDTH, pulse=True)
    return ProgressBar(status.duration_s, min(status.media_time_s, status.duration_s), _BAR_WIDTH)


def _places(status: CaptureStatus) -> str:
    assert status.media_time_s is not None
    of = "" if status.duration_s is None else f" of {timecode(status.duration_s)}"
    return timecode(status.media_time_s) + of
