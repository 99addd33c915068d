"""Ends FFmpeg's network calls from another thread, so that closing does not wait for a dead server.

PyAV has no supported way to do this: a container cannot be closed while another thread reads it, its time
limits are fixed when it is opened, and only FFmpeg can speak RTSP. But ten times a second FFmpeg asks PyAV
whether the limit of `av.open` has passed, and PyAV reads the time from the name `time` in its module
`av.container.core`. This module replaces it by a clock that, in a thread that must stop, runs so fast that
every limit has passed; all other threads read the true time.

This depends on PyAV's internals, so it is done only for the major versions in `TESTED_VERSIONS`, and only if
the name holds what is expected. With any other PyAV a thread ends once its limit has passed; closing does
not wait for it longer than two seconds. `tests/test_streams.py` fails when PyAV changes.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import av
import av.container.core

TESTED_VERSIONS = frozenset(["17", "18"])

_STEP_S = 1e6

_stops: dict[int, threading.Event] = {}  # by thread


class _Clock:
    """The module `time` as PyAV's callback sees it."""

    def __init__(self) -> None:
        self._calls = 0

    def monotonic(self) -> float:
        stop = _stops.get(threading.get_ident())
        if stop is None or not stop.is_set():
            return time.monotonic()
        self._calls += 1  # each result is later, as a limit may begin after the stop
        return time.monotonic() + _STEP_S * self._calls

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


@contextlib.contextmanager
def interruptible(stop: threading.Event) -> Iterator[None]:
    """Calls of PyAV in this thread and block fail soon after `stop` is set, if they have a time limit."""
    _install_clock()
    _stops[threading.get_ident()] = stop
    try:
        yield
    finally:
        del _stops[threading.get_ident()]


def _install_clock() -> None:
    module = vars(av.container.core)
    if av.__version__.partition(".")[0] in TESTED_VERSIONS and module.get("time") is time:
        module["time"] = _Clock()
