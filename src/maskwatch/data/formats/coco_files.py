"""The files of a COCO data set: its JSON files, and the images that they name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePath
from urllib.parse import unquote

from maskwatch.data.formats.tree import Folder, id_below, list_folder, split_in, split_of
from maskwatch.data.names import NameIndex
from maskwatch.media.formats import PICTURE_SUFFIXES

_ROBOFLOW = "_annotations.coco.json"
JSON = ".json"
_INSTANCES, _LABELS = "instances_", "labels_"
_OTHER_TASKS = ("captions_", "person_keypoints_", "image_info_", "panoptic_", "stuff_")
_DEFAULT = "default"  # what CVAT calls the images that are in no subset


@dataclass(frozen=True)
class CocoFile:
    """One JSON file, and the images that it may name.

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


def find_files(folder: Folder) -> tuple[list[CocoFile], list[Folder]]:
    """The JSON files of a folder (none: []), and the subfolders that are other data sets.

    They are in it, or in a subfolder without images (annotations). Images are anywhere below.
    """
    files = _json_files(folder)
    if not files:
        return [], []
    rest = [f for f in folder.folders if f.below(*PICTURE_SUFFIXES) and any(map(_json_files, f.walk()))]
    images = folder.below(*PICTURE_SUFFIXES)
    images = [image for image in images if not any(image.is_relative_to(f.path) for f in rest)]
    return _with_images(files, folder.path, images), rest


def open_alone(file: Path) -> CocoFile:
    """A single JSON file: its images are below its folder, else below the parent folder."""
    for root in (file.parent, file.parent.parent):
        images = list_folder(root).below(*PICTURE_SUFFIXES)
        if images:
            break
    return _with_images([file, *(f for f in _json_files(Folder(root)) if f != file)], root, images)[0]


def _with_images(files: Sequence[Path], root: Path, images: Sequence[Path]) -> list[CocoFile]:
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
        found.append(CocoFile(split, file, root, tuple(allowed), frozenset(own)))
    return found


def _is_of(folder_name: str, subset: str, split: str) -> bool:
    return folder_name.lower() == subset or (split != "" and split_of(folder_name) == split)


def _subset(file: Path) -> str:
    """The subset that a file is of: "day2" of instances_day2.json."""
    return file.stem.lower().removeprefix(_INSTANCES)


def _json_files(folder: Folder) -> list[Path]:
    beside = [file for file in folder.of_kind(JSON) if file.name == _ROBOFLOW]
    homes = [folder, *(inner for inner in folder.folders if not inner.below(*PICTURE_SUFFIXES))]
    found = beside or [
        file
        for home in homes
        for file in (home.of_kind(JSON) if home is folder else home.below(JSON))
        if _is_coco(file)
    ]
    return [file for file in found if not _is_other_task(file, found)] or found


def _is_coco(path: Path) -> bool:
    """Whether a JSON file looks like COCO's, without parsing it."""
    try:
        with path.open("rb") as file:
            # Without zeros, UTF-16 and UTF-32 read as ASCII.
            text = file.read(1 << 16).replace(b"\0", b"")
            if not _has_keys(text):  # thousands of images may come before the annotations
                text += file.read().replace(b"\0", b"")
            return _has_keys(text)
    except OSError:
        return False


def _has_keys(text: bytes) -> bool:
    return b'"images"' in text and (b'"annotations"' in text or b'"categories"' in text)


def _is_other_task(file: Path, found: Sequence[Path]) -> bool:
    """Whether a file beside others holds captions, keypoints or labels of whole images."""
    stem = file.stem.lower()
    # makesense.ai calls its files labels too, and they hold boxes.
    beside = file.with_stem(f"{_INSTANCES}{file.stem[len(_LABELS) :]}")
    return stem.startswith(_OTHER_TASKS) or (stem.startswith(_LABELS) and beside in found)
