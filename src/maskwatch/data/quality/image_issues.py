"""Issues of readable images: useless boxes, and duplicate images."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from maskwatch.boxes import box_iou
from maskwatch.data.dataset import Sample
from maskwatch.data.formats.base import RawImage
from maskwatch.data.formats.tree import SPLITS
from maskwatch.data.issues import Box, Issue, Reason, Severity
from maskwatch.data.quality.duplicates import Duplicate, find_duplicates
from maskwatch.data.quality.probe import ImageProbe
from maskwatch.data.validator import box_issue, to_pixels
from maskwatch.labels import ClassMap, normalize

LEAST_SIDE = 2.0
"""Pixels. A shorter box is a slip of the hand."""

WHOLE_PICTURE = 0.98
"""Least share of the picture that counts as all of it."""

FINEST_STRIDE = 8
"""Stride of the network's finest level, in pixels of its input; a smaller face is less than a cell."""

SAME_BOX = 0.95
"""Least IoU of a box that was drawn twice."""


@dataclass(frozen=True)
class CheckedImage:
    """One image of a split: its annotation, its probe, and its sample (None if it cannot be used)."""

    split: str
    raw: RawImage
    probe: ImageProbe
    sample: Sample | None


def image_issues(image: CheckedImage, classes: ClassMap, network_size: int) -> Iterator[Issue]:
    """Issues of one image and its boxes, beyond those of the validator."""
    raw, probe = image.raw, image.probe
    if not probe.readable:
        return
    warn = partial(Issue, severity="warning", image=raw.image_path)
    if probe.blank:
        fix = "replace it, or remove it with its annotation"
        yield warn("picture-blank", raw.shown_path, "is of a single colour", fix)
    if not raw.objects:
        fix = "fine for a picture that shows nothing to find; else annotate it"
        yield warn("picture-empty", raw.annotation_path, "no object in it", fix)
    boxes = [to_pixels(item.box_xyxy, raw, probe.metadata) for item in raw.objects]
    for number, box_xyxy in enumerate(boxes):
        found = _box_warning(box_xyxy, probe.size_hw, network_size)
        if found and not raw.objects[number].ignore:
            severity: Severity = "error" if found.kind == "box-tiny" else "warning"
            yield box_issue(raw, number, box_xyxy, found, severity)
    yield from _double_boxes(raw, boxes, classes)


def _box_warning(box_xyxy: Box, size_hw: tuple[int, int], network_size: int) -> Reason | None:
    x0, y0, x1, y1 = box_xyxy
    if not all(map(math.isfinite, box_xyxy)) or x1 <= x0 or y1 <= y0:
        return None  # an issue of the validator
    height, width = size_hw
    side = min(x1 - x0, y1 - y0)
    if side < LEAST_SIDE:
        text = f"measures {x1 - x0:.3g} x {y1 - y0:.3g} pixels"
        return Reason("box-tiny", text, "draw it again or remove it")
    inside = max(0.0, min(x1, width) - max(x0, 0)) * max(0.0, min(y1, height) - max(y0, 0))
    if inside >= WHOLE_PICTURE * width * height:
        return Reason("box-whole", "covers the whole picture", "draw it around the object")
    shrunk = side * min(network_size / width, network_size / height)
    if shrunk < FINEST_STRIDE:
        text = f"is {shrunk:.1f} pixels at network size {network_size}, below the {FINEST_STRIDE} of a cell"
        fix = "expect it to be missed; train at a larger size, on crops, or leave such boxes out"
        return Reason("box-small", text, fix)
    return None


def _double_boxes(raw: RawImage, boxes: Sequence[Box], classes: ClassMap) -> Iterator[Issue]:
    """Boxes that lie on an earlier one; an ignore region may lie on anything."""
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
    reported: set[int] = set()
    for i, j in np.argwhere(iou >= SAME_BOX):
        first, second = raw.objects[good[i]], raw.objects[good[j]]
        if good[j] in reported:
            continue
        reported.add(good[j])
        text = f"lies on {first.where} ({first.name})"
        if _class_of(classes, first.name) == _class_of(classes, second.name):
            reason = Reason("box-double", text, "remove one of them")
        else:
            reason = Reason("box-contradiction", text, "keep the one with the right class")
        yield box_issue(raw, good[j], boxes[good[j]], reason)


def _class_of(classes: ClassMap, name: str) -> int | str:
    class_id = classes.find(name)
    return normalize(name) if class_id is None else class_id


def duplicate_issues(images: Sequence[CheckedImage]) -> Iterator[Issue]:
    """Duplicate images: leaks between splits, and those of one split."""
    for pair in find_duplicates([image.probe.fingerprint for image in images]):
        yield _duplicate_issue(images[pair.first], images[pair.second], pair)


_ALIKE: Mapping[str, str] = {
    "same": "is the same picture as",
    "near": "is nearly the same picture as",
    "mirrored": "is a mirror image of",
    "crop": "shows a part of the same picture as",
}


def _duplicate_issue(one: CheckedImage, other: CheckedImage, pair: Duplicate) -> Issue:
    """Reported at the picture to remove: that of training, else the later one."""
    order = list(SPLITS)
    ranks = [order.index(p.split) if p.split in order else len(order) for p in (one, other)]
    leak = one.split != other.split
    gone, kept = (one, other) if leak and ranks[0] < ranks[1] else (other, one)
    text = f"{_ALIKE[pair.kind]} {kept.raw.shown_path}"
    if pair.kind != "same":
        text += f" (similarity {pair.similarity:.2f})"
    if leak:
        text = f"in {gone.split or 'no split'}, {text} in {kept.split or 'no split'}"
        kind, fix = "leak", "remove one of them, or the score counts pictures that were trained on"
    elif pair.kind == "same":
        kind, fix = "picture-twice", "remove one of them"
    else:
        kind, fix = "picture-alike", "keep both in one split"
    severity: Severity = "error" if leak else "warning"
    path, twin = gone.raw.image_path, kept.raw.image_path
    return Issue(kind, gone.raw.shown_path, text, fix, severity=severity, image=path, twin=twin)
