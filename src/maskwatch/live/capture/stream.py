"""Streams, files and pipes, read by PyAV.

PyAV and not OpenCV, because a camera must be watched for weeks: PyAV's time limits hold for opening and for
each read, so that a dead server cannot hang a thread; it gives the reason of a failure, the time stamps, and
the frame as the decoder left it, so that only frames that are taken are converted to RGB. OpenCV's `read`
gives false, whatever happened.
"""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
from av.codec.context import Flags as CodecFlags
from av.error import FFmpegError
from av.video.frame import VideoFrame

from maskwatch._version import __version__
from maskwatch.live.capture.picture import LostError, Picture, picture_of
from maskwatch.live.capture.pipe import Pipe
from maskwatch.live.capture.settings import Transport
from maskwatch.live.capture.source_spec import SourceSpec
from maskwatch.media.video_decoder import (
    MediaClock,
    VideoDecoder,
    demux,
    header_duration_s,
    video_stream,
)

HTTP_OPTIONS = {"user_agent": f"maskwatch/{__version__}"}
_OPTIONS: dict[str, dict[str, str]] = {
    # Nothing is collected for later; microseconds that packets over UDP may be put back in order.
    "rtsp": {"fflags": "nobuffer", "max_delay": "200000", "allowed_media_types": "video"},
    # HLS from its newest segment, not from the third before it.
    "http": {"fflags": "nobuffer", "live_start_index": "-1", **HTTP_OPTIONS},
    "video_url": HTTP_OPTIONS,
}
_ANALYSED = {"analyzeduration": "1000000"}  # microseconds of a stream that may be read to know what it is
_LIVE_KINDS = frozenset(["rtsp", "http", "pipe"])


class StreamReader:
    """An open stream, file or pipe; see `picture.Reader`.

    Args:
        stall_s: longest silence in seconds, of opening and between frames.
        transport: of RTSP.
        pipe: what comes through standard input, where that is the source.

    Raises:
        LostError: it cannot be opened.
    """

    def __init__(
        self, spec: SourceSpec, *, stall_s: float, transport: Transport, pipe: Pipe | None = None
    ) -> None:
        self._spec = spec
        self._stall_s = stall_s
        target: Any = spec.address if pipe is None else pipe
        if spec.kind == "file":
            # Whole, since FFmpeg would take the beginning of 08:15:04.mp4 for a protocol.
            target = str(Path(target).absolute())
        self._container = self._open(target, transport)
        stream = video_stream(self._container)
        if stream is None:
            self._container.close()
            raise LostError("there is no video in it")
        self._index = stream.index
        self._codec = stream.codec_context
        live = spec.kind in _LIVE_KINDS
        # Decoding frames in several threads would hold back as many frames as there are threads.
        self._codec.thread_type = "SLICE"
        self._file: tuple[MediaClock, VideoDecoder] | None = None
        self.duration_s: float | None = None
        """Of a file, as its header says; None where it says nothing."""
        if not live:
            path = Path(spec.address) if spec.kind == "file" else None
            self._file = MediaClock(self._container, stream), VideoDecoder(path, stream)
            self.duration_s = header_duration_s(self._container)
        if live and self._container.format.name != "hls":
            self._codec.flags |= CodecFlags.low_delay
        # A stream with a length, and HLS, come as fast as the network lets them.
        has_length = bool(self._container.duration) and spec.kind != "rtsp"
        self.finite = has_length or spec.kind in ("file", "pipe")
        self.bursts = spec.kind == "http" and (has_length or self._container.format.name == "hls")

    def _open(self, target: Any, transport: Transport) -> av.container.InputContainer:
        options = dict(_OPTIONS.get(self._spec.kind, {}))
        if self._spec.kind in _LIVE_KINDS:
            options |= _ANALYSED
        if self._spec.kind == "rtsp":
            options["rtsp_transport"] = transport
        try:
            return open_media(self._spec, target, options, self._stall_s)
        except LostError:
            if isinstance(target, Pipe) and target.empty:
                raise LostError("nothing came") from None
            raise

    def pictures(self, wanted: Callable[[], bool]) -> Iterator[Picture | None]:
        """See `picture.Reader`."""
        skips = self._codec.codec.intra_only  # others need each frame for the next one
        last = time.monotonic()
        for packet in packets(self._container, self._spec, self._stall_s):
            if packet.stream_index != self._index:
                frames: list[VideoFrame] = []
            elif skips and packet.size and not wanted():
                last = time.monotonic()
                yield None
                continue
            else:
                frames = self._decode(packet)
            for frame in frames:
                yield picture_of(frame, None if self._file is None else self._file[0])
                last = time.monotonic()
            if time.monotonic() - last > self._stall_s and self._spec.kind in ("rtsp", "http"):
                raise LostError(f"data, but no picture for {self._stall_s:g} s")
        if self._file is not None and (fault := self._file[1].damage()):
            raise LostError(fault)

    def _decode(self, packet: Any) -> list[VideoFrame]:
        if self._file is not None:
            return self._file[1].decode(packet)
        if packet.is_corrupt and self._codec.codec.intra_only:
            return []  # half a picture; what is missing would be that of an older one, or black
        try:
            return list(packet.decode())
        except FFmpegError:  # a broken packet; the next ones may be whole
            return []

    def close(self) -> None:
        """See `picture.Reader`."""
        self._container.close()


def open_media(
    spec: SourceSpec, target: Any, options: dict[str, str], stall_s: float, format: str | None = None
) -> av.container.InputContainer:
    """Opens what `target` gives.

    Args:
        spec: for the reason of a failure.
        format: of FFmpeg, such as "data" for the bytes as they are; None finds it out.

    Raises:
        LostError: it cannot be opened.
    """
    # A pipe keeps its own time; its reads in Python are not asked about any limit.
    limit = None if spec.kind == "pipe" else (stall_s, stall_s)
    began = time.monotonic()
    try:
        container: av.container.InputContainer = av.open(
            target, "r", format, options=options, timeout=limit, metadata_errors="replace"
        )
    except (FFmpegError, OSError, ValueError) as error:
        raise LostError(_reason(spec, stall_s, error, began, "no answer")) from None
    return container


def packets(container: av.container.InputContainer, spec: SourceSpec, stall_s: float) -> Iterator[Any]:
    """The packets of an open container.

    Raises:
        LostError: it broke off.
    """
    demuxed = demux(container)
    while True:
        began = time.monotonic()
        try:
            packet = next(demuxed)
        except StopIteration:
            return
        except (FFmpegError, OSError, ValueError) as error:
            raise LostError(_reason(spec, stall_s, error, began, "no frame")) from None
        yield packet


def _reason(spec: SourceSpec, stall_s: float, error: Exception, began: float, silence: str) -> str:
    """Why a call of PyAV failed, without the address, which may hold a password."""
    if time.monotonic() - began >= stall_s and spec.kind != "pipe":
        return f"{silence} for {stall_s:g} s"
    if isinstance(error, av.error.InvalidDataError):
        return "what comes is no video that can be read"
    if isinstance(error, EOFError):
        return "it ended before the first picture"
    if getattr(error, "errno", None) == errno.EIO and spec.host:  # FFmpeg says no more
        if _host_known(spec.host):
            return "the connection broke off"
        if spec.host not in spec.shown:  # it may be a part of a password
            return "the host name is not known; write @, / and ? of a password as %40, %2F and %3F"
        return f"the host name {spec.host} is not known"
    return str(getattr(error, "strerror", None) or type(error).__name__)


def _host_known(host: str) -> bool:
    try:
        socket.getaddrinfo(host, None)
    except OSError:
        return False
    return True
