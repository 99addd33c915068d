"""The files of a TFRecord data set: which records belong together, and the label map beside them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from maskwatch.data.formats.tree import Folder, split_in, split_of
from maskwatch.data.issues import Fault

SUFFIXES = (".tfrecord", ".tfrecords", ".tfrec", ".record", ".records")
LABEL_MAP = "label_map.pbtxt"

# train.record-00000-of-00010 (TF Object Detection API, TFDS), faces_train_00000-of-00002.tfrecord,
# train-00000-of-00001
_SHARD = re.compile(r"[-_.]?(?P<number>\d+)-of-(?P<count>\d+)")


@dataclass
class RecordUnit:
    """The records of one split ("" for none), in the order of their names.

    label_maps: those that may belong to them, the nearest first.
    """

    split: str
    path: Path
    files: list[Path]
    label_maps: list[Path]
    faults: list[Fault] = field(default_factory=list)


def find_records(folder: Folder) -> tuple[list[RecordUnit], list[Folder]] | None:
    """The records of a folder by split; None where there are none. Its own folders are left to look at."""
    files = [file for file in folder.files if is_record(file)]
    if not files:
        return None
    return units_of_records(files, folder.path, label_maps(folder.path)), folder.folders


def is_record(file: Path) -> bool:
    """Whether a file is named as records are."""
    rest = _SHARD.sub("", file.name)
    return file.suffix.lower() in SUFFIXES or (
        rest != file.name and (Path(rest).suffix.lower() in SUFFIXES or "." not in rest)
    )


def units_of_records(files: Sequence[Path], path: Path, maps: list[Path]) -> list[RecordUnit]:
    """One unit for each split that the names of the files tell."""
    units: dict[str, RecordUnit] = {}
    for file in files:
        split = split_in(_SHARD.sub("", file.name)) or split_of(file.parent.name)
        units.setdefault(split, RecordUnit(split, path, [], maps)).files.append(file)
    for unit in units.values():
        unit.faults += _missing_shards(unit.files)
    return [*units.values()]


def _missing_shards(files: Sequence[Path]) -> list[Fault]:
    there: dict[tuple[str, int], set[int]] = {}
    places: dict[tuple[str, int], Path] = {}
    for file in files:
        shard = _SHARD.search(file.name)
        if shard:
            key = (_SHARD.sub("", file.name), int(shard["count"]))
            there.setdefault(key, set()).add(int(shard["number"]))
            places[key] = file
    faults = []
    for key, numbers in there.items():
        missing = key[1] - len(numbers)
        if missing > 0:
            text = f"{missing} of its {key[1]} shards {'is' if missing == 1 else 'are'} not there"
            faults.append(Fault("annotation-missing", places[key], text, "put all shards into one folder"))
    return faults


def label_maps(folder: Path) -> list[Path]:
    """Label maps beside the records, else one folder higher."""
    for place in (folder, folder.parent):
        # The latter is that of TensorFlow Datasets: names one a line, ids from 0.
        found = sorted(place.glob("*.pbtxt")) or sorted(place.glob("*label.labels.txt"))
        if found:
            return likeliest(found)
    return []


def likeliest(maps: Sequence[Path]) -> list[Path]:
    """Those called label_map.pbtxt, else those named after labels, else all: graphs are .pbtxt as well."""
    named = [file for file in maps if file.name == LABEL_MAP]
    return named or [file for file in maps if "label" in file.stem.lower()] or [*maps]
