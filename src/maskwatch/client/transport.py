"""What differs between asyncio and blocking calls: WebSocket connections, sleeping, threads.

Each name has an asynchronous form (`AsyncConnection`, `sleep`, …), which `async_client` uses, and a blocking
form (`Connection`, `blocking_sleep`, …), which `make sync-client` puts in its place in `sync`.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any, TypeAlias, TypeVar

import httpx2
import websockets.asyncio.client
import websockets.sync.client
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from maskwatch.client import errors
from maskwatch.media.images import ImageInput

T = TypeVar("T")

AsyncFrames: TypeAlias = "Iterable[ImageInput] | AsyncIterable[ImageInput]"
Frames: TypeAlias = "Iterable[ImageInput]"


class _Endpoint:
    """Where a WebSocket connects to, and with which options: those of the client's requests.

    Args:
        http: the client.
        params: of the query.
        timeout_s: for opening.
        tls: as the client has it.
    """

    def __init__(
        self,
        http: httpx2.Client | httpx2.AsyncClient,
        params: Mapping[str, str],
        timeout_s: float,
        tls: ssl.SSLContext | None,
    ) -> None:
        self.base_url, secure = http.base_url, http.base_url.scheme == "https"
        path = self.base_url.path.rstrip("/") + "/v1/stream"
        scheme = "wss" if secure else "ws"
        self._url = str(self.base_url.copy_with(scheme=scheme, path=path, params=dict(params)))
        token = http.headers.get("authorization")
        self._options: dict[str, Any] = {
            "additional_headers": {} if token is None else {"Authorization": token},
            "user_agent_header": http.headers["user-agent"],
            "open_timeout": timeout_s,
            "compression": None,  # a JPEG gets no smaller
            "proxy": True if http.trust_env else None,
            "ssl": tls if secure else None,
        }


class AsyncConnection(_Endpoint):
    """A WebSocket for asyncio; `open` connects it. All methods raise `ServiceError`."""

    _socket: websockets.asyncio.client.ClientConnection

    async def open(self) -> None:
        try:
            self._socket = await websockets.asyncio.client.connect(self._url, **self._options)
        except (OSError, InvalidHandshake) as error:
            raise errors.refused(self.base_url, error) from error

    async def close(self) -> None:
        await self._socket.close()

    async def send(self, message: str | bytes) -> None:
        try:
            await self._socket.send(message)
        except ConnectionClosed as error:
            raise errors.ended(error) from error

    async def receive(self, timeout_s: float | None) -> str | bytes:
        try:
            async with asyncio.timeout(timeout_s):
                return await self._socket.recv()
        except TimeoutError as error:
            raise errors.timed_out(timeout_s) from error
        except ConnectionClosed as error:
            raise errors.ended(error) from error


class Connection(_Endpoint):
    """A WebSocket with blocking calls, connected when it is made. All methods raise `ServiceError`."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._opened = ExitStack()
        try:
            self._socket = self._opened.enter_context(
                websockets.sync.client.connect(self._url, **self._options)
            )
        except (OSError, InvalidHandshake) as error:
            raise errors.refused(self.base_url, error) from error

    def open(self) -> None:
        """Nothing is left to do."""

    def close(self) -> None:
        self._opened.close()

    def send(self, message: str | bytes) -> None:
        try:
            self._socket.send(message)
        except ConnectionClosed as error:
            raise errors.ended(error) from error

    def receive(self, timeout_s: float | None) -> str | bytes:
        try:
            return self._socket.recv(timeout_s)
        except TimeoutError as error:
            raise errors.timed_out(timeout_s) from error
        except ConnectionClosed as error:
            raise errors.ended(error) from error


async def each_frame(frames: AsyncFrames) -> AsyncIterator[ImageInput]:
    """The frames one after the other, whichever way they come."""
    if isinstance(frames, AsyncIterable):
        async for frame in frames:
            yield frame
        return
    for frame in frames:
        yield frame


def blocking_each_frame(frames: Frames) -> Iterator[ImageInput]:
    return iter(frames)


async def sleep(seconds: float) -> None:
    await asyncio.sleep(seconds)


def blocking_sleep(seconds: float) -> None:
    time.sleep(seconds)


async def in_thread(work: Callable[..., T], *arguments: Any) -> T:
    """Runs blocking work outside the event loop."""
    return await asyncio.to_thread(work, *arguments)


def in_this_thread(work: Callable[..., T], *arguments: Any) -> T:
    return work(*arguments)
