"""Limits: pictures in work, uploads at once and their bytes in memory, open streams, requests a second."""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from time import perf_counter

from prometheus_client import Gauge

from maskwatch.serve.core.problem import Problem, busy

_LONGEST_RETRY_S = 60

# When there is no room, a body that comes more slowly than this is evicted; mobile phones are faster.
_SLOW_BYTES_S = 16 << 10

_GRACE_S = 2.0  # how long a body may pause without counting as slow
_RETRY_S = 5

_CLIENTS = 10_000  # addresses whose rate is remembered; the least recently used one is forgotten


class Capacity:
    """Pictures in work or waiting, up to a limit. For one event loop.

    A request is admitted only while few pictures of others are ahead of it; rejecting it at once is better
    than a long wait. An admitted request may bring as many pictures as the limit has room for. Each stream
    has at most one frame waiting; frames count towards the limit only.

    Args:
        limit: pictures.
        admission_limit: pictures of requests at which no further request is admitted.
        gauge: shows how many pictures there are.
    """

    def __init__(self, limit: int, admission_limit: int, gauge: Gauge) -> None:
        self._limit, self._admission_limit, self._gauge = limit, admission_limit, gauge
        self._used = self._requested = 0
        self._seconds_each = 0.1

    @contextmanager
    def reserve(self, pictures: int) -> Iterator[None]:
        """Room for the pictures of a request, for the length of the block; `Problem` 503 without room."""
        self.check_admission()
        with self._reserved(pictures, requested=pictures):
            yield

    def reserve_frame(self) -> AbstractContextManager[None]:
        """Room for a stream's frame, for the length of the block; `Problem` 503 without room."""
        return self._reserved(1, requested=0)

    def check_admission(self) -> None:
        """Raises `Problem` 503 if no further request is admitted."""
        if self._requested >= self._admission_limit:
            raise self._busy(f"pictures before yours: {self._requested}; come back later")
        self._check_limit(1)

    def observe(self, seconds: float, pictures: int) -> None:
        """Learns from each call of the network how long a client should wait before it tries again."""
        self._seconds_each += 0.2 * (seconds / pictures - self._seconds_each)

    @contextmanager
    def _reserved(self, pictures: int, *, requested: int) -> Iterator[None]:
        self._check_limit(pictures)
        self._count(pictures, requested)
        try:
            yield
        finally:
            self._count(-pictures, -requested)

    def _count(self, pictures: int, requested: int) -> None:
        self._used += pictures
        self._requested += requested
        self._gauge.inc(pictures)

    def _check_limit(self, pictures: int) -> None:
        if self._used + pictures > self._limit:
            raise self._busy(
                f"{self._used} pictures are in work or waiting and {self._limit} is the limit, so {pictures} "
                "more do not fit; come back later"
            )

    def _busy(self, text: str) -> Problem:
        return busy(text, min(_LONGEST_RETRY_S, math.ceil(self._used * self._seconds_each)))


class IncomingBody:
    """The body of one request, from its first byte until the request is answered.

    Attributes:
        size: bytes of it that count.
    """

    def __init__(self, limiter: UploadLimiter) -> None:
        self._limiter, self.size = limiter, 0
        self._now_s = asyncio.get_running_loop().time
        self._due_s = self._now_s() + _GRACE_S
        self._timeout: asyncio.Timeout | None = None
        self._evicted = False

    @asynccontextmanager
    async def reading(self, seconds: float) -> AsyncIterator[None]:
        """The block that reads the body, for at most so many seconds.

        Raises:
            Problem: 408, it takes longer, or is slow when room is needed; 503, there is no room.
        """
        with self._limiter.upload_slot(self):
            try:
                async with asyncio.timeout(seconds) as self._timeout:
                    yield
            except TimeoutError:
                reason = f"{self.size} bytes came in {seconds:g} s and then no end"
                raise self._too_slow(reason) from None
            finally:
                self._timeout = None
        self._check_not_evicted()

    def grow(self, size: int) -> None:
        """Counts bytes that have arrived; `Problem` 503 without room, 408 if the body was evicted."""
        self._check_not_evicted()
        now_s = self._now_s()
        # The credit of a fast start is capped at the length of a pause.
        self._due_s = min(max(self._due_s, now_s) + size / _SLOW_BYTES_S, now_s + _GRACE_S)
        self._limiter.add_bytes(self, size)

    @property
    def behind_s(self) -> float:
        """Seconds by which the body is late; 0 or less for one that keeps up."""
        return self._now_s() - self._due_s

    def evict(self) -> None:
        """Ends the reading with 408."""
        self._evicted = True
        if self._timeout is not None and not self._timeout.expired():
            self._timeout.reschedule(self._now_s())

    def _check_not_evicted(self) -> None:
        if self._evicted:
            raise self._too_slow("")

    def _too_slow(self, reason: str) -> Problem:
        if self._evicted:
            reason = "the body came too slowly while others waited"
        return Problem(408, f"{reason}; send it faster, or less", {"Connection": "close"})


class UploadLimiter:
    """Counts the uploads in progress and the bytes that they hold; for one event loop.

    Receiving a body is no work, so it reserves nothing of `Capacity`: a few slow clients would block it.
    Slow clients must not fill the room here either. When there is none left, the body that is most behind is
    evicted; the newest is refused only where all keep up.

    Args:
        max_uploads: uploads in progress.
        max_bytes: of all bodies, until their requests are answered.
        gauge: shows how many uploads are in progress.
    """

    def __init__(self, max_uploads: int, max_bytes: int, gauge: Gauge) -> None:
        self._max_uploads, self._max_bytes, self._gauge = max_uploads, max_bytes, gauge
        self._uploads: set[IncomingBody] = set()
        self._bytes = 0

    @contextmanager
    def body(self) -> Iterator[IncomingBody]:
        """A body whose bytes count until the block ends."""
        body = IncomingBody(self)
        try:
            yield body
        finally:
            self._release(body)

    @contextmanager
    def upload_slot(self, body: IncomingBody) -> Iterator[None]:
        """Counts a body among the uploads in progress for the length of the block; `Problem` 503 if full."""
        if len(self._uploads) >= self._max_uploads and not self._evict():
            raise busy(f"{len(self._uploads)} uploads at once are the limit; come back later", _RETRY_S)
        self._uploads.add(body)
        self._gauge.inc()
        try:
            yield
        finally:
            self._uploads.discard(body)
            self._gauge.dec()

    def add_bytes(self, body: IncomingBody, size: int) -> None:
        """Counts bytes of a body; `Problem` 503 if there is no room and all uploads keep up."""
        while self._bytes + size > self._max_bytes:
            if not self._evict():
                text = f"uploads hold {self._bytes} bytes and {self._max_bytes} is the limit; come back later"
                raise busy(text, _RETRY_S)
        self._bytes += size
        body.size += size

    def _evict(self) -> bool:
        slowest = max(self._uploads, key=lambda body: body.behind_s, default=None)
        if slowest is None or slowest.behind_s <= 0:
            return False
        slowest.evict()
        self._uploads.discard(slowest)
        self._release(slowest)
        return True

    def _release(self, body: IncomingBody) -> None:
        self._bytes -= body.size
        body.size = 0


class StreamSlot:
    """The place of one stream.

    Attributes:
        evicted: set when the stream must end to make room for another.
    """

    def __init__(self) -> None:
        self.evicted = asyncio.Event()
        self.touch()

    def touch(self) -> None:
        """Notes that the client has sent something."""
        self.active_s = perf_counter()


class StreamLimiter:
    """Counts the open WebSockets and watch streams; for one event loop.

    Args:
        max_streams: open streams.
        max_idle_s: a stream that receives frames is evicted when others find no room and its last frame is
            longer ago than this.
        gauge: shows how many streams are open.
    """

    def __init__(self, max_streams: int, max_idle_s: float, gauge: Gauge) -> None:
        self._max_streams, self._max_idle_s, self._gauge = max_streams, max_idle_s, gauge
        self._evictable: dict[StreamSlot, bool] = {}

    @contextmanager
    def slot(self, *, receives: bool) -> Iterator[StreamSlot]:
        """A place for the length of the block, for a stream that receives frames or only sends.

        Raises:
            Problem: 503, too many streams are open.
        """
        if len(self._evictable) >= self._max_streams and not self._evict():
            raise busy(
                f"{len(self._evictable)} streams are open, which is the limit; come back later", _RETRY_S
            )
        slot = StreamSlot()
        self._evictable[slot] = receives
        self._gauge.inc()
        try:
            yield slot
        finally:
            self._evictable.pop(slot, None)
            self._gauge.dec()

    def _evict(self) -> bool:
        slots = [slot for slot, evictable in self._evictable.items() if evictable]
        idlest = min(slots, key=lambda slot: slot.active_s, default=None)
        if idlest is None or perf_counter() - idlest.active_s <= self._max_idle_s:
            return False
        del self._evictable[idlest]
        idlest.evicted.set()
        return True


class RateLimiter:
    """Requests a second for each client address, as a token bucket that holds one second's worth.

    Args:
        rate: requests a second; None for any number.
        now: a clock in seconds.
    """

    def __init__(self, rate: float | None, now: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._now = rate, now
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # requests left, at which time

    def check(self, client: str) -> None:
        """Counts a request; `Problem` 429 if the client exceeds its rate."""
        if self._rate is None:
            return
        now, size = self._now(), max(1.0, self._rate)
        left, then = self._buckets.pop(client, (size, now))
        left = min(size, left + (now - then) * self._rate)
        allowed = left >= 1
        self._buckets[client] = (left - allowed, now)
        if len(self._buckets) > _CLIENTS:
            self._buckets.popitem(last=False)
        if not allowed:
            wait_s = math.ceil((1 - left) / self._rate)
            text = f"{client}: more than {self._rate:g} requests a second; wait {wait_s} s"
            raise Problem(429, text, {"Retry-After": str(wait_s)})
