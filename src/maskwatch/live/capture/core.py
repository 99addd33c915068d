"""One source, read in its own thread for as long as it takes: `open_capture("rtsp://…").start()`.

A camera or stream yields its newest frame and drops the others. When it breaks off, the capture reconnects
automatically, with growing waits; its status has the reason. A file yields each frame and ends.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event, Thread
from typing import Any

from maskwatch.errors import SourceError
from maskwatch.live.capture.frame import LiveFrame, Mailbox, RawFrame, Reader, ReadError
from maskwatch.live.capture.interrupt import interruptible
from maskwatch.live.capture.opener import SourceOpener
from maskwatch.live.capture.pipe import stdin_descriptor
from maskwatch.live.capture.settings import CaptureSettings
from maskwatch.live.capture.source_spec import SourceSpec, parse_source, parse_sources
from maskwatch.live.capture.status import CaptureState, CaptureStatus, SourceHealth
from maskwatch.live.timing import Backoff, FrameClock, Pacer, RateLimit
from maskwatch.media.images import UInt8Array

CLOSE_S = 1.8
"""Seconds after which a thread that still runs is left behind; it ends when its time limits have passed."""

_STEADY_S = 10.0  # a source that lasted this long starts with the short waits again
_RETRIED = frozenset(["webcam", "rtsp", "http"])
_LOCAL = frozenset(["webcam", "file"])  # opens at once or not at all
_FILES = frozenset(["file", "video_url"])


@dataclass(frozen=True, eq=False)
class _Arrival:
    """A frame that waits, not converted yet."""

    frame: RawFrame
    to_live: Callable[[UInt8Array], LiveFrame]
    read_s: float
    limited: bool  # the limit did not let it pass when it arrived


class Capture:
    """A source and the thread that reads it.

    Attributes:
        name: the source's short name.
        live: only the newest frame is kept; otherwise none is dropped, and reading waits until it is taken.
        of_file: the source is a video file, which has a beginning, and an end that may be known.
        path: of a local file; None for others.
        on_state: called with name, state and reason when the state changes, in the capture's thread.
        on_frame: called when a frame waits, in the capture's thread.
    """

    def __init__(self, spec: SourceSpec, settings: CaptureSettings) -> None:
        self.name = spec.name
        self.live = settings.pace or spec.kind not in _FILES
        self.on_state: Callable[[str, CaptureState, str], None] = lambda *_: None
        self.on_frame: Callable[[], None] = lambda: None
        self.of_file = spec.kind in _FILES
        self.path = Path(spec.address) if spec.kind == "file" else None
        self._spec = spec
        self._settings = settings
        self._backoff = Backoff(settings.first_wait_s, settings.longest_wait_s)
        self._limit = RateLimit()
        self._stop = Event()
        self._health = SourceHealth(spec.name, lambda *change: self.on_state(*change))
        self._mailbox: Mailbox[_Arrival] = Mailbox(keep_all=not self.live, on_put=lambda: self.on_frame())
        self._clock = FrameClock(self.of_file)
        self._thread: Thread | None = None
        on_silence = partial(self._health.change, "waiting", f"no data for {settings.stall_s:g} s")
        self._opener = SourceOpener(spec, settings, self._stop, on_silence)
        self._opened: Reader | None = None
        self._done = False

    def limit(self, fps: float | None) -> None:
        """Limits the frames per second: of the clock, or of a file's own time. None for no limit.

        Raises:
            OptionError: it is not above zero.
        """
        self._limit = RateLimit(fps)

    def start(self) -> None:
        """Starts reading.

        Raises:
            SourceError: a file or webcam cannot be opened, or nothing is piped in. For a stream the capture
                keeps trying instead, see `status`.
        """
        if self._spec.kind == "pipe":
            stdin_descriptor()
        if self._spec.kind in _LOCAL:
            try:
                self._opened = self._opener.open(self._limit.fps)
            except ReadError as error:
                webcam = "check the number and the cable"
                next_step = webcam if self.path is None else "get a complete copy of it, or convert it to MP4"
                raise SourceError(f"{self._spec.shown}: {error}; {next_step}") from None
        self._clock = FrameClock(self.of_file)
        # A daemon, since a driver that hangs must not keep the program from ending.
        self._thread = Thread(target=self._run, name=f"capture {self.name}", daemon=True)
        self._thread.start()

    def take(self, timeout_s: float = 0.0) -> LiveFrame | None:
        """The frame that waits, waited for up to `timeout_s` seconds; None when there is none."""
        if self.live and (early := self._limit.remaining(time.monotonic())):
            self._stop.wait(min(timeout_s, early))
            if early > timeout_s:
                return None
            timeout_s -= early
        arrival = self._mailbox.take(timeout_s)
        if arrival is None:
            return None
        if self.live:
            self._limit.passed(time.monotonic(), arrival.read_s if arrival.frame.is_key else None)
        return arrival.to_live(arrival.frame.to_rgb())

    def ready_in(self) -> float | None:
        """Seconds until the frame that waits may be taken; None when none waits."""
        if not self._mailbox.full():
            return None
        return self._limit.remaining(time.monotonic()) if self.live else 0.0

    @property
    def finished(self) -> bool:
        """Whether no further frame will arrive."""
        return self._done and not self._mailbox.full()

    def status(self) -> CaptureStatus:
        """The status of the source now."""
        return self._health.status()

    def stop(self) -> None:
        """Tells the thread to end and does not wait for it."""
        self._stop.set()
        self._mailbox.close()

    def close(self, timeout_s: float = CLOSE_S) -> None:
        """Stops reading and releases the source; takes at most `timeout_s`, even if the source hangs."""
        self.stop()
        if self._thread is not None:
            self._thread.join(timeout_s)
        now = self._health.now
        if now.state != "failed":
            now.state, now.error = "ended", ""
        self._done = True

    def _run(self) -> None:
        try:
            with interruptible(self._stop):
                while self._read_once() and not self._stop.is_set():
                    pass
        except Exception as error:
            # A bug: the state shows it, and threading prints the traceback.
            self._end("failed", f"{type(error).__name__} while reading; please report this")
            raise

    def _read_once(self) -> bool:
        """Opens the source and reads until it ends or breaks off; returns whether to try again."""
        reader, self._opened = self._opened, None
        try:
            reader = reader or self._opener.open(self._limit.fps)
            self._health.now.duration_s = reader.duration_s
            self._read(reader)
            if not reader.finite:
                raise ReadError("the stream ended")
            self._end("ended")
            return False
        except ReadError as error:
            reason = str(error)
        finally:
            if reader is not None:
                reader.close()
        return not self._stop.is_set() and self._wait_after(reason)

    def _read(self, reader: Reader) -> None:
        paced = self.live and (reader.bursts or self.of_file)
        pacer = Pacer(slip=reader.bursts) if paced else None
        for frame in reader.frames(self._wanted):
            if self._stop.is_set():
                return
            if pacer is not None and frame is not None and frame.pts_s is not None:
                pacer.hold(frame.pts_s, self._stop)
            self._arrive(frame)

    def _wanted(self, key_in_s: float | None = None) -> bool:
        """Whether this frame, or any before the key frame in so many seconds, can be the newest when the
        limit lets one pass. A key frame may be a little late, since it costs least.
        """
        fps, limit_fps = self._health.fps(), self._limit.fps
        if not self.live or not fps or limit_fps is None:
            return True
        due_in_s = self._limit.remaining(time.monotonic())
        if key_in_s is None:
            return due_in_s < 1.5 / fps
        return due_in_s + min(1.5 / fps, 0.25 / limit_fps) < key_in_s

    def _arrive(self, frame: RawFrame | None) -> None:
        now_s = time.monotonic()
        index, status = self._health.arrived(now_s), self._health.now
        if frame is None:
            status.skipped += 1
            return
        status.size = frame.size
        status.media_time_s = frame.pts_s if self.of_file else None
        time_s, when = self._clock.stamp(now_s, status.media_time_s)
        limited = self._limit.remaining(now_s if self.live else time_s) > 0
        if not self.live:
            if limited:
                status.skipped += 1
                return
            self._limit.passed(time_s)
        to_live = partial(LiveFrame, self.name, index, time_s, when, now_s, media_time_s=status.media_time_s)
        replaced = self._mailbox.put(_Arrival(frame, to_live, now_s, limited))
        if replaced is not None:
            status.skipped += replaced.limited
            status.dropped += not replaced.limited

    def _wait_after(self, reason: str) -> bool:
        """Waits until the next try; False when there is none."""
        if self._health.lost() >= _STEADY_S:
            self._backoff.reset()
        tries = self._health.failures
        retries = self._settings.max_retries if self._spec.kind in _RETRIED else 0
        if retries is not None and tries > retries:
            self._end("failed", f"{reason}; given up after {tries} tries" if tries > 1 else reason)
            return False
        self._health.change("waiting", reason)
        return not self._stop.wait(self._backoff.next_wait())

    def _end(self, state: CaptureState, reason: str = "") -> None:
        """The last change of state, after the last frame has been taken."""
        self._mailbox.wait_taken()
        if not self._stop.is_set():
            self._health.change(state, reason)
        self._done = True  # after the change, or else the group might stop before it is reported
        self.on_frame()  # wakes the group if it waits for a frame


def open_capture(spec: str, *, name: str | None = None, **settings: Any) -> Capture:
    """A capture of one source, not started yet.

    Args:
        spec: `0`, `/dev/video0`, `rtsp://…`, `http://…`, a file or `-`, each also as `name=SOURCE`.
        name: replaces the name that follows from `spec`.
        settings: those of `CaptureSettings`.

    Raises:
        SourceError: there is no such source.
        OptionError: an invalid name or setting.
    """
    return Capture(parse_source(spec, name=name), CaptureSettings(**settings))


def open_captures(specs: Sequence[str], settings: CaptureSettings | None = None) -> list[Capture]:
    """Captures of several sources with unique names, not started yet.

    Raises:
        SourceError: there is no such source.
        OptionError: an invalid name, or no source.
    """
    return [Capture(spec, settings or CaptureSettings()) for spec in parse_sources(specs)]
