"""Threads that work while no one waits for them."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable

from maskwatch.errors import MaskwatchError

_NICENESS = 10


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
