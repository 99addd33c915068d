"""The stream of changes: what windows are sent while they are open."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

_KEEP_ALIVE_S = 10.0
_MOST_WAITING = 500  # events; a window that reads more slowly loads the list again


class Changes:
    """Sends events to the windows that listen, from any thread."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._queues: set[asyncio.Queue[bytes | None]] = set()

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Sets the loop in which windows listen."""
        self._loop = loop

    def publish(self, event: str, data: dict[str, Any]) -> None:
        """Sends an event to all windows."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._put, sse(event, data))

    def close(self) -> None:
        """Ends all streams."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._put, None)

    async def listen(self, first: bytes) -> AsyncIterator[bytes]:
        """The events from now on, as server-sent events, after a first one."""
        queue: asyncio.Queue[bytes | None] = asyncio.Queue(_MOST_WAITING)
        self._queues.add(queue)
        try:
            yield first
            while True:
                try:
                    part = await asyncio.wait_for(queue.get(), _KEEP_ALIVE_S)
                except TimeoutError:
                    part = b": still here\n\n"  # detects windows that have gone
                if part is None:
                    return
                yield part
        finally:
            self._queues.discard(queue)

    def _put(self, part: bytes | None) -> None:
        for queue in list(self._queues):
            if queue.full():
                while not queue.empty():
                    queue.get_nowait()
                part = None
            queue.put_nowait(part)


def sse(event: str, data: dict[str, Any]) -> bytes:
    """A server-sent event."""
    return f"event: {event}\ndata: {json.dumps(data)}\n\n".encode()
