"""Decides whether an annotation can be used: raw pictures in, samples out, and every fault noted."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable

import numpy as np

from maskwatch.data.dataset import DetectionSet, Sample
from maskwatch.data.formats.raw import RawPicture
from maskwatch.data.issues import Box, Fault
from maskwatch.data.quality.header import ImageMetadata, read_metadata
from maskwatch.errors import DataError, LabelError
from maskwatch.labels import ClassMap

# Drawing by hand ends a pixel or two beyond the border, and tools round, so a box may stick out by this much
# (whichever is more) and is clipped. Beyond it, the box was likely drawn on another picture or another size.
BORDER_PIXELS = 2.0
BORDER_FRACTION = 0.01


class Judge:
    """Turns raw pictures into samples, and keeps what is wrong with them.

    Args:
        classes: how annotated names map to classes.

    Attributes:
        faults: found so far; readers add theirs.
    """

    def __init__(self, classes: ClassMap) -> None:
        self.classes = classes
        self.faults: list[Fault] = []

    def detection_set(self, pictures: Iterable[RawPicture]) -> DetectionSet:
        """The samples of all pictures.

        Raises:
            DataError: holds every error, those that readers noted before included.
        """
        samples = [self.sample(picture) for picture in pictures]
        errors = [str(fault) for fault in self.faults if fault.severity == "error"]
        if errors:
            raise DataError(errors)
        return DetectionSet(self.classes.names, tuple(sample for sample in samples if sample is not None))

    def sample(self, raw: RawPicture) -> Sample | None:
        """The sample; None, with the faults noted, where the picture or a box cannot be used."""
        try:
            header = read_metadata(raw.image_path)
        except ValueError as error:
            self.faults.append(unreadable(raw, str(error)))
            return None
        return self.sample_of(raw, header)

    def sample_of(self, raw: RawPicture, header: ImageMetadata) -> Sample | None:
        """As `sample`, for a picture whose header has been read."""
        size_fits = self._check_size(raw, header)
        boxes: list[Box | None] = []
        kept, ids = [], []
        unknown: dict[str, list[int]] = defaultdict(list)
        for number, item in enumerate(raw.objects):
            if self.classes.ignores(item.name) and item.fault is None:
                continue
            box = self._box(raw, number, header, size_fits)
            if item.fault is not None:
                boxes.append(None)
                continue
            try:
                ids.append(self.classes.id_of(item.name))
            except LabelError:
                unknown[item.name].append(number)
                continue
            boxes.append(box)
            kept.append(item)
        self._note_unknown(raw, unknown, header)
        if any(box is None for box in boxes):
            return None
        return Sample(
            raw.image_path,
            raw.annotation_path if raw.own_file else None,
            header.size_hw,
            np.asarray(boxes, np.float32).reshape(-1, 4),
            np.asarray(ids, np.int64),
            np.asarray([item.difficult for item in kept], np.bool_),
            tuple(item.notes for item in kept),
            raw.image_id,
        )

    def _check_size(self, raw: RawPicture, header: ImageMetadata) -> bool:
        """Compares the stated size; an absent or zero size is no statement and passes."""
        if raw.stated_wh is None:
            return True
        try:
            width, height = (round(float(text)) for text in raw.stated_wh)
        except (ValueError, OverflowError):
            text = f"<size> {' x '.join(raw.stated_wh)} is no size"
            self._note(raw, "size-invalid", text, "write whole pixels")
            return False
        shown_h, shown_w = header.size_hw
        if not width or not height or (width, height) == (shown_w, shown_h):
            return True
        says = f"<size> says {width} x {height}, the picture is shown at {shown_w} x {shown_h}"
        if header.turned and (width, height) == (shown_h, shown_w):
            kind = "size-turned"
            text = (
                f"{says}, because EXIF orientation {header.orientation} turns it: the boxes were drawn on "
                "the unrotated picture"
            )
            mend = "remove that EXIF tag, or draw them on the turned one"
        else:
            kind = "size-differs"
            text, mend = f"{says}: drawn on another picture or size", "draw the boxes on this one"
        self._note(raw, kind, text, mend)
        return False

    def _note(
        self,
        raw: RawPicture,
        kind: str,
        text: str,
        mend: str,
        where: str = "",
        number: int | None = None,
        box_xyxy: Box | None = None,
    ) -> None:
        if not raw.own_file:  # one file for many pictures: say which
            where = f"{raw.image_id}: {where}" if where else raw.image_id
        finite = box_xyxy if box_xyxy is not None and all(map(math.isfinite, box_xyxy)) else None
        self.faults.append(
            Fault(
                kind,
                raw.annotation_path,
                text,
                mend,
                where,
                picture=raw.image_path,
                box_xyxy=finite,
                number=number,
            )
        )

    def _note_unknown(self, raw: RawPicture, unknown: dict[str, list[int]], header: ImageMetadata) -> None:
        for name, numbers in unknown.items():
            unit = raw.objects[numbers[0]].where.split()[0]
            places = [raw.objects[number].where.removeprefix(unit).strip() for number in numbers]
            which = f"{unit}{'s' if len(places) > 1 else ''} {', '.join(places)}"
            try:
                self.classes.id_of(name)
            except LabelError as error:
                text, _, mend = (str(error) if name else "no <name>; write the class").partition("; ")
                kind = "class-unknown" if name else "class-missing"
                box_xyxy = pixels(raw.objects[numbers[0]].box_xyxy, raw, header)
                self._note(raw, kind, text, mend, which, numbers[0], box_xyxy)

    def _box(self, raw: RawPicture, number: int, header: ImageMetadata, size_fits: bool) -> Box | None:
        """Corners in pixels, clipped to the picture; None, with the fault noted, for a bad box."""
        item = raw.objects[number]
        box_xyxy = pixels(item.box_xyxy, raw, header)
        found = item.fault or box_fault(box_xyxy, header.size_hw if size_fits else None)
        # A crowd may be drawn over the border: nothing is found there, and clipping changes no number.
        if found and not (item.ignore and found[0] == "box-beyond"):
            kind, text, mend = found
            name = item.name or ("" if item.fault else "no name")
            where = f"{item.where} ({name})" if name else item.where
            self._note(raw, kind, f"{item.shown} {text}", mend, where, number, box_xyxy)
            return None
        height, width = header.size_hw
        x0, y0, x1, y1 = box_xyxy
        return max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height))


def unreadable(raw: RawPicture, reason: str) -> Fault:
    """The fault of a picture that cannot be read."""
    mend = "replace it or remove it"
    return Fault("picture-unreadable", raw.shown_path, reason, mend, picture=raw.image_path)


def pixels(box_xyxy: Box, raw: RawPicture, header: ImageMetadata) -> Box:
    """A box as written, in pixels of the picture as shown."""
    if not raw.normalised:
        return box_xyxy
    height, width = header.size_hw
    x0, y0, x1, y1 = box_xyxy
    return x0 * width, y0 * height, x1 * width, y1 * height


def box_fault(box_xyxy: Box, size_hw: tuple[int, int] | None) -> tuple[str, str, str] | None:
    """Kind, text and mend of what is wrong with a box in pixels; None for a good one.

    Args:
        size_hw: of the picture; None where the box cannot be held against it.
    """
    x0, y0, x1, y1 = box_xyxy
    if not all(map(math.isfinite, box_xyxy)):
        return "box-invalid", "is not made of four numbers", "write them"
    if x1 < x0 or y1 < y0:
        return "box-inverted", "is inverted", "swap its corners"
    if x1 == x0 or y1 == y0:
        return "box-empty", "has no area", "draw it again or remove it"
    return None if size_hw is None else _border_fault(box_xyxy, size_hw)


def _border_fault(box_xyxy: Box, size_hw: tuple[int, int]) -> tuple[str, str, str] | None:
    height, width = size_hw
    x0, y0, x1, y1 = box_xyxy
    if x0 >= width or y0 >= height or x1 <= 0 or y1 <= 0:
        text = f"lies outside the picture of {width} x {height}"
        return "box-outside", text, "draw it again or remove it"
    beyond_x = max(-x0, x1 - width) / max(BORDER_PIXELS, BORDER_FRACTION * width)
    beyond_y = max(-y0, y1 - height) / max(BORDER_PIXELS, BORDER_FRACTION * height)
    if max(beyond_x, beyond_y) > 1:
        return "box-beyond", f"sticks out of the picture of {width} x {height}", "draw it again"
    return None
