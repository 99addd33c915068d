"""Annotations as a file states them, good or bad: what the readers of all formats give."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from maskwatch.data.dataset import is_crowd
from maskwatch.data.issues import Box, Fault

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
        ignore: difficult or a crowd, see `Sample`.
    """

    where: str
    name: str
    box_xyxy: Box
    shown: str
    difficult: bool = False
    notes: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    fault: tuple[str, str, str] | None = None

    @property
    def ignore(self) -> bool:
        return self.difficult or is_crowd(self.notes)


@dataclass(frozen=True)
class Entry:
    """One picture of a data set as its files lie, before any of them is read.

    Attributes:
        image_id: the path of the picture below the folder of the pictures, with "/", NFC; that of the
            annotation where there is no picture.
        image: the picture; None where it is missing.
        annotation: the file that is of this picture alone; None where there is none.
        fault: why the two cannot be used.
    """

    image_id: str
    image: Path | None
    annotation: Path | None
    fault: Fault | None = None

    @property
    def paths(self) -> tuple[Path, ...]:
        """Where its files lie: further names that a list may give it."""
        return tuple(path.absolute() for path in (self.image, self.annotation) if path)


@dataclass(frozen=True)
class RawPicture:
    """One annotated picture as written.

    Attributes:
        image_path: the picture; it exists, whether it can be read is not known yet.
        annotation_path: the file that messages name.
        image_id: as in `Entry`.
        objects: its boxes.
        stated_wh: width and height that the annotation states, as texts; None where it states none.
        normalised: whether boxes are shares of width and height.
        own_file: whether the annotation is of this picture alone, not of the whole set.
        packed: whether the picture lies in the annotation's file too, `image_path` being a temporary copy.
    """

    image_path: Path
    annotation_path: Path
    image_id: str
    objects: tuple[RawObject, ...]
    stated_wh: tuple[str, str] | None = None
    normalised: bool = False
    own_file: bool = True
    packed: bool = False

    @property
    def shown_path(self) -> Path:
        """What messages call the picture: its path, or its name within the file that it is packed in."""
        return self.annotation_path / self.image_id if self.packed else self.image_path
