"""Standard input as a file that PyAV can read and that another thread can interrupt."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Callable
from threading import Event

from maskwatch.errors import SourceError
from maskwatch.live.capture.jpeg_stream import CHUNK_BYTES, Content, probe
from maskwatch.live.capture.reader import ReadError

_POLL_S = 0.2


class Pipe:
    """Returns the bytes that are there, waits while there are none, and ends when `stop` is set.

    Attributes:
        empty: nothing has arrived so far.

    Args:
        on_silence: called each time that nothing has arrived for `stall_s` seconds.

    On Windows, where a pipe cannot be polled, a read lasts until something arrives.
    """

    def __init__(self, descriptor: int, stop: Event, stall_s: float, on_silence: Callable[[], None]) -> None:
        self.name = "-"
        self.empty = True
        self._head = b""
        self._descriptor = descriptor
        self._stop = stop
        self._stall_s = stall_s
        self._on_silence = on_silence

    def read(self, size: int) -> bytes:
        """Up to `size` bytes; empty at the end.

        Raises:
            InterruptedError: `stop` was set.
        """
        if self._head:
            head, self._head = self._head[:size], self._head[size:]
            return head
        waited = 0.0
        while not self._stop.is_set():
            if os.name == "nt" or select.select([self._descriptor], [], [], _POLL_S)[0]:
                data = os.read(self._descriptor, size)
                self.empty = self.empty and not data
                return data
            waited += _POLL_S
            if waited >= self._stall_s:
                waited = 0.0
                self._on_silence()
        raise InterruptedError("the pipe was closed")

    def unread(self, data: bytes) -> None:
        """Puts bytes back, for the next `read`."""
        self._head = data + self._head


class PipeStream:
    """The bytes of a pipe; see `ByteStream`."""

    complete = True

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe

    def probe(self) -> Content:
        head, more = b"", b"-"
        while (content := probe(head)) is None and more:
            head += (more := self.read())
        self._pipe.unread(head)
        return content or "other"

    def read(self) -> bytes:
        try:
            return self._pipe.read(CHUNK_BYTES)
        except OSError as error:
            raise ReadError(str(error)) from None

    def close(self) -> None:
        """See `ByteStream`; standard input stays open."""


def stdin_descriptor() -> int:
    """The file descriptor of standard input.

    Raises:
        SourceError: it is a terminal or closed.
    """
    if sys.stdin is None or sys.stdin.closed or sys.stdin.isatty():
        raise SourceError(
            "-: nothing is piped to standard input; use: ffmpeg … -f mjpeg - | maskwatch watch -"
        )
    return sys.stdin.fileno()
