"""Standard input as a file that PyAV can read and that another thread can interrupt."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Callable
from threading import Event

from maskwatch.errors import SourceError
from maskwatch.live.capture.frame import ReadError
from maskwatch.live.capture.jpeg_stream import CHUNK_BYTES, ByteStream

_POLL_S = 0.2


class Pipe(ByteStream):
    """Returns the bytes that are there, waits while there are none, and fails once `stop` is set.

    Attributes:
        empty: nothing has arrived so far.

    Args:
        silent_s, on_silence: called each time that nothing has arrived for so many seconds.

    On Windows, where a pipe cannot be polled, a read lasts until something arrives.
    """

    name = "-"  # read by PyAV

    def __init__(self, descriptor: int, stop: Event, silent_s: float, on_silence: Callable[[], None]) -> None:
        super().__init__(finite=True)
        self.empty = True
        self._descriptor = descriptor
        self._stop = stop
        self._silent_s = silent_s
        self._on_silence = on_silence

    def read(self, size: int = CHUNK_BYTES) -> bytes:
        """Up to `size` bytes; empty at the end."""
        data = super().read()
        self._head = data[size:]
        return data[:size]

    def _receive(self) -> bytes:
        waited = 0.0
        while not self._stop.is_set():
            try:
                if os.name == "nt" or select.select([self._descriptor], [], [], _POLL_S)[0]:
                    data = os.read(self._descriptor, CHUNK_BYTES)
                    self.empty = self.empty and not data
                    return data
            except OSError as error:
                raise ReadError(str(error.strerror)) from None
            waited += _POLL_S
            if waited >= self._silent_s:
                waited = 0.0
                self._on_silence()
        raise ReadError("the pipe was closed")

    def close(self) -> None:
        """Standard input stays open."""


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
