"""The files of a TFRecord data set: which records belong together, and the label map beside them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from maskwatch.data.formats.tree import Folder, split_in, split_of
from maskwatch.data.issues import Issue

SUFFIXES = (".tfrecord", ".tfrecords", ".tfrec", ".record", ".records")
LABEL_MAP = "label_map.pbtxt"

# train.record-00000-of-00010 (TF Object Detection API, TFDS), faces_train_00000-of-00002.tfrecord,
# train-00000-of-00001
_SHARD = re.compile(r"[-_.]?(?P<number>\d+)-of-(?P<count>\d+)")


def is_record(file: Path) -> bool:
    """Whether a file is named as records are."""
    rest = _SHARD.sub("", file.name)
    return file.suffix.lower() in SUFFIXES or (
        rest != file.name and (Path(rest).suffix.lower() in SUFFIXES or "." not in rest)
    )


def by_split(files: Sequence[Path]) -> dict[str, list[Path]]:
    """The records of each split that the names of the files tell; "" for none."""
    splits: dict[str, list[Path]] = {}
    for file in files:
        split = split_in(_SHARD.sub("", file.name)) or split_of(file.parent.name)
        splits.setdefault(split, []).append(file)
    return splits


def missing_shards(files: Sequence[Path]) -> list[Issue]:
    """What is not there of records in several files, which say how many they are."""
    shards: dict[tuple[str, int], list[Path]] = {}
    for file in files:
        if shard := _SHARD.search(file.name):
            shards.setdefault((_SHARD.sub("", file.name), int(shard["count"])), []).append(file)
    issues = []
    for (_, count), there in shards.items():
        numbers = {int(shard["number"]) for file in there if (shard := _SHARD.search(file.name))}
        missing = count - len(numbers)
        if missing > 0:
            text = f"{missing} of its {count} shards {'is' if missing == 1 else 'are'} not there"
            issues.append(Issue("annotation-missing", there[-1], text, "put all shards into one folder"))
    return issues


def label_maps(path: Path, top: Folder | None = None) -> list[Path]:
    """The label maps that may belong to the records in a folder: beside them, else one folder higher.

    Args:
        top: where there are none so near, those that lie anywhere in it count (training/).
    """
    for home in (path, path.parent):
        # The latter is that of TensorFlow Datasets: names one a line, ids from 0.
        found = sorted(home.glob("*.pbtxt")) or sorted(home.glob("*label.labels.txt"))
        if found:
            return _likeliest(found)
    return [] if top is None else _likeliest(top.below(".pbtxt"))


def _likeliest(maps: Sequence[Path]) -> list[Path]:
    """Those called label_map.pbtxt, else those named after labels, else all: graphs are .pbtxt as well."""
    named = [file for file in maps if file.name == LABEL_MAP]
    return named or [file for file in maps if "label" in file.stem.lower()] or [*maps]
