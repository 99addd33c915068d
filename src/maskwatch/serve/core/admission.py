"""Admission: how many pictures the service works on or keeps waiting."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import Gauge

from maskwatch.serve.core.problem import Problem, busy

_LONGEST_RETRY_S = 60


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
        """Room for the pictures of a request, for the length of the block.

        Raises:
            Problem: 503, there is none.
        """
        self.check_admission()
        with self._reserved(pictures, requested=pictures):
            yield

    @contextmanager
    def reserve_frame(self) -> Iterator[None]:
        """Room for a stream's frame, for the length of the block.

        Raises:
            Problem: 503, there is none.
        """
        with self._reserved(1, requested=0):
            yield

    def check_admission(self) -> None:
        """Whether a further request is admitted.

        Raises:
            Problem: 503, it is not.
        """
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
                "more cannot be taken; come back later"
            )

    def _busy(self, text: str) -> Problem:
        return busy(text, min(_LONGEST_RETRY_S, math.ceil(self._used * self._seconds_each)))
