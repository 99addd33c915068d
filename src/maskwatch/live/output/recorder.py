"""The frames of a source → MP4 files, with every face blurred by default."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC
from functools import partial
from pathlib import Path
from typing import TypeAlias

from maskwatch.drawing.blur import blur
from maskwatch.drawing.privacy_mask import Boxes, PrivacyMask
from maskwatch.errors import OutputError
from maskwatch.live.capture.frame import LiveFrame
from maskwatch.live.output.drawing import draw_people
from maskwatch.live.sinks.delivery import OnError
from maskwatch.live.tracking.results import FrameResult, Observer
from maskwatch.live.tracking.zones import Zones
from maskwatch.media.images import UInt8Array
from maskwatch.media.mp4 import Mp4Writer
from maskwatch.outputs import STAMP, keep_from_others, make_folder

Draw: TypeAlias = Callable[[UInt8Array], UInt8Array]

"""Date and time, UTC, in the names of stored files."""

PART_S = 3600.0
"""Length of a part of a recording that is kept for some days only; whole parts are deleted."""


class Recorder:
    """Writes the frames of one source to MP4 files that browsers play; a context manager that closes them.

    A frame is written half a second after it came (at most `MAX_WAITING` frames later), when faces that were
    missed in it have been found before or after, see `PrivacyMask`. Only these frames are in memory. Each
    frame keeps its own time: where the camera dropped frames, the one before is shown longer.

    The file can be played at any time. If the program is killed, the last two and a half seconds are missing.

    Existing files are kept: where one exists, and when the size of the frames changes, `door.mp4` continues
    as `door-2.mp4`. With `part_s`, each name has the beginning of its part: `door_20250131T080000Z.mp4`.

    Args:
        path: the file, ending in .mp4. Folders on the way are made.
        fps: usual frames per second, which the source need not keep.
        keep_faces: True leaves faces as they are.
        part_s: length of a part in seconds; None makes one file.
        force: True lets the first file replace one that exists.

    Raises:
        OutputError: a file cannot be written; also from `add` and `close`.
    """

    def __init__(
        self,
        path: Path,
        fps: float,
        *,
        keep_faces: bool = False,
        part_s: float | None = None,
        force: bool = False,
    ) -> None:
        make_folder(path.parent)
        self._path, self._fps, self._part_s, self._force = path, fps, part_s, force
        self._mask: PrivacyMask[Callable[[Boxes | None], None]] | None = None if keep_faces else PrivacyMask()
        self._shape: tuple[int, ...] = ()
        self._writer: Mp4Writer | None = None
        self._began_s = 0.0
        self.paths: tuple[Path, ...] = ()
        """The files written so far, the newest last."""

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(self, result: FrameResult, draw: Draw | None = None) -> None:
        """Takes the next frame of the source.

        Args:
            result: the frame and all its faces, also those that are not confident (`blur.COVER_SCORE`).
            draw: adds boxes and labels to a picture (H, W, 3); called later, when the faces are blurred.
        """
        frame, faces = result.frame, result.faces
        if self._shape != frame.image_rgb.shape:  # boxes of another size do not fit this frame
            self._flush()
            self._shape = frame.image_rgb.shape
        write = partial(self._write, frame, draw)
        if self._mask is None:
            write(None)
            return
        tracks = result.scene.tracks
        ready = self._mask.add(write, frame.clock_s, faces.boxes_xyxy, tracks, confident=faces.confident)
        for write_ready, hidden_xyxy in ready:
            write_ready(hidden_xyxy)

    def close(self) -> None:
        """Writes the frames that still wait, and closes the file."""
        try:
            self._flush()
        finally:
            self._end_part()

    def _flush(self) -> None:
        for write, hidden_xyxy in [] if self._mask is None else self._mask.finish():
            write(hidden_xyxy)

    def _write(self, frame: LiveFrame, draw: Draw | None, hidden_xyxy: Boxes | None) -> None:
        image_rgb = frame.image_rgb if hidden_xyxy is None else blur(frame.image_rgb, hidden_xyxy)
        if draw is not None:
            image_rgb = draw(image_rgb)
        writer = self._writer_for(frame)
        writer.add(image_rgb, frame.clock_s - self._began_s)

    def _writer_for(self, frame: LiveFrame) -> Mp4Writer:
        size_wh = frame.image_rgb.shape[1], frame.image_rgb.shape[0]
        full = self._part_s is not None and frame.clock_s - self._began_s >= self._part_s
        if self._writer is not None and (full or self._writer.size_wh != size_wh):
            self._end_part()
        if self._writer is None:
            path = self._free_path(frame)
            self._writer = Mp4Writer(path, self._fps, size_wh, growing=True)
            keep_from_others(path)
            self._began_s = frame.clock_s
            self.paths += (path,)
        return self._writer

    def _end_part(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()

    def _free_path(self, frame: LiveFrame) -> Path:
        stem, suffix = self._path.stem, self._path.suffix
        if self._part_s is not None:
            stem += f"_{frame.when.astimezone(UTC).strftime(STAMP)}"
        path, number = self._path.with_name(stem + suffix), 2
        while path.exists() and not (self._force and not self.paths):
            path = self._path.with_name(f"{stem}-{number}{suffix}")
            number += 1
        return path


class Recording(Observer):
    """Records every source, boxes drawn; a context manager that closes the files.

    A recorder that cannot write (a full disk) is closed and reported; watching continues.

    Args:
        recorders: by source.
        zones: by source, to draw them.
        class_names: in the order of their ids.
        on_error: takes the name of what failed and the reason.
    """

    def __init__(
        self,
        recorders: Mapping[str, Recorder],
        zones: Mapping[str, Zones],
        class_names: Sequence[str],
        on_error: OnError,
    ) -> None:
        self._recorders, self._zones, self._names = dict(recorders), zones, class_names
        self._on_error = on_error

    def __enter__(self) -> Recording:
        return self

    def __exit__(self, *_: object) -> None:
        for source, recorder in self._recorders.items():
            with self._reporting(source):
                recorder.close()

    def on_frame(self, result: FrameResult) -> None:
        source = result.frame.source
        recorder = self._recorders.get(source)
        if recorder is None:
            return
        people, zones = result.scene.people, self._zones.get(source)
        with self._reporting(source):
            try:
                recorder.add(result, lambda image_rgb: draw_people(image_rgb, people, self._names, zones))
            except OutputError:
                del self._recorders[source]
                with contextlib.suppress(OutputError):
                    recorder.close()
                raise

    @contextlib.contextmanager
    def _reporting(self, source: str) -> Iterator[None]:
        try:
            yield
        except OutputError as error:
            self._on_error(f"video of {source}", f"{error}; recording has ended, watching goes on")


def part_pattern(path: Path) -> re.Pattern[str]:
    """Matches exactly the file names of `Recorder(path, …, part_s=…)`."""
    stem, suffix = re.escape(path.stem), re.escape(path.suffix)
    return re.compile(rf"{stem}_(?P<stamp>\d{{8}}T\d{{6}}Z)(-\d+)?{suffix}", re.ASCII)
