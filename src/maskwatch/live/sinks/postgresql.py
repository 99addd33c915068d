"""Events in a PostgreSQL database, which many machines share."""

from __future__ import annotations

import contextlib
import json
import threading
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from maskwatch.live.events import Event
from maskwatch.live.sinks import Backlog, RetryableError
from maskwatch.live.sinks.event_databases import RefusedError, database_name
from maskwatch.live.sinks.event_store import EventStore
from maskwatch.live.sinks.outbox import OutboxSink, QueuedEvent, outbox_path


class PostgresqlSink(OutboxSink):
    """Stores every event in the database, each once; they wait in an outbox while the server is away.

    Args:
        address: `postgresql://user@host/name`.
        outboxes: folder of the outbox.

    Raises:
        RefusedError: the server answers and refuses: user, password, database, rights.
        EventError, OutputError: the database or the outbox cannot be used.
        OptionError: the address is not valid.
        MissingExtraError: the extra `postgres` is not installed.
    """

    name = "postgresql"

    def __init__(self, address: str, outboxes: Path) -> None:
        self._address = address
        self._lock = threading.Lock()
        self._store: EventStore | None = None
        self._problem: str | None = None
        try:
            self._open()
        except RefusedError:
            raise
        except RetryableError as error:  # not there yet: events wait
            self._problem = str(error)
        super().__init__(outbox_path(outboxes, database_name(address)))
        self.start()

    def deliver(self, event: QueuedEvent) -> None:
        try:
            self._open().add(Event.from_record(json.loads(event.body)))
        except RetryableError as error:
            self._disconnect()
            # One outage has many messages (hung up, refused, starting up): the first one stands for all.
            self._problem = self._problem or str(error)
            raise RetryableError(self._problem) from None
        self._problem = None

    def delete_before(self, when: datetime) -> int:
        return super().delete_before(when) + self._open().delete_before(when)

    def backlog(self) -> Backlog:
        state = super().backlog()
        return replace(state, problem=self._problem or state.problem)

    def _open(self) -> EventStore:
        with self._lock:
            if self._store is None:
                self._store = EventStore(self._address, create=True)
            return self._store

    def _disconnect(self) -> None:
        """What comes next looks at the tables again: the server may be another one, or an older copy."""
        with self._lock:
            if self._store is not None:
                self._store.close()
                self._store = None

    def _end(self) -> None:
        with contextlib.suppress(Exception):
            self._disconnect()
        super()._end()
