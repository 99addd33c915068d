"""What all formats share: annotations as written, the splits of a data set, and the interface of a format.

A further format is a module with a `Format` in it, and a line in `formats.FORMATS`.
"""

from __future__ import annotations

import math
import shutil
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

import numpy as np

from maskwatch.data.dataset import DetectionSet, file_names, is_crowd
from maskwatch.data.formats.tree import Folder, split_of
from maskwatch.data.issues import Box, Issue, Reason
from maskwatch.data.names import ambiguous_name, sort_key, unquoted
from maskwatch.errors import DataError
from maskwatch.outputs import make_folder
from maskwatch.text import read_lines, reading, reason_of

NO_BOX: Box = (math.nan, math.nan, math.nan, math.nan)

T = TypeVar("T")


# ---- Annotations as written ------------------------------------------------------------------------------


@dataclass(frozen=True)
class RawObject:
    """One box as written, good or bad.

    Attributes:
        where: its place in the file, "object 3", "line 2", "annotation 17".
        name: the class as written; "" where there is none.
        box_xyxy: as written, NaN where it is no number: pixels, or shares of the image where the format has
            those (see `RawImage.normalised`).
        shown: the box in the words of the format, for messages.
        difficult: marked as hard to recognise.
        notes: whatever else the annotator wrote about it (truncated, pose …), as texts.
        problem: what keeps it from being read at all.
        ignore: difficult or a crowd, see `Sample`.
    """

    where: str
    name: str
    box_xyxy: Box
    shown: str
    difficult: bool = False
    notes: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    problem: Reason | None = None

    @property
    def ignore(self) -> bool:
        return self.difficult or is_crowd(self.notes)


@dataclass(frozen=True)
class RawImage:
    """One annotated image as written.

    Attributes:
        image_path: the image; it exists, whether it can be read is not known yet.
        annotation_path: the file that messages name.
        image_id: as in `Entry`.
        objects: its boxes.
        stated_wh: width and height that the annotation states, as texts; None where it states none.
        normalised: whether boxes are shares of width and height.
        own_file: whether the annotation is of this image alone, not of the whole set.
        packed: whether the image lies in the annotation's file too, `image_path` being a temporary copy.
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
        """The image in messages: its path, or its name within the file that it is packed in."""
        return self.annotation_path / self.image_id if self.packed else self.image_path


@dataclass(frozen=True)
class Entry:
    """The files of one image, before any of them is read.

    Attributes:
        image_id: the path of the image below the folder of the images, with "/", NFC; that of the annotation
            where there is no image.
        image: None where it is missing.
        annotation: the file that is of this image alone; None where there is none.
        issue: why the two cannot be used.
    """

    image_id: str
    image: Path | None
    annotation: Path | None
    issue: Issue | None = None

    @property
    def paths(self) -> tuple[Path, ...]:
        """Where its files lie: further names that a list may give it."""
        return tuple(path.absolute() for path in (self.image, self.annotation) if path)


# ---- Splits ----------------------------------------------------------------------------------------------


class Annotations(ABC):
    """The files of one split, found but not read; each format has its own kind."""

    def images(self) -> Sequence[Path]:
        """Images that they may be of; none where the format packs images into its own files."""
        return ()

    def image_ids(self) -> Iterator[tuple[str, tuple[Path, ...]]]:
        """The name of each image that a list may name, and where its files lie."""
        yield from ((raw.image_id, (raw.image_path.absolute(),)) for raw in self.read([]))

    def class_names(self) -> tuple[str, ...]:
        """The classes that the format lists, in its order, used or not; () where it has no list."""
        return ()

    @abstractmethod
    def read(self, issues: list[Issue], image_ids: Collection[str] | None = None) -> list[RawImage]:
        """The annotations as written; what belongs to no image goes to `issues`.

        Args:
            image_ids: the only ones that are wanted; more may come.

        Raises:
            DataError: they cannot be read at all.
        """


@dataclass(frozen=True)
class EntryAnnotations(Annotations):
    """Images with a file of annotations each."""

    entries: tuple[Entry, ...]

    def images(self) -> tuple[Path, ...]:
        return tuple(entry.image for entry in self.entries if entry.image is not None)

    def image_ids(self) -> Iterator[tuple[str, tuple[Path, ...]]]:
        yield from ((entry.image_id, entry.paths) for entry in self.entries)

    def wanted(self, image_ids: Collection[str] | None) -> list[Entry]:
        """The entries of these images; None means all."""
        return [entry for entry in self.entries if image_ids is None or entry.image_id in image_ids]


@dataclass(frozen=True)
class Split:
    """One split of a data set, or all of it.

    Attributes:
        name: "train", "val" or "test"; "" where the set is not split.
        format: of its annotations, "voc" for example.
        path: the folder or file that a user would name.
        annotations: its files.
        issues: what is wrong with its files.
        prefix: folders that come before the names of its images, where several data sets lie in one folder.
        unused: folders beside it with images that no annotation belongs to, and their number.
    """

    name: str
    format: str
    path: Path
    annotations: Annotations
    issues: tuple[Issue, ...] = ()
    prefix: str = ""
    unused: tuple[tuple[Path, int], ...] = ()

    @property
    def split(self) -> str:
        """The former name of `name`."""
        warnings.warn("Split.split is now Split.name", DeprecationWarning, stacklevel=2)
        return self.name

    @property
    def title(self) -> str:
        """What to call it in tables."""
        known = not self.name or split_of(self.path.name) == self.name
        return str(self.path) if known else f"{self.path} [{self.name}]"

    def read(self, issues: list[Issue], image_ids: Collection[str] | None = None) -> list[RawImage]:
        """The annotations as written, sorted by name; what belongs to no image goes to `issues`.

        Args:
            image_ids: keep only these, of those that `image_ids` gives.

        Raises:
            DataError: the split cannot be read at all.
        """
        if image_ids is None:
            issues += self.issues
            wanted = None
        else:
            wanted = {name.removeprefix(self.prefix) for name in image_ids}
        found = self.annotations.read(issues, wanted)
        kept = [raw for raw in found if wanted is None or raw.image_id in wanted]
        named = [replace(raw, image_id=self.prefix + raw.image_id) for raw in kept]
        return sorted(named, key=lambda raw: sort_key(raw.image_id))

    def image_ids(self) -> Iterator[tuple[str, tuple[Path, ...]]]:
        """The name of each image that a list may name, and where its files lie."""
        yield from ((self.prefix + name, paths) for name, paths in self.annotations.image_ids())

    def class_names(self) -> tuple[str, ...]:
        """See `Annotations`."""
        return self.annotations.class_names()


# ---- The interface of a format ---------------------------------------------------------------------------

Found = tuple[list[Split], list[Folder]]
"""The splits in a folder, and the folders in it that are left to search."""

Finder = Callable[[Folder], Found | None]
"""What a folder holds in a format; None where it does not look like that format."""


@dataclass(frozen=True)
class Format:
    """One format of annotations.

    Attributes:
        name: as users write it.
        write: writes the splits of a data set into an empty folder. A set without splits is the split "".
        find: searches a folder for its files.
        find_index: searches a folder for a file that lists images (data.yaml, COCO's JSON); this is tried
            before any format's `find`.
        find_named: in the place of `find` where the user named the format.
        open_file: the splits of a file that is given by itself; None where it is no file of this format.
        last: search for it only where a whole tree holds no other format.
        writes_ignored: whether it can mark ignore regions.
        writes_notes: whether it can hold the notes of boxes.
    """

    name: str
    write: Callable[[Mapping[str, DetectionSet], Path], None]
    find: Finder | None = None
    find_index: Finder | None = None
    find_named: Finder | None = None
    open_file: Callable[[Path], list[Split] | None] = lambda file: None
    last: bool = False
    writes_ignored: bool = True
    writes_notes: bool = True


# ---- Helpers of several formats --------------------------------------------------------------------------


def read_list(
    path: Path,
    find: Callable[[str], Sequence[T]],
    shown: Callable[[T], str],
    name_in: Callable[[str], str] = str,
) -> tuple[list[T], list[Issue]]:
    """What the lines of a list of images mean, and what is wrong with the other lines.

    Args:
        path: a text file with one name a line.
        find: gives what a line may mean.
        shown: what to call such an item in messages.
        name_in: the part of a line that is the name.
    """
    found: list[T] = []
    issues: list[Issue] = []
    try:
        lines = [unquoted(line) for line in read_lines(path)]
    except (OSError, UnicodeError) as error:
        text = f"not readable: {reason_of(error)}"
        return [], [Issue("annotation-unreadable", path, text, "write the list again")]
    for number, line in enumerate(lines, start=1):
        hits = find(line) if line else ()
        if len(hits) == 1:
            found += hits
        elif hits:
            text, _, fix = ambiguous_name(name_in(line), map(shown, hits)).rpartition("; ")
            issues.append(Issue("picture-ambiguous", path, text, fix, f"line {number}"))
        elif line:
            text, fix = f"no picture named {name_in(line)!r}", "add it or remove the line"
            issues.append(Issue("picture-missing", path, text, fix, f"line {number}"))
    return found, issues


def read_class_list(path: Path) -> dict[int, str]:
    """Class names by number, from a text file with one a line."""
    with reading(path, DataError, "write it again"):
        lines = read_lines(path)
    return {number: line.strip() for number, line in enumerate(lines) if line.strip()}


def copy_images(detection_set: DetectionSet, folder: Path) -> list[str]:
    """Copies the images of a set into a folder; gives the relative path of each copy."""
    make_folder(folder)
    names = file_names(detection_set)
    for sample, name in zip(detection_set.samples, names, strict=True):
        make_folder((folder / name).parent)
        shutil.copyfile(sample.image_path, folder / name)
    return names


def shortest(value: np.float32 | float) -> str:
    """The shortest text of a float32 that reads back as the same number: "12", never with an exponent."""
    return np.format_float_positional(np.float32(value), trim="-")
