"""The lock of a folder: one thread of one process writes at a time."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from pathlib import Path


class FolderLock:
    """Held by at most one thread of all processes. A process that is killed leaves it free.

    Args:
        path: of the file that stands for it; its folder exists.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._thread_lock = path, threading.Lock()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Waits until no one else holds it. Raises OSError if the file cannot be opened."""
        with self._thread_lock, self._path.open("a+b") as file:
            if sys.platform == "win32":
                import msvcrt

                file.seek(0)
                msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)
            else:
                import fcntl

                fcntl.flock(file, fcntl.LOCK_EX)
            yield  # closing the file frees the lock
