"""How much the service takes on at once: pictures in the house, and requests of one client."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prometheus_client import Gauge

from maskwatch.serve.problem import Problem, busy

_CLIENTS = 10_000
"""Addresses that are remembered; the one not heard of for longest is forgotten."""

_LONGEST_WAIT_S = 60


class Hold:
    """A request's share of the capacity; begins with one picture, since it has at least one."""

    def __init__(self, capacity: Capacity) -> None:
        self._capacity, self.pictures = capacity, 0
        self.need(1)

    def need(self, pictures: int) -> None:
        """Makes the share so large.

        Raises:
            Problem: 503, there is no room; the share stays as it is.
        """
        self._capacity.take(pictures - self.pictures)
        self.pictures = pictures

    def release(self) -> None:
        """Gives the share back."""
        self._capacity.take(-self.pictures)
        self.pictures = 0


class Capacity:
    """Pictures in work or waiting, up to a limit. For one event loop.

    Args:
        limit: pictures.
        gauge: shows how many there are.
    """

    def __init__(self, limit: int, gauge: Gauge) -> None:
        self._limit, self._used, self._gauge = limit, 0, gauge
        self._seconds_each = 0.1

    @contextmanager
    def hold(self) -> Iterator[Hold]:
        """Room for one picture, for the length of the block.

        Raises:
            Problem: 503, there is none.
        """
        hold = Hold(self)
        try:
            yield hold
        finally:
            hold.release()

    def problem(self, pictures: int) -> Problem | None:
        """503 where there is no room for so many more."""
        if pictures <= 0 or self._used + pictures <= self._limit:
            return None
        return busy(
            f"{self._used} pictures are in work or waiting and {self._limit} is the limit, so {pictures} "
            "more cannot be taken; come back later",
            min(_LONGEST_WAIT_S, math.ceil(self._used * self._seconds_each)),
        )

    def take(self, pictures: int) -> None:
        """Counts pictures in, or with a negative number out."""
        if problem := self.problem(pictures):
            raise problem
        self._used += pictures
        self._gauge.inc(pictures)

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
