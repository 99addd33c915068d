"""What the routes of one app share: models, queue, counters, and whether it is stopping."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Protocol, TypeVar

from starlette.requests import HTTPConnection

from maskwatch.serve.core.admission import Capacity, Rates
from maskwatch.serve.core.auth import Tokens
from maskwatch.serve.core.inference import Batcher
from maskwatch.serve.core.metrics import Metrics
from maskwatch.serve.core.problem import busy
from maskwatch.serve.core.registry import Shelf
from maskwatch.serve.core.upload_limiter import UploadLimiter
from maskwatch.serve.settings import ServeSettings
from maskwatch.system import usable_cores

if TYPE_CHECKING:
    from collections.abc import Iterator

    from maskwatch.serve.watching.watcher import Watching

T = TypeVar("T")

_DECODERS = 4
"""Pictures that are decoded at the same time: each takes up to 4 bytes for each of its pixels, twice."""

_FETCHERS = 4
"""Addresses that are fetched at the same time; they wait for others' servers, not for this machine."""


class FrameStream(Protocol):
    """A stream to which frames are sent."""

    @property
    def idle_s(self) -> float:
        """Seconds since the last one came."""

    def end(self) -> None:
        """Makes room for another stream."""


class Service:
    """The state of an app; it takes work only within `running`.

    Attributes:
        in_flight: requests that are being answered, streams not among them.
        stopping: set when the service has been told to stop.
        watching: what is watched beside; None for nothing.

    Raises:
        MaskwatchError: a model that cannot be loaded, or a source that cannot be watched.
    """

    def __init__(self, settings: ServeSettings) -> None:
        self.settings = settings
        self.shelf = Shelf(settings)
        self.tokens = Tokens(settings.token)
        self.metrics = Metrics()
        door = settings.lanes + settings.limits.waiting
        self.capacity = Capacity(settings.limits.queue, door, self.metrics.queued)
        limits = settings.limits
        self.uploads = UploadLimiter(limits.max_uploads, limits.most_upload_bytes, self.metrics.uploads)
        self.networks = tuple(ipaddress.ip_network(network) for network in settings.url_networks)
        self.rates = Rates(settings.limits.rate)
        self.in_flight = self._fetches = 0
        self._streams: dict[object, FrameStream | None] = {}
        self.stopping = asyncio.Event()
        self.watching: Watching | None = _watching(settings, self.shelf, self.metrics)
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

    def stop(self) -> None:
        """From now on requests are refused and streams end. In the loop's own thread."""
        self.stopping.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Opens what works in threads, and closes it at the end."""
        settings = self.settings
        decoders = min(_DECODERS, usable_cores())
        with (
            ThreadPoolExecutor(decoders, thread_name_prefix="decode") as self._decoders,
            ThreadPoolExecutor(_FETCHERS, thread_name_prefix="fetch") as self._fetchers,
        ):
            batcher = Batcher(settings.lanes, settings.batch, self.metrics, self.capacity)
            self._batcher = batcher
            try:
                async with self._watched():
                    yield
            finally:
                self.stop()
                self._batcher = None
                await batcher.close()

    async def in_thread(self, work: Callable[..., T], *args: object) -> T:
        """Runs what takes the processor, so that the event loop stays free."""
        return await asyncio.get_running_loop().run_in_executor(self._decoders, work, *args)

    async def fetching(self, work: Callable[..., T], *args: object) -> T:
        """Runs what waits for another server.

        Raises:
            Problem: 503, too many wait already.
        """
        if self._fetches >= self.settings.limits.queue:
            raise busy(f"{self._fetches} addresses are being fetched, which is the limit; come back later", 5)
        self._fetches += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._fetchers, work, *args)
        finally:
            self._fetches -= 1

    @property
    def streams(self) -> int:
        """How many are open."""
        return len(self._streams)

    @contextmanager
    def stream(self, of_frames: FrameStream | None = None) -> Iterator[bool]:
        """Counts a stream in its block; gives False where there are too many already.

        Args:
            of_frames: the stream itself, if it takes frames. It is ended where others find no room and none
                has come for longer than a request may take.
        """
        if self.streams >= self.settings.limits.max_streams and not self._end_idle():
            yield False
            return
        key = object()
        self._streams[key] = of_frames
        self.metrics.streams.inc()
        try:
            yield True
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

    @asynccontextmanager
    async def _watched(self) -> AsyncIterator[None]:
        if self.watching is None:
            yield
            return
        self.watching.start(asyncio.get_running_loop())
        try:
            yield
        finally:
            await self.in_thread(self.watching.close)


def _watching(settings: ServeSettings, shelf: Shelf, metrics: Metrics) -> Watching | None:
    if settings.watch is None:
        return None
    from maskwatch.serve.watching.metrics import WatchMetrics
    from maskwatch.serve.watching.watcher import Watching  # needs the extra `live`

    watching = Watching(settings.watch, shelf.of_file(settings.watch.model), keep_faces=settings.keep_faces)
    metrics.add(WatchMetrics(watching.sources, watching.sinks))
    return watching


def service_of(connection: HTTPConnection) -> Service:
    """The service of a request or WebSocket."""
    service = connection.app.state.service
    assert isinstance(service, Service)
    return service
