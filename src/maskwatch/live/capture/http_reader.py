"""Cameras over HTTP: an endless answer of pictures (MJPEG), or one picture for each request (snapshots).

FFmpeg fetches the bytes, so that sign-in, redirects, TLS and time limits are those of every other stream.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from threading import Event

from maskwatch.live.capture.av_reader import HTTP_OPTIONS, open_media, packets
from maskwatch.live.capture.frame import RawFrame, ReadError
from maskwatch.live.capture.jpeg_stream import CHUNK_BYTES, ByteStream, JpegReader
from maskwatch.live.capture.source_spec import SourceSpec
from maskwatch.live.timing import Backoff

_LONGEST_WAIT_S = 30.0
# No proxy may answer with the previous picture.
_OPTIONS = {**HTTP_OPTIONS, "raw_packet_size": str(CHUNK_BYTES), "headers": "Cache-Control: no-cache\r\n"}


class HttpAnswer(ByteStream):
    """The body of an answer. Without a declared length its end looks like a loss.

    Raises:
        ReadError: there is no answer.
    """

    def __init__(self, spec: SourceSpec, stall_s: float) -> None:
        super().__init__(finite=False, stall_s=stall_s)
        self._container = open_media(spec, spec.address, _OPTIONS, stall_s, "data")
        self._packets = packets(self._container, spec, stall_s)
        self._longest_s = stall_s

    def _receive(self) -> bytes:
        began = time.monotonic()
        try:
            for packet in self._packets:
                if packet.size:
                    return bytes(packet)
            self.complete = True
        except ReadError:
            if time.monotonic() - began >= self._longest_s:
                raise
        return b""

    def close(self) -> None:
        self._container.close()


class HttpReader(JpegReader):
    """Reads the pictures of an answer. After an answer of one picture, a snapshot, it requests the next one.

    Args:
        answer: the first one, opened.
        stall_s: snapshots count as lost once all have failed for so many seconds.
        stop: ends the waiting for the next snapshot.
        poll_s: seconds from one snapshot to the next.
    """

    def __init__(
        self, answer: HttpAnswer, spec: SourceSpec, stall_s: float, stop: Event, poll_s: float
    ) -> None:
        super().__init__(answer)
        self._spec, self._stall_s, self._stop, self._poll_s = spec, stall_s, stop, poll_s

    def frames(self, wanted: Callable[[], bool]) -> Iterator[RawFrame | None]:
        yield from super().frames(wanted)
        backoff = Backoff(self._poll_s, _LONGEST_WAIT_S)
        due = time.monotonic()
        failing_since: float | None = None
        while self.count == 1:  # several pictures were a stream, which has ended
            now = time.monotonic()
            due = max(due + self._poll_s, now)  # no hurry to catch up after a slow answer
            if self._stop.wait(due - now):
                return
            try:
                yield from self._next_answer(wanted)
                failing_since = None
                backoff.reset()
            except ReadError:
                failing_since = due if failing_since is None or self.count else failing_since
                now, lost_at = time.monotonic(), failing_since + self._stall_s
                if now >= lost_at or self.count > 1:
                    raise
                due = min(now + backoff.next_wait(), lost_at) - self._poll_s
                self.count = 1

    def _next_answer(self, wanted: Callable[[], bool]) -> Iterator[RawFrame | None]:
        """The pictures of the next answer: one, or several if the camera streams after all."""
        self.count, some = 0, False
        self._stream.close()
        self._stream = HttpAnswer(self._spec, self._stall_s)
        for frame in super().frames(wanted):
            some = True
            yield frame
        if not some:
            raise ReadError("the data is not a readable picture")
