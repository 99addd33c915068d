"""One source, read in a thread of its own, for as long as it takes: `open_capture("rtsp://…").start()`.

A camera or stream gives its newest frame and forgets the others. When it breaks off it is tried again, with
growing waits, for ever; what is the matter stands in its status. A file gives each frame and ends.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from threading import Event, Thread
from typing import Any

from maskwatch.errors import SourceError
from maskwatch.live.capture.animation import AnimationReader
from maskwatch.live.capture.backoff import Backoff
from maskwatch.live.capture.frame import LiveFrame
from maskwatch.live.capture.health import CaptureStatus as CaptureStatus
from maskwatch.live.capture.health import Health, State
from maskwatch.live.capture.http_camera import HttpOpener
from maskwatch.live.capture.interrupt import interruptible
from maskwatch.live.capture.jpeg_reader import JpegReader
from maskwatch.live.capture.mailbox import Mailbox
from maskwatch.live.capture.pace import Pace
from maskwatch.live.capture.picture import LostError, Picture, Reader
from maskwatch.live.capture.pipe import Pipe, PipeBody, stdin_descriptor
from maskwatch.live.capture.rate import Rate
from maskwatch.live.capture.settings import CaptureSettings as CaptureSettings
from maskwatch.live.capture.source_spec import SourceSpec, parse_source, parse_sources
from maskwatch.live.capture.stamps import Stamps
from maskwatch.live.capture.stream import StreamReader
from maskwatch.live.capture.webcam import Webcam
from maskwatch.media.videos import is_animated_webp

_CLOSE_S = 1.8  # a thread that has not ended by then is left to die on its own
_SNAPSHOT_FPS = 1.0
"""How often a camera that gives snapshots is asked where no limit is set."""
_STEADY_S = 10.0  # a source that lasted this long begins with the short waits again
_RETRIED = frozenset(["webcam", "rtsp", "http"])
_LOCAL = frozenset(["webcam", "file"])  # opens at once or not at all
_FILES = frozenset(["file", "video_url"])


@dataclass(frozen=True, eq=False)
class _Arrived:
    """A picture with its times, not converted yet."""

    index: int
    time_s: float
    when: datetime
    read_s: float
    picture: Picture
    media_time_s: float | None
    held: bool  # back by the limit when it came


class Capture:
    """A source and the thread that reads it. Made by `open_capture`; used by `Hub`, or alone.

    Attributes:
        name: the source's short name.
        live: gives the newest frame only; otherwise every frame, and reading waits for whoever takes them.
        of_file: the source is a video file, which has a beginning, and an end that may be known.
        path: of a file on this machine; None for others.
        on_state: called with name, state and reason when the state changes, in the capture's thread.
        on_frame: called when a frame waits, in the capture's thread.
    """

    def __init__(self, spec: SourceSpec, settings: CaptureSettings) -> None:
        self.name = spec.name
        self.live = settings.pace or spec.kind not in _FILES
        self.on_state: Callable[[str, State, str], None] = lambda *_: None
        self.on_frame: Callable[[], None] = lambda: None
        self.of_file = spec.kind in _FILES
        self.path = Path(spec.address) if spec.kind == "file" else None
        self._spec = spec
        self._settings = settings
        self._backoff = Backoff(settings.first_wait_s, settings.longest_wait_s)
        self._rate = Rate()
        self._stop = Event()
        self._health = Health(lambda state, reason: self.on_state(self.name, state, reason))
        self._mailbox: Mailbox[_Arrived] = Mailbox(keep_all=not self.live, on_put=lambda: self.on_frame())
        self._stamps = Stamps(self.of_file)
        self._thread: Thread | None = None
        self._opened: Reader | None = None
        self._http: HttpOpener | None = None
        self._done = False

    def limit(self, fps: float | None) -> None:
        """Gives out at most `fps` frames per second: of the clock, or of a file's own time.

        Raises:
            OptionError: it is not above zero.
        """
        self._rate = Rate(fps)

    def start(self) -> None:
        """Begins to read.

        Raises:
            SourceError: a file or webcam that cannot be opened, or nothing is piped in. A stream that cannot
                be opened raises nothing: it is tried again, see `status`.
        """
        if self._spec.kind == "pipe":
            stdin_descriptor()
        if self._spec.kind in _LOCAL:
            try:
                self._opened = self._open()
            except LostError as error:
                raise SourceError(f"{self._spec.shown}: {error}; {self._next_step()}") from None
        self._stamps = Stamps(self.of_file)
        # A daemon, since a driver that hangs must not keep the program from ending.
        self._thread = Thread(target=self._run, name=f"capture {self.name}", daemon=True)
        self._thread.start()

    def take(self, timeout_s: float = 0.0) -> LiveFrame | None:
        """The frame that waits, waited for up to `timeout_s` seconds; None when there is none."""
        if self.live and (early := self._rate.remaining(time.monotonic())):
            self._stop.wait(min(timeout_s, early))
            if early > timeout_s:
                return None
            timeout_s -= early
        arrived = self._mailbox.take(timeout_s)
        if arrived is None:
            return None
        if self.live:
            self._rate.passed(time.monotonic())
        return LiveFrame(
            source=self.name,
            index=arrived.index,
            time_s=arrived.time_s,
            when=arrived.when,
            read_s=arrived.read_s,
            image_rgb=arrived.picture.to_rgb(),
            media_time_s=arrived.media_time_s,
        )

    def ready_in(self) -> float | None:
        """Seconds until the frame that waits may be taken; None when none waits."""
        if not self._mailbox.full():
            return None
        return self._rate.remaining(time.monotonic()) if self.live else 0.0

    @property
    def finished(self) -> bool:
        """Whether nothing more will come."""
        return self._done and not self._mailbox.full()

    def status(self) -> CaptureStatus:
        """How the source is doing now."""
        return self._health.status(self.name)

    def stop(self) -> None:
        """Tells the thread to end, without waiting for it."""
        self._stop.set()
        self._mailbox.close()

    def close(self) -> None:
        """Ends reading and lets the source go; takes less than two seconds, whatever the source does."""
        self.stop()
        if self._thread is not None:
            self._thread.join(_CLOSE_S)
        if self._health.state != "failed":
            self._health.state, self._health.error = "ended", ""
        self._done = True

    def _run(self) -> None:
        try:
            with interruptible(self._stop):
                while self._read_once() and not self._stop.is_set():
                    pass
        except Exception as error:
            # A defect of ours: the state tells of it, and threading prints the traceback.
            self._end("failed", f"{type(error).__name__} while reading; please report this")
            raise

    def _read_once(self) -> bool:
        """Opens the source and reads until it ends or breaks off; whether to try again."""
        reader, self._opened = self._opened, None
        try:
            reader = reader or self._open()
            self._health.duration_s = reader.duration_s if isinstance(reader, StreamReader) else None
            self._read(reader)
            if not reader.finite:
                raise LostError("the stream ended")
            self._end("ended")
            return False
        except LostError as error:
            lost = str(error)
        finally:
            if reader is not None:
                reader.close()
        return not self._stop.is_set() and self._wait_after(lost)

    def _open(self) -> Reader:
        if self._spec.kind == "webcam":
            return Webcam(int(self._spec.address))
        if self.path is not None and is_animated_webp(self.path):
            return AnimationReader(self.path)
        stall_s, transport = self._settings.stall_s, self._settings.rtsp_transport
        if self._spec.kind == "http":
            poll_s = 1 / (self._rate.fps or _SNAPSHOT_FPS)
            self._http = self._http or HttpOpener(self._spec, stall_s, transport, self._stop, poll_s)
            return self._http.open()
        pipe = None
        if self._spec.kind == "pipe":
            pipe = Pipe(stdin_descriptor(), self._stop, stall_s, self._on_silence)
            if (body := PipeBody(pipe)).look() == "jpegs":
                return JpegReader(body, finite=True, stall_s=None)
        return StreamReader(self._spec, stall_s=stall_s, transport=transport, pipe=pipe)

    def _on_silence(self) -> None:
        self._health.change("waiting", f"nothing comes for {self._settings.stall_s:g} s")

    def _read(self, reader: Reader) -> None:
        paced = self.live and (reader.bursts or self.of_file)
        pace = Pace(slip=reader.bursts) if paced else None
        for picture in reader.pictures(self._wanted):
            if self._stop.is_set():
                return
            if pace is not None and picture is not None and picture.pts_s is not None:
                pace.hold(picture.pts_s, self._stop)
            self._arrive(picture)

    def _wanted(self) -> bool:
        """Whether the picture that comes now can be the newest when the limit lets the next one through."""
        if not self.live:
            return True
        fps = self._health.fps()
        return not fps or self._rate.remaining(time.monotonic()) < 1.5 / fps

    def _arrive(self, picture: Picture | None) -> None:
        now = time.monotonic()
        index = self._health.arrived(now)
        if picture is None:
            self._health.skipped += 1
            return
        self._health.size = picture.size
        media_time_s = picture.pts_s if self.of_file else None
        time_s, when = self._stamps.stamp(now, media_time_s)
        self._health.media_time_s = media_time_s
        if not self.live:
            if self._rate.remaining(time_s):
                self._health.skipped += 1
                return
            self._rate.passed(time_s)
        held = self.live and self._rate.remaining(now) > 0
        replaced = self._mailbox.put(_Arrived(index, time_s, when, now, picture, media_time_s, held))
        if replaced is not None:
            self._health.skipped += replaced.held
            self._health.dropped += not replaced.held

    def _wait_after(self, reason: str) -> bool:
        """Waits until the source may be tried again; False when it shall not be."""
        if self._health.lost() >= _STEADY_S:
            self._backoff.reset()
        tries = self._health.failures
        retries = self._settings.max_retries if self._spec.kind in _RETRIED else 0
        if retries is not None and tries > retries:
            self._end("failed", f"{reason}; given up after {tries} tries" if tries > 1 else reason)
            return False
        self._health.change("waiting", reason)
        return not self._stop.wait(self._backoff.next_wait())

    def _end(self, state: State, reason: str = "") -> None:
        """The last change of state; comes after the last frame has been taken."""
        self._mailbox.wait_taken()
        if not self._stop.is_set():
            self._health.change(state, reason)
        self._done = True  # after the change has been told, or else nobody might look for it any more
        self.on_frame()  # who waits for a frame waits no longer

    def _next_step(self) -> str:
        if self._spec.kind == "webcam":
            return "check the number and the cable"
        return "get a complete copy of it, or convert it to MP4"


def open_capture(spec: str, *, name: str | None = None, **settings: Any) -> Capture:
    """A capture of one source, not started yet.

    Args:
        spec: `0`, `/dev/video0`, `rtsp://…`, `http://…`, a file or `-`, each also as `name=SOURCE`.
        name: instead of the one that follows from `spec`.
        settings: those of `CaptureSettings`.

    Raises:
        SourceError: nothing of the kind is there.
        OptionError: a name or setting that cannot be used.
    """
    return Capture(parse_source(spec, name=name), CaptureSettings(**settings))


def open_captures(specs: Sequence[str], settings: CaptureSettings | None = None) -> list[Capture]:
    """Captures of several sources with unique names, not started yet.

    Raises:
        SourceError: nothing of the kind is there.
        OptionError: a name or setting that cannot be used, or no source.
    """
    return [Capture(spec, settings or CaptureSettings()) for spec in parse_sources(specs)]
