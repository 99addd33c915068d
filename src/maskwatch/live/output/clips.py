"""A clip of each alert: MP4 with the seconds before and after, every face blurred."""

from __future__ import annotations

import contextlib
import queue
import re
import stat
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from maskwatch.errors import SourceError
from maskwatch.live.events import Event
from maskwatch.live.output.clip_buffer import Clip, ClipBuffer, part_path
from maskwatch.live.output.drawing import draw_people
from maskwatch.live.output.thumbnails import event_stem
from maskwatch.live.sinks.delivery import OnError, ignore
from maskwatch.live.sinks.dispatcher import describe_error
from maskwatch.live.tracking.results import FrameResult, Observer
from maskwatch.live.tracking.zones import Zones
from maskwatch.media.videos import Video
from maskwatch.outputs import make_folder

NAMES = re.compile(
    r"\.?(?P<stamp>\d{8}T\d{6}Z)_[A-Za-z0-9.-]{1,40}_(t\d+|t-)_[A-Za-z0-9.-]{1,20}_[A-Za-z0-9]{1,8}(\.part)?\.mp4",
    re.ASCII,
)
"""Names of clips, also of half-written ones: 20250131T080000Z_door_t12_no-mask_3f2a9c01.mp4"""

_DECIDING_S = 3.0  # an alert begins later than its dwell where the vote takes long
_WAITING_FRAMES = 4  # uncompressed: 25 MB at 1920 × 1080
_WAITING_STEPS = 1000  # with those without a picture
_FILE_WAIT_S = 1.0
_CLOSE_S = 30.0
_LEFTOVER_S = 60.0  # a clip that is being written changes more often
_NO_PICTURE = np.zeros((0, 0, 3), np.uint8)


@dataclass(frozen=True)
class ClipSettings:
    """Where clips go, and how long they are.

    Attributes:
        folder: created where there is none.
        keep_faces: True leaves faces as they are.
        fps: usual frames per second of a source.
        dwell_s: `AlertSettings.dwell_s`.
        before_s: seconds before the state of the alert began.
        after_s: seconds after the end of the alert.
        longest_s: limit of a clip.
    """

    folder: Path
    keep_faces: bool = False
    fps: float = 25.0
    dwell_s: float = 2.0
    before_s: float = 5.0
    after_s: float = 5.0
    longest_s: float = 120.0

    @property
    def keep_s(self) -> float:
        """How many seconds of frames to keep in memory."""
        return self.before_s + self.dwell_s + _DECIDING_S


@dataclass(eq=False)
class _Source:
    """What the loop remembers of a source: its time, the newest clip, and the clip of each open alert."""

    now_s: float = 0.0
    clip: Clip | None = None
    by_alert: dict[str, Clip] = field(default_factory=dict)


class AlertClips(Observer):
    """Records alerts in a folder; a context manager that completes the last clips.

    Alerts of one source that overlap share a clip, unless the second one begins in the second half of the
    longest clip. A file gets its name when it is complete. A clip that a killed program has left is completed
    by the next one, up to its last two seconds.

    A thread does the work. Where it is behind, a clip lacks frames of a camera; a file waits.

    Args:
        settings: see `ClipSettings`.
        zones: by source, to draw them.
        class_names: in the order of their ids.
        on_error: receives a name and why a clip was given up.

    Raises:
        OutputError: the folder cannot be made.
    """

    def __init__(
        self,
        settings: ClipSettings,
        zones: Mapping[str, Zones],
        class_names: Sequence[str],
        on_error: OnError = ignore,
    ) -> None:
        make_folder(settings.folder)
        self._settings, self._zones, self._names = settings, zones, class_names
        self._on_error = partial(on_error, "clips")
        self._sources: dict[str, _Source] = {}
        self._buffers: dict[str, ClipBuffer] = {}
        self._steps = queue.SimpleQueue[Callable[[], None] | None]()
        self._room = threading.Semaphore(_WAITING_FRAMES)
        self._thread = threading.Thread(target=self._run, name="clips", daemon=True)

    def __enter__(self) -> AlertClips:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._steps.put(None)
        self._thread.join(_CLOSE_S)
        if self._thread.is_alive():
            self._on_error(f"not complete after {_CLOSE_S:g} s; the next start completes the rest")

    def on_frame(self, result: FrameResult) -> None:
        frame = result.frame
        self._sources.setdefault(frame.source, _Source()).now_s = frame.clock_s
        if self._steps.qsize() >= _WAITING_STEPS:
            return
        wait_s = None if frame.media_time_s is None else _FILE_WAIT_S
        if self._room.acquire(blocking=wait_s is not None, timeout=wait_s):
            self._steps.put(partial(self._add_picture, self._buffer(frame.source), result))
        else:  # its faces still count, for the frames around it
            bare = replace(result, frame=replace(frame, image_rgb=_NO_PICTURE))
            self._steps.put(partial(self._buffer(frame.source).add, bare))

    def on_event(self, event: Event) -> None:
        if event.kind == "source" and event.state != "live" and event.source in self._sources:
            self._sources[event.source] = _Source()
            self._steps.put(self._buffer(event.source).finish)

    def path_of(self, event: Event) -> str | None:
        """The path of the clip of an alert: that of its event, and of its end; None for other events.

        Call it for each event, in order, after `on_frame` of its frame. The file exists once it is complete:
        some seconds after the end of the alert, or when it has its full length.
        """
        source = self._sources.get(event.source)
        clip = None
        if source is not None and event.kind == "alert":
            clip = source.by_alert[event.id] = self._joined(source) or self._begun(source, event)
            clip.end_s = clip.start_s + self._settings.longest_s
        elif source is not None and event.kind == "alert_end":
            clip = source.by_alert.pop(event.alert or "", None)
            if clip is not None and clip not in source.by_alert.values():
                clip.end_s = min(clip.end_s, source.now_s + self._settings.after_s)
        return None if clip is None else str(clip.path)

    def _joined(self, source: _Source) -> Clip | None:
        """The running clip if an alert that begins now belongs to it."""
        clip, now_s = source.clip, source.now_s
        if clip is None or clip.closed or now_s > clip.end_s:
            return None
        return clip if now_s - clip.start_s <= self._settings.longest_s / 2 else None

    def _begun(self, source: _Source, event: Event) -> Clip:
        settings = self._settings
        back_s = min((event.duration_s or 0.0) + settings.before_s, settings.keep_s)
        path = settings.folder / f"{event_stem(event, with_state=True)}.mp4"
        source.clip = clip = Clip(path, source.now_s - back_s)
        self._steps.put(partial(self._begin, self._buffer(event.source), clip))
        return clip

    def _buffer(self, source: str) -> ClipBuffer:
        if source not in self._buffers:
            zones, settings = self._zones.get(source), self._settings
            self._buffers[source] = ClipBuffer(
                settings.keep_s,
                settings.fps,
                lambda image_rgb, people: draw_people(image_rgb, people, self._names, zones),
                keep_faces=settings.keep_faces,
                on_error=self._on_error,
            )
        return self._buffers[source]

    # What follows runs in the thread.

    def _run(self) -> None:
        self._do(partial(complete_leftovers, self._settings.folder))
        writing = False
        while True:
            try:
                step = self._steps.get(block=not writing)
            except queue.Empty:  # time to write
                step = _nothing
            if step is None:
                break
            self._do(step)
            written = [buffer.write_next() for buffer in list(self._buffers.values())]  # a frame of each
            writing = any(written)
        for buffer in self._buffers.values():
            self._do(buffer.finish)

    def _do(self, step: Callable[[], None]) -> None:
        try:
            step()
        except Exception as error:  # a bug must not end the thread, for which files wait
            self._on_error(describe_error(error))

    def _add_picture(self, buffer: ClipBuffer, result: FrameResult) -> None:
        try:
            buffer.add(result)
        finally:
            self._room.release()

    def _begin(self, buffer: ClipBuffer, clip: Clip) -> None:
        complete_leftovers(clip.path.parent)
        buffer.begin(clip)


def complete_leftovers(folder: Path) -> None:
    """Gives the clips that a killed program has left in a folder their names; deletes those without a frame.

    A clip that is being written is left alone, by the time of its last change.
    """
    with contextlib.suppress(OSError):
        for part in folder.glob(".*.part.mp4"):
            path = part.with_name(part.name[1:].replace(".part.mp4", ".mp4"))
            about = part.lstat()
            ours = NAMES.fullmatch(part.name) and stat.S_ISREG(about.st_mode) and part_path(path) == part
            if ours and not path.exists() and time.time() - about.st_mtime > _LEFTOVER_S:
                if _has_frame(part):
                    part.replace(path)
                else:
                    part.unlink()


def _has_frame(path: Path) -> bool:
    try:
        with Video(path) as video:
            return next(video.frames(), None) is not None
    except SourceError:
        return False


def _nothing() -> None:
    """A step without work."""
