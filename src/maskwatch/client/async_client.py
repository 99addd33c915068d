"""The client that is awaited; what its methods mean stands in `plain`."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, TypeVar

import httpx2
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from maskwatch.client import protocol, streams
from maskwatch.client.answers import Answer, FrameAnswer, Model
from maskwatch.client.protocol import Call, Classes, Threshold
from maskwatch.errors import ServiceError
from maskwatch.media.images import ImageInput

T = TypeVar("T")


class AsyncClient:
    """`Client` for asyncio: the same arguments, methods, answers and errors.

    >>> async with AsyncClient("http://127.0.0.1:8765") as client:
    ...     answer = await client.detect("photo.jpg")
    """

    def __init__(
        self,
        url: str = protocol.DEFAULT_URL,
        *,
        token: str | None = None,
        timeout_s: float = protocol.TIMEOUT_S,
        retries: int = protocol.RETRIES,
        tls: ssl.SSLContext | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self._timeout_s, self._retries, self._tls = timeout_s, retries, tls
        self._http = httpx2.AsyncClient(**protocol.settings(url, token, timeout_s, tls), transport=transport)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connections that it keeps."""
        await self._http.aclose()

    async def detect(
        self,
        images: ImageInput | list[Any] | tuple[Any, ...],
        *,
        threshold: Threshold | None = None,
        classes: Classes | None = None,
        model: str | None = None,
        annotate: bool = False,
        blur: bool = False,
    ) -> Answer:
        """As `Client.detect`; files are read and pictures encoded in a thread."""
        call = await asyncio.to_thread(protocol.detect, images, threshold, classes, model, annotate, blur)
        return await self._ask(call)

    async def models(self) -> tuple[Model, ...]:
        """As `Client.models`."""
        return await self._ask(protocol.models())

    async def ticket(self) -> str:
        """As `Client.ticket`."""
        return await self._ask(protocol.ticket())

    async def is_alive(self) -> bool:
        """As `Client.is_alive`."""
        return await self._is_well("/healthz")

    async def is_ready(self) -> bool:
        """As `Client.is_ready`."""
        return await self._is_well("/readyz")

    @asynccontextmanager
    async def stream(
        self,
        *,
        threshold: Threshold | None = None,
        classes: Classes | None = None,
        model: str | None = None,
    ) -> AsyncIterator[AsyncStream]:
        """As `Client.stream`, for `async with` alone."""
        url = streams.address(self._http.base_url, protocol.query(threshold, classes, model))
        how = streams.connecting(self._http, self._timeout_s, self._tls)
        try:
            connection = await connect(url, **how)
        except (OSError, InvalidHandshake) as error:
            raise streams.refused(self._http.base_url, error) from error
        async with connection:
            yield AsyncStream(connection)

    async def _ask(self, call: Call[T]) -> T:
        tried = 0
        while True:
            try:
                return protocol.read_answer(call, await self._send(call))
            except ServiceError as error:
                tried += 1
                wait_s = protocol.pause_s(error, tried, self._retries)
                if wait_s is None:
                    raise
            await asyncio.sleep(wait_s)

    async def _send(self, call: Call[T]) -> httpx2.Response:
        try:
            return await self._http.request(call.method, call.path, **call.options)
        except httpx2.TransportError as error:
            raise protocol.unreachable(self._http.base_url, error) from error

    async def _is_well(self, path: str) -> bool:
        try:
            return (await self._http.get(path)).status_code == 200
        except httpx2.TransportError:
            return False


class AsyncStream:
    """`Stream` for asyncio: the same methods, answers and errors."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._ledger = streams.Ledger()

    async def detect(
        self, frames: Iterable[ImageInput] | AsyncIterable[ImageInput], *, ahead: int = streams.AHEAD
    ) -> AsyncIterator[FrameAnswer]:
        """As `Stream.detect`; frames may come asynchronously."""
        async for frame in _each(frames):
            await self.send(frame)
            while self._ledger.open >= ahead:
                yield await self.receive()
        while self._ledger.open:
            yield await self.receive()

    async def send(self, image: ImageInput) -> int:
        """As `Stream.send`."""
        number, message = self._ledger.pack(image)
        await self._say(message)
        return number

    async def receive(self, timeout_s: float | None = protocol.TIMEOUT_S) -> FrameAnswer:
        """As `Stream.receive`."""
        try:
            async with asyncio.timeout(timeout_s):
                message = await self._connection.recv()
        except TimeoutError as error:
            raise ServiceError(
                f"no answer on the stream within {timeout_s:g} s; send a frame first"
            ) from error
        except ConnectionClosed as error:
            raise streams.ended(error) from error
        return self._ledger.read(message)

    async def set_threshold(self, threshold: Threshold | None) -> None:
        """As `Stream.set_threshold`."""
        await self._say(streams.threshold_message(threshold))

    async def set_classes(self, classes: Classes | None) -> None:
        """As `Stream.set_classes`."""
        await self._say(streams.classes_message(classes))

    async def _say(self, message: str | bytes) -> None:
        try:
            await self._connection.send(message)
        except ConnectionClosed as error:
            raise streams.ended(error) from error


async def _each(frames: Iterable[ImageInput] | AsyncIterable[ImageInput]) -> AsyncIterator[ImageInput]:
    if isinstance(frames, AsyncIterable):
        async for frame in frames:
            yield frame
        return
    for frame in frames:
        yield frame
