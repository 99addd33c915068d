"""Reads JPEG pictures out of an answer or a pipe, whatever is written around them.

What comes is looked at, not what is said of it. FFmpeg's MJPEG reader wants each part of an answer to be
declared `image/jpeg`, which many cameras do not do; here the pictures are found in the bytes, see `jpegs`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from typing import Literal, Protocol, TypeAlias

import av
from av.error import FFmpegError

from maskwatch.errors import ImageError
from maskwatch.live.capture.jpegs import MAX_BYTES, START, JpegSplitter
from maskwatch.live.capture.picture import RawFrame, ReadError, raw_frame
from maskwatch.media.images import read_image

Content: TypeAlias = Literal["jpegs", "picture", "other"]

PIECE_BYTES = 1 << 16
LOOKED_AT_BYTES = 1 << 16
"""So much text may stand in front of the first picture."""

_ENOUGH = 16  # bytes tell every kind of picture
_TEXT = re.compile(rb"[\t\n\f\r\x20-\x7e\x80-\xff]*")
_PART = re.compile(rb"\s*--[^\r\n]{1,200}\r?\n(?:[A-Za-z-]+:[^\r\n]*\r?\n)+\r?\n")
_PICTURES = re.compile(
    rb"\x89PNG\r|GIF8[79]a|BM.{4}\0\0\0\0|RIFF.{4}WEBP|II\*\0|MM\0\*|.{4}ftyp(?:avi[fs]|hei[cx]|mif1)",
    re.DOTALL,
)


class Body(Protocol):
    """Bytes that come piece by piece.

    Attributes:
        whole: they came to their end; False where that cannot be told from a loss.
    """

    whole: bool

    def look(self) -> Content:
        """What they hold; they can still be read afterwards.

        Raises:
            ReadError: not enough comes to know.
        """

    def read(self) -> bytes:
        """The next bytes; none at the end.

        Raises:
            ReadError: nothing has come for too long.
        """

    def close(self) -> None:
        """Lets go of where they come from."""


class JpegReader:
    """The pictures in a body; see `picture.Reader`.

    Attributes:
        count: whole files of pictures so far.

    Args:
        stall_s: time in seconds for which data without a picture may come; None for any.
    """

    bursts = False

    def __init__(self, body: Body, *, finite: bool, stall_s: float | None) -> None:
        self.finite, self.count = finite, 0
        self._body, self._stall_s = body, stall_s
        self._decoder = av.CodecContext.create("mjpeg", "r")
        self._decoder.thread_count = 1  # threads would hold frames back

    def pictures(self, wanted: Callable[[], bool]) -> Iterator[RawFrame | None]:
        """See `picture.Reader`."""
        last = time.monotonic()
        for data in self._files():
            self.count += bool(data)
            if data and self.count > 1 and not wanted():
                last = time.monotonic()
                yield None
            elif data and (picture := self._decode(data)) is not None:
                yield picture
                last = time.monotonic()
            elif self._stall_s is not None and time.monotonic() - last > self._stall_s:
                raise ReadError(f"data, but no picture for {self._stall_s:g} s")

    def close(self) -> None:
        """See `picture.Reader`."""
        self._body.close()

    def _files(self) -> Iterator[bytes]:
        """The files of the pictures, and nothing for bytes that complete none."""
        content = self._body.look()
        if content != "jpegs":
            yield self._everything() if content == "picture" else b""
            return
        splitter = JpegSplitter()
        while piece := self._body.read():
            yield from splitter.feed(piece) or [b""]
        if splitter.begun:
            # Cut off, or a picture without its end marker.
            rest = splitter.rest() if self._body.whole else None
            if rest is None:
                raise ReadError("the connection broke off")
            yield rest

    def _everything(self) -> bytes:
        data = b""
        while piece := self._body.read():
            data += piece
            if len(data) > MAX_BYTES:
                raise ReadError(f"a picture of more than {MAX_BYTES >> 20} MiB")
        return data

    def _decode(self, data: bytes) -> RawFrame | None:
        """A picture; None for one that is damaged."""
        try:
            if data.startswith(START):
                frames = self._decoder.decode(av.Packet(data))
                return raw_frame(frames[-1]) if frames else None
            image_rgb = read_image(data, name="snapshot")
        except (FFmpegError, ImageError):
            return None
        return RawFrame(None, (image_rgb.shape[1], image_rgb.shape[0]), lambda: image_rgb)


def content_of(head: bytes) -> Content | None:
    """What begins with these bytes; None when that cannot be known yet.

    In front of a JPEG picture there may be text, such as the headers of a part, or a whole part of something
    else, such as sound; videos begin otherwise.
    """
    if len(head) < _ENOUGH:
        return None
    at = head.find(START)
    if _PART.match(head) or _TEXT.fullmatch(head, 0, at if at >= 0 else len(head)):
        if at >= 0:
            return "jpegs"
        if not head.startswith(b"#EXTM3U") and not _PICTURES.match(head):
            return None if len(head) <= LOOKED_AT_BYTES else "other"
    return "picture" if _PICTURES.match(head) else "other"
