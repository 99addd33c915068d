"""Chooses the reader of a source."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event

from maskwatch.errors import SourceError
from maskwatch.live.capture.av_reader import AvReader
from maskwatch.live.capture.frame import RawFrame, Reader, ReadError
from maskwatch.live.capture.http_reader import HttpAnswer, HttpReader
from maskwatch.live.capture.jpeg_stream import JpegReader
from maskwatch.live.capture.pipe import Pipe, stdin_descriptor
from maskwatch.live.capture.settings import CaptureSettings
from maskwatch.live.capture.source_spec import SourceSpec
from maskwatch.live.capture.webcam import Webcam
from maskwatch.media.formats import is_animated_webp
from maskwatch.media.videos import webp_frames

_SNAPSHOT_FPS = 1.0
"""How often a snapshot is requested where there is no limit."""


class SourceOpener:
    """Opens a source, again after each loss.

    Args:
        stop: interrupts readers that wait.
        on_silence: called each time that a pipe has been silent for `CaptureSettings.stall_s`.
    """

    def __init__(
        self, spec: SourceSpec, settings: CaptureSettings, stop: Event, on_silence: Callable[[], None]
    ) -> None:
        self._spec, self._settings = spec, settings
        self._stop, self._on_silence = stop, on_silence
        self._is_http_video = False

    def open(self, fps: float | None) -> Reader:
        """Opens the source.

        Args:
            fps: limit on the frames per second, at which snapshots are requested; None for none.

        Raises:
            ReadError: it cannot be opened.
        """
        spec = self._spec
        if spec.kind == "webcam":
            return Webcam(int(spec.address))
        if spec.kind == "pipe":
            return self._open_pipe()
        if spec.kind == "http":
            return self._open_http(fps)
        if spec.kind == "file" and is_animated_webp(Path(spec.address)):
            return _WebpReader(Path(spec.address))
        return AvReader(spec, self._settings)

    def _open_pipe(self) -> Reader:
        pipe = Pipe(stdin_descriptor(), self._stop, self._settings.stall_s, self._on_silence)
        if pipe.probe() == "jpegs":
            return JpegReader(pipe)
        return AvReader(self._spec, self._settings, pipe)

    def _open_http(self, fps: float | None) -> Reader:
        """Reads pictures with `HttpReader`, anything else with FFmpeg; the first bytes decide."""
        stall_s = self._settings.stall_s
        if not self._is_http_video:
            with contextlib.ExitStack() as stack:
                answer = HttpAnswer(self._spec, stall_s)
                stack.callback(answer.close)
                if answer.probe() != "other":
                    stack.pop_all()
                    return HttpReader(answer, self._spec, stall_s, self._stop, 1 / (fps or _SNAPSHOT_FPS))
        # Requested again, since HLS is many files. A server of one client at a time may refuse that; the next
        # try then starts here.
        self._is_http_video = not self._is_http_video
        reader = AvReader(self._spec, self._settings)
        self._is_http_video = True
        return reader


class _WebpReader(Reader):
    """An animated WebP file, which PyAV cannot read."""

    finite = True

    def __init__(self, path: Path) -> None:
        self._path = path

    def frames(self, wanted: Callable[[], bool]) -> Iterator[RawFrame | None]:
        try:
            for time_s, _, image_rgb in webp_frames(self._path):
                yield RawFrame.of_image(image_rgb, time_s)
        except SourceError as error:
            raise ReadError(str(error).removeprefix(f"{self._path}: ").partition(";")[0]) from None

    def close(self) -> None:
        """The generator closes the file."""
