"""Data sets: readers, and what they give."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path

from maskwatch.data.corrections import correct, correct_all, read_corrections
from maskwatch.data.dataset import DetectionSet, Sample, merge, rename
from maskwatch.data.formats.layout import find_parts
from maskwatch.data.formats.splits import Format, Part
from maskwatch.data.names import Names
from maskwatch.data.validator import Judge
from maskwatch.errors import DataError
from maskwatch.labels import ClassMap

__all__ = [
    "DetectionSet",
    "Part",
    "Sample",
    "correct",
    "correct_all",
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
    """Reads a data set, or several as one: Pascal VOC, COCO, YOLO or TFRecord (see `find_parts`).

    Args:
        path: a folder, a COCO JSON file or a data.yaml, or a list of these that are merged in the order
            given.
        classes: how annotated names map to classes; None means the mask classes.
        stems: keep only these pictures; each must be in one of the sets. Their names, or as much of their
            paths as tells them apart, with or without suffix (see `names`).
        split: "train", "val" or "test"; needed where a set is split, so that none is mixed in unseen.
        format: "voc", "coco", "yolo" or "tfrecord"; None recognises it.

    Raises:
        DataError: holds every fault of every set.
    """
    paths = [path] if isinstance(path, str | os.PathLike) else list(path)
    problems: list[str] = [] if paths else ["no folder given; name at least one data set"]
    parts: list[Part] = []
    others: list[Part] = []
    for one in map(Path, paths):
        try:
            found = find_parts(one, format)
            parts += choose_parts(one, found, split)
            others += found
        except DataError as error:
            problems += error.problems
    chosen = None
    if stems is not None:
        chosen, missing = _named(parts, stems, problems)
        # What a list names of other splits is passed over.
        _, missing = _named(others, missing, []) if missing else ({}, missing)
        where = f"{paths[0]}: no picture named" if len(paths) == 1 else "in none of the folders is a picture"
        problems += [f"{where} {name!r}; check the list" for name in missing]
    sets: list[DetectionSet] = []
    for number, part in enumerate(parts):
        try:
            if chosen is None or number in chosen:
                sets.append(read_part(part, classes, None if chosen is None else chosen[number]))
        except DataError as error:
            problems += error.problems
    if problems:
        raise DataError(problems)
    return merge(sets)


def _named(
    parts: Sequence[Part], stems: Collection[str], problems: list[str]
) -> tuple[dict[int, set[str]], list[str]]:
    """The pictures that names mean, by number of the part, and the names of none.

    Names of several pictures go to `problems`.
    """
    if not stems:
        problems.append("the list of stems is empty; name at least one picture")
    known = [(number, name, files) for number, part in enumerate(parts) for name, files in part.known()]
    names = Names(((number, name), name, files) for number, name, files in known)
    found, missing, unclear = names.find_all(sorted({*stems}))
    problems += unclear
    chosen: dict[int, set[str]] = {}
    for number, name in found:
        chosen.setdefault(number, set()).add(name)
    return chosen, missing


def read_voc(
    path: str | os.PathLike[str],
    classes: ClassMap | None = None,
    stems: Collection[str] | None = None,
    split: str | None = None,
) -> DetectionSet:
    """`read_data` of a folder of Pascal VOC, whatever else lies in it."""
    return read_data(path, classes, stems, split, "voc")


def read_part(
    part: Part, classes: ClassMap | None = None, image_ids: Collection[str] | None = None
) -> DetectionSet:
    """Reads one split, sorted by name.

    Args:
        part: as `find_parts` gives it.
        classes: how annotated names map to classes; None means the mask classes.
        image_ids: keep only these pictures.

    Raises:
        DataError: holds every fault.
    """
    judge = Judge(ClassMap() if classes is None else classes)
    return judge.detection_set(part.raw(judge.faults, image_ids))


def choose_parts(path: Path, parts: list[Part], split: str | None = None) -> list[Part]:
    """Those parts of a data set that are meant: of one split.

    Raises:
        DataError: it has no such split, or several and none is named.
    """
    splits = dict.fromkeys(part.split for part in parts)
    known = ", ".join(name or "(in no split)" for name in splits)
    if split is not None and any(splits):
        if split not in splits:
            raise DataError([f"{path}: no split {split!r}, it has {known}; name one of them"])
        return [part for part in parts if part.split == split]
    if len(splits) > 1:
        raise DataError([f"{path}: holds the splits {known}; name one with --split, or give its own folder"])
    return parts
