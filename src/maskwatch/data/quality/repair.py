"""Repairs the issues of a check in a copy: leaves out what cannot be repaired, and lists every change."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from maskwatch.data.dataset import DetectionSet, Sample
from maskwatch.data.formats.base import RawImage, RawObject
from maskwatch.data.issues import Box, Issue
from maskwatch.data.quality.check import DataCheck
from maskwatch.data.quality.image_issues import CheckedImage
from maskwatch.data.validator import Validator, box_problem, clipped, stated_size, to_pixels
from maskwatch.errors import LabelError
from maskwatch.labels import ClassMap

LIKENESS = 0.8
"""Least similarity (difflib's ratio) of a misspelt class name to a known one."""

SHAPE_TOLERANCE = 0.01
"""Relative difference of aspect ratios up to which a stated size is a scale of the image's."""

# Images that are left out of the copy if their twin is in it.
_TWINS = ("leak", "picture-twice")
_BOX_DROPS = ("box-tiny", "box-double", "box-contradiction")


class Repaired(NamedTuple):
    """A repaired copy: split → samples, and a line for each change."""

    sets: dict[str, DetectionSet]
    changes: list[str]


def repair(check: DataCheck) -> Repaired:
    """A copy without errors.

    Swaps inverted corners, clips boxes that stick out, leaves out useless and duplicate boxes, corrects sizes
    (turns or scales boxes with them if that is certain) and misspelt classes. Leaves out an image that is
    unreadable, a leak or a duplicate, contradicts itself, or has an unknown class: a face without its box
    would teach the network to miss it. Classes get the names of `check.classes`.
    """
    changes: list[str] = []
    issues: dict[object, list[Issue]] = {}
    for issue in check.issues:
        issues.setdefault(issue.image, []).append(issue)
    samples = [
        _repair_image(image, issues.get(image.raw.image_path, ()), check.classes, changes)
        for image in check.images
    ]
    pairs = list(zip(check.images, samples, strict=True))
    there = {image.raw.image_path for image, sample in pairs if sample is not None}
    kept: dict[str, list[Sample]] = {split.name: [] for split in check.splits}
    for image, sample in pairs:
        path = image.raw.image_path
        twins = [issue for issue in issues.get(path, ()) if issue.kind in _TWINS and issue.twin in there]
        if sample is not None and twins:
            changes.append(f"{image.raw.shown_path}: left out: {twins[0].text}")
            there.discard(path)
        elif sample is not None:
            kept[image.split].append(sample)
    changes += _not_copied(check)
    sets = {split: DetectionSet(check.class_names, tuple(mine)) for split, mine in kept.items()}
    return Repaired(sets, changes)


def _repair_image(
    image: CheckedImage, issues: Sequence[Issue], classes: ClassMap, changes: list[str]
) -> Sample | None:
    path = image.raw.shown_path
    if not image.probe.readable:
        changes.append(f"{path}: left out: {image.probe.reason}")
        return None
    if not any(issue.severity == "error" and issue.kind not in _TWINS for issue in issues):
        return image.sample
    repair = _ImageRepair(image, classes)
    try:
        raw = repair.objects(repair.size(image.raw), issues)
    except ValueError as error:
        changes.append(f"{path}: left out: {error}")
        return None
    changes += [f"{image.raw.annotation_path}: {line}" for line in repair.changes]
    validator = Validator(classes)
    sample = validator.sample_of(raw, image.probe.metadata)
    assert not validator.issues, validator.issues
    return sample


class _ImageRepair:
    """Repairs the annotation of one image, step by step; `changes` lists the changes so far."""

    def __init__(self, image: CheckedImage, classes: ClassMap) -> None:
        self.metadata, self.classes = image.probe.metadata, classes
        self.changes: list[str] = []

    def size(self, raw: RawImage) -> RawImage:
        """The annotation with boxes in pixels of the image as shown, and without a stated size.

        Raises:
            ValueError: the boxes were drawn on another image.
        """
        boxes = [to_pixels(item.box_xyxy, raw, self.metadata) for item in raw.objects]
        stated = None if raw.normalized or raw.stated_wh is None else stated_size(raw.stated_wh)
        height, width = self.metadata.size_hw
        if stated and 0 not in stated and stated != (width, height):
            exif = self.metadata.orientation
            if self.metadata.turned and stated == (height, width):
                boxes = [_turned(box, stated, exif) for box in boxes]
                self.changes.append(f"boxes turned by EXIF orientation {exif}, as the picture is shown")
            else:
                scale_x, scale_y = width / stated[0], height / stated[1]
                if abs(scale_x / scale_y - 1) > SHAPE_TOLERANCE:
                    says = f"{stated[0]} x {stated[1]}, which does not scale to {width} x {height}"
                    raise ValueError(f"its annotation is of a picture of {says}; draw the boxes again")
                boxes = [(x0 * scale_x, y0 * scale_y, x1 * scale_x, y1 * scale_y) for x0, y0, x1, y1 in boxes]
                self.changes.append(f"boxes scaled from {stated[0]} x {stated[1]} to {width} x {height}")
        objects = tuple(replace(item, box_xyxy=box) for item, box in zip(raw.objects, boxes, strict=True))
        return replace(raw, objects=objects, stated_wh=None, normalized=False)

    def objects(self, raw: RawImage, issues: Sequence[Issue]) -> RawImage:
        """The annotation with valid boxes and classes.

        Raises:
            ValueError: a class cannot be guessed, or two boxes contradict each other.
        """
        dropped = {issue.object_index: issue for issue in issues if issue.kind in _BOX_DROPS}
        objects = []
        for number, item in enumerate(raw.objects):
            if item.problem is not None:
                raise ValueError(f"{item.where}: {item.shown}: {item.problem.text}; {item.problem.fix}")
            if self.classes.ignores(item.name):
                continue
            issue = dropped.get(number)
            if issue is not None and issue.kind == "box-contradiction":
                raise ValueError(f"{issue.where}: {issue.text}; {issue.fix}")
            if issue is not None:
                self.changes.append(f"{issue.where}: left out: {issue.text}")
                continue
            box = self._box(item)
            if box is not None:
                objects.append(replace(item, name=self._name(item), box_xyxy=box))
        return replace(raw, objects=tuple(objects))

    def _box(self, item: RawObject) -> Box | None:
        x0, y0, x1, y1 = item.box_xyxy
        if all(map(math.isfinite, item.box_xyxy)) and (x1 < x0 or y1 < y0):
            x0, y0, x1, y1 = min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)
            self.changes.append(f"{item.title}: corners swapped")
        found = box_problem((x0, y0, x1, y1), self.metadata.size_hw)
        if found and found.kind == "box-beyond":
            self.changes.append(f"{item.title}: clipped to the picture")
        elif found:
            self.changes.append(f"{item.title}: left out: {item.shown} {found.text}")
            return None
        return clipped((x0, y0, x1, y1), self.metadata.size_hw)

    def _name(self, item: RawObject) -> str:
        try:
            self.classes.id_of(item.name)
            return item.name
        except LabelError as error:
            near = self.classes.nearest(item.name, LIKENESS)
            if near is None:
                raise ValueError(f"{item.where}: {error}") from None
            self.changes.append(f"{item.where}: class {item.name!r} written {near!r}")
            return near


def _turned(box_xyxy: Box, stored_wh: tuple[int, int], orientation: int) -> Box:
    """A box on the stored image → on the image as EXIF orientation 5 to 8 shows it."""
    width, height = stored_wh
    x0, y0, x1, y1 = box_xyxy
    # 6 and 7 show the stored bottom at the left, 7 and 8 the stored right at the top.
    left, right = (height - y1, height - y0) if orientation in (6, 7) else (y0, y1)
    top, bottom = (width - x1, width - x0) if orientation in (7, 8) else (x0, x1)
    return left, top, right, bottom


def _not_copied(check: DataCheck) -> list[str]:
    """Lines for files without a counterpart, which a copy leaves out."""
    alone = ("annotation-missing", "annotation-double")
    kinds = Counter(issue.kind for issue in check.issues if issue.image is None or issue.kind in alone)
    names = {
        "picture-missing": "annotations without a picture",
        "annotation-missing": "pictures without an annotation",
        "annotation-unreadable": "annotations that cannot be read",
        "annotation-double": "second annotations of a picture",
        "picture-ambiguous": "annotations with several pictures of their name",
        "picture-double": "second entries of a picture",
    }
    return [f"left out: {kinds[kind]} {text}" for kind, text in names.items() if kinds[kind]]
