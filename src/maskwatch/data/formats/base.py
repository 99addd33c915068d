"""What all formats share: annotations as written, the splits of a data set, and the interface of a format.

To add a format, write a module with a `Format` in it and add that to `formats.FORMATS`.
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
from maskwatch.data.names import ambiguity, sort_key, unquoted
from maskwatch.errors import DataError
from maskwatch.outputs import make_folder
from maskwatch.text import read_lines, reading, reason_of

NO_BOX: Box = (math.nan, math.nan, math.nan, math.nan)

T = TypeVar("T")


@dataclass(frozen=True)
class RawObject:
    """One box as written, valid or not.

    Attributes:
        where: its place in the file, "object 3", "line 2", "annotation 17".
        name: the class as written; "" if missing.
        box_xyxy: as written, NaN if not a number; pixels or fractions, see `RawImage.normalized`.
        shown: the box as the format writes it, for messages.
        difficult: marked as hard to recognise.
        notes: other attributes that the annotator wrote (truncated, pose …), as texts.
        problem: why it cannot be read.
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

    @property
    def title(self) -> str:
        """Place and class, for messages."""
        return self.where if self.problem and not self.name else f"{self.where} ({self.name or 'no name'})"


@dataclass(frozen=True)
class RawImage:
    """One annotated image as written.

    Attributes:
        image_path: exists, but may be unreadable.
        annotation_path: the file that messages name.
        image_id: as in `Entry`.
        objects: its boxes.
        stated_wh: width and height that the annotation states, as texts; None if it states none.
        normalized: boxes are fractions of width and height, not pixels.
        own_file: the annotation file is of this image alone, not of the whole set.
        packed: the annotation file contains the image; `image_path` is a temporary copy.
    """

    image_path: Path
    annotation_path: Path
    image_id: str
    objects: tuple[RawObject, ...]
    stated_wh: tuple[str, str] | None = None
    normalized: bool = False
    own_file: bool = True
    packed: bool = False

    @property
    def shown_path(self) -> Path:
        """The image in messages: its path, or its name within the annotation file that contains it."""
        return self.annotation_path / self.image_id if self.packed else self.image_path


@dataclass(frozen=True)
class Entry:
    """The files of one image, before any of them is read.

    Attributes:
        image_id: path of the image (if missing, of the annotation) relative to the image folder, "/", NFC.
        image: None if missing.
        annotation: the file of this image alone; None if missing.
        issue: why the two cannot be used.
    """

    image_id: str
    image: Path | None
    annotation: Path | None
    issue: Issue | None = None

    @property
    def paths(self) -> tuple[Path, ...]:
        """Its files: a list may name the image by any of them."""
        return tuple(path.absolute() for path in (self.image, self.annotation) if path)


class Annotations(ABC):
    """The files of one split, found but not read; each format has a subclass."""

    def images(self) -> Sequence[Path]:
        """Image files that they may be of; none if the format packs images into its own files."""
        return ()

    def image_ids(self) -> Iterator[tuple[str, tuple[Path, ...]]]:
        """The id of each image, and the files that a list may name it by."""
        yield from ((raw.image_id, (raw.image_path.absolute(),)) for raw in self.read([]))

    def class_names(self) -> tuple[str, ...]:
        """The classes that the format lists, in its order, used or not; () if it has no list."""
        return ()

    @abstractmethod
    def read(self, issues: list[Issue], image_ids: Collection[str] | None = None) -> list[RawImage]:
        """The annotations as written; annotations without an image go to `issues`.

        Args:
            image_ids: the images needed; the result may hold more.

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
        name: "train", "val" or "test"; "" if the set is not split.
        format: name of the annotation format, for example "voc".
        path: the folder or file that a user would name.
        annotations: its files.
        issues: what is wrong with its files.
        prefix: folders prepended to its image ids, if one folder contains several data sets.
        unused: folders of images without annotations beside it, and their number of images.
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
        """The annotations as written, sorted by id; annotations without an image go to `issues`.

        Args:
            image_ids: keep only these.

        Raises:
            DataError: the split cannot be read at all.
        """
        wanted = None if image_ids is None else {name.removeprefix(self.prefix) for name in image_ids}
        issues += self.issues if wanted is None else ()
        named = [
            replace(raw, image_id=self.prefix + raw.image_id)
            for raw in self.annotations.read(issues, wanted)
            if wanted is None or raw.image_id in wanted
        ]
        return sorted(named, key=lambda raw: sort_key(raw.image_id))

    def image_ids(self) -> Iterator[tuple[str, tuple[Path, ...]]]:
        yield from ((self.prefix + name, paths) for name, paths in self.annotations.image_ids())

    def class_names(self) -> tuple[str, ...]:
        return self.annotations.class_names()


Found = tuple[list[Split], list[Folder]]
"""The splits of a format in a folder, and the subfolders still to search; no splits: another format."""

Finder = Callable[[Folder], Found]


@dataclass(frozen=True)
class Format:
    """One format of annotations.

    Attributes:
        name: as users write it.
        write: writes the splits of a data set into an empty folder. A set without splits is the split "".
        find: searches a folder for its files.
        find_index: searches a folder for a file that lists images (data.yaml, COCO's JSON); runs before
            `find` of any format.
        find_named: replaces `find` if the user named the format.
        open_file: the splits of a single file; None if it is of another format.
        last: search for it only if a whole tree holds no other format.
        writes_ignored: it can mark ignore regions.
        writes_notes: it can hold the notes of boxes.
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


def read_list(
    path: Path,
    find: Callable[[str], Sequence[T]],
    shown: Callable[[T], str],
    name_in: Callable[[str], str] = str,
) -> tuple[list[T], list[Issue]]:
    """Reads a text file with one name a line: the items named, and the issues of the other lines.

    Args:
        find: returns the items that a line may name.
        shown: the name of an item in messages.
        name_in: the part of a line that is the name.
    """
    try:
        lines = [unquoted(line) for line in read_lines(path)]
    except (OSError, UnicodeError) as error:
        text = f"not readable: {reason_of(error)}"
        return [], [Issue("annotation-unreadable", path, text, "write the list again")]
    found: list[T] = []
    issues: list[Issue] = []
    for number, line in enumerate(lines, start=1):
        hits = find(line) if line else ()
        if len(hits) == 1:
            found += hits
        elif hits:
            text, fix = ambiguity(name_in(line), map(shown, hits))
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
    """Copies the images of a set into a folder; returns the relative path of each copy."""
    make_folder(folder)
    names = file_names(detection_set)
    for sample, name in zip(detection_set.samples, names, strict=True):
        make_folder((folder / name).parent)
        shutil.copyfile(sample.image_path, folder / name)
    return names


def shortest(value: np.float32 | float) -> str:
    """The shortest text of a float32 that reads back as the same number: "12", never with an exponent."""
    return np.format_float_positional(np.float32(value), trim="-")
