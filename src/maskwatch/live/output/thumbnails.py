"""A picture of each alert: the person and the surroundings, every face blurred."""

from __future__ import annotations

import re
from datetime import UTC
from pathlib import Path

import numpy as np

from maskwatch.drawing.annotate import save_picture
from maskwatch.drawing.blur import blur
from maskwatch.drawing.privacy_mask import Boxes
from maskwatch.errors import OutputError
from maskwatch.live.events import Event
from maskwatch.live.output.face_hider import FaceHider
from maskwatch.live.sinks.delivery import OnError, ignore
from maskwatch.live.tracking.results import FrameResult, Observer
from maskwatch.media.images import UInt8Array, squash
from maskwatch.outputs import STAMP, keep_from_others, make_folder, plain_name

_CONTEXT = 1.5
"""Sides of the face that are shown around it, on each side."""

_LARGEST = 480
"""Pixels; longer sides are scaled down. About 30 KB a picture."""

NAMES = re.compile(
    r"\.?(?P<stamp>\d{8}T\d{6}Z)_[A-Za-z0-9.-]{1,40}_(t\d+|t-)_[A-Za-z0-9]{1,8}(\.part)?\.jpg", re.ASCII
)
"""Names of thumbnails, also of half-written ones: 20250131T080000Z_door_t12_3f2a9c01.jpg"""


class Thumbnails(Observer):
    """Stores pictures of alerts in a folder, as JPEG without any metadata.

    A picture is taken immediately: a face that is missed in this frame is hidden where it was found before.

    Args:
        folder: created where there is none.
        keep_faces: True leaves faces as they are.
        on_error: receives a name and why `try_store` stored nothing.

    Raises:
        OutputError: the folder cannot be made.
    """

    def __init__(self, folder: Path, *, keep_faces: bool = False, on_error: OnError = ignore) -> None:
        make_folder(folder)
        self._folder, self._keep_faces, self._on_error = folder, keep_faces, on_error
        self._hider = FaceHider()

    def on_frame(self, result: FrameResult) -> None:
        self._hider.boxes_to_hide(result)

    def store(self, event: Event, result: FrameResult) -> Path:
        """Stores the picture of an event in a frame; returns the path of the file.

        Raises:
            OutputError: the file cannot be written.
        """
        hidden_xyxy = self._hider.boxes_to_hide(result)
        image_rgb = result.frame.image_rgb
        own = np.zeros((0, 4)) if event.box_xyxy is None else np.array([event.box_xyxy], np.float64)
        if not self._keep_faces:
            image_rgb = blur(image_rgb, np.concatenate([hidden_xyxy, own]))
        path = self._folder / f"{event_stem(event)}.jpg"
        save_picture(_cut(image_rgb, own), path)
        keep_from_others(path)
        return path

    def try_store(self, event: Event, result: FrameResult) -> str | None:
        """As `store`, but reports an error and returns None."""
        try:
            return str(self.store(event, result))
        except OutputError as error:
            self._on_error("thumbnails", str(error))
            return None


def event_stem(event: Event, *, with_state: bool = False) -> str:
    """A file name for an event without its suffix: time, source, person, state if wanted, and id.

    It has no characters that are special to a file system or a shell.
    """
    source = plain_name(event.source, 40) or "source"
    track = "-" if event.track is None else str(event.track)
    state = [plain_name(event.state or "", 20) or "-"] if with_state else []
    short = re.sub(r"[^A-Za-z0-9]", "", event.id)[:8] or "0"
    return "_".join([event.time.astimezone(UTC).strftime(STAMP), source, f"t{track}", *state, short])


def _cut(image_rgb: UInt8Array, box_xyxy: Boxes) -> UInt8Array:
    """The box (0 or 1, 4) with its surroundings; the whole picture if the box is missing or outside."""
    part, (height, width) = image_rgb, image_rgb.shape[:2]
    if len(box_xyxy):
        center, sides = (box_xyxy[0, :2] + box_xyxy[0, 2:]) / 2, box_xyxy[0, 2:] - box_xyxy[0, :2]
        half = (0.5 + _CONTEXT) * sides.max()
        left, top = np.clip(np.floor(center - half), 0, (width, height)).astype(int)
        right, bottom = np.clip(np.ceil(center + half), 0, (width, height)).astype(int)
        if right > left and bottom > top:
            part = image_rgb[top:bottom, left:right]
    scale = min(1.0, _LARGEST / max(part.shape[:2]))
    height, width = (max(1, round(side * scale)) for side in part.shape[:2])
    return squash(part, (height, width))[0]
