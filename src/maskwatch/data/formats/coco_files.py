"""The files of a COCO data set: which JSON files it has, and which pictures their names mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePath
from urllib.parse import unquote

from maskwatch.data.formats.coco import is_coco
from maskwatch.data.formats.raw import Entry
from maskwatch.data.formats.tree import Folder, id_below, list_folder, split_in, split_of
from maskwatch.data.names import Names
from maskwatch.media.formats import PICTURE_SUFFIXES

_ROBOFLOW = "_annotations.coco.json"
_JSON = ".json"
_INSTANCES, _LABELS = "instances_", "labels_"
_OTHER_TASKS = ("captions_", "person_keypoints_", "image_info_", "panoptic_", "stuff_")
_DEFAULT = "default"  # what CVAT calls the pictures that are in no subset


@dataclass(frozen=True)
class CocoUnit:
    """One JSON file, and the pictures that its names may mean.

    split: "" for none; own: pictures in a folder of its subset, which count first where a name means several.
    """

    split: str
    path: Path
    root: Path
    pictures: tuple[Path, ...]
    own: frozenset[Path]

    @cached_property
    def _paths(self) -> Names[Path]:
        return Names((p, p.relative_to(self.root).as_posix(), ()) for p in self.pictures)

    @cached_property
    def _names(self) -> Names[Path]:
        return Names((p, self._id(p), ()) for p in self.pictures)

    def _id(self, picture: Path) -> str:
        return id_below(picture, self.root, self.split, (_DEFAULT,))

    def find(self, file_name: str) -> list[Entry]:
        """What a `file_name` means: one picture, none, or several."""
        if not file_name:
            return []
        # Label Studio writes "/data/local-files/?d=cam1/a%20b.jpg" of files that it was shown by a path.
        for text in dict.fromkeys((file_name, unquote(file_name.rpartition("?d=")[2]))):
            tries = (self._paths.find(text), self._names.find(text, loose=True))
            found = next((hits for hits in tries if len(hits) == 1), tries[0] or tries[1])
            if found:
                break
        if len(found) > 1:
            found = [picture for picture in found if picture in self.own] or found
        if not found:
            relative = PurePath(file_name.replace("\\", "/"))
            direct = (folder / relative for folder in (self.path.parent, self.root))
            found = [picture for picture in direct if picture.is_file()][:1]
        return [Entry(self._id(picture), picture, None) for picture in found]


def find_coco(folder: Folder) -> tuple[list[CocoUnit], list[Folder]] | None:
    """The JSON files of a folder, and the folders in it that are data sets of their own.

    They lie in it, or in a folder without pictures in it (annotations). Pictures lie anywhere below.

    Returns:
        None where there are no such files.
    """
    files = _json_files(folder)
    if not files:
        return None
    rest = [f for f in folder.folders if f.below(*PICTURE_SUFFIXES) and any(map(_json_files, f.walk()))]
    pictures = folder.below(*PICTURE_SUFFIXES)
    pictures = [picture for picture in pictures if not any(picture.is_relative_to(f.path) for f in rest)]
    return units_of(files, folder.path, pictures), rest


def unit_of_file(file: Path) -> CocoUnit:
    """A JSON file given by itself: its pictures lie below its folder, or else below the one above that."""
    for root in (file.parent, file.parent.parent):
        pictures = list_folder(root).below(*PICTURE_SUFFIXES)
        if pictures:
            break
    return units_of([file, *(f for f in _json_files(Folder(root)) if f != file)], root, pictures)[0]


def units_of(files: Sequence[Path], root: Path, pictures: Sequence[Path]) -> list[CocoUnit]:
    """One unit for each JSON file; pictures in the folder of another one's subset are not its."""
    subsets = {file: _subset(file) for file in files}
    units = []
    for file in files:
        split = split_in(file.stem)
        others = {name for other, name in subsets.items() if other != file} - {subsets[file]}
        own, allowed = set(), []
        for picture in pictures:
            folders = picture.relative_to(root).parts[:-1]
            if any(_is_of(name, subsets[file], split) for name in folders):
                own.add(picture)
            elif any(name.lower() in others or (split and split_of(name)) for name in folders):
                continue
            allowed.append(picture)
        units.append(CocoUnit(split, file, root, tuple(allowed), frozenset(own)))
    return units


def _is_of(folder_name: str, subset: str, split: str) -> bool:
    return folder_name.lower() == subset or (split != "" and split_of(folder_name) == split)


def _subset(file: Path) -> str:
    """The subset that a file is of: "day2" of instances_day2.json."""
    stem = file.stem.lower()
    return stem.removeprefix(_INSTANCES)


def _json_files(folder: Folder) -> list[Path]:
    beside = [file for file in folder.of_kind(_JSON) if file.name == _ROBOFLOW]
    places = [folder, *(inner for inner in folder.folders if not inner.below(*PICTURE_SUFFIXES))]
    found = beside or [
        file
        for place in places
        for file in (place.of_kind(_JSON) if place is folder else place.below(_JSON))
        if is_coco(file)
    ]
    return [file for file in found if not _is_other_task(file, found)] or found


def _is_other_task(file: Path, found: Sequence[Path]) -> bool:
    """Whether a file that lies beside others holds captions, keypoints or labels of whole pictures."""
    stem = file.stem.lower()
    # Those of makesense.ai are called labels too, and are boxes.
    beside = file.with_stem(f"{_INSTANCES}{file.stem[len(_LABELS) :]}")
    return stem.startswith(_OTHER_TASKS) or (stem.startswith(_LABELS) and beside in found)
