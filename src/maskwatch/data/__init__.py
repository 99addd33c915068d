"""Data sets: readers, and what they give."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path

from maskwatch.data.corrections import correct, read_corrections
from maskwatch.data.dataset import DetectionSet, Sample, merge, rename
from maskwatch.data.judge import Judge
from maskwatch.data.layout import Format, Part, find_parts
from maskwatch.data.voc import read_voc
from maskwatch.errors import DataError
from maskwatch.labels import ClassMap

__all__ = [
    "DetectionSet",
    "Part",
    "Sample",
    "correct",
    "find_parts",
    "merge",
    "read_corrections",
    "read_data",
    "read_part",
    "read_voc",
    "rename",
]


def read_data(
    path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    classes: ClassMap | None = None,
    stems: Collection[str] | None = None,
    split: str | None = None,
    format: Format | None = None,
) -> DetectionSet:
    """Reads a data set, or several as one: Pascal VOC, COCO or YOLO (see `find_parts`).

    Args:
        path: a folder, a COCO JSON file or a data.yaml, or a list of these that are merged in the order
            given.
        classes: how annotated names map to classes; None means the mask classes.
        stems: keep only these pictures; each must be in one of the sets.
        split: "train", "val" or "test"; needed where a set is split, so that none is mixed in unseen.
        format: "voc", "coco" or "yolo"; None recognises it.

    Raises:
        DataError: holds every fault of every set.
    """
    paths = [path] if isinstance(path, str | os.PathLike) else list(path)
    sets: list[DetectionSet] = []
    problems: list[str] = [] if paths else ["no folder given; name at least one data set"]
    wanted = None if stems is None or len(paths) == 1 else set(stems)
    for one in map(Path, paths):
        try:
            part = choose_part(one, split, format)
            here = stems if wanted is None else part.known_stems() & wanted
            if here is None or here or wanted is None:
                sets.append(read_part(part, classes, here))
            wanted = None if wanted is None or here is None else wanted - set(here)
        except DataError as error:
            problems += error.problems
    problems += [
        f"{stem!r} is in none of the folders; check the list of stems" for stem in sorted(wanted or ())
    ]
    if problems:
        raise DataError(problems)
    return merge(sets)


def read_part(
    part: Part, classes: ClassMap | None = None, stems: Collection[str] | None = None
) -> DetectionSet:
    """Reads one split, sorted by stem. Arguments and errors are those of `read_data`."""
    judge = Judge(ClassMap() if classes is None else classes)
    return judge.detection_set(part.raw(judge.faults, stems))


def choose_part(path: Path, split: str | None = None, format: Format | None = None) -> Part:
    """The one part of a data set that is meant.

    Raises:
        DataError: it has no such split, or several and none is named.
    """
    parts = find_parts(path, format)
    if split is not None and any(part.split for part in parts):
        parts = [part for part in parts if part.split == split]
    if len(parts) == 1:
        return parts[0]
    known = ", ".join(part.split or "(in no split)" for part in find_parts(path, format))
    if split is not None:
        raise DataError([f"{path}: no split {split!r}, it has {known}; name one of them"])
    raise DataError([f"{path}: holds the splits {known}; name one with --split, or give its own folder"])
