"""Events in an SQLite file."""

from __future__ import annotations

import threading
from datetime import datetime
from pathlib import Path

from maskwatch.live.events import Event
from maskwatch.live.sinks import Sink
from maskwatch.live.sinks.event_store import EventStore
from maskwatch.outputs import is_still_at


class SqliteSink(Sink):
    """Stores every event in an event file, each once.

    Raises:
        EventError: the file cannot be used.
        OutputError: its folder cannot be made.
    """

    name = "sqlite"
    durable = True

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._store = EventStore(path, create=True)
        self._stat = path.stat()

    def send(self, event: Event) -> None:
        with self._lock:
            self._reopen_if_moved()
            self._store.add(event)

    def delete_before(self, when: datetime) -> int:
        with self._lock:
            self._reopen_if_moved()
            return self._store.delete_before(when)

    def close(self, timeout_s: float) -> None:
        with self._lock:
            self._store.close()

    def _reopen_if_moved(self) -> None:
        """Another program may have moved or deleted the file: the name counts."""
        if not is_still_at(self._path, self._stat):
            self._store.close()
            self._store = EventStore(self._path, create=True)
            self._stat = self._path.stat()
