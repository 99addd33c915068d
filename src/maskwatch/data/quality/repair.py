"""Mends what a check found, in a copy: what can be mended is, what cannot is left out, and both are said."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from maskwatch.data.dataset import DetectionSet, Sample
from maskwatch.data.formats.raw import RawObject, RawPicture
from maskwatch.data.issues import Box, Fault
from maskwatch.data.quality.check import Check
from maskwatch.data.quality.header import ImageMetadata
from maskwatch.data.quality.picture_issues import CheckedPicture
from maskwatch.data.validator import Judge, box_fault, pixels
from maskwatch.errors import LabelError
from maskwatch.labels import ClassMap

LIKENESS = 0.8
"""Of a misspelt class name to a known one (difflib's ratio), from which on it is taken for that one."""

SHAPE_TOLERANCE = 0.01
"""Relative difference of aspect ratios up to which a stated size is the picture's own at another scale."""

# Pictures that have no place in the copy if their twin has one.
_TWINS = ("leak", "picture-twice")
_BOX_DROPS = ("box-tiny", "box-double", "box-contradiction")


@dataclass
class Mended:
    """The copy that is to be written.

    sets: split → samples; changes: what was changed, one line each.
    """

    sets: dict[str, DetectionSet] = field(default_factory=dict)
    changes: list[str] = field(default_factory=list)


def mend(check: Check) -> Mended:
    """A copy without errors.

    Inverted corners are swapped, boxes that stick out are clipped, boxes of no use and second ones on the
    same face are left out, sizes are stated anew (boxes turned or scaled with them where that is certain),
    misspelt classes get the nearest name. A picture that is unreadable, gives away another split, is there
    twice, contradicts itself, or holds a class that no one can guess is left out: a face without its box
    would teach the network to miss it. Classes are written under the names of `check.classes`.

    Args:
        check: what was found.
    """
    mended = Mended()
    faults: dict[object, list[Fault]] = {}
    for fault in check.faults:
        faults.setdefault(fault.picture, []).append(fault)
    samples = {
        id(picture): _mend_picture(
            picture, faults.get(picture.raw.image_path, ()), check.classes, mended.changes
        )
        for picture in check.pictures
    }
    there = {p.raw.image_path for p in check.pictures if samples[id(p)] is not None}
    kept: dict[str, list[Sample]] = {part.split: [] for part in check.parts}
    for picture in check.pictures:
        path, sample = picture.raw.image_path, samples[id(picture)]
        twins = [f for f in faults.get(path, ()) if f.kind in _TWINS and f.twin in there]
        if sample is not None and twins:
            mended.changes.append(f"{picture.raw.shown_path}: left out: {twins[0].text}")
            there.discard(path)
        elif sample is not None:
            kept[picture.split].append(sample)
    mended.changes += _not_copied(check)
    mended.sets = {split: DetectionSet(check.class_names, tuple(samples)) for split, samples in kept.items()}
    return mended


def _mend_picture(
    picture: CheckedPicture, faults: Sequence[Fault], classes: ClassMap, changes: list[str]
) -> Sample | None:
    path = picture.raw.shown_path
    if not picture.scan.readable:
        changes.append(f"{path}: left out: {picture.scan.reason}")
        return None
    if not any(fault.severity == "error" and fault.kind not in _TWINS for fault in faults):
        return picture.sample
    header = ImageMetadata(picture.scan.size_hw, picture.scan.orientation)
    told: list[str] = []
    try:
        raw = _mend_size(picture.raw, header, told)
        raw = _mend_objects(raw, header, faults, classes, told)
    except ValueError as error:
        changes.append(f"{path}: left out: {error}")
        return None
    changes += [f"{picture.raw.annotation_path}: {line}" for line in told]
    judge = Judge(classes)
    sample = judge.sample_of(raw, header)
    assert not judge.faults, judge.faults  # what is mended passes
    return sample


def _mend_size(raw: RawPicture, header: ImageMetadata, told: list[str]) -> RawPicture:
    """The picture with boxes in pixels as it is shown, and without a stated size.

    Raises:
        ValueError: the boxes were drawn on another picture.
    """
    boxes = [pixels(item.box_xyxy, raw, header) for item in raw.objects]
    stated = None if raw.normalised or raw.stated_wh is None else _size(raw.stated_wh)
    height, width = header.size_hw
    if stated and 0 not in stated and stated != (width, height):
        if header.turned and stated == (height, width):
            boxes = [_turned(box, stated, header.orientation) for box in boxes]
            told.append(f"boxes turned by EXIF orientation {header.orientation}, as the picture is shown")
        else:
            scale_x, scale_y = width / stated[0], height / stated[1]
            if abs(scale_x / scale_y - 1) > SHAPE_TOLERANCE:
                says = f"{stated[0]} x {stated[1]}, which is no scale of {width} x {height}"
                raise ValueError(f"its annotation is of a picture of {says}; draw the boxes again")
            boxes = [(x0 * scale_x, y0 * scale_y, x1 * scale_x, y1 * scale_y) for x0, y0, x1, y1 in boxes]
            told.append(f"boxes scaled from {stated[0]} x {stated[1]} to {width} x {height}")
    objects = tuple(replace(item, box_xyxy=box) for item, box in zip(raw.objects, boxes, strict=True))
    return replace(raw, objects=objects, stated_wh=None, normalised=False)


def _size(texts: tuple[str, str]) -> tuple[int, int] | None:
    try:
        width, height = (round(float(text)) for text in texts)
    except (ValueError, OverflowError):
        return None
    return width, height


def _turned(box_xyxy: Box, stored_wh: tuple[int, int], orientation: int) -> Box:
    """A box on the stored picture, on the picture as EXIF orientation 5 to 8 shows it."""
    width, height = stored_wh
    x0, y0, x1, y1 = box_xyxy
    if orientation in (6, 7):  # the stored bottom is shown at the left
        left, right = height - y1, height - y0
    else:
        left, right = y0, y1
    if orientation in (7, 8):  # the stored right is shown at the top
        top, bottom = width - x1, width - x0
    else:
        top, bottom = x0, x1
    return left, top, right, bottom


def _mend_objects(
    raw: RawPicture, header: ImageMetadata, faults: Sequence[Fault], classes: ClassMap, told: list[str]
) -> RawPicture:
    """The picture with boxes and classes that pass.

    Raises:
        ValueError: a class cannot be guessed, or two boxes contradict each other.
    """
    dropped = {fault.number: fault for fault in faults if fault.kind in _BOX_DROPS}
    objects = []
    for number, item in enumerate(raw.objects):
        if item.fault is not None:
            raise ValueError(f"{item.where}: {item.shown}: {'; '.join(item.fault[1:])}")
        if classes.ignores(item.name):
            continue
        fault = dropped.get(number)
        if fault is not None and fault.kind == "box-contradiction":
            raise ValueError(f"{fault.where}: {fault.text}; {fault.mend}")
        if fault is not None:
            told.append(f"{fault.where}: left out: {fault.text}")
            continue
        box = _mend_box(item, header, told)
        if box is not None:
            objects.append(replace(item, name=_mend_name(item, classes, told), box_xyxy=box))
    return replace(raw, objects=tuple(objects))


def _mend_box(item: RawObject, header: ImageMetadata, told: list[str]) -> Box | None:
    where, (x0, y0, x1, y1) = f"{item.where} ({item.name or 'no name'})", item.box_xyxy
    if all(map(math.isfinite, item.box_xyxy)) and (x1 < x0 or y1 < y0):
        x0, y0, x1, y1 = min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)
        told.append(f"{where}: corners swapped")
    found = box_fault((x0, y0, x1, y1), header.size_hw)
    if found and found[0] == "box-beyond":
        told.append(f"{where}: clipped to the picture")
    elif found:
        told.append(f"{where}: left out: {item.shown} {found[1]}")
        return None
    height, width = header.size_hw
    return max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height))


def _mend_name(item: RawObject, classes: ClassMap, told: list[str]) -> str:
    try:
        classes.id_of(item.name)
        return item.name
    except LabelError as error:
        near = classes.nearest(item.name, LIKENESS)
        if near is None:
            raise ValueError(f"{item.where}: {error}") from None
        told.append(f"{item.where}: class {item.name!r} written {near!r}")
        return near


def _not_copied(check: Check) -> list[str]:
    """Files that are in no pair of picture and annotation, which a copy has no place for."""
    kinds = Counter(fault.kind for fault in check.faults if fault.picture is None or _alone(fault))
    names = {
        "picture-missing": "annotations without a picture",
        "annotation-missing": "pictures without an annotation",
        "annotation-unreadable": "annotations that cannot be read",
        "annotation-double": "second annotations of a picture",
        "picture-ambiguous": "annotations with several pictures of their name",
        "picture-double": "second entries of a picture",
    }
    return [f"left out: {kinds[kind]} {text}" for kind, text in names.items() if kinds[kind]]


def _alone(fault: Fault) -> bool:
    return fault.kind in ("annotation-missing", "annotation-double")
