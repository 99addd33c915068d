"""Threads that work while no one waits for them."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator

from maskwatch.errors import MaskwatchError

_NICENESS = 10
_LONGEST_WAIT_S = 1.0


class Foreground:
    """Lets background threads wait while someone waits for an answer.

    Listing thousands of pictures releases the interpreter's lock at every file; each time, a thread that
    computes may keep it for milliseconds.
    """

    def __init__(self) -> None:
        self._lock, self._waiting = threading.Lock(), 0
        self._idle = threading.Event()
        self._idle.set()

    @contextlib.contextmanager
    def first(self) -> Iterator[None]:
        """Its block comes before background work."""
        with self._lock:
            self._waiting += 1
            self._idle.clear()
        try:
            yield
        finally:
            with self._lock:
                self._waiting -= 1
                if not self._waiting:
                    self._idle.set()

    def wait(self) -> None:
        """Waits until no one else does, for a second at most: the work goes on under any load."""
        self._idle.wait(_LONGEST_WAIT_S)


def start_background(name: str, work: Callable[[], None]) -> threading.Thread:
    """Starts a thread of low priority, where the system has priorities of threads; prints its error."""

    def run() -> None:
        with contextlib.suppress(AttributeError, OSError):
            # Threads that it starts, such as those of a network, inherit the priority.
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
        try:
            work()
        except MaskwatchError as error:
            print(f"{name}: {error}", file=sys.stderr, flush=True)

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread
