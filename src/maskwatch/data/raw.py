"""Annotations as a file states them, good or bad: what the readers of all formats give."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from maskwatch.data.faults import Box

NO_BOX: Box = (math.nan, math.nan, math.nan, math.nan)


@dataclass(frozen=True)
class RawObject:
    """One box as written.

    Attributes:
        where: its place in the file, "object 3", "line 2", "annotation 17".
        name: the class as written; "" where there is none.
        box_xyxy: as written, NaN where it is no number: pixels, or shares of the picture where the format
            has those (see `RawPicture.normalised`).
        shown: the box in the words of the format, for messages.
        difficult: marked as hard to recognise.
        notes: whatever else the annotator said of it (truncated, pose …), as texts.
        fault: kind, text and mend of what keeps it from being read at all.
    """

    where: str
    name: str
    box_xyxy: Box
    shown: str
    difficult: bool = False
    notes: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    fault: tuple[str, str, str] | None = None


@dataclass(frozen=True)
class RawPicture:
    """One annotated picture as written.

    Attributes:
        image_path: the picture; it exists, whether it can be read is not known yet.
        annotation_path: the file that messages name.
        stem: the name that lists of stems use.
        objects: its boxes.
        stated_wh: width and height that the annotation states, as texts; None where it states none.
        normalised: whether boxes are shares of width and height.
        own_file: whether the annotation is of this picture alone, not of the whole set.
    """

    image_path: Path
    annotation_path: Path
    stem: str
    objects: tuple[RawObject, ...]
    stated_wh: tuple[str, str] | None = None
    normalised: bool = False
    own_file: bool = True
