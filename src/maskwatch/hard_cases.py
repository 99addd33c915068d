"""Hard cases: pictures that a model may have answered wrongly, put aside for labelling because a user asked.

A case is a JPEG with its faces shown, and a Pascal VOC file beside it that holds the model's answer, marked
as proposed. So a folder of them is a data set to be labelled.
"""

from __future__ import annotations

import re
import secrets
import threading
import xml.etree.ElementTree as ET
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, get_args

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from maskwatch.errors import OutputError
from maskwatch.media.images import FloatArray, UInt8Array
from maskwatch.outputs import STAMP, keep_from_others, make_folder, new_file, plain_name
from maskwatch.text import parse_xml, xml_text

HardReason = Literal["flip", "margin", "threshold", "wrong"]
"""Why a picture is hard: the state of a person changed, two classes have nearly the same score, the score is
near the threshold, or a user said that the answer is wrong."""

MARGIN = 0.15
"""Two classes are close if their scores differ by less."""

NEAR_THRESHOLD = 0.05
"""A score is near its threshold if it differs by less."""

NAMES = re.compile(
    r"\.?(?P<stamp>\d{8}T\d{6}Z)_[A-Za-z0-9.-]{1,40}_(t\d+|t-)_"
    rf"({'|'.join(get_args(HardReason))})_[0-9a-f]{{8}}(\.part)?\.(jpg|xml)",
    re.ASCII,
)
"""Names of hard cases, also of half-written ones: 20250131T080000Z_door_t12_margin_3f2a9c01.jpg"""

PROPOSED = "proposed"
MARK = "maskwatch"
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_JPEG_QUALITY = 95
_JPEG_SIDE = 65_500  # pixels, the most that JPEG can hold
_CONTEXT = 0.5  # sides of a face around it, by which near-duplicates are recognised
_THUMB_SIDE = 32
_ALIKE = 6.0  # mean difference of grey values of 0 to 255
_REMEMBERED = 256


@dataclass(frozen=True)
class HardCaseLimits:
    """What a folder may hold.

    Attributes:
        most_pictures: cases.
        most_bytes: of all files of cases.
    """

    most_pictures: int = 2000
    most_bytes: int = 2 << 30


@dataclass(frozen=True, eq=False)
class HardCase:
    """A picture to put aside, and the model's answer.

    Attributes:
        image_rgb: uint8 (H, W, 3), as shown, faces not blurred.
        source: what the picture is from.
        when: with time zone.
        model: its name.
        class_names: in the order of their ids.
        boxes_xyxy: (N, 4), pixels; the proposals.
        class_ids: (N,)
        scores: (N, C), score of each class; 0 where the model found none.
        focus_xyxy: (4,), the face that is hard; None for the whole picture.
        track: number of the person; None for none.
    """

    image_rgb: UInt8Array
    reason: HardReason
    source: str
    when: datetime
    model: str
    class_names: tuple[str, ...]
    boxes_xyxy: FloatArray
    class_ids: npt.NDArray[np.int64]
    scores: FloatArray
    focus_xyxy: FloatArray | None = None
    track: int | None = None


def hard_reason(scores: FloatArray, thresholds: FloatArray) -> HardReason | None:
    """Why a face with these scores (C,) is hard at these thresholds (C,); None if it is not."""
    order = np.argsort(-scores)
    best = order[0]
    over = float(scores[best] - thresholds[best])
    if over > 0 and len(order) > 1 and scores[best] - scores[order[1]] < MARGIN:
        return "margin"
    return "threshold" if abs(over) < NEAR_THRESHOLD else None


class HardCaseStore:
    """Puts hard cases into a folder, within limits; may be used from several threads.

    Near-duplicates of the last cases of this run are left out.

    Args:
        folder: created where there is none.
        limits: what the folder may hold; cases that were labelled meanwhile count too.

    Raises:
        OutputError: the folder cannot be made.
    """

    def __init__(self, folder: Path, limits: HardCaseLimits | None = None) -> None:
        make_folder(folder)
        self.folder, self._limits = folder, limits or HardCaseLimits()
        self._lock = threading.Lock()
        self._thumbs: deque[npt.NDArray[np.int16]] = deque(maxlen=_REMEMBERED)

    def keep(self, case: HardCase) -> Path | None:
        """Stores a case; returns the path of its picture, None for a near-duplicate of one that is stored.

        Raises:
            FullError: the folder holds as much as it may.
            OutputError: it cannot be written.
        """
        with self._lock:
            thumb = _thumb(case)
            if any(np.abs(thumb - other).mean() < _ALIKE for other in self._thumbs):
                return None
            self._check_room()
            path = self.folder / f"{_stem(case)}.jpg"
            try:
                with new_file(path) as part:
                    _within_jpeg(case.image_rgb).save(part, quality=_JPEG_QUALITY)
                    keep_from_others(part)
                with new_file(path.with_suffix(".xml")) as part:
                    part.write_bytes(proposal_xml(case, path.name))
                    keep_from_others(part)
            except BaseException:
                path.unlink(missing_ok=True)  # without its annotation it would look like a new picture
                raise
            self._thumbs.append(thumb)
            return path

    def _check_room(self) -> None:
        files = [path for path in self.folder.iterdir() if NAMES.fullmatch(path.name)]
        pictures = sum(path.suffix == ".jpg" for path in files)
        if pictures >= self._limits.most_pictures:
            raise FullError(f"{self.folder}: holds {pictures} hard cases, which is the limit; {_MAKE_ROOM}")
        used = sum(path.stat().st_size for path in files)
        if used >= self._limits.most_bytes:
            raise FullError(f"{self.folder}: holds {used >> 20} MiB, which is the limit; {_MAKE_ROOM}")


_MAKE_ROOM = "move the labelled ones to your data set, or delete some"


class FullError(OutputError):
    """A folder of hard cases holds as much as it may."""


def notice(folder: Path) -> str:
    """What a program reports at its start when it puts hard cases aside."""
    return f"hard cases are stored in {folder}, faces shown, because of --keep-hard; see docs/privacy.md"


def is_labelled(path: Path) -> bool:
    """Whether a person has labelled the case of a JPEG or XML file: it is not proposed any more."""
    xml = path.with_suffix(".xml")
    if path.name.startswith(".") or not xml.is_file():
        return False
    try:
        state = parse_xml(xml.read_bytes()).findtext(f"{MARK}/state")
    except (OSError, ValueError, ET.ParseError):
        return True  # someone changed it, so it is not deleted
    return state != PROPOSED


def proposal_xml(case: HardCase, file_name: str) -> bytes:
    """The Pascal VOC file of a case; `<maskwatch>` says that it is proposed, by which model, when and why."""
    height, width = case.image_rgb.shape[:2]
    root = ET.Element("annotation")
    _add(root, filename=file_name)
    _add(ET.SubElement(root, "size"), width=str(width), height=str(height), depth="3")
    mark = ET.SubElement(root, MARK)
    _add(mark, state=PROPOSED, reason=case.reason, time=case.when.isoformat(timespec="milliseconds"))
    _add(mark, model=case.model, source=case.source)
    if case.track is not None:
        _add(mark, track=str(case.track))
    scores = ET.SubElement(mark, "scores")
    for box_xyxy, class_id, row in zip(case.boxes_xyxy, case.class_ids, case.scores, strict=True):
        node = ET.SubElement(root, "object")
        _add(node, name=case.class_names[class_id], difficult="0")
        corners = np.clip(box_xyxy, 0, (width, height) * 2)
        texts = (f"{corner:.2f}" for corner in corners)
        _add(ET.SubElement(node, "bndbox"), **dict(zip(_CORNERS, texts, strict=True)))
        found = ET.SubElement(scores, "object")
        for name, score in zip(case.class_names, row, strict=True):
            ET.SubElement(found, "class", name=xml_text(name)).text = f"{score:.4f}"
    ET.indent(root)
    return bytes(ET.tostring(root, encoding="utf-8")) + b"\n"


def _add(node: ET.Element, **texts: str) -> None:
    for tag, text in texts.items():
        ET.SubElement(node, tag).text = xml_text(text)


def _stem(case: HardCase) -> str:
    stamp = case.when.astimezone(UTC).strftime(STAMP)
    track = "-" if case.track is None else str(case.track)
    source = plain_name(case.source, 40) or "source"
    return f"{stamp}_{source}_t{track}_{case.reason}_{secrets.token_hex(4)}"


def _within_jpeg(image_rgb: UInt8Array) -> Image.Image:
    if max(image_rgb.shape) > _JPEG_SIDE:
        raise OutputError(
            f"a picture of {image_rgb.shape[1]} x {image_rgb.shape[0]} does not fit into a JPEG"
        )
    return Image.fromarray(image_rgb)


def _thumb(case: HardCase) -> npt.NDArray[np.int16]:
    """The hard face with its surroundings, or the whole picture, grey and small: int16 (32, 32)."""
    part = case.image_rgb
    if case.focus_xyxy is not None:
        x0, y0, x1, y1 = map(float, case.focus_xyxy)
        more_x, more_y = _CONTEXT * (x1 - x0), _CONTEXT * (y1 - y0)
        top, left = max(0, int(y0 - more_y)), max(0, int(x0 - more_x))
        cut = part[top : int(y1 + more_y) + 1, left : int(x1 + more_x) + 1]
        part = cut if cut.size else part
    grey = np.asarray(cv2.cvtColor(np.ascontiguousarray(part), cv2.COLOR_RGB2GRAY))
    small = cv2.resize(grey, (_THUMB_SIDE, _THUMB_SIDE), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.int16)
