"""The state that the routes of one app share: models, queue, limits, metrics, shutdown."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TypeVar

from starlette.requests import HTTPConnection

from maskwatch.serve.core.auth import Authenticator, TokenFile
from maskwatch.serve.core.inference import Batcher
from maskwatch.serve.core.limits import Capacity, RateLimiter, StreamLimiter
from maskwatch.serve.core.metrics import Metrics
from maskwatch.serve.core.problem import busy
from maskwatch.serve.core.registry import ModelRegistry
from maskwatch.serve.core.upload_limits import UploadLimiter
from maskwatch.serve.settings import ServeSettings
from maskwatch.system import usable_cores

T = TypeVar("T")

# Pictures that are decoded at the same time: each takes up to 4 bytes for each of its pixels, twice.
_DECODERS = 4

_FETCHERS = 4  # addresses that are fetched at the same time; these threads wait for other servers
_POLL_S = 0.05


class Service:
    """The state of an app; it takes work only within `running`.

    Attributes:
        in_flight: requests that are being answered, without streams.
        draining: set when the service begins to stop: it is no longer ready, and closes connections after
            their next response.
        stopping: set after `drain_s` more: it refuses requests and ends streams.

    Raises:
        MaskwatchError: a model that cannot be loaded.
    """

    def __init__(self, settings: ServeSettings) -> None:
        self.settings, limits = settings, settings.limits
        self.registry = ModelRegistry(settings)
        file = settings.token_file
        self.auth = Authenticator(settings.token if file is None else TokenFile(file))
        self.metrics = Metrics()
        admission_limit = settings.inference_workers + limits.waiting
        self.capacity = Capacity(limits.queue, admission_limit, self.metrics.queued)
        self.uploads = UploadLimiter(limits.max_uploads, limits.most_upload_bytes, self.metrics.uploads)
        self.networks = tuple(ipaddress.ip_network(network) for network in settings.url_networks)
        self.streams = StreamLimiter(limits.max_streams, limits.timeout_s, self.metrics.streams)
        self.rates = RateLimiter(limits.rate)
        self.in_flight = self._fetches = 0
        self.draining, self.stopping = asyncio.Event(), asyncio.Event()
        self._batcher: Batcher | None = None
        self._decoders: ThreadPoolExecutor | None = None
        self._fetchers: ThreadPoolExecutor | None = None

    @property
    def batcher(self) -> Batcher:
        assert self._batcher is not None, "the service runs"
        return self._batcher

    @property
    def ready(self) -> bool:
        """Whether it should get requests."""
        return self._batcher is not None and not self.draining.is_set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Starts the thread pools and the batcher, and closes them at the end."""
        workers, batch = self.settings.inference_workers, self.settings.batch
        with (
            ThreadPoolExecutor(min(_DECODERS, usable_cores()), "decode") as self._decoders,
            ThreadPoolExecutor(_FETCHERS, "fetch") as self._fetchers,
        ):
            self._batcher = batcher = Batcher(workers, batch, self.metrics, self.capacity)
            try:
                yield
            finally:
                self.stop()
                self._batcher = None
                await batcher.close()

    async def drain(self) -> None:
        """Stops: first it is not ready, so that balancers turn away; then it answers the requests in work."""
        self.draining.set()
        await asyncio.sleep(self.settings.drain_s)
        self.stop()
        now_s = asyncio.get_running_loop().time
        end_s = now_s() + self.settings.limits.timeout_s * 2  # a body, then the work
        while True:
            await asyncio.sleep(_POLL_S)  # at least once, for requests that are just coming in
            if not self.in_flight:
                return
            if now_s() > end_s:
                logging.getLogger("uvicorn.error").warning("%d requests cut off", self.in_flight)
                return

    def stop(self) -> None:
        """From now on, it refuses requests and ends streams."""
        self.draining.set()
        self.stopping.set()

    async def in_thread(self, work: Callable[..., T], *args: object) -> T:
        """Runs CPU work in a thread, so that the event loop stays free."""
        return await asyncio.get_running_loop().run_in_executor(self._decoders, work, *args)

    async def fetch(self, work: Callable[[], T]) -> T:
        """Runs work that waits for another server in a thread; `Problem` 503 if too much of it waits."""
        if self._fetches >= self.settings.limits.queue:
            raise busy(f"{self._fetches} addresses are being fetched, which is the limit; come back later", 5)
        self._fetches += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._fetchers, work)
        finally:
            self._fetches -= 1


def service_of(connection: HTTPConnection) -> Service:
    """The service of a request or WebSocket."""
    service = connection.app.state.service
    assert isinstance(service, Service)
    return service
