"""The labels of one picture, whatever the format they are stored in."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from maskwatch.boxes import box_iou
from maskwatch.data.issues import Box
from maskwatch.labels import ClassMap
from maskwatch.media.formats import ImageMetadata

LabelState = Literal["unlabelled", "labelled", "empty"]
Mark = Literal["", "proposed", "empty"]
"""What a file says beside its boxes: no one has looked at them yet; looked at, and nothing to find."""

SAME_FACE = 0.5
"""IoU from which a proposal is about the face of another box."""

SAME_PIXELS = 0.005
"""Corners that differ by less have not been moved."""


@dataclass(frozen=True)
class LabelBox:
    """A box; `box_xyxy` in pixels of the picture as shown.

    Attributes:
        name: its class; as written in the file if that is none of the project's.
        id: of the box in the file, made from its content; None for a new one.
        difficult: hard to recognise.
        crowd: a region of many objects.
        score: of a proposal.
    """

    box_xyxy: Box
    name: str
    id: str | None = None
    difficult: bool = False
    crowd: bool = False
    score: float | None = None

    def is_at(self, box_xyxy: Box) -> bool:
        """Whether its corners are these."""
        return all(abs(a - b) < SAME_PIXELS for a, b in zip(self.box_xyxy, box_xyxy, strict=True))


@dataclass(frozen=True)
class Annotation:
    """The labels of a picture as they are on disk.

    Attributes:
        boxes: what it shows; none for a picture that is not labelled.
        state: unlabelled, labelled, or empty: looked at, nothing to find.
        revision: of the content on disk, by whatever program it was written.
        proposals: boxes that stand in the file, but that no one has looked at yet.
        undecided: proposals that were left open when the labels were saved.
        refused: proposals that the person has said are wrong.
        notes: what a person should know: what is not shown, what does not fit.
        problem: why it cannot be written; None if it can.
    """

    boxes: tuple[LabelBox, ...] = ()
    state: LabelState = "unlabelled"
    revision: str = "none"
    proposals: tuple[LabelBox, ...] = ()
    undecided: tuple[LabelBox, ...] = ()
    refused: tuple[LabelBox, ...] = ()
    notes: tuple[str, ...] = ()
    problem: str | None = None

    @property
    def is_done(self) -> bool:
        """Whether it is labelled, or looked at and empty, and no proposal is left to decide."""
        return self.state != "unlabelled" and not self.undecided


@dataclass(frozen=True)
class Review:
    """What a person has decided about the proposals for a picture; see `Annotation`."""

    undecided: tuple[LabelBox, ...] = ()
    refused: tuple[LabelBox, ...] = ()


@dataclass(frozen=True)
class ReadBox:
    """A box as read: `raw` is its text in the file; `box` is None if it is not shown."""

    raw: str
    box: LabelBox | None
    note: str | None = None


def annotation_of(
    read: Iterable[ReadBox], mark: Mark, revision: str, *, is_empty: bool, notes: Iterable[str] = ()
) -> Annotation:
    """The annotation of the boxes of a file.

    Args:
        mark: of the file.
        is_empty: what a file without any box means: looked at, or not labelled.
    """
    every = list(read)
    boxes = tuple(one.box for one in every if one.box is not None)
    said = [*notes, *dict.fromkeys(one.note for one in every if one.note is not None)]
    if mark == "proposed":
        return Annotation((), "unlabelled", revision, boxes, notes=tuple(said))
    empty_state: LabelState = "empty" if is_empty or mark == "empty" else "unlabelled"
    return Annotation(boxes, "labelled" if every else empty_state, revision, notes=tuple(said))


def is_covered(box_xyxy: Box, others: Sequence[LabelBox]) -> bool:
    """Whether one of the others is about the same face."""
    if not others:
        return False
    ious = box_iou(np.array([box_xyxy]), np.array([one.box_xyxy for one in others]))
    return bool(ious.max() >= SAME_FACE)


def uncovered(boxes: Sequence[LabelBox], others: Sequence[LabelBox]) -> tuple[LabelBox, ...]:
    """The boxes that are about no face of the others."""
    return tuple(one for one in boxes if not is_covered(one.box_xyxy, others))


def content_ids(texts: Iterable[str]) -> list[str]:
    """An id for each text, made from it; equal texts are numbered."""
    seen: Counter[str] = Counter()
    ids = []
    for text in texts:
        key = short_hash(text.encode())
        seen[key] += 1
        ids.append(key if seen[key] == 1 else f"{key}-{seen[key]}")
    return ids


def short_hash(data: bytes) -> str:
    """64 bits that stand for the content."""
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def shown_name(classes: ClassMap, written: str) -> str | None:
    """The class of an annotated name; the name itself if it is unknown, None if it is left out."""
    if classes.ignores(written):
        return None
    class_id = classes.find(written)
    return written if class_id is None else classes.names[class_id]


def to_upright(box_xyxy: Box, metadata: ImageMetadata) -> Box:
    """A box that was drawn on the picture without its EXIF orientation, in pixels of the picture as shown.

    Only for orientations that swap width and height: the others leave no trace in an annotation.
    """
    height, width = metadata.size_hw
    x0, y0, x1, y1 = box_xyxy
    # By the Exif 2.32 standard, section 4.6.4; x runs down and y runs across.
    across = (y0, y1) if metadata.orientation in (5, 8) else (width - y1, width - y0)
    down = (x0, x1) if metadata.orientation in (5, 6) else (height - x1, height - x0)
    return across[0], down[0], across[1], down[1]


def rounded(box: LabelBox) -> LabelBox:
    """The box with corners of a thousandth of a pixel, which is what files hold."""
    x0, y0, x1, y1 = (round(value, 3) for value in box.box_xyxy)
    return replace(box, box_xyxy=(x0, y0, x1, y1))
