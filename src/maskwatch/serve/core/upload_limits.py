"""Limits: uploads at once, and their bytes in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from prometheus_client import Gauge

from maskwatch.serve.core.limits import RETRY_S
from maskwatch.serve.core.problem import Problem, busy

# When there is no room, a body that comes more slowly than this is evicted; mobile phones are faster.
_SLOW_BYTES_S = 16 << 10

_GRACE_S = 2.0  # how long a body may pause without counting as slow


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
            raise busy(f"{len(self._uploads)} uploads at once are the limit; come back later", RETRY_S)
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
                raise busy(text, RETRY_S)
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
