"""Bodies that come in: how many at once, how many bytes of them in memory, and which one has to go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from prometheus_client import Gauge

from maskwatch.serve.core.problem import Problem, busy

_SLOW_BYTES_S = 16 << 10
"""Where there is no room, who sends less than this a second goes; a telephone on a poor line sends more."""

_GRACE_S = 2.0
"""How long a body may pause without counting as slow."""

_RETRY_S = 5


class IncomingBody:
    """The body of one request, from its first byte until the request has its answer.

    Attributes:
        held: bytes of it that count.
    """

    def __init__(self, limiter: UploadLimiter) -> None:
        self._limiter, self.held = limiter, 0
        self._now_s = asyncio.get_running_loop().time
        self._due_s = self._now_s() + _GRACE_S
        self._timeout: asyncio.Timeout | None = None
        self._evicted = False

    @asynccontextmanager
    async def reading(self, seconds: float) -> AsyncIterator[None]:
        """The block in which the body comes in, at most so many seconds long.

        Raises:
            Problem: 408, it takes longer, or is slow while others find no room; 503, there is no room.
        """
        with self._limiter.coming_in(self):
            try:
                async with asyncio.timeout(seconds) as self._timeout:
                    yield
            except TimeoutError:
                why = f"{self.held} bytes came in {seconds:g} s and then no end"
                raise self._too_slow(why) from None
            finally:
                self._timeout = None
        self._check_kept()

    def grow(self, size: int) -> None:
        """Counts bytes that have come.

        Raises:
            Problem: 503, there is no room for them; 408, the body had to go.
        """
        self._check_kept()
        now_s = self._now_s()
        # Whoever was fast for a while has no credit from it for longer than a pause.
        self._due_s = min(max(self._due_s, now_s) + size / _SLOW_BYTES_S, now_s + _GRACE_S)
        self._limiter.take(self, size)

    @property
    def behind_s(self) -> float:
        """Seconds for which more should have come; 0 or less for a body that keeps up."""
        return self._now_s() - self._due_s

    def evict(self) -> None:
        """Ends the reading with 408."""
        self._evicted = True
        if self._timeout is not None and not self._timeout.expired():
            self._timeout.reschedule(self._now_s())

    def _check_kept(self) -> None:
        if self._evicted:
            raise self._too_slow("the body came too slowly while others waited")

    def _too_slow(self, why: str) -> Problem:
        if self._evicted:
            why = "the body came too slowly while others waited"
        return Problem(408, f"{why}; send it faster, or less", {"Connection": "close"})


class UploadLimiter:
    """Counts the bodies that come in and the bytes that they hold; for one event loop.

    To read a body is no work, so it takes no place of `Capacity`: three slow clients would hold them all.
    Nor may slow clients hold all the room here. Where there is none left, the body that is most behind goes;
    only where all keep up is the newest refused.

    Args:
        max_uploads: bodies that come in at the same time.
        max_bytes: of all bodies, until their requests are answered.
        gauge: shows how many bodies come in.
    """

    def __init__(self, max_uploads: int, max_bytes: int, gauge: Gauge) -> None:
        self._max_uploads, self._max_bytes, self._gauge = max_uploads, max_bytes, gauge
        self._coming: set[IncomingBody] = set()
        self._held = 0

    @contextmanager
    def body(self) -> Iterator[IncomingBody]:
        """A body whose bytes count until the block ends."""
        body = IncomingBody(self)
        try:
            yield body
        finally:
            self._release(body)

    @contextmanager
    def coming_in(self, body: IncomingBody) -> Iterator[None]:
        """Counts a body among those that come in, for the length of the block.

        Raises:
            Problem: 503, there are too many, and all of them keep up.
        """
        if len(self._coming) >= self._max_uploads and not self._evict():
            raise busy(f"{len(self._coming)} uploads at once are the limit; come back later", _RETRY_S)
        self._coming.add(body)
        self._gauge.inc()
        try:
            yield
        finally:
            self._coming.discard(body)
            self._gauge.dec()

    def take(self, body: IncomingBody, size: int) -> None:
        """Counts bytes of a body.

        Raises:
            Problem: 503, there are too many, and all who send keep up.
        """
        while self._held + size > self._max_bytes:
            if not self._evict():
                text = f"uploads hold {self._held} bytes and {self._max_bytes} is the limit; come back later"
                raise busy(text, _RETRY_S)
        self._held += size
        body.held += size

    def _evict(self) -> bool:
        slowest = max(self._coming, key=lambda body: body.behind_s, default=None)
        if slowest is None or slowest.behind_s <= 0:
            return False
        slowest.evict()
        self._coming.discard(slowest)
        self._release(slowest)
        return True

    def _release(self, body: IncomingBody) -> None:
        self._held -= body.held
        body.held = 0
