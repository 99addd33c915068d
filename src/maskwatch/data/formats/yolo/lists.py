"""YOLO splits of a data.yaml, an obj.data, or lists of images beside the class names."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from maskwatch.data.formats.base import Entry, Split, read_class_list, read_list
from maskwatch.data.formats.tree import Folder, id_below, list_folder, split_of
from maskwatch.data.formats.yolo.labels import TEXT, Labels, SplitFiles, finish
from maskwatch.data.formats.yolo.names import (
    YAML,
    class_names,
    landmark_values,
    names_beside,
    read_yaml,
)
from maskwatch.data.issues import Issue
from maskwatch.data.names import NameIndex
from maskwatch.errors import DataError
from maskwatch.media.formats import PICTURE_SUFFIXES

# Keys of obj.data that name no list of images.
_OTHER_KEYS = ("classes", "names", "backup", "results", "eval", "top")


def find_yaml(folder: Folder) -> Path | None:
    """The data.yaml of a folder: the YAML file that names classes and image folders."""
    files = [file for file in folder.of_kind(*YAML) if _names_splits(file)]
    named = [file for file in files if file.stem.lower() in ("data", "dataset")] or files
    return named[0] if len(named) == 1 else None


def _names_splits(file: Path) -> bool:
    try:
        return any(split_of(str(key)) for key in read_yaml(file))
    except DataError:
        # An unreadable data.yaml is an error; another file may be of another program.
        return file.stem.lower() == "data"


def splits_of_yaml(file: Path) -> list[Split]:
    """The splits that a data.yaml names.

    A missing test split is only a warning beside other splits: exports name one that they lack.

    Raises:
        DataError: it cannot be read, or an image folder is missing.
    """
    document = read_yaml(file)
    names, landmarks = class_names(document, file), landmark_values(document, file)
    splits: list[SplitFiles] = []
    labels, listed, absent = Labels(), False, list[Issue]()
    finder = cache(lambda folder: _ImageFinder(list_folder(folder)))
    for key in document:
        if split_of(str(key)) and document[key]:
            split = SplitFiles(split_of(str(key)), file, names, landmarks)
            try:
                image_dirs = _image_dirs(document, file, key)
            except DataError as error:
                if split.name != "test" or not splits:
                    raise
                text, _, fix = error.problems[0].removeprefix(f"{file}: ").rpartition("; ")
                fix += " if it is somewhere"
                absent.append(Issue("split-missing", file, text, fix, severity="warning"))
                continue
            root = Path(os.path.commonpath(image_dirs))
            for path in image_dirs:
                if path.is_dir():
                    _add_folder(split, path, root, labels)
                else:
                    listed = True
                    _add_list(split, path, finder(path.parent), labels)
            splits.append(split)
    if splits:
        splits[0].issues += absent
    return finish(splits, labels, listed=listed)


def _image_dirs(document: Mapping[str, Any], yaml_path: Path, key: str) -> list[Path]:
    """Folders and list files that a data.yaml names for a split; DataError if one is missing."""
    value = document.get(key)
    written = [str(item) for item in (value if isinstance(value, list) else [value]) if item]
    base = str(document.get("path") or "")
    found, problems = [], []
    for text in written:
        # Path.exists raises for invalid file names.
        there = (path for path in _candidates(text, base, yaml_path.parent) if os.path.exists(path))  # noqa: PTH110
        path = next(there, None)
        if path is None:
            problems.append(f"{yaml_path}: {key}: {text!r} is not there; correct the path")
        else:
            found.append(path)
    if problems:
        raise DataError(problems)
    return found


def _candidates(text: str, base: str, here: Path) -> Iterable[Path]:
    """What a path of a data.yaml may mean: exports are moved, and Roboflow writes ../train/images."""
    text, base = text.replace("\\", "/"), base.replace("\\", "/")
    yield from (here / base / text, here / text)
    for written in (f"{base}/{text}", text):
        parts = [part for part in written.split("/") if part not in ("", ".", "..")]
        yield from (here.joinpath(*parts[at:]) for at in range(max(1, len(parts) - 1)))


def _add_folder(split: SplitFiles, path: Path, root: Path, labels: Labels) -> None:
    """Adds the images of a folder, with ids relative to the root."""
    home = split.path.parent
    above = root.relative_to(home).parts if root.is_relative_to(home) else (root.name,)
    inside = list_folder(path).below(*PICTURE_SUFFIXES)
    split.entries += [labels.entry(image, root, split.name, above) for image in inside]


def find_darknet(folder: Folder) -> list[Split]:
    """The splits of an obj.data (darknet, CVAT) with its lists and names; [] for none."""
    for file in folder.of_kind(".data"):
        keys = _data_file(file)
        lists = {key: found for key, text in keys.items() if (found := _list_file(folder, key, text))}
        if lists:
            files = _below(folder, ".names", TEXT).find(keys.get("names", ""), loose=True)
            names = read_class_list(files[0]) if files else names_beside(folder.path)
            return _listed(folder, file, lists, names)
    return []


def find_lists(folder: Folder) -> list[Split]:
    """The splits of lists of images (train.txt, val.txt) beside the names of the classes; [] for none."""
    lists = {file.stem: file for file in folder.of_kind(TEXT) if split_of(file.stem)}
    names = names_beside(folder.path)
    if not lists or not names or not folder.below(*PICTURE_SUFFIXES):
        return []
    return _listed(folder, folder.path, lists, names)


def _data_file(file: Path) -> dict[str, str]:
    pairs = (line.partition("=") for line in read_class_list(file).values())
    return {key.strip(): value.strip() for key, equals, value in pairs if equals}


def _list_file(folder: Folder, key: str, text: str) -> Path | None:
    """The list that a key of obj.data names: `train = data/train.txt`."""
    if key.lower() in _OTHER_KEYS:
        return None
    found = _below(folder, TEXT).find(text, loose=True)
    return found[0] if len(found) == 1 else None


def _below(folder: Folder, *suffixes: str) -> NameIndex[Path]:
    """Finds files below a folder by paths relative to it or to another folder."""
    files = folder.below(*suffixes)
    return NameIndex((file, file.relative_to(folder.path).as_posix(), ()) for file in files)


def _listed(folder: Folder, path: Path, lists: Mapping[str, Path], names: Mapping[int, str]) -> list[Split]:
    splits, labels, finder = [], Labels(), _ImageFinder(folder)
    for key, file in lists.items():
        split = SplitFiles(split_of(key), path, names)
        _add_list(split, file, finder, labels)
        splits.append(split)
    return finish(splits, labels, listed=True)


class _ImageFinder:
    """Finds the images of a folder by the paths in lists, relative to it or to another folder."""

    def __init__(self, folder: Folder) -> None:
        self.root = folder.path
        self._names = _below(folder, *PICTURE_SUFFIXES)
        images = folder.below(*PICTURE_SUFFIXES)
        self._shorter = NameIndex((image, id_below(image, self.root, ""), ()) for image in images)

    def find(self, written: str) -> list[Path]:
        return self._names.find(written, loose=True) or self._shorter.find(written, loose=True)


def _add_list(split: SplitFiles, file: Path, finder: _ImageFinder, labels: Labels) -> None:

    def find(written: str) -> list[Path]:
        direct = file.parent / written
        # Path.is_file raises for invalid file names.
        return [direct] if os.path.isfile(direct) else finder.find(written)  # noqa: PTH113

    images, issues = read_list(file, find, str)
    entries = [labels.entry(image, finder.root, split.name) for image in images]
    split.entries += _from_split_on(entries, split.name)
    split.issues += issues


def _from_split_on(entries: list[Entry], split: str) -> list[Entry]:
    """The entries with ids relative to the folder of their split (pics/train/a.jpg), if these are unique."""
    shorter = []
    for entry in entries:
        *folders, name = entry.image_id.split("/")
        starts = [at for at, folder in enumerate(folders, start=1) if split and split_of(folder) == split]
        shorter.append("/".join([*folders[starts[0] if starts else 0 :], name]))
    if len({*shorter}) < len(shorter):
        return entries
    return [replace(entry, image_id=name) for entry, name in zip(entries, shorter, strict=True)]
