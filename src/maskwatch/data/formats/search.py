"""Finds the data sets at a path: their formats and splits."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile
from pathlib import Path

from maskwatch.data.formats import FORMATS, format_named
from maskwatch.data.formats.base import Finder, Format, Found, Split
from maskwatch.data.formats.tree import PICTURE_FOLDERS, SPLITS, Folder, list_folder, split_of, splits_of
from maskwatch.data.formats.voc import VOC, VocAnnotations
from maskwatch.data.formats.voc_files import Files, is_annotation, pair_files
from maskwatch.data.issues import Issue
from maskwatch.data.names import path_parts
from maskwatch.errors import DataError
from maskwatch.media.formats import PICTURE_SUFFIXES
from maskwatch.text import plural

# Names of folders that only say what they hold.
_HOLDERS = (*PICTURE_FOLDERS, "annotations")
# CreateML, labelme, VIA; tables of TensorFlow's tutorials; other XML; Matlab.
_OTHER_FORMATS = (".json", ".csv", ".xml", ".mat")
_GIVE_FOLDER = "give the folder that holds the pictures and the annotations"


def find_splits(path: str | os.PathLike[str], format: str | None = None) -> list[Split]:
    """The splits of the data sets at a path, in the order train, val, test; one where it is not split.

    A folder is searched in depth, so that each split of each data set in it is found.

    Args:
        path: a folder, the JSON of COCO or Label Studio, CVAT's XML, the data.yaml of a YOLO set, or a
            TFRecord.
        format: of the annotations; None recognises it.

    Raises:
        DataError: there is nothing of the kind.
        OptionError: there is no such format.
    """
    formats = FORMATS if format is None else (format_named(format),)
    root = Path(path)
    if not root.exists():
        raise DataError([f"{root}: does not exist; {_GIVE_FOLDER}"])
    splits = _open_file(root, formats) if root.is_file() else _open_folder(root, formats)
    order = [*SPLITS, ""]
    return sorted(splits, key=lambda split: order.index(split.name))


def _open_file(file: Path, formats: Sequence[Format]) -> list[Split]:
    splits = next((found for format in formats if (found := format.open_file(file)) is not None), None)
    if splits is None:
        files = "the .json of COCO or Label Studio, CVAT's .xml or a data.yaml"
        raise DataError([f"{file}: is a file; {_GIVE_FOLDER}, {files}"])
    return splits


def _open_folder(root: Path, formats: Sequence[Format]) -> list[Split]:
    folder = list_folder(root)
    for finders in _finders(formats):
        splits = _search(folder, "", finders)
        if splits:
            splits = _prefixed(splits, root)
            return [replace(splits[0], unused=_unused(folder, splits)), *splits[1:]]
    return [_nothing(folder, formats)]


def _finders(formats: Sequence[Format]) -> list[list[Finder]]:
    """The finders to run on each folder: those of the usual formats on the whole tree, then the last ones."""
    rounds = []
    for last in (False, True):
        mine = [format for format in formats if format.last == last]
        finders = [format.find_index for format in mine if format.find_index]
        for format in mine:
            find = (format.find_named if len(formats) == 1 else None) or format.find
            finders += [_by_split_folders(find)] if find else []
        rounds.append(finders)
    return rounds


def _search(folder: Folder, split: str, finders: Sequence[Finder]) -> list[Split]:
    """The splits of the first format that a folder holds, and those of the subfolders still to search.

    Args:
        split: the one that the folders above name.
    """
    found, rest = next((hit for find in finders if (hit := find(folder))[0]), ([], folder.folders))
    splits = [replace(one, name=one.name or split) for one in found]
    names = splits_of([inner.name for inner in rest])
    for inner in rest:
        splits += _search(inner, names[inner.name] or split, finders)
    return splits


def _by_split_folders(find: Finder) -> Finder:
    """The finder for folders in which train_images and train_labels together are a split."""

    def find_by_split(folder: Folder) -> Found:
        by_split: dict[str, list[Folder]] = defaultdict(list)
        for name, split in splits_of([inner.name for inner in folder.folders]).items():
            by_split[split] += [inner for inner in folder.folders if inner.name == name]
        rest = by_split.pop("", [])
        if any(len(inner) < 2 for inner in by_split.values()):
            return find(folder)
        splits: list[Split] = []
        for split, inner in by_split.items():
            found = find(Folder(folder.path, [], inner, above=folder))
            if not found[0] or found[1]:
                return find(folder)
            splits += [replace(one, name=one.name or split) for one in found[0]]
        return (splits, rest) if splits else find(folder)

    return find_by_split


def _prefixed(splits: list[Split], root: Path) -> list[Split]:
    """The splits with image ids relative to the root.

    Folders that only name their content or split are left out, and so are those above all data sets
    (VOCdevkit/VOC2007), unless images and annotations are side by side in one of them.
    """
    folders, beside = [], False
    for split in splits:
        home = split.path if split.path.is_dir() else split.path.parent
        beside = beside or any(image.parent == home for image in split.annotations.images())
        names = path_parts(home.relative_to(root)) if home != root and home.is_relative_to(root) else ()
        own = [name for name in names if name.lower() not in _HOLDERS]
        folders.append([name for name in own if not split.name or split_of(name) != split.name])
    alike = takewhile(lambda names: len({*names}) == 1, zip(*folders, strict=False))
    shared = 0 if beside else len([*alike])
    return [
        replace(split, prefix="".join(f"{name}/" for name in names[shared:]))
        for split, names in zip(splits, folders, strict=True)
    ]


def _unused(folder: Folder, splits: Sequence[Split]) -> tuple[tuple[Path, int], ...]:
    used = {image.parent for split in splits for image in split.annotations.images()}
    rest = [f for f in folder.walk() if f.path not in used and not f.name.startswith("Segmentation")]
    counts = {f.path: len(f.of_kind(*PICTURE_SUFFIXES)) for f in rest}
    return tuple((path, count) for path, count in counts.items() if count)


def _nothing(folder: Folder, formats: Sequence[Format]) -> Split:
    if VOC not in formats:
        text = f"{folder.path}: no {formats[0].name.upper()} annotations in it; check path and format"
        raise DataError([text])
    images = folder.of_kind(*PICTURE_SUFFIXES)
    problem = _foreign(folder) or (None if images else _no_images(folder))
    xmls = [] if problem else folder.of_kind(".xml")
    entries = pair_files(Files(folder.path, [] if problem else images), Files(folder.path, xmls))
    return Split("", VOC.name, folder.path, VocAnnotations(tuple(entries)), (problem,) if problem else ())


def _foreign(folder: Folder) -> Issue | None:
    """The issue of images with annotations in an unsupported format; None if there are none."""
    files = [
        file for file in folder.below(*_OTHER_FORMATS) if file.suffix != ".xml" or not is_annotation(file)
    ]
    if not files or not folder.below(*PICTURE_SUFFIXES) or any(map(is_annotation, folder.below(".xml"))):
        return None
    more = f" (and {len(files) - 1} more)" if len(files) > 1 else ""
    text = f"is not an annotation in a supported format{more}, and there is no other"
    fix = "export Pascal VOC, COCO or YOLO from the program that wrote it"
    return Issue("annotation-unreadable", files[0], text, fix)


def _no_images(folder: Folder) -> Issue:
    number = len(folder.below(*PICTURE_SUFFIXES))
    if number:
        text = f"{plural(number, 'picture')} below it, but no annotations"
        fix = "give the folder that holds both, or annotate them"
        return Issue("annotation-missing", folder.path, text, fix)
    kinds = " ".join(suffix[1:] for suffix in PICTURE_SUFFIXES)
    fix = "give the folder that holds them, with the annotations"
    return Issue("picture-missing", folder.path, f"no pictures in it ({kinds})", fix)
