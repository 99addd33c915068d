"""What lies at a path: the formats of its data sets, and their splits."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
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
# CreateML, labelme, VIA; tables of TensorFlow's tutorials; CVAT's own XML; Matlab.
_OTHER_FORMATS = (".json", ".csv", ".xml", ".mat")


def find_splits(path: str | os.PathLike[str], format: str | None = None) -> list[Split]:
    """The splits of the data sets at a path, in the order train, val, test; one where it is not split.

    A folder is searched in depth, so that each split of each data set in it is found.

    Args:
        path: a folder, the JSON file of a COCO set, the data.yaml of a YOLO set, or a file of TFRecord.
        format: of the annotations; None recognises it.

    Raises:
        DataError: there is nothing of the kind.
        OptionError: there is no such format.
    """
    formats = FORMATS if format is None else (format_named(format),)
    root = Path(path)
    if not root.exists():
        hint = "give the folder that holds the pictures and the annotations"
        raise DataError([f"{root}: does not exist; {hint}"])
    splits = _open_file(root, formats) if root.is_file() else _open_folder(root, formats)
    order = [*SPLITS, ""]
    return sorted(splits, key=lambda split: order.index(split.name))


def _open_file(file: Path, formats: Sequence[Format]) -> list[Split]:
    splits = next((found for format in formats if (found := format.open_file(file)) is not None), None)
    if splits is None:
        hint = "give the folder that holds the pictures and the annotations, a COCO .json or a data.yaml"
        raise DataError([f"{file}: is a file; {hint}"])
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
    """What to try on each folder: first on the whole tree the usual formats, then those that come last."""
    named = len(formats) == 1
    rounds = []
    for last in (False, True):
        mine = [format for format in formats if format.last == last]
        finders = [format.find_index for format in mine if format.find_index]
        for format in mine:
            find = (format.find_named if named else None) or format.find
            finders += [_by_split_folders(find)] if find else []
        rounds.append(finders)
    return [finders for finders in rounds if finders]


def _search(folder: Folder, split: str, finders: Sequence[Finder]) -> list[Split]:
    """The splits of the first format that a folder holds, and those of the folders that are left.

    Args:
        split: that the folders above say.
    """
    found, rest = next((hit for find in finders if (hit := find(folder)) is not None), ([], folder.folders))
    splits = [replace(one, name=one.name or split) for one in found]
    names = splits_of([inner.name for inner in rest])
    for inner in rest:
        splits += _search(inner, names[inner.name] or split, finders)
    return splits


def _by_split_folders(find: Finder) -> Finder:
    """The finder for folders whose splits may have a folder each for images and annotations.

    So train_images and train_labels are searched as if they lay in a folder of their own.
    """

    def find_by_split(folder: Folder) -> Found | None:
        by_split: dict[str, list[Folder]] = defaultdict(list)
        for name, split in splits_of([inner.name for inner in folder.folders]).items():
            by_split[split] += [inner for inner in folder.folders if inner.name == name]
        rest = by_split.pop("", [])
        if any(len(inner) < 2 for inner in by_split.values()):
            return find(folder)
        splits: list[Split] = []
        for split, inner in by_split.items():
            found = find(Folder(folder.path, [], inner, above=folder))
            if found is None or found[1]:
                return find(folder)
            splits += [replace(one, name=one.name or split) for one in found[0]]
        return (splits, rest) if splits else find(folder)

    return find_by_split


def _prefixed(splits: list[Split], root: Path) -> list[Split]:
    """The splits, whose images are named from the root on.

    Folders that only say what they hold, or which split, do not count, nor do those above all data sets
    (VOCdevkit/VOC2007), if none is just a folder of images and annotations side by side.
    """
    folders = []
    beside = False
    for split in splits:
        home = split.path if split.path.is_dir() else split.path.parent
        beside = beside or any(image.parent == home for image in split.annotations.images())
        names = path_parts(home.relative_to(root)) if home != root and home.is_relative_to(root) else ()
        own = [name for name in names if name.lower() not in _HOLDERS]
        folders.append([name for name in own if not split.name or split_of(name) != split.name])
    shared = 0
    while not beside and all(
        len(names) > shared and names[shared] == folders[0][shared] for names in folders
    ):
        shared += 1
    return [
        replace(split, prefix="".join(f"{name}/" for name in names[shared:]))
        for split, names in zip(splits, folders, strict=True)
    ]


def _unused(folder: Folder, splits: Sequence[Split]) -> tuple[tuple[Path, int], ...]:
    used = {image.parent for split in splits for image in split.annotations.images()}
    rest = [f for f in folder.walk() if f.path not in used and not f.name.startswith("Segmentation")]
    counts = {f.path: len(f.of_kind(*PICTURE_SUFFIXES)) for f in rest}
    return tuple((path, count) for path, count in counts.items() if count)


# ---- Nothing found ---------------------------------------------------------------------------------------


def _nothing(folder: Folder, formats: Sequence[Format]) -> Split:
    """A split whose issues say what is missing."""
    if VOC not in formats:
        raise DataError(
            [f"{folder.path}: no {formats[0].name.upper()} annotations in it; check path and format"]
        )
    images = folder.of_kind(*PICTURE_SUFFIXES)
    problem = _foreign(folder) or (None if images else _no_images(folder))
    if problem is not None:
        return Split("", VOC.name, folder.path, VocAnnotations(()), issues=(problem,))
    entries = pair_files(Files(folder.path, images), Files(folder.path, folder.of_kind(".xml")))
    return Split("", VOC.name, folder.path, VocAnnotations(tuple(entries)))


def _foreign(folder: Folder) -> Issue | None:
    """That images are annotated in a format of others; None where no file looks so."""
    files = [
        file for file in folder.below(*_OTHER_FORMATS) if file.suffix != ".xml" or not is_annotation(file)
    ]
    if not files or not folder.below(*PICTURE_SUFFIXES) or any(map(is_annotation, folder.below(".xml"))):
        return None
    more = f" (and {len(files) - 1} more)" if len(files) > 1 else ""
    text = f"is no annotation that is read here{more}, and there is no other"
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
