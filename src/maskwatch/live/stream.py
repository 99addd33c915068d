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
from threading import Event
from typing import Any

import av
from av.codec.context import Flags as CodecFlags
from av.error import FFmpegError
from av.video.frame import VideoFrame

from maskwatch._version import __version__
from maskwatch.live.capture_settings import Transport
from maskwatch.live.picture import LostError, Picture
from maskwatch.live.pipe import Pipe, stdin_descriptor
from maskwatch.live.source_spec import SourceSpec
from maskwatch.video_decoder import (
    DisplayTransform,
    MediaClock,
    VideoDecoder,
    demux,
    header_duration_s,
    seconds,
    video_stream,
)

_OPTIONS: dict[str, dict[str, str]] = {
    # Nothing is collected for later; microseconds that packets over UDP may be put back in order.
    "rtsp": {"fflags": "nobuffer", "max_delay": "200000", "allowed_media_types": "video"},
    # HLS from its newest segment, not from the third before it.
    "http": {"fflags": "nobuffer", "live_start_index": "-1", "user_agent": f"maskwatch/{__version__}"},
    "video_url": {"user_agent": f"maskwatch/{__version__}"},
}
_ANALYSED = {"analyzeduration": "1000000"}  # microseconds of a stream that may be read to know what it is
_LIVE_KINDS = frozenset(["rtsp", "http", "pipe"])


class StreamReader:
    """An open stream, file or pipe; see `picture.Reader`.

    Args:
        stall_s: longest silence in seconds, of opening and between frames.
        transport: of RTSP.
        stop: ends a pipe; for all else see `interrupt`.
        silent: called when a pipe has been silent for `stall_s`.

    Raises:
        LostError: it cannot be opened.
        SourceError: standard input is a terminal.
    """

    def __init__(
        self,
        spec: SourceSpec,
        *,
        stall_s: float,
        transport: Transport,
        stop: Event,
        silent: Callable[[], None],
    ) -> None:
        self._spec = spec
        self._stall_s = stall_s
        target: Any = spec.address
        if spec.kind == "pipe":
            target = Pipe(stdin_descriptor(), stop, stall_s, silent)
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
        # A pipe keeps its own time; its reads in Python are not asked about any limit.
        limit = None if self._spec.kind == "pipe" else (self._stall_s, self._stall_s)
        began = time.monotonic()
        try:
            container: av.container.InputContainer = av.open(
                target, "r", options=options, timeout=limit, metadata_errors="replace"
            )
        except (FFmpegError, OSError, ValueError) as error:
            empty = isinstance(target, Pipe) and target.empty
            reason = "nothing came" if empty else self._reason(error, began, "no answer")
            raise LostError(reason) from None
        return container

    def pictures(self, wanted: Callable[[], bool]) -> Iterator[Picture | None]:
        """See `picture.Reader`."""
        skips = self._codec.codec.intra_only  # others need each frame for the next one
        last = time.monotonic()
        for packet in self._packets():
            if packet.stream_index != self._index:
                frames: list[VideoFrame] = []
            elif skips and packet.size and not wanted():
                last = time.monotonic()
                yield None
                continue
            else:
                frames = self._decode(packet)
            for frame in frames:
                yield _picture(frame, None if self._file is None else self._file[0])
                last = time.monotonic()
            if time.monotonic() - last > self._stall_s and self._spec.kind in ("rtsp", "http"):
                raise LostError(f"data, but no picture for {self._stall_s:g} s")
        if self._file is not None and (fault := self._file[1].fault()):
            raise LostError(fault)

    def _packets(self) -> Iterator[Any]:
        packets = demux(self._container)
        while True:
            began = time.monotonic()
            try:
                packet = next(packets)
            except StopIteration:
                return
            except (FFmpegError, OSError, ValueError) as error:
                raise LostError(self._reason(error, began, "no frame")) from None
            yield packet

    def _decode(self, packet: Any) -> list[VideoFrame]:
        if self._file is not None:
            return self._file[1].decode(packet)
        if packet.is_corrupt and self._codec.codec.intra_only:
            return []  # half a picture; what is missing would be that of an older one, or black
        try:
            return list(packet.decode())
        except FFmpegError:  # a broken packet; the next ones may be whole
            return []

    def _reason(self, error: Exception, began: float, silence: str) -> str:
        """Why a call of PyAV failed, without the address, which may hold a password."""
        if time.monotonic() - began >= self._stall_s and self._spec.kind != "pipe":
            return f"{silence} for {self._stall_s:g} s"
        if isinstance(error, av.error.InvalidDataError):
            return "what comes is no video that can be read"
        if isinstance(error, EOFError):
            return "it ended before the first picture"
        if getattr(error, "errno", None) == errno.EIO and self._spec.host:  # FFmpeg says no more
            known = _host_known(self._spec.host)
            return "the connection broke off" if known else f"the host name {self._spec.host} is not known"
        return str(getattr(error, "strerror", None) or type(error).__name__)

    def close(self) -> None:
        """See `picture.Reader`."""
        self._container.close()


def _picture(frame: VideoFrame, clock: MediaClock | None) -> Picture:
    turn = DisplayTransform.of(frame)
    pts_s = seconds(frame.pts, frame.time_base) if clock is None else clock.time_s(frame)
    return Picture(pts_s, turn.size_wh(frame), lambda: turn.to_rgb(frame))


def _host_known(host: str) -> bool:
    try:
        socket.getaddrinfo(host, None)
    except OSError:
        return False
    return True
