"""The files of data sets in which one file annotates all images: COCO, Label Studio, CVAT.

Each such format finds its files with `find_files`, and reads them in a subclass of `IndexContent`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import unquote

from maskwatch.data.formats.base import Annotations, RawImage
from maskwatch.data.formats.tree import Folder, id_below, list_folder, split_in, split_of
from maskwatch.data.issues import Issue, Reason, Severity
from maskwatch.data.names import NameIndex, ambiguity
from maskwatch.errors import DataError
from maskwatch.media.formats import PICTURE_SUFFIXES
from maskwatch.text import read_text, reason_of

_INSTANCES = "instances_"
_DEFAULT = "default"  # what CVAT calls the images that are in no subset

FilesOf = Callable[[Folder], list[Path]]
"""The annotation files of a format in a folder."""


@dataclass(frozen=True)
class IndexFile:
    """One annotation file, and the images that it may name.

    split: "" for none; own: images in a folder of its subset, preferred if a name fits several.
    """

    split: str
    path: Path
    root: Path
    images: tuple[Path, ...]
    own: frozenset[Path]

    @cached_property
    def _paths(self) -> NameIndex[Path]:
        return NameIndex((p, p.relative_to(self.root).as_posix(), ()) for p in self.images)

    @cached_property
    def _names(self) -> NameIndex[Path]:
        return NameIndex((p, self.image_id(p), ()) for p in self.images)

    def image_id(self, image: Path) -> str:
        return id_below(image, self.root, self.split, (_DEFAULT,))

    def find(self, file_name: str) -> list[Path]:
        """The images that a `file_name` may name."""
        if not file_name:
            return []
        # Label Studio writes "/data/local-files/?d=cam1/a%20b.jpg" for local files.
        for text in dict.fromkeys((file_name, unquote(file_name.rpartition("?d=")[2]))):
            tries = (self._paths.find(text), self._names.find(text, loose=True))
            found = next((hits for hits in tries if len(hits) == 1), tries[0] or tries[1])
            if found:
                break
        if len(found) > 1:
            found = [image for image in found if image in self.own] or found
        if not found:
            relative = PurePath(file_name.replace("\\", "/"))
            direct = (folder / relative for folder in (self.path.parent, self.root))
            found = [image for image in direct if image.is_file()][:1]
        return found


def find_files(folder: Folder, files_of: FilesOf) -> tuple[list[IndexFile], list[Folder]]:
    """The annotation files of a folder (none: []), and the subfolders that are other data sets.

    They are in it, or in a subfolder without images (annotations). Images are anywhere below.
    """
    files = files_of(folder)
    if not files:
        return [], []
    rest = [f for f in folder.folders if f.below(*PICTURE_SUFFIXES) and any(map(files_of, f.walk()))]
    images = folder.below(*PICTURE_SUFFIXES)
    images = [image for image in images if not any(image.is_relative_to(f.path) for f in rest)]
    return _with_images(files, folder.path, images), rest


def homes(folder: Folder, suffix: str) -> Iterator[list[Path]]:
    """The files of a suffix in a folder, then those below each of its subfolders without images."""
    yield folder.of_kind(suffix)
    yield from (inner.below(suffix) for inner in folder.folders if not inner.below(*PICTURE_SUFFIXES))


def open_alone(file: Path, files_of: FilesOf) -> IndexFile:
    """A single annotation file: its images are below its folder, else below the parent folder."""
    for root in (file.parent, file.parent.parent):
        images = list_folder(root).below(*PICTURE_SUFFIXES)
        if images:
            break
    return _with_images([file, *(f for f in files_of(Folder(root)) if f != file)], root, images)[0]


def _with_images(files: Sequence[Path], root: Path, images: Sequence[Path]) -> list[IndexFile]:
    """The files, each without the images in folders of the subsets of the others."""
    subsets = {file: _subset(file) for file in files}
    found = []
    for file in files:
        split = split_in(file.stem)
        others = {name for other, name in subsets.items() if other != file} - {subsets[file]}
        own, allowed = set(), []
        for image in images:
            folders = image.relative_to(root).parts[:-1]
            if any(_is_of(name, subsets[file], split) for name in folders):
                own.add(image)
            elif any(name.lower() in others or (split and split_of(name)) for name in folders):
                continue
            allowed.append(image)
        found.append(IndexFile(split, file, root, tuple(allowed), frozenset(own)))
    return found


def _is_of(folder_name: str, subset: str, split: str) -> bool:
    return folder_name.lower() == subset or (split != "" and split_of(folder_name) == split)


def _subset(file: Path) -> str:
    """The subset that a file is of: "day2" of instances_day2.json."""
    return file.stem.lower().removeprefix(_INSTANCES)


def read_json(path: Path) -> Any:
    """The document of a JSON file; raises `DataError` if it cannot be read."""
    try:
        return json.loads(read_text(path))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError([f"{path}: not readable as JSON ({reason_of(error)}); get a complete copy"]) from None


class IndexContent:
    """What an annotation file holds: images in the order of the file, class names, and issues.

    Subclasses fill `images` and `class_names` when they are made.
    """

    class_names: tuple[str, ...] = ()

    def __init__(self, file: IndexFile) -> None:
        self.file = file
        self.issues: list[Issue] = []
        self.images: list[RawImage] = []
        self._taken: dict[Path, str] = {}

    def note(self, reason: Reason, where: str, severity: Severity = "error") -> None:
        """Adds an issue of the file."""
        self.issues.append(Issue(reason.kind, self.file.path, reason.text, reason.fix, where, severity))

    def picture(self, name: str, where: str, found: Sequence[Path] | None = None) -> Path | None:
        """The image that a name means; None, with the issue noted, if there is none, several or a taken one.

        Args:
            found: the images that it may mean; None searches for them.
        """
        found = self.file.find(name) if found is None else found
        problem = _name_problem(found, name, self._taken)
        if problem is None:
            return found[0]
        self.note(problem, where)
        return None


@dataclass(frozen=True)
class IndexAnnotations(Annotations):
    """An annotation file and the images it names; it is parsed once, by `reader`."""

    file: IndexFile
    reader: Callable[[IndexFile], IndexContent]

    @cached_property
    def _content(self) -> IndexContent:
        return self.reader(self.file)

    def images(self) -> tuple[Path, ...]:
        return self.file.images

    def class_names(self) -> tuple[str, ...]:
        return self._content.class_names

    def read(self, issues: list[Issue], image_ids: Collection[str] | None = None) -> list[RawImage]:
        issues += self._content.issues
        return self._content.images


def _name_problem(found: Sequence[Path], file_name: str, taken: dict[Path, str]) -> Reason | None:
    """Why a name does not identify one image; adds to `taken`, the images named before."""
    if not found:
        text = f"no picture {file_name or '(no file_name)'} in the folder of the data set"
        return Reason("picture-missing", text, "add it or remove the entry")
    if len(found) > 1:
        return Reason("picture-ambiguous", *ambiguity(file_name, map(str, found)))
    before = taken.setdefault(found[0], file_name)
    if before == file_name:
        return None
    text = f"{file_name} can only be {found[0]}, which is the picture of {before} already"
    return Reason("picture-ambiguous", text, "add the missing picture or remove the entry")
