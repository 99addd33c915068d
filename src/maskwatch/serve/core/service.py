"""The state that the routes of one app share: models, queue, limits, metrics, shutdown."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from typing import Protocol, TypeVar

from starlette.requests import HTTPConnection

from maskwatch.serve.core.auth import Authenticator
from maskwatch.serve.core.inference import Batcher
from maskwatch.serve.core.limits import Capacity, RateLimiter, UploadLimiter
from maskwatch.serve.core.metrics import Metrics
from maskwatch.serve.core.problem import busy
from maskwatch.serve.core.registry import ModelRegistry
from maskwatch.serve.settings import ServeSettings
from maskwatch.system import usable_cores

T = TypeVar("T")

_DECODERS = 4
"""Pictures that are decoded at the same time: each takes up to 4 bytes for each of its pixels, twice."""

_FETCHERS = 4
"""Addresses that are fetched at the same time; these threads wait for other servers."""

_POLL_S = 0.05


class FrameStream(Protocol):
    """A stream to which a client sends frames."""

    @property
    def idle_s(self) -> float:
        """Seconds since the last frame."""

    def end(self) -> None:
        """Makes room for another stream."""


class Service:
    """The state of an app; it takes work only within `running`.

    Attributes:
        in_flight: requests that are being answered, without streams.
        stopping: set when the service begins to stop.

    Raises:
        MaskwatchError: a model that cannot be loaded.
    """

    def __init__(self, settings: ServeSettings) -> None:
        self.settings, limits = settings, settings.limits
        self.registry = ModelRegistry(settings)
        self.auth = Authenticator(settings.token)
        self.metrics = Metrics()
        admission_limit = settings.inference_workers + limits.waiting
        self.capacity = Capacity(limits.queue, admission_limit, self.metrics.queued)
        self.uploads = UploadLimiter(limits.max_uploads, limits.most_upload_bytes, self.metrics.uploads)
        self.networks = tuple(ipaddress.ip_network(network) for network in settings.url_networks)
        self.rates = RateLimiter(limits.rate)
        self.in_flight = self._fetches = 0
        self._streams: dict[object, FrameStream | None] = {}
        self.stopping = asyncio.Event()
        self._batcher: Batcher | None = None
        self._decoders: ThreadPoolExecutor | None = None
        self._fetchers: ThreadPoolExecutor | None = None

    @property
    def batcher(self) -> Batcher:
        assert self._batcher is not None, "the service runs"
        return self._batcher

    @property
    def ready(self) -> bool:
        """Whether it takes requests."""
        return self._batcher is not None and not self.stopping.is_set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Starts the thread pools and the batcher, and closes them at the end."""
        settings = self.settings
        decoders = min(_DECODERS, usable_cores())
        with (
            ThreadPoolExecutor(decoders, thread_name_prefix="decode") as self._decoders,
            ThreadPoolExecutor(_FETCHERS, thread_name_prefix="fetch") as self._fetchers,
        ):
            batcher = Batcher(settings.inference_workers, settings.batch, self.metrics, self.capacity)
            self._batcher = batcher
            try:
                yield
            finally:
                self.stop()
                self._batcher = None
                await batcher.close()

    def stop(self) -> None:
        """Refuses requests from now on and ends streams. Call it in the thread of the event loop."""
        self.stopping.set()

    async def drain(self) -> None:
        """Stops, and waits until all requests are answered and `drain_s` has passed."""
        self.stop()
        settings, now_s = self.settings, asyncio.get_running_loop().time
        began_s = now_s()
        limit_s = settings.limits.timeout_s * 2 + settings.drain_s  # a body, then the work
        while True:
            await asyncio.sleep(_POLL_S)  # at least once, for requests that are just coming in
            waited_s = now_s() - began_s
            if not self.in_flight and waited_s >= settings.drain_s:
                return
            if waited_s > limit_s:
                logging.getLogger("uvicorn.error").warning("%d requests cut off", self.in_flight)
                return

    async def in_thread(self, work: Callable[..., T], *args: object) -> T:
        """Runs CPU work in a thread, so that the event loop stays free."""
        return await asyncio.get_running_loop().run_in_executor(self._decoders, work, *args)

    async def fetch(self, work: Callable[..., T], *args: object) -> T:
        """Runs work that waits for another server in a thread.

        Raises:
            Problem: 503, too many addresses are being fetched already.
        """
        if self._fetches >= self.settings.limits.queue:
            raise busy(f"{self._fetches} addresses are being fetched, which is the limit; come back later", 5)
        self._fetches += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._fetchers, work, *args)
        finally:
            self._fetches -= 1

    @contextmanager
    def open_stream(self, frames: FrameStream | None = None) -> Iterator[None]:
        """Counts a stream for the length of the block.

        Args:
            frames: the stream itself, if it receives frames. It is ended when others find no room and its
                last frame is longer ago than a request may take.

        Raises:
            Problem: 503, too many streams are open.
        """
        if len(self._streams) >= self.settings.limits.max_streams and not self._end_idle():
            raise busy(f"{len(self._streams)} streams are open, which is the limit; come back later", 5)
        key = object()
        self._streams[key] = frames
        self.metrics.streams.inc()
        try:
            yield
        finally:
            self._streams.pop(key, None)
            self.metrics.streams.dec()

    def _end_idle(self) -> bool:
        idle_s = {key: stream.idle_s for key, stream in self._streams.items() if stream is not None}
        idlest = max(idle_s, key=idle_s.__getitem__, default=None)
        if idlest is None or idle_s[idlest] <= self.settings.limits.timeout_s:
            return False
        stream = self._streams.pop(idlest)
        assert stream is not None
        stream.end()
        return True


def service_of(connection: HTTPConnection) -> Service:
    """The service of a request or WebSocket."""
    service = connection.app.state.service
    assert isinstance(service, Service)
    return service
