"""The last seconds of one source as JPEG in memory, and the clips that are written from them."""

from __future__ import annotations

import contextlib
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from maskwatch.drawing.blur import blur
from maskwatch.drawing.privacy_mask import Boxes, PrivacyMask
from maskwatch.errors import OutputError
from maskwatch.live.sinks.dispatcher import describe_error
from maskwatch.live.tracking.results import FrameResult, Person
from maskwatch.media.images import UInt8Array, squash
from maskwatch.media.mp4 import Mp4Writer
from maskwatch.outputs import keep_from_others, make_folder, output_errors

BUFFER_BYTES = 32 << 20
"""Limit of the frames in memory, for each source."""

LARGEST_SIDE = 1280
"""Pixels; longer sides are scaled down."""

_JPEG_QUALITY = 90

DrawPeople = Callable[[UInt8Array, Sequence[Person]], UInt8Array]


@dataclass(eq=False)
class Clip:
    """A recording of one source, from `start_s` to `end_s` on the source's clock.

    `end_s` may be changed until a frame after it has been added; the thread that writes changes the rest.
    """

    path: Path
    start_s: float
    end_s: float = math.inf
    closed: bool = field(default=False, init=False)  # complete, or given up
    next_number: int = field(default=0, init=False)  # of the frame to write
    _writer: Mp4Writer | None = field(default=None, init=False)
    _first_s: float = field(default=0.0, init=False)

    def write(self, image_rgb: UInt8Array, time_s: float, fps: float) -> None:
        """Appends a frame. Raises `OutputError`."""
        if self._writer is None:
            make_folder(self.path.parent)
            part, size_wh = part_path(self.path), (image_rgb.shape[1], image_rgb.shape[0])
            self._writer = Mp4Writer(part, fps, size_wh, growing=True, shown=self.path)
            keep_from_others(part)
            self._first_s = time_s
        self._writer.add(image_rgb, time_s - self._first_s)

    def close(self) -> None:
        """Gives the complete file its name. Raises `OutputError`."""
        self.closed = True
        if self._writer is not None:
            self._writer.close()
            with output_errors(self.path):
                part_path(self.path).replace(self.path)

    def discard(self) -> None:
        """Deletes the unfinished file."""
        self.closed = True
        if self._writer is not None:
            with contextlib.suppress(OutputError):
                self._writer.close()
        with contextlib.suppress(OSError):
            part_path(self.path).unlink()


def part_path(path: Path) -> Path:
    """Where a clip is written until it is complete."""
    return path.with_name(f".{path.stem}.part{path.suffix}")


@dataclass(frozen=True, eq=False)
class _Frame:
    """A reduced frame as JPEG; `scale_xy` (2,) takes pixels of the original to its pixels."""

    time_s: float
    jpeg: npt.NDArray[np.uint8]
    scale_xy: npt.NDArray[np.float64]
    people: Sequence[Person]

    @classmethod
    def of(cls, result: FrameResult) -> _Frame:
        image_rgb = result.frame.image_rgb
        height, width = image_rgb.shape[:2]
        scale = min(1.0, LARGEST_SIDE / max(height, width))
        size_hw = max(1, round(height * scale)), max(1, round(width * scale))
        reduced_rgb = image_rgb if scale == 1 else squash(image_rgb, size_hw)[0]
        quality = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
        _, jpeg = cv2.imencode(".jpg", cv2.cvtColor(reduced_rgb, cv2.COLOR_RGB2BGR), quality)
        scale_xy = np.array([size_hw[1] / width, size_hw[0] / height])
        return cls(result.frame.clock_s, jpeg, scale_xy, result.scene.people)

    def picture(self, hidden_xyxy: Boxes | None, draw: DrawPeople) -> UInt8Array:
        """Faces blurred and people drawn, uint8 (H, W, 3) RGB."""
        factors = np.tile(self.scale_xy, 2)  # (4,)
        image_bgr = cv2.imdecode(self.jpeg, cv2.IMREAD_COLOR)
        assert image_bgr is not None  # it is our own
        image_rgb = np.asarray(cv2.cvtColor(image_bgr, cv2.COLOR_BGR2RGB), np.uint8)
        if hidden_xyxy is not None:
            image_rgb = blur(image_rgb, hidden_xyxy * factors)
        scaled = [replace(one, box_xyxy=(one.box_xyxy * factors).astype(np.float32)) for one in self.people]
        return draw(image_rgb, scaled)


class ClipBuffer:
    """Keeps the newest frames of a source, and writes clips from them, one frame at a time.

    Memory holds `keep_s` seconds and what is still to be written, at most `BUFFER_BYTES`; and as in
    `PrivacyMask` the frames of half a second, until the faces in them are known. All of them are JPEG, with
    faces as they are; a frame is blurred when it is written.

    Args:
        keep_s: length in seconds.
        fps: usual frames per second.
        draw: adds boxes and labels to a picture (H, W, 3).
        keep_faces: True leaves faces as they are.
        on_error: receives why a clip was given up.
    """

    def __init__(
        self,
        keep_s: float,
        fps: float,
        draw: DrawPeople,
        *,
        keep_faces: bool,
        on_error: Callable[[str], None],
    ) -> None:
        self._keep_s, self._fps, self._draw, self._on_error = keep_s, fps, draw, on_error
        self._mask: PrivacyMask[_Frame | None] | None = None if keep_faces else PrivacyMask()
        self._frames: deque[tuple[_Frame, Boxes | None]] = deque()
        self._first_number = 0
        self._shape: tuple[int, ...] = ()
        self._clips: list[Clip] = []
        self.bytes = 0
        """Of the frames whose faces are known."""

    def add(self, result: FrameResult) -> None:
        """Takes the next frame. Without a picture (0, 0, 3) only its faces count, for the frames around."""
        frame, faces = result.frame, result.faces
        shape = frame.image_rgb.shape
        if frame.image_rgb.size and shape != self._shape:  # boxes of another size do not fit this frame
            self.finish()
            self._shape = shape
        item = _Frame.of(result) if frame.image_rgb.size else None
        if self._mask is None:
            self._keep(item, None)
            return
        tracks = result.scene.tracks
        ready = self._mask.add(item, frame.clock_s, faces.boxes_xyxy, tracks, confident=faces.confident)
        for item_ready, hidden_xyxy in ready:
            self._keep(item_ready, hidden_xyxy)

    def begin(self, clip: Clip) -> None:
        """Begins to write a clip, with the frames in memory since its `start_s`."""
        clip.next_number = self._first_number + sum(one.time_s < clip.start_s for one, _ in self._frames)
        self._clips.append(clip)

    def write_next(self) -> bool:
        """Writes one frame, or closes a clip that has its last one; False if there was nothing to do."""
        for clip in self._clips:
            index = clip.next_number - self._first_number
            if index < len(self._frames):
                self._write(clip, *self._frames[index])
                return True
        return False

    def finish(self) -> None:
        """Writes what is left, closes all clips and forgets the frames. The next frame begins a new video."""
        for item, hidden_xyxy in [] if self._mask is None else self._mask.finish():
            self._keep(item, hidden_xyxy)
        while self.write_next():
            pass
        for clip in list(self._clips):
            self._close(clip)
        self._first_number += len(self._frames)
        self._frames.clear()
        self.bytes = 0

    def _keep(self, frame: _Frame | None, hidden_xyxy: Boxes | None) -> None:
        if frame is None:
            return
        self._frames.append((frame, hidden_xyxy))
        self.bytes += frame.jpeg.nbytes
        self._forget(frame.time_s - self._keep_s)
        while self.bytes > BUFFER_BYTES and self.write_next():
            self._forget(frame.time_s - self._keep_s)

    def _forget(self, before_s: float) -> None:
        """Drops the frames before a time, and more if they are too many; none that is still to be written."""
        needed = min((clip.next_number for clip in self._clips), default=math.inf)
        while self._frames and self._first_number < needed:
            frame, _ = self._frames[0]
            if frame.time_s >= before_s and self.bytes <= BUFFER_BYTES:
                return
            self._frames.popleft()
            self.bytes -= frame.jpeg.nbytes
            self._first_number += 1

    def _write(self, clip: Clip, frame: _Frame, hidden_xyxy: Boxes | None) -> None:
        if frame.time_s > clip.end_s:
            self._close(clip)
            return
        clip.next_number += 1
        with self._discarded_on_error(clip):
            clip.write(frame.picture(hidden_xyxy, self._draw), frame.time_s, self._fps)

    def _close(self, clip: Clip) -> None:
        with self._discarded_on_error(clip):
            clip.close()
            self._clips.remove(clip)

    @contextlib.contextmanager
    def _discarded_on_error(self, clip: Clip) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # a bug too ends this clip only
            self._clips.remove(clip)
            clip.discard()
            self._on_error(describe_error(error))
