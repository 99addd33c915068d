"""JPEG pictures in a stream of bytes, of an HTTP camera or a pipe.

Cameras often declare wrong boundaries, types and lengths, and FFmpeg's MJPEG reader requires each part to be
declared `image/jpeg`. So the pictures are found by their own markers (ITU-T T.81, annex B). Segments are
skipped by their length, so that a thumbnail inside a picture is not taken for another picture.
"""

from __future__ import annotations

import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Literal, TypeAlias

import av
from av.error import FFmpegError

from maskwatch.errors import ImageError
from maskwatch.live.capture.frame import RawFrame, Reader, ReadError
from maskwatch.media.formats import starts_like_picture
from maskwatch.media.images import read_image

Content: TypeAlias = Literal["jpegs", "picture", "other"]

CHUNK_BYTES = 1 << 16
_PROBED_BYTES = 1 << 16  # the most text in front of the first picture
_MAX_PICTURE_BYTES = 64 << 20

_START, _END = b"\xff\xd8\xff", b"\xff\xd9"
_SCAN = 0xDA
# Markers that may follow the data of a scan; anything else in there is damage, which decoders survive.
_AFTER_SCAN = re.compile(rb"\xff[\xc4\xd8-\xdd\xe0-\xef\xfe]")
_WITHOUT_LENGTH = frozenset([0x01, *range(0xD0, 0xD8)])

_ENOUGH = 16  # bytes identify every kind of picture
_TEXT = re.compile(rb"[\t\n\f\r\x20-\x7e\x80-\xff]*")
_PART = re.compile(rb"\s*--[^\r\n]{1,200}\r?\n(?:[A-Za-z-]+:[^\r\n]*\r?\n)+\r?\n")


def probe(head: bytes) -> Content | None:
    """What a stream that begins with these bytes holds; None when more bytes are needed to know.

    Text may precede a JPEG picture, such as the headers of a part, or a whole part of another type, such as
    sound. Videos begin otherwise.
    """
    if len(head) < _ENOUGH:
        return None
    at = head.find(_START)
    if _PART.match(head) or _TEXT.fullmatch(head, 0, at if at >= 0 else len(head)):
        if at >= 0:
            return "jpegs"
        if not head.startswith(b"#EXTM3U") and not starts_like_picture(head):
            return None if len(head) <= _PROBED_BYTES else "other"
    return "picture" if starts_like_picture(head) else "other"


class ByteStream(ABC):
    """Bytes that arrive in chunks.

    Attributes:
        finite: they have an end; reaching it is no error.
        complete: they have reached their end; always True where `finite`.
        stall_s: seconds for which data may arrive without a picture; None for any time.
    """

    def __init__(self, *, finite: bool, stall_s: float | None = None) -> None:
        self.finite = self.complete = finite
        self.stall_s = stall_s
        self._head = b""

    def probe(self) -> Content:
        """What the stream holds; `read` still returns all bytes.

        Raises:
            ReadError: too few bytes arrive to know.
        """
        began_s = time.monotonic()
        while (content := probe(self._head)) is None:
            self.check_stall(began_s)
            more = self._receive()
            self._head += more
            if not more:
                return "other"
        return content

    def read(self) -> bytes:
        """The next bytes; empty at the end.

        Raises:
            ReadError: nothing has arrived for too long.
        """
        head, self._head = self._head, b""
        return head or self._receive()

    def check_stall(self, last_s: float) -> None:
        """Raises `ReadError` if the last picture, at `last_s` of `time.monotonic`, is too long ago."""
        if self.stall_s is not None and time.monotonic() - last_s > self.stall_s:
            raise ReadError(f"data, but no picture for {self.stall_s:g} s")

    @abstractmethod
    def _receive(self) -> bytes:
        """The next bytes from outside; empty at the end."""

    @abstractmethod
    def close(self) -> None:
        """Releases the connection."""


class JpegReader(Reader):
    """Reads the pictures in a stream of bytes.

    Attributes:
        count: complete picture files so far.
    """

    def __init__(self, stream: ByteStream) -> None:
        self.finite, self.count = stream.finite, 0
        self._stream = stream
        self._decoder = av.CodecContext.create("mjpeg", "r")
        self._decoder.thread_count = 1  # threads would hold frames back

    def frames(self, wanted: Callable[[], bool]) -> Iterator[RawFrame | None]:
        last_s = time.monotonic()
        for data in self._files():
            self.count += bool(data)
            if data and self.count > 1 and not wanted():
                last_s = time.monotonic()
                yield None
            elif data and (frame := self._decode(data)) is not None:
                yield frame
                last_s = time.monotonic()
            else:
                self._stream.check_stall(last_s)

    def close(self) -> None:
        self._stream.close()

    def _files(self) -> Iterator[bytes]:
        """The files of the pictures; empty for bytes that complete none."""
        content = self._stream.probe()
        if content != "jpegs":
            yield self._everything() if content == "picture" else b""
            return
        splitter = JpegSplitter()
        while chunk := self._stream.read():
            yield from splitter.feed(chunk) or [b""]
        if splitter.begun:
            # Cut off, or a picture without its end marker.
            rest = splitter.rest() if self._stream.complete else None
            if rest is None:
                raise ReadError("the connection broke off")
            yield rest

    def _everything(self) -> bytes:
        data = b""
        while chunk := self._stream.read():
            data += chunk
            if len(data) > _MAX_PICTURE_BYTES:
                raise ReadError(f"a picture of more than {_MAX_PICTURE_BYTES >> 20} MiB")
        return data

    def _decode(self, data: bytes) -> RawFrame | None:
        """A frame; None for a damaged picture."""
        try:
            if data.startswith(_START):
                frames = self._decoder.decode(av.Packet(data))
                return RawFrame.of_av(frames[-1]) if frames else None
            return RawFrame.of_image(read_image(data, name="snapshot"))
        except (FFmpegError, ImageError):
            return None


class JpegSplitter:
    """Finds the complete JPEG pictures in bytes that arrive in chunks.

    Attributes:
        begun: a picture has begun and is not complete.
    """

    def __init__(self) -> None:
        self.begun = False
        self._bytes = bytearray()
        self._at = 0  # the picture is parsed up to here
        self._in_scan = self._had_scan = False

    def feed(self, data: bytes) -> list[bytes]:
        """The pictures that these bytes complete."""
        self._bytes += data
        found: list[bytes] = []
        while self.begun or self._begin():
            end = self._step()
            if end is None:
                if len(self._bytes) <= _MAX_PICTURE_BYTES:
                    break
                self._drop(2)
            elif end:
                found.append(bytes(self._bytes[:end]))
                self._drop(end)
        return found

    def rest(self) -> bytes | None:
        """The picture that has begun, where only its end marker is missing; some cameras leave it out."""
        return bytes(self._bytes) + _END if self.begun and self._had_scan else None

    def _begin(self) -> bool:
        at = self._bytes.find(_START)
        del self._bytes[: at if at >= 0 else max(0, len(self._bytes) - len(_START) + 1)]
        self.begun, self._at, self._in_scan, self._had_scan = at >= 0, 2, False, False
        return self.begun

    def _step(self) -> int | None:
        """Parses a part of the picture; returns its end, 0 before it, None if bytes are missing."""
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
            self._drop(2)  # not a picture; another may begin in it
        elif marker == _END[1]:
            return self._at + 2
        elif marker == _START[1]:
            return self._next_begins()
        elif marker in _WITHOUT_LENGTH:
            self._at += 2
        else:
            self._at += 2 + int.from_bytes(self._bytes[self._at + 2 : self._at + 4])
            self._in_scan = marker == _SCAN
            self._had_scan |= self._in_scan
        return 0

    def _next_begins(self) -> int:
        """The next picture begins before the end of this one, which lacks its end marker, or more."""
        if self._had_scan:
            self._bytes[self._at : self._at] = _END
            return self._at + len(_END)
        self._drop(self._at)
        return 0

    def _drop(self, count: int) -> None:
        del self._bytes[:count]
        self.begun = False
