"""What differs between asyncio and blocking calls: WebSocket connections, threads, frames.

Each name has an asynchronous form (`AsyncConnection`, `in_thread`, …), which `async_client` uses, and a
blocking form (`Connection`, `in_this_thread`, …), which `make sync-client` puts in its place in `sync`.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any, TypeAlias, TypeVar

import httpx2
import websockets.asyncio.client
import websockets.sync.client

from maskwatch.client import errors
from maskwatch.media.images import ImageInput

T = TypeVar("T")

AsyncFrames: TypeAlias = "Iterable[ImageInput] | AsyncIterable[ImageInput]"
Frames: TypeAlias = "Iterable[ImageInput]"


def websocket_options(
    http: httpx2.Client | httpx2.AsyncClient, timeout_s: float, tls: ssl.SSLContext | None
) -> dict[str, Any]:
    """Arguments of either `connect` of websockets, from those of the client's requests."""
    token = http.headers.get("authorization")
    return {
        "additional_headers": {} if token is None else {"Authorization": token},
        "user_agent_header": http.headers["user-agent"],
        "open_timeout": timeout_s,
        "compression": None,  # a JPEG gets no smaller
        "proxy": True if http.trust_env else None,
        "ssl": tls if http.base_url.scheme == "https" else None,
    }


def websocket_url(base_url: httpx2.URL, params: Mapping[str, str]) -> str:
    """The address of the stream."""
    scheme = "wss" if base_url.scheme == "https" else "ws"
    path = base_url.path.rstrip("/") + "/v1/stream"
    return str(base_url.copy_with(scheme=scheme, path=path, params=dict(params)))


class AsyncConnection:
    """A WebSocket for asyncio, connected by `open`. Its methods raise `ServiceError`."""

    _socket: websockets.asyncio.client.ClientConnection

    def __init__(self, base_url: httpx2.URL, params: Mapping[str, str], options: dict[str, Any]) -> None:
        self._base_url, self._url, self._options = base_url, websocket_url(base_url, params), options

    async def open(self) -> None:
        with errors.opening(self._base_url):
            self._socket = await websockets.asyncio.client.connect(self._url, **self._options)

    async def close(self) -> None:
        await self._socket.close()

    async def send(self, message: str | bytes) -> None:
        with errors.streaming():
            await self._socket.send(message)

    async def receive(self, timeout_s: float | None) -> str | bytes:
        with errors.streaming(timeout_s):
            async with asyncio.timeout(timeout_s):
                return await self._socket.recv()


class Connection:
    """A WebSocket with blocking calls, connected from the start. Its methods raise `ServiceError`."""

    def __init__(self, base_url: httpx2.URL, params: Mapping[str, str], options: dict[str, Any]) -> None:
        self._opened = ExitStack()
        with errors.opening(base_url):
            connection = websockets.sync.client.connect(websocket_url(base_url, params), **options)
            self._socket = self._opened.enter_context(connection)

    def open(self) -> None:
        pass

    def close(self) -> None:
        self._opened.close()

    def send(self, message: str | bytes) -> None:
        with errors.streaming():
            self._socket.send(message)

    def receive(self, timeout_s: float | None) -> str | bytes:
        with errors.streaming(timeout_s):
            message: str | bytes = self._socket.recv(timeout_s)
            return message


async def each_frame(frames: AsyncFrames) -> AsyncIterator[ImageInput]:
    """The frames one after the other, whichever way they come."""
    if isinstance(frames, AsyncIterable):
        async for frame in frames:
            yield frame
    else:
        for frame in frames:
            yield frame


def each_blocking_frame(frames: Frames) -> Iterator[ImageInput]:
    return iter(frames)


async def in_thread(work: Callable[..., T], *arguments: Any) -> T:
    """Runs blocking work outside the event loop."""
    return await asyncio.to_thread(work, *arguments)


def in_this_thread(work: Callable[..., T], *arguments: Any) -> T:
    return work(*arguments)
