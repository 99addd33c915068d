"""What lies in a folder: the formats of its data sets, and their splits."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from maskwatch.data.formats.coco_files import find_coco, unit_of_file
from maskwatch.data.formats.raw import Entry
from maskwatch.data.formats.splits import Format, Part
from maskwatch.data.formats.tfrecord_files import (
    RecordUnit,
    find_records,
    is_record,
    label_maps,
    likeliest,
    units_of_records,
)
from maskwatch.data.formats.tree import PICTURE_FOLDERS, SPLITS, Folder, list_folder, split_of, splits_of
from maskwatch.data.formats.voc_files import (
    Files,
    find_voc,
    is_annotation,
    listed_entries,
    pair_files,
    split_lists,
)
from maskwatch.data.formats.yolo_files import (
    YoloUnit,
    find_darknet,
    find_folders,
    find_lists,
    find_yaml,
    names_above,
    names_in,
    units_of_yaml,
)
from maskwatch.data.issues import Fault
from maskwatch.data.names import Names, path_parts
from maskwatch.errors import DataError
from maskwatch.media.formats import PICTURE_SUFFIXES
from maskwatch.text import plural

Found = tuple[list[Part], list[Folder]]
"""The parts of a folder, and the folders in it that are left to look at."""


def find_parts(path: str | os.PathLike[str], format: Format | None = None) -> list[Part]:
    """The splits of the data sets at a path, in the order train, val, test; one part where it is not split.

    A folder is searched in depth, so that one part for each split of each data set in it is found.

    Args:
        path: a folder, the JSON file of a COCO set, the data.yaml of a YOLO set, or a file of TFRecord.
        format: of the annotations; None recognises it.

    Raises:
        DataError: there is nothing of the kind.
    """
    root = Path(path)
    if not root.exists():
        hint = "give the folder that holds the pictures and the annotations"
        raise DataError([f"{root}: does not exist; {hint}"])
    if root.is_file():
        parts = _parts_of_file(root, format)
    else:
        folder = list_folder(root)
        tries = _RECOGNISED if format is None else (_BY_NAME[format],)
        names = names_above(root)
        found = next((parts for finders in tries if (parts := _search(folder, "", finders, names))), None)
        parts = _prefixed(_with_label_maps(found, folder), root) if found else _nothing(folder, format)
        parts[0] = replace(parts[0], unused=_unused(folder, parts) if found else ())
    order = [*SPLITS, ""]
    return sorted(parts, key=lambda part: order.index(part.split))


def _parts_of_file(file: Path, format: Format | None) -> list[Part]:
    known: Mapping[str, Format] = {".json": "coco", ".yaml": "yolo", ".yml": "yolo"}
    found = "tfrecord" if is_record(file) else known.get(file.suffix.lower())
    if found is None or format not in (None, found):
        hint = "give the folder that holds the pictures and the annotations, a COCO .json or a data.yaml"
        raise DataError([f"{file}: is a file; {hint}"])
    if found == "coco":
        return [Part("", "coco", file, unit=unit_of_file(file))]
    if found == "yolo":
        return [_of_yolo(unit) for unit in units_of_yaml(file)] or _no_parts(file)
    records = units_of_records([file], file.parent, label_maps(file.parent))
    return [replace(_of_records(unit), path=file) for unit in records]


def _no_parts(file: Path) -> list[Part]:
    raise DataError([f"{file}: names no pictures; write train: and val: into it, or give the folder"])


def _search(folder: Folder, split: str, finders: Sequence[Finder], names: Mapping[int, str]) -> list[Part]:
    """The parts of the first format that a folder holds, and those of the folders that are left.

    Args:
        split: that the folders above say.
        names: YOLO: of the classes, from a folder above.
    """
    names = names_in(folder) or names
    for finder in finders:
        found = finder(folder, names)
        if found is not None:
            parts, rest = found
            break
    else:
        parts, rest = [], folder.folders
    parts = [replace(part, split=part.split or split) for part in parts]
    splits = splits_of([inner.name for inner in rest])
    for inner in rest:
        parts += _search(inner, splits[inner.name] or split, finders, names)
    return parts


def _nothing(folder: Folder, format: Format | None) -> list[Part]:
    """A part that says what is missing."""
    if format not in (None, "voc"):
        assert format is not None
        raise DataError([f"{folder.path}: no {format.upper()} annotations in it; check path and format"])
    foreign = _foreign(folder)
    if foreign is not None:
        return [Part("", "voc", folder.path, faults=(foreign,))]
    pictures = folder.of_kind(*PICTURE_SUFFIXES)
    entries = pair_files(Files(folder.path, pictures), Files(folder.path, folder.of_kind(".xml")))
    faults = () if pictures else (_no_pictures(folder),)
    return [Part("", "voc", folder.path, tuple(entries) if pictures else (), faults=faults)]


def _foreign(folder: Folder) -> Fault | None:
    """That pictures are annotated in a format of others; None where no file looks so."""
    files = [
        file for file in folder.below(*_OTHER_FORMATS) if file.suffix != ".xml" or not is_annotation(file)
    ]
    if not files or not folder.below(*PICTURE_SUFFIXES) or any(map(is_annotation, folder.below(".xml"))):
        return None
    more = f" (and {len(files) - 1} more)" if len(files) > 1 else ""
    text = f"is no annotation that is read here{more}, and there is no other"
    mend = "export Pascal VOC, COCO or YOLO from the program that wrote it"
    return Fault("annotation-unreadable", files[0], text, mend)


def _no_pictures(folder: Folder) -> Fault:
    number = len(folder.below(*PICTURE_SUFFIXES))
    if number:
        text = f"{plural(number, 'picture')} below it, but no annotations"
        mend = "give the folder that holds both, or annotate them"
        return Fault("annotation-missing", folder.path, text, mend)
    kinds = " ".join(suffix[1:] for suffix in PICTURE_SUFFIXES)
    mend = "give the folder that holds them, with the annotations"
    return Fault("picture-missing", folder.path, f"no pictures in it ({kinds})", mend)


def _prefixed(parts: list[Part], root: Path) -> list[Part]:
    """The parts, whose pictures are named from the root on.

    Folders that only say what they hold, or which split, do not count, nor do those above all data sets
    (VOCdevkit/VOC2007), if none is just a folder of pictures and annotations side by side.
    """
    folders = []
    beside = False
    for part in parts:
        home = part.path if part.path.is_dir() else part.path.parent
        beside = beside or any(image.parent == home for image in part.images())
        names = path_parts(home.relative_to(root)) if home != root and home.is_relative_to(root) else ()
        folders.append(
            [n for n in names if n.lower() not in _HOLDERS and not (part.split and split_of(n) == part.split)]
        )
    shared = 0
    while not beside and all(
        len(names) > shared and names[shared] == folders[0][shared] for names in folders
    ):
        shared += 1
    return [
        replace(part, prefix="".join(f"{name}/" for name in names[shared:]))
        for part, names in zip(parts, folders, strict=True)
    ]


def _unused(folder: Folder, parts: Sequence[Part]) -> tuple[tuple[Path, int], ...]:
    used = {image.parent for part in parts for image in part.images()}
    rest = [f for f in folder.walk() if f.path not in used and not f.name.startswith("Segmentation")]
    counts = {f.path: len(f.of_kind(*PICTURE_SUFFIXES)) for f in rest}
    return tuple((path, count) for path, count in counts.items() if count)


_HOLDERS = (*PICTURE_FOLDERS, "annotations")
# CreateML, labelme, VIA; tables of TensorFlow's tutorials; CVAT's own XML; Matlab.
_OTHER_FORMATS = (".json", ".csv", ".xml", ".mat")


def _of_split_folders(folder: Folder, find: Callable[[Folder], Found | None]) -> Found | None:
    """What is found in a folder, whose splits may have a folder each for pictures and annotations.

    So train_images and train_labels are looked at as if they lay in a folder of their own.
    """
    splits: dict[str, list[Folder]] = defaultdict(list)
    for name, split in splits_of([inner.name for inner in folder.folders]).items():
        splits[split] += [inner for inner in folder.folders if inner.name == name]
    rest = splits.pop("", [])
    if any(len(inner) < 2 for inner in splits.values()):
        return find(folder)
    found = [(split, find(Folder(folder.path, [], inner))) for split, inner in splits.items()]
    parts: list[Part] = []
    for split, one in found:
        if one is None or one[1]:
            return find(folder)
        parts += [replace(part, split=part.split or split) for part in one[0]]
    return (parts, rest) if parts else find(folder)


# ---- Pascal VOC ------------------------------------------------------------------------------------------


def _voc(folder: Folder, names: Mapping[int, str]) -> Found | None:
    return _of_split_folders(folder, lambda inner: _parts_of_voc(inner, find_voc(inner)))


def _sure_voc(folder: Folder, names: Mapping[int, str]) -> Found | None:
    return _of_split_folders(folder, lambda inner: _parts_of_voc(inner, find_voc(inner, sure=True)))


def _parts_of_voc(folder: Folder, found: tuple[list[Entry], list[Folder]] | None) -> Found | None:
    if found is None:
        return None
    entries, rest = found
    faults: list[Fault] = []
    lists = _voc_lists(folder, entries, faults)
    if not lists:
        return _voc_folders(folder, entries), rest
    listed = {number for numbers in lists.values() for number in numbers}
    lists[""] = [number for number in range(len(entries)) if number not in listed]
    parts = [
        Part(split, "voc", folder.path, tuple(entries[number] for number in sorted({*numbers})))
        for split, numbers in lists.items()
        if numbers
    ]
    if faults:
        parts[0] = replace(parts[0], faults=tuple(faults))
    return parts, rest


def _voc_lists(folder: Folder, entries: Sequence[Entry], faults: list[Fault]) -> dict[str, list[int]]:
    """Split → numbers of the entries that its list names; empty where no list is of a split."""
    lists = split_lists(folder)
    listed = enumerate(entries) if lists else ()
    names = Names((number, entry.image_id, entry.paths) for number, entry in listed)
    found: dict[str, list[int]] = {}
    for split, files in lists.items():
        for file in files:
            numbers, wrong = listed_entries(file, names)
            if numbers or file.parent != folder.path:  # beside the folders it may be a list of something else
                found.setdefault(split, []).extend(numbers)
                faults += wrong
    return found


def _voc_folders(folder: Folder, entries: Sequence[Entry]) -> list[Part]:
    """One part for each split among the folders just below that of the pictures (JPEGImages/train)."""
    splits: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        first, slash, rest = entry.image_id.partition("/")
        split = split_of(first) if slash else ""
        splits[split].append(replace(entry, image_id=rest) if split else entry)
    return [Part(split, "voc", folder.path, tuple(mine)) for split, mine in splits.items()]


# ---- COCO, YOLO, TFRecord --------------------------------------------------------------------------------


def _coco(folder: Folder, names: Mapping[int, str]) -> Found | None:
    found = find_coco(folder)
    if found is None:
        return None
    units, rest = found
    return [Part(unit.split, "coco", unit.path, unit=unit) for unit in units], rest


def _yolo_file(folder: Folder, names: Mapping[int, str]) -> Found | None:
    """YOLO whose splits a data.yaml or an obj.data names."""
    file = find_yaml(folder)
    units = [] if file is None else units_of_yaml(file)
    units = units or find_darknet(folder)
    return ([_of_yolo(unit) for unit in units], []) if units else None


def _yolo(folder: Folder, names: Mapping[int, str]) -> Found | None:
    return _of_split_folders(folder, lambda inner: _yolo_folders(inner, names_in(inner) or names))


def _yolo_folders(folder: Folder, names: Mapping[int, str]) -> Found | None:
    listed, found = find_lists(folder), find_folders(folder, names)
    if listed and (found is None or not any(unit.split for unit in found[0])):
        return [_of_yolo(unit) for unit in listed], []
    if found is None:
        return None
    units, rest = found
    return [_of_yolo(unit) for unit in units], rest


def _of_yolo(unit: YoloUnit) -> Part:
    faults = tuple(unit.faults)
    return Part(unit.split, "yolo", unit.path, tuple(unit.entries), unit.names, unit.landmarks, faults=faults)


def _tfrecord(folder: Folder, names: Mapping[int, str]) -> Found | None:
    found = find_records(folder)
    if found is None:
        return None
    units, rest = found
    return list(map(_of_records, units)), rest


def _of_records(unit: RecordUnit) -> Part:
    return Part(unit.split, "tfrecord", unit.path, unit=unit, faults=tuple(unit.faults))


def _with_label_maps(parts: list[Part], folder: Folder) -> list[Part]:
    """The parts, where no label map lies near the records with those that lie anywhere (training/)."""
    maps = likeliest(folder.below(".pbtxt"))
    return [
        replace(part, unit=replace(part.unit, label_maps=maps))
        if isinstance(part.unit, RecordUnit) and not part.unit.label_maps
        else part
        for part in parts
    ]


Finder = Callable[[Folder, Mapping[int, str]], Found | None]

_BY_NAME: Mapping[str, Sequence[Finder]] = MappingProxyType(
    {
        "voc": (_sure_voc,),
        "coco": (_coco,),
        "yolo": (_yolo_file, _yolo),
        "tfrecord": (_tfrecord,),
    }
)
# Records are often written from pictures that lie beside them, so they are looked for last, in all folders.
_RECOGNISED: Sequence[Sequence[Finder]] = ((_yolo_file, _coco, _voc, _yolo), (_tfrecord,))
