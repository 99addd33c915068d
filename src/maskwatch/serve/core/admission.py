"""How much the service takes on at once: pictures in the house, and requests of one client."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prometheus_client import Gauge

from maskwatch.serve.core.problem import Problem, busy

_CLIENTS = 10_000
"""Addresses that are remembered; the one not heard of for longest is forgotten."""

_LONGEST_WAIT_S = 60


class Capacity:
    """Pictures in work or waiting, up to a limit. For one event loop.

    A request is taken only while few pictures of others are before it: one that would wait for long is
    better told at once. What has been taken may bring as many pictures as the limit has room for. The frames
    of streams wait one each at the most, and count for the limit alone.

    Args:
        limit: pictures.
        door: pictures of requests from which on no further request is taken.
        gauge: shows how many pictures there are.
    """

    def __init__(self, limit: int, door: int, gauge: Gauge) -> None:
        self._limit, self._door, self._gauge = limit, door, gauge
        self._used = self._requested = 0
        self._seconds_each = 0.1

    @contextmanager
    def hold(self, pictures: int) -> Iterator[None]:
        """Room for the pictures of a request, for the length of the block.

        Raises:
            Problem: 503, there is none.
        """
        if problem := self.closed():
            raise problem
        with self._held(pictures, requested=pictures):
            yield

    @contextmanager
    def hold_frame(self) -> Iterator[None]:
        """Room for a stream's frame, for the length of the block.

        Raises:
            Problem: 503, there is none.
        """
        with self._held(1, requested=0):
            yield

    def closed(self) -> Problem | None:
        """503 where no further request is taken."""
        if self._requested < self._door:
            return self._full(1)
        return self._busy(f"pictures before yours: {self._requested}; come back later")

    @contextmanager
    def _held(self, pictures: int, *, requested: int) -> Iterator[None]:
        if problem := self._full(pictures):
            raise problem
        self._count(pictures, requested)
        try:
            yield
        finally:
            self._count(-pictures, -requested)

    def _count(self, pictures: int, requested: int) -> None:
        self._used += pictures
        self._requested += requested
        self._gauge.inc(pictures)

    def _full(self, pictures: int) -> Problem | None:
        if self._used + pictures <= self._limit:
            return None
        return self._busy(
            f"{self._used} pictures are in work or waiting and {self._limit} is the limit, so {pictures} "
            "more cannot be taken; come back later"
        )

    def _busy(self, text: str) -> Problem:
        return busy(text, min(_LONGEST_WAIT_S, math.ceil(self._used * self._seconds_each)))

    def took(self, seconds: float, pictures: int) -> None:
        """Learns from each call of the network how long a client should stay away."""
        self._seconds_each += 0.2 * (seconds / pictures - self._seconds_each)


class Rates:
    """So many requests a second for each client address; a second's worth may come at once (token bucket).

    Args:
        rate: requests a second; None for any number.
        now: a clock in seconds.
    """

    def __init__(self, rate: float | None, now: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._now = rate, now
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # requests left, when

    def check(self, client: str) -> None:
        """Counts a request.

        Raises:
            Problem: 429, the client has used up what it may.
        """
        if self._rate is None:
            return
        now, most = self._now(), max(1.0, self._rate)
        left, when = self._left.pop(client, (most, now))
        left = min(most, left + (now - when) * self._rate)
        allowed = left >= 1
        self._left[client] = (left - allowed, now)
        if len(self._left) > _CLIENTS:
            self._left.popitem(last=False)
        if not allowed:
            wait_s = math.ceil((1 - left) / self._rate)
            raise Problem(
                429,
                f"{client}: more than {self._rate:g} requests a second; wait {wait_s} s",
                {"Retry-After": str(wait_s)},
            )
