"""Breaks off FFmpeg's network calls in another thread, so that closing need not wait for a dead server.

While FFmpeg waits for the network it asks PyAV ten times a second whether the time limit of `av.open` has
passed. PyAV offers no other way to stop it, but it asks a clock that can be exchanged: `time` in the module
`av.container.core`. To a thread that shall stop, the clock here runs so fast that every limit has passed; to
all others it tells the time. Should a later PyAV look elsewhere, a thread still ends when its limit has
passed, only later; `tests/test_streams.py` would notice.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import av.container.core

_STEP_S = 1e6

_stops: dict[int, threading.Event] = {}


class _Clock:
    """The module `time` as PyAV's callback sees it."""

    def __init__(self) -> None:
        self._asked = 0

    def monotonic(self) -> float:
        stop = _stops.get(threading.get_ident())
        if stop is None or not stop.is_set():
            return time.monotonic()
        self._asked += 1  # goes on, as a limit may begin after the stop
        return time.monotonic() + _STEP_S * self._asked

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


if "time" in vars(av.container.core):
    vars(av.container.core)["time"] = _Clock()


@contextlib.contextmanager
def interruptible(stop: threading.Event) -> Iterator[None]:
    """Calls of PyAV in this thread and block fail soon after `stop` is set, if they had a time limit."""
    _stops[threading.get_ident()] = stop
    try:
        yield
    finally:
        del _stops[threading.get_ident()]
