"""Validates annotations: raw images in, samples out, and every issue noted."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from maskwatch.data.dataset import DetectionSet, Sample
from maskwatch.data.formats.base import RawImage, RawObject
from maskwatch.data.issues import Box, Issue, Reason, Severity
from maskwatch.errors import DataError, ImageError, LabelError
from maskwatch.labels import ClassMap
from maskwatch.media.formats import ImageMetadata, read_metadata

# A hand-drawn or rounded box may stick out by a pixel or two: it is clipped up to the larger of these. Beyond
# that, it was likely drawn on another image or another size.
BORDER_PIXELS = 2.0
BORDER_FRACTION = 0.01


class Validator:
    """Turns raw images into samples and collects issues.

    Attributes:
        classes: how annotated names map to classes.
        issues: found so far; readers add theirs.
    """

    def __init__(self, classes: ClassMap) -> None:
        self.classes = classes
        self.issues: list[Issue] = []

    def detection_set(self, images: Iterable[RawImage]) -> DetectionSet:
        """The samples of all images.

        Raises:
            DataError: holds every error, also those that readers noted before.
        """
        samples = [self.sample(raw) for raw in images]
        errors = [str(issue) for issue in self.issues if issue.severity == "error"]
        if errors:
            raise DataError(errors)
        return DetectionSet(self.classes.names, tuple(sample for sample in samples if sample is not None))

    def sample(self, raw: RawImage) -> Sample | None:
        """The sample; None, with the issues noted, if the image or a box cannot be used."""
        try:
            metadata = read_metadata(raw.image_path)
        except ImageError as error:
            text = str(error).removeprefix(f"{raw.image_path}: ")
            self.note_unreadable(raw, text, "replace it or remove it")
            return None
        return self.sample_of(raw, metadata)

    def note_unreadable(self, raw: RawImage, text: str, fix: str) -> None:
        """Adds the issue of an image that cannot be read."""
        issue = Issue("picture-unreadable", raw.shown_path, text or fix, fix, image=raw.image_path)
        self.issues.append(issue)

    def sample_of(self, raw: RawImage, metadata: ImageMetadata) -> Sample | None:
        """As `sample`, with the metadata of the image already read."""
        size_fits = self._check_size(raw, metadata)
        boxes: list[Box | None] = []
        kept, ids = [], []
        unknown: dict[tuple[str, str], list[int]] = defaultdict(list)  # (name, message) → objects
        for number, item in enumerate(raw.objects):
            if self.classes.ignores(item.name) and item.problem is None:
                continue
            box = self._box(raw, number, metadata, size_fits)
            if item.problem is not None:
                boxes.append(None)
                continue
            try:
                ids.append(self.classes.id_of(item.name))
            except LabelError as error:
                message = str(error) if item.name else "no <name>; write the class"
                unknown[item.name, message].append(number)
                continue
            boxes.append(box)
            kept.append(item)
        self._note_unknown(raw, unknown, metadata)
        if any(box is None for box in boxes):
            return None
        return make_sample(raw, metadata, kept, boxes, ids)

    def _check_size(self, raw: RawImage, metadata: ImageMetadata) -> bool:
        """Compares the stated size; a missing or zero size passes."""
        if raw.stated_wh is None:
            return True
        stated = stated_size(raw.stated_wh)
        if stated is None:
            text = f"<size> {' x '.join(raw.stated_wh)} is not a size"
            self.issues.append(object_issue(raw, Reason("size-invalid", text, "write whole pixels")))
            return False
        width, height = stated
        shown_h, shown_w = metadata.size_hw
        if not width or not height or (width, height) == (shown_w, shown_h):
            return True
        says = f"<size> says {width} x {height}, the picture is shown at {shown_w} x {shown_h}"
        reason = Reason(
            "size-differs", f"{says}: drawn on another picture or size", "draw the boxes on this one"
        )
        if metadata.turned and (width, height) == (shown_h, shown_w):
            text = (
                f"{says}, because EXIF orientation {metadata.orientation} turns it: the boxes were drawn on "
                "the unrotated picture"
            )
            reason = Reason("size-turned", text, "remove that EXIF tag, or draw them on the turned one")
        self.issues.append(object_issue(raw, reason))
        return False

    def _note_unknown(
        self, raw: RawImage, unknown: dict[tuple[str, str], list[int]], metadata: ImageMetadata
    ) -> None:
        for (name, message), numbers in unknown.items():
            unit = raw.objects[numbers[0]].where.split()[0]
            which = [raw.objects[number].where.removeprefix(unit).strip() for number in numbers]
            where = f"{unit}{'s' if len(which) > 1 else ''} {', '.join(which)}"
            text, _, fix = message.partition("; ")
            reason = Reason("class-unknown" if name else "class-missing", text, fix)
            box_xyxy = to_pixels(raw.objects[numbers[0]].box_xyxy, raw, metadata)
            self.issues.append(object_issue(raw, reason, where, numbers[0], box_xyxy))

    def _box(self, raw: RawImage, number: int, metadata: ImageMetadata, size_fits: bool) -> Box | None:
        """Corners in pixels, clipped to the image; None, with the issue noted, for an invalid box."""
        item = raw.objects[number]
        box_xyxy = to_pixels(item.box_xyxy, raw, metadata)
        found = item.problem or box_problem(box_xyxy, metadata.size_hw if size_fits else None)
        # A crowd may be drawn over the border: clipping an ignore region changes no result.
        if found and not (item.ignore and found.kind == "box-beyond"):
            self.issues.append(box_issue(raw, number, box_xyxy, found))
            return None
        return clipped(box_xyxy, metadata.size_hw)


def object_issue(
    raw: RawImage,
    reason: Reason,
    where: str = "",
    object_index: int | None = None,
    box_xyxy: Box | None = None,
    severity: Severity = "error",
) -> Issue:
    """The issue of an image or of one of its objects; names the image if the file is of many."""
    if not raw.own_file:
        where = f"{raw.image_id}: {where}" if where else raw.image_id
    kind, text, fix = reason
    box = box_xyxy if box_xyxy is not None and all(map(math.isfinite, box_xyxy)) else None
    return Issue(kind, raw.annotation_path, text, fix, where, severity, raw.image_path, box, object_index)


def box_issue(
    raw: RawImage, number: int, box_xyxy: Box, reason: Reason, severity: Severity = "error"
) -> Issue:
    """The issue of a box: it names the class, and shows the box as written."""
    item = raw.objects[number]
    shown = reason._replace(text=f"{item.shown} {reason.text}")
    return object_issue(raw, shown, item.title, number, box_xyxy, severity)


def stated_size(texts: tuple[str, str]) -> tuple[int, int] | None:
    """Width and height that an annotation states, pixels; None if they are not numbers."""
    try:
        width, height = (round(float(text)) for text in texts)
    except (ValueError, OverflowError):
        return None
    return width, height


def make_sample(
    raw: RawImage,
    metadata: ImageMetadata,
    objects: Sequence[RawObject],
    boxes_xyxy: Sequence[Box | None],
    class_ids: Sequence[int],
) -> Sample:
    """The sample of an image with these of its objects, each with its box in pixels and its class."""
    return Sample(
        raw.image_path,
        raw.annotation_path if raw.own_file else None,
        metadata.size_hw,
        np.asarray(boxes_xyxy, np.float32).reshape(-1, 4),
        np.asarray(class_ids, np.int64),
        np.asarray([item.difficult for item in objects], np.bool_),
        tuple(item.notes for item in objects),
        raw.image_id,
    )


def to_pixels(box_xyxy: Box, raw: RawImage, metadata: ImageMetadata) -> Box:
    """A box as written, in pixels of the image as shown."""
    if not raw.normalized:
        return box_xyxy
    height, width = metadata.size_hw
    x0, y0, x1, y1 = box_xyxy
    return x0 * width, y0 * height, x1 * width, y1 * height


def clipped(box_xyxy: Box, size_hw: tuple[int, int]) -> Box:
    """The part of a box, pixels, that lies in the image."""
    height, width = size_hw
    x0, y0, x1, y1 = box_xyxy
    return max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height))


def box_problem(box_xyxy: Box, size_hw: tuple[int, int] | None) -> Reason | None:
    """What is wrong with a box in pixels; None for a valid one.

    Args:
        size_hw: of the image; None skips the comparison with it.
    """
    x0, y0, x1, y1 = box_xyxy
    if not all(map(math.isfinite, box_xyxy)):
        return Reason("box-invalid", "is not made of four numbers", "write them")
    if x1 < x0 or y1 < y0:
        return Reason("box-inverted", "is inverted", "swap its corners")
    if x1 == x0 or y1 == y0:
        return Reason("box-empty", "has no area", "draw it again or remove it")
    if size_hw is None:
        return None
    height, width = size_hw
    if x0 >= width or y0 >= height or x1 <= 0 or y1 <= 0:
        text = f"lies outside the picture of {width} x {height}"
        return Reason("box-outside", text, "draw it again or remove it")
    beyond_x = max(-x0, x1 - width) / max(BORDER_PIXELS, BORDER_FRACTION * width)
    beyond_y = max(-y0, y1 - height) / max(BORDER_PIXELS, BORDER_FRACTION * height)
    if max(beyond_x, beyond_y) > 1:
        return Reason("box-beyond", f"sticks out of the picture of {width} x {height}", "draw it again")
    return None
