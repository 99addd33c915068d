"""Cameras that give pictures over HTTP: one after the other (MJPEG), or one for each request (snapshots).

What comes is looked at, not what the server says of it. FFmpeg's MJPEG reader wants each part of an answer to
be declared `image/jpeg`, which many cameras do not do; so FFmpeg only fetches here (its sign-in, redirects,
TLS and time limits are those of every other stream), and the pictures are found in `jpegs`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from threading import Event
from typing import Any, Literal, TypeAlias

import av
from av.error import FFmpegError

from maskwatch.errors import ImageError
from maskwatch.images import read_image
from maskwatch.live.backoff import Backoff
from maskwatch.live.capture_settings import Transport
from maskwatch.live.jpegs import START, JpegSplitter
from maskwatch.live.picture import LostError, Picture, Reader
from maskwatch.live.source_spec import SourceSpec
from maskwatch.live.stream import HTTP_OPTIONS, StreamReader, open_media, packets, picture_of

_Content: TypeAlias = Literal["jpegs", "picture", "other"]

_PIECE_BYTES = 1 << 16
_LOOKED_AT = 1 << 16  # bytes of text in front of the first picture
_ENOUGH = 16  # bytes tell every kind of picture
_MAX_PICTURE_BYTES = 64 << 20
# No proxy shall give the picture of before.
_OPTIONS = {**HTTP_OPTIONS, "raw_packet_size": str(_PIECE_BYTES), "headers": "Cache-Control: no-cache\r\n"}
_TEXT = re.compile(rb"[\t\n\f\r\x20-\x7e\x80-\xff]*")
_PICTURES = re.compile(
    rb"\x89PNG\r|GIF8[79]a|BM.{4}\0\0\0\0|RIFF.{4}WEBP|II\*\0|MM\0\*|.{4}ftyp(?:avi[fs]|hei[cx]|mif1)",
    re.DOTALL,
)
_LONGEST_WAIT_S = 30.0


class HttpOpener:
    """Opens an http(s) address again and again, and remembers what was found there.

    Args:
        transport, silent: as `StreamReader` takes them.
        stop: ends the waiting for the next snapshot.
        poll_s: seconds from one snapshot to the next.
    """

    def __init__(
        self,
        spec: SourceSpec,
        *,
        stall_s: float,
        transport: Transport,
        stop: Event,
        silent: Callable[[], None],
        poll_s: float,
    ) -> None:
        self._spec, self._stall_s, self._stop, self._poll_s = spec, stall_s, stop, poll_s
        self._rest: dict[str, Any] = {"transport": transport, "stop": stop, "silent": silent}
        self._other = False

    def open(self) -> Reader:
        """The reader of what comes from there.

        Raises:
            LostError: it cannot be opened.
        """
        if not self._other:
            body = _Body(self._spec, self._stall_s)
            try:
                content = body.look()
            except BaseException:
                body.close()
                raise
            if content != "other":
                return _HttpCamera(body, self._spec, self._stall_s, self._stop, self._poll_s)
            body.close()
        # Asked for once more, by FFmpeg alone, for which HLS is many files. A server that serves one client
        # at a time may refuse that; the next try comes straight here.
        self._other = not self._other
        reader = StreamReader(self._spec, stall_s=self._stall_s, **self._rest)
        self._other = True
        return reader


class _Body:
    """The bytes of one answer.

    Attributes:
        whole: it came to its end; without a length the end cannot be told from a loss, and it stays False.
    """

    def __init__(self, spec: SourceSpec, stall_s: float) -> None:
        self._stall_s = stall_s
        self._container = open_media(spec, spec.address, _OPTIONS, stall_s, "data")
        self._packets = packets(self._container, spec, stall_s)
        self._began = time.monotonic()
        self._head = b""
        self.whole = False

    def look(self) -> _Content:
        """What it holds, from its first bytes; these come again.

        Raises:
            LostError: not enough comes to know.
        """
        while (content := _content(self._head)) is None:
            if time.monotonic() - self._began > self._stall_s:
                raise LostError(f"data, but no picture for {self._stall_s:g} s")
            more = self._next()
            self._head += more
            if not more or len(self._head) > _LOOKED_AT:
                return "other"
        return content

    def read(self) -> bytes:
        """The next bytes; none at the end.

        Raises:
            LostError: nothing has come for too long.
        """
        head, self._head = self._head, b""
        return head or self._next()

    def _next(self) -> bytes:
        began = time.monotonic()
        try:
            for packet in self._packets:
                if packet.size:
                    return bytes(packet)
            self.whole = True
        except LostError:
            if time.monotonic() - began >= self._stall_s:
                raise
        return b""

    def close(self) -> None:
        self._container.close()


class _HttpCamera:
    """See `picture.Reader`. An answer of one picture is a snapshot, and the next one is asked for."""

    finite = False
    bursts = False

    def __init__(self, body: _Body, spec: SourceSpec, stall_s: float, stop: Event, poll_s: float) -> None:
        self._body, self._spec, self._stall_s = body, spec, stall_s
        self._stop, self._poll_s = stop, poll_s
        self._decoder = av.CodecContext.create("mjpeg", "r")
        self._decoder.thread_count = 1  # threads would hold frames back

    def pictures(self, wanted: Callable[[], bool]) -> Iterator[Picture | None]:
        """See `picture.Reader`."""
        count, last = 0, time.monotonic()
        for data in self._answer():
            count += bool(data)
            if data and count > 1 and not wanted():
                last = time.monotonic()
                yield None
            elif data and (picture := self._decode(data)) is not None:
                yield picture
                last = time.monotonic()
            elif time.monotonic() - last > self._stall_s:
                raise LostError(f"data, but no picture for {self._stall_s:g} s")
        if count == 1:
            yield from self._snapshots()

    def close(self) -> None:
        """See `picture.Reader`."""
        self._body.close()

    def _answer(self) -> Iterator[bytes]:
        """The picture files in the answer, and nothing for bytes that complete none."""
        if self._body.look() == "picture":
            yield self._file()
            return
        splitter = JpegSplitter()
        while piece := self._body.read():
            yield from splitter.feed(piece) or [b""]
        if splitter.begun:
            # Cut off, or a picture without its end marker.
            rest = splitter.rest() if self._body.whole else None
            if rest is None:
                raise LostError("the connection broke off")
            yield rest

    def _file(self) -> bytes:
        """The whole answer."""
        data = b""
        while piece := self._body.read():
            data += piece
            if len(data) > _MAX_PICTURE_BYTES:
                raise LostError(f"a picture of more than {_MAX_PICTURE_BYTES >> 20} MiB")
        return data

    def _decode(self, data: bytes) -> Picture | None:
        """A picture; None for one that is damaged."""
        try:
            if data.startswith(START):
                frames = self._decoder.decode(av.Packet(data))
                return picture_of(frames[-1]) if frames else None
            image_rgb = read_image(data, name="snapshot")
        except (FFmpegError, ImageError):
            return None
        return Picture(None, (image_rgb.shape[1], image_rgb.shape[0]), lambda: image_rgb)

    def _snapshots(self) -> Iterator[Picture]:
        """A picture every `poll_s`. One that fails is a loss only once all have failed for `stall_s`."""
        backoff = Backoff(self._poll_s, _LONGEST_WAIT_S)
        due = time.monotonic()
        failing_since: float | None = None
        while True:
            now = time.monotonic()
            due = max(due + self._poll_s, now)  # no hurry to catch up after a slow answer
            if self._stop.wait(due - now):
                return
            try:
                picture = self._snapshot()
            except LostError:
                failing_since = due if failing_since is None else failing_since
                if time.monotonic() - failing_since >= self._stall_s:
                    raise
                due = time.monotonic() + backoff.next_wait() - self._poll_s
                continue
            failing_since = None
            backoff.reset()
            yield picture

    def _snapshot(self) -> Picture:
        self._body.close()
        self._body = _Body(self._spec, self._stall_s)
        if self._body.look() == "other":
            raise LostError("what comes is no picture that can be read")
        data = next(filter(None, self._answer()), b"")
        picture = self._decode(data)
        if picture is None:
            raise LostError("what comes is no picture that can be read")
        return picture


def _content(head: bytes) -> _Content | None:
    """What an answer holds that begins so; None when that cannot be known yet.

    In front of a JPEG picture there may be text, such as the headers of a part; videos begin otherwise.
    """
    if len(head) < _ENOUGH:
        return None
    at = head.find(START)
    if _TEXT.fullmatch(head, 0, max(at, 0) if at >= 0 else len(head)):
        if at >= 0:
            return "jpegs"
        if not head.startswith(b"#EXTM3U") and not _PICTURES.match(head):
            return None
    return "picture" if _PICTURES.match(head) else "other"
