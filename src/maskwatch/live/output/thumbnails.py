"""A picture for each alert: the person with some surroundings, every face in it unrecognisable."""

from __future__ import annotations

import re
from datetime import UTC
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from maskwatch.drawing.annotate import save_picture
from maskwatch.drawing.blur import blur
from maskwatch.drawing.privacy_mask import Boxes
from maskwatch.live.capture.frame import LiveFrame
from maskwatch.live.events import Event
from maskwatch.live.output.face_hider import Hiding
from maskwatch.live.output.recorder import STAMP
from maskwatch.media.images import UInt8Array
from maskwatch.outputs import keep_from_others, make_folder

_CONTEXT = 1.5
"""Sides of the face that are shown around it, on each side."""

_LARGEST = 480
"""Pixels; longer sides are scaled down. About 30 KB a picture."""

NAMES = re.compile(
    r"\.?(?P<stamp>\d{8}T\d{6}Z)_[A-Za-z0-9.-]{1,40}_(t\d+|t-)_[A-Za-z0-9]{1,8}(\.part)?\.jpg", re.ASCII
)
"""The names that are given, and those of files that were being written when the program was killed.

Example: 20250131T080000Z_door_t12_3f2a9c01.jpg
"""


class Thumbnails:
    """Stores pictures of alerts in a folder, as JPEG without any metadata.

    A picture is taken at once, so a face that was missed in this very frame is covered where it was found in
    those before; show it every frame with `look`. It keeps no frame.

    Args:
        folder: is made.
        keep_faces: True leaves faces as they are.

    Raises:
        OutputError: the folder cannot be made; from `store`, that the file cannot be written.
    """

    def __init__(self, folder: Path, *, keep_faces: bool = False) -> None:
        make_folder(folder)
        self._folder, self._keep_faces = folder, keep_faces
        self._hiding = Hiding()

    def look(
        self,
        frame: LiveFrame,
        boxes_xyxy: npt.ArrayLike,
        track_ids: npt.ArrayLike | None = None,
        *,
        sure: npt.ArrayLike | None = None,
    ) -> None:
        """Remembers where the faces of a frame are; all as in `Hiding.look`."""
        self._hiding.look(frame, boxes_xyxy, track_ids, sure=sure)

    def store(
        self,
        event: Event,
        frame: LiveFrame,
        boxes_xyxy: npt.ArrayLike,
        track_ids: npt.ArrayLike | None = None,
        *,
        sure: npt.ArrayLike | None = None,
    ) -> Path:
        """Stores the picture of an event in a frame, its faces as in `look`; gives the path of the file."""
        hidden_xyxy = self._hiding.look(frame, boxes_xyxy, track_ids, sure=sure)
        image_rgb = frame.image_rgb
        own = np.zeros((0, 4)) if event.box_xyxy is None else np.array([event.box_xyxy], np.float64)
        if not self._keep_faces:
            image_rgb = blur(image_rgb, np.concatenate([hidden_xyxy, own]))
        path = self._folder / _name(event)
        save_picture(_cut(image_rgb, own), path)
        keep_from_others(path)
        return path


def _name(event: Event) -> str:
    """From what an event says of itself, with nothing in it that a file system or a shell could mind."""
    source = re.sub(r"[^A-Za-z0-9.-]+", "-", event.source)[:40].strip(".") or "source"
    track = "-" if event.track is None else str(event.track)
    short = re.sub(r"[^A-Za-z0-9]", "", event.id)[:8] or "0"
    return f"{event.time.astimezone(UTC).strftime(STAMP)}_{source}_t{track}_{short}.jpg"


def _cut(image_rgb: UInt8Array, box_xyxy: Boxes) -> UInt8Array:
    """The box (0 or 1, 4) and what is around it; the whole picture without a box or where it lies outside."""
    height, width = image_rgb.shape[:2]
    x1, y1, x2, y2 = 0, 0, width, height
    if len(box_xyxy):
        center, sides = (box_xyxy[0, :2] + box_xyxy[0, 2:]) / 2, box_xyxy[0, 2:] - box_xyxy[0, :2]
        half = (0.5 + _CONTEXT) * sides.max()
        left, top = np.clip(np.floor(center - half), 0, (width, height)).astype(int)
        right, bottom = np.clip(np.ceil(center + half), 0, (width, height)).astype(int)
        if right > left and bottom > top:
            x1, y1, x2, y2 = int(left), int(top), int(right), int(bottom)
    part = image_rgb[y1:y2, x1:x2]
    scale = _LARGEST / max(part.shape[:2])
    if scale >= 1:
        return part
    size_wh = max(1, round((x2 - x1) * scale)), max(1, round((y2 - y1) * scale))
    return np.asarray(cv2.resize(part, size_wh, interpolation=cv2.INTER_AREA), np.uint8)
