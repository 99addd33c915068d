"""Standard input as a file that PyAV can read and that another thread can break off."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Callable
from threading import Event

from maskwatch.errors import SourceError
from maskwatch.live.capture.jpeg_reader import PIECE_BYTES, Content, content_of
from maskwatch.live.capture.picture import ReadError

_POLL_S = 0.2


class Pipe:
    """Reads what is there, waits while nothing is, and ends when `stop` is set.

    Attributes:
        empty: nothing has come so far.

    Args:
        silent: called each time that nothing has come for `stall_s` seconds.

    On Windows, where a pipe cannot be waited for with a time limit, a read lasts until something comes.
    """

    def __init__(self, descriptor: int, stop: Event, stall_s: float, silent: Callable[[], None]) -> None:
        self.name = "-"
        self.empty = True
        self._head = b""
        self._descriptor = descriptor
        self._stop = stop
        self._stall_s = stall_s
        self._silent = silent

    def read(self, size: int) -> bytes:
        """Up to `size` bytes; none at the end.

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
                self._silent()
        raise InterruptedError("the pipe was closed")

    def unread(self, data: bytes) -> None:
        """Has bytes come once more."""
        self._head = data + self._head


class PipeBody:
    """What comes through a pipe; see `jpeg_reader.Body`."""

    whole = True

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe

    def look(self) -> Content:
        """See `Body`."""
        head, more = b"", b"-"
        while (content := content_of(head)) is None and more:
            head += (more := self.read())
        self._pipe.unread(head)
        return content or "other"

    def read(self) -> bytes:
        """See `Body`."""
        try:
            return self._pipe.read(PIECE_BYTES)
        except OSError as error:
            raise ReadError(str(error)) from None

    def close(self) -> None:
        """See `Body`; standard input stays open."""


def stdin_descriptor() -> int:
    """The number of standard input.

    Raises:
        SourceError: it is a terminal or closed.
    """
    if sys.stdin is None or sys.stdin.closed or sys.stdin.isatty():
        raise SourceError(
            "-: nothing is piped to standard input; use: ffmpeg … -f mjpeg - | maskwatch watch -"
        )
    return sys.stdin.fileno()
