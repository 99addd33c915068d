"""Limits: pictures in work, open streams, requests a second; those of uploads are in `upload_limits`."""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from time import perf_counter

from prometheus_client import Gauge

from maskwatch.serve.core.problem import Problem, busy

_LONGEST_RETRY_S = 60

RETRY_S = 5
"""After which a client that finds no place may try again, in seconds."""

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
                f"{len(self._evictable)} streams are open, which is the limit; come back later", RETRY_S
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
