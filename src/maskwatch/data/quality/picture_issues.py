"""What is wrong with pictures that can be read: boxes of no use, and pictures that are one picture."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from maskwatch.boxes import box_iou
from maskwatch.data.dataset import Sample
from maskwatch.data.formats.raw import RawPicture
from maskwatch.data.formats.tree import SPLITS
from maskwatch.data.issues import Box, Fault, Severity
from maskwatch.data.quality.duplicates import Duplicate, find_duplicates
from maskwatch.data.quality.header import ImageMetadata
from maskwatch.data.quality.probe import PictureScan
from maskwatch.data.validator import pixels
from maskwatch.errors import LabelError
from maskwatch.labels import ClassMap, normalize

LEAST_SIDE = 2.0
"""Pixels. A shorter box is a slip of the hand: no one can see a face in it."""

WHOLE_PICTURE = 0.98
"""Share of the picture from which on a box covers all of it."""

FINEST_STRIDE = 8
"""Pixels of the network's input between the cells of its finest level. A face below that shares its cell with
others and is smaller than what a cell sees as one thing."""

SAME_BOX = 0.95
"""IoU from which on two boxes of a picture are one, drawn twice."""


@dataclass(frozen=True)
class CheckedPicture:
    """One picture of a part: as annotated, as it is, and as a sample (None where it cannot be used)."""

    split: str
    raw: RawPicture
    scan: PictureScan
    sample: Sample | None


def picture_faults(picture: CheckedPicture, classes: ClassMap, network_size: int) -> Iterator[Fault]:
    raw, scan = picture.raw, picture.scan
    if not scan.readable:
        return
    warn = partial(Fault, severity="warning", picture=raw.image_path)
    if scan.blank:
        mend = "replace it, or remove it with its annotation"
        yield warn("picture-blank", raw.shown_path, "is of a single colour", mend)
    if not raw.objects:
        mend = "fine for a picture that shows nothing to find; else annotate it"
        yield warn("picture-empty", raw.annotation_path, "no object in it", mend)
    header = ImageMetadata(scan.size_hw, scan.orientation)
    boxes = [pixels(item.box_xyxy, raw, header) for item in raw.objects]
    for number, box_xyxy in enumerate(boxes):
        found = _box_warning(box_xyxy, scan.size_hw, network_size)
        if found and not raw.objects[number].ignore:
            kind, severity, text, mend = found
            yield _object_fault(raw, number, box_xyxy, kind, severity, text, mend)
    yield from _double_boxes(raw, boxes, classes)


def _box_warning(
    box_xyxy: Box, size_hw: tuple[int, int], network_size: int
) -> tuple[str, Severity, str, str] | None:
    """Kind, severity, text and mend of a box that is well formed but no good."""
    x0, y0, x1, y1 = box_xyxy
    if not all(map(math.isfinite, box_xyxy)) or x1 <= x0 or y1 <= y0:
        return None  # the judge has told of it
    height, width = size_hw
    side = min(x1 - x0, y1 - y0)
    if side < LEAST_SIDE:
        text = f"measures {x1 - x0:.3g} x {y1 - y0:.3g} pixels"
        return "box-tiny", "error", text, "draw it again or remove it"
    inside = max(0.0, min(x1, width) - max(x0, 0)) * max(0.0, min(y1, height) - max(y0, 0))
    if inside >= WHOLE_PICTURE * width * height:
        return "box-whole", "warning", "covers the whole picture", "draw it around the object"
    shrunk = side * min(network_size / width, network_size / height)
    if shrunk < FINEST_STRIDE:
        text = f"is {shrunk:.1f} pixels at network size {network_size}, below the {FINEST_STRIDE} of a cell"
        mend = "expect it to be missed; train at a larger size, on crops, or leave such boxes out"
        return "box-small", "warning", text, mend
    return None


def _object_fault(
    raw: RawPicture, number: int, box_xyxy: Box, kind: str, severity: Severity, text: str, mend: str
) -> Fault:
    item = raw.objects[number]
    where = f"{item.where} ({item.name or 'no name'})"
    if not raw.own_file:
        where = f"{raw.image_id}: {where}"
    text = f"{item.shown} {text}"
    return Fault(kind, raw.annotation_path, text, mend, where, severity, raw.image_path, box_xyxy, number)


def _double_boxes(raw: RawPicture, boxes: Sequence[Box], classes: ClassMap) -> Iterator[Fault]:
    """Later ones of boxes that lie on one another; an ignore region may lie on anything."""
    good = [
        number
        for number, (x0, y0, x1, y1) in enumerate(boxes)
        if x0 < x1 < math.inf and y0 < y1 < math.inf and min(x0, y0) > -math.inf
        if not raw.objects[number].ignore
    ]
    if len(good) < 2:
        return
    corners = np.array([boxes[n] for n in good], np.float64)
    iou = np.triu(box_iou(corners, corners), k=1)  # (G, G)
    told: set[int] = set()
    for i, j in np.argwhere(iou >= SAME_BOX):
        first, second = raw.objects[good[i]], raw.objects[good[j]]
        if good[j] in told:
            continue
        told.add(good[j])
        if _class_id(classes, first.name) == _class_id(classes, second.name):
            kind, mend = "box-double", "remove one of them"
        else:
            kind, mend = "box-contradiction", "keep the one with the right class"
        text = f"lies on {first.where} ({first.name})"
        yield _object_fault(raw, good[j], boxes[good[j]], kind, "error", text, mend)


def _class_id(classes: ClassMap, name: str) -> int | str:
    """The class that a name stands for; what its spellings have in common where it is unknown."""
    try:
        return classes.id_of(name)
    except LabelError:
        return normalize(name)


def duplicate_faults(pictures: Sequence[CheckedPicture]) -> Iterator[Fault]:
    for pair in find_duplicates([picture.scan.fingerprint for picture in pictures]):
        yield _duplicate_fault(pictures[pair.first], pictures[pair.second], pair)


_ALIKE: Mapping[str, str] = {
    "same": "is the same picture as",
    "near": "is nearly the same picture as",
    "mirrored": "is a mirror image of",
    "crop": "shows a part of the same picture as",
}


def _duplicate_fault(one: CheckedPicture, other: CheckedPicture, pair: Duplicate) -> Fault:
    """Reported at the picture that should go: that of training, else the later one."""
    order = list(SPLITS)
    ranks = [order.index(p.split) if p.split in order else len(order) for p in (one, other)]
    leak = one.split != other.split
    gone, kept = (one, other) if leak and ranks[0] < ranks[1] else (other, one)
    text = f"{_ALIKE[pair.kind]} {kept.raw.shown_path}"
    if pair.kind != "same":
        text += f" (similarity {pair.similarity:.2f})"
    severity: Severity
    if leak:
        text = f"in {gone.split or 'no split'}, {text} in {kept.split or 'no split'}"
        mend = "remove one of them, or the score tells of pictures that were trained on"
        kind, severity = "leak", "error"
    else:
        kind = "picture-twice" if pair.kind == "same" else "picture-alike"
        mend = "remove one of them" if pair.kind == "same" else "keep both in one split"
        severity = "warning"
    path, twin = gone.raw.image_path, kept.raw.image_path
    return Fault(kind, gone.raw.shown_path, text, mend, severity=severity, picture=path, twin=twin)
