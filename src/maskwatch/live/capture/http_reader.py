"""Cameras that give pictures over HTTP: one after the other (MJPEG), or one for each request (snapshots).

FFmpeg only fetches here: its sign-in, redirects, TLS and time limits are those of every other stream.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from threading import Event

from maskwatch.live.capture.av_reader import HTTP_OPTIONS, AvReader, open_media, packets
from maskwatch.live.capture.backoff import Backoff
from maskwatch.live.capture.jpeg_reader import PIECE_BYTES, Content, JpegReader, content_of
from maskwatch.live.capture.picture import RawFrame, Reader, ReadError
from maskwatch.live.capture.settings import Transport
from maskwatch.live.capture.source_spec import SourceSpec

_LONGEST_WAIT_S = 30.0
# No proxy shall give the picture of before.
_OPTIONS = {**HTTP_OPTIONS, "raw_packet_size": str(PIECE_BYTES), "headers": "Cache-Control: no-cache\r\n"}


class HttpOpener:
    """Opens an http(s) address again and again, and remembers what was found there.

    Args:
        stall_s, transport: as `AvReader` takes them.
        stop: ends the waiting for the next snapshot.
        poll_s: seconds from one snapshot to the next.
    """

    def __init__(
        self, spec: SourceSpec, stall_s: float, transport: Transport, stop: Event, poll_s: float
    ) -> None:
        self._spec, self._stall_s, self._transport = spec, stall_s, transport
        self._stop, self._poll_s = stop, poll_s
        self._other = False

    def open(self) -> Reader:
        """The reader of what comes from there.

        Raises:
            ReadError: it cannot be opened.
        """
        if not self._other:
            body = _Answer(self._spec, self._stall_s)
            try:
                content = body.look()
            except BaseException:
                body.close()
                raise
            if content != "other":
                return HttpReader(body, self._again, self._stall_s, self._stop, self._poll_s)
            body.close()
        # Asked for once more, by FFmpeg alone, for which HLS is many files. A server that serves one client
        # at a time may refuse that; the next try comes straight here.
        self._other = not self._other
        reader = AvReader(self._spec, stall_s=self._stall_s, transport=self._transport)
        self._other = True
        return reader

    def _again(self) -> _Answer:
        return _Answer(self._spec, self._stall_s)


class _Answer:
    """The body of an answer; see `Body`. Without a length its end cannot be told from a loss."""

    def __init__(self, spec: SourceSpec, stall_s: float) -> None:
        self._stall_s = stall_s
        self._container = open_media(spec, spec.address, _OPTIONS, stall_s, "data")
        self._packets = packets(self._container, spec, stall_s)
        self._head = b""
        self.whole = False

    def look(self) -> Content:
        """See `Body`."""
        began = time.monotonic()
        while (content := content_of(self._head)) is None:
            if time.monotonic() - began > self._stall_s:
                raise ReadError(f"data, but no picture for {self._stall_s:g} s")
            more = self._next()
            self._head += more
            if not more:
                return "other"
        return content

    def read(self) -> bytes:
        """See `Body`."""
        head, self._head = self._head, b""
        return head or self._next()

    def _next(self) -> bytes:
        began = time.monotonic()
        try:
            for packet in self._packets:
                if packet.size:
                    return bytes(packet)
            self.whole = True
        except ReadError:
            if time.monotonic() - began >= self._stall_s:
                raise
        return b""

    def close(self) -> None:
        """See `Body`."""
        self._container.close()


class HttpReader(JpegReader):
    """An answer of one picture is a snapshot, and the next one is asked for."""

    def __init__(
        self, body: _Answer, again: Callable[[], _Answer], stall_s: float, stop: Event, poll_s: float
    ) -> None:
        super().__init__(body, finite=False, stall_s=stall_s)
        self._again, self._lost_s, self._stop, self._poll_s = again, stall_s, stop, poll_s

    def pictures(self, wanted: Callable[[], bool]) -> Iterator[RawFrame | None]:
        """See `picture.Reader`. Snapshots count as lost only once all have failed for `stall_s`."""
        yield from super().pictures(wanted)
        backoff = Backoff(self._poll_s, _LONGEST_WAIT_S)
        due = time.monotonic()
        failing_since: float | None = None
        while self.count == 1:  # of more it is a stream, which has ended
            now = time.monotonic()
            due = max(due + self._poll_s, now)  # no hurry to catch up after a slow answer
            if self._stop.wait(due - now):
                return
            try:
                yield from self._answer(wanted)
                failing_since = None
                backoff.reset()
            except ReadError:
                failing_since = due if failing_since is None or self.count else failing_since
                now, lost_at = time.monotonic(), failing_since + self._lost_s
                if now >= lost_at or self.count > 1:
                    raise
                due = min(now + backoff.next_wait(), lost_at) - self._poll_s
                self.count = 1

    def _answer(self, wanted: Callable[[], bool]) -> Iterator[RawFrame | None]:
        """The pictures of the next answer: one, or of a camera that streams after all, more.

        Raises:
            ReadError: there is none.
        """
        self.count, some = 0, False
        self._body.close()
        self._body = self._again()
        for picture in super().pictures(wanted):
            some = True
            yield picture
        if not some:
            raise ReadError("what comes is no picture that can be read")
