"""Whole JPEG pictures out of bytes that come piece by piece, whatever stands between them.

The pictures are found by their own markers (ITU-T T.81, annex B), not by what a server says around them: its
boundaries, types and lengths are wrong too often. Segments are stepped over by their length, so that a
thumbnail inside a picture is none of its own.
"""

from __future__ import annotations

import re

START = b"\xff\xd8\xff"
_END = b"\xff\xd9"
MAX_BYTES = 64 << 20
"""Of a picture; what is longer is none."""

_SCAN = 0xDA
# What may come after the data of a scan; anything else in there is damage, over which decoders get.
_AFTER_SCAN = re.compile(rb"\xff[\xc4\xd8-\xdd\xe0-\xef\xfe]")
_ALONE = frozenset([0x01, *range(0xD0, 0xD8)])


class JpegSplitter:
    """Takes bytes, gives pictures.

    Attributes:
        begun: a picture has begun that is not complete.
    """

    def __init__(self) -> None:
        self.begun = False
        self._bytes = bytearray()
        self._at = 0  # up to here the picture that has begun is known
        self._in_scan = self._had_scan = False

    def feed(self, data: bytes) -> list[bytes]:
        """The pictures that are complete with these bytes."""
        self._bytes += data
        found: list[bytes] = []
        while self.begun or self._begin():
            end = self._step()
            if end is None:
                if len(self._bytes) <= MAX_BYTES:
                    break
                self._give_up()
            elif end:
                found.append(bytes(self._bytes[:end]))
                self._drop(end)
        return found

    def rest(self) -> bytes | None:
        """The picture that has begun, where only its end marker is missing; some cameras leave it out."""
        return bytes(self._bytes) + _END if self.begun and self._had_scan else None

    def _begin(self) -> bool:
        at = self._bytes.find(START)
        del self._bytes[: at if at >= 0 else max(0, len(self._bytes) - len(START) + 1)]
        self.begun, self._at, self._in_scan, self._had_scan = at >= 0, 2, False, False
        return self.begun

    def _step(self) -> int | None:
        """Goes over a part of the picture; where it ends, 0 if it goes on, None when more must come first."""
        if self._in_scan:
            match = _AFTER_SCAN.search(self._bytes, self._at)
            self._at = match.start() if match else max(self._at, len(self._bytes) - 1)
            self._in_scan = match is None
            return 0 if match else None
        while self._bytes[self._at : self._at + 2] == b"\xff\xff":  # fill bytes
            self._at += 1
        if len(self._bytes) < self._at + 4 and self._bytes[self._at : self._at + 2] != _END:
            return None
        marker = self._bytes[self._at + 1]
        if self._bytes[self._at] != 0xFF or marker == 0:
            self._give_up()
        elif marker == _END[1]:
            return self._at + 2
        elif marker == START[1]:
            return self._next_begins()
        elif marker in _ALONE:
            self._at += 2
        else:
            self._at += 2 + int.from_bytes(self._bytes[self._at + 2 : self._at + 4])
            self._in_scan = marker == _SCAN
            self._had_scan |= self._in_scan
        return 0

    def _next_begins(self) -> int:
        """The next picture has begun before the end of this one: its end marker is missing, or all after."""
        if self._had_scan:
            self._bytes[self._at : self._at] = _END
            return self._at + len(_END)
        self._drop(self._at)
        return 0

    def _give_up(self) -> None:
        """This was no picture; another may begin in it."""
        self._drop(2)

    def _drop(self, count: int) -> None:
        del self._bytes[:count]
        self.begun = False
