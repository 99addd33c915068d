"""Data sets: readers, and what they give."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path

from maskwatch.data.corrections import correct, read_corrections
from maskwatch.data.dataset import DetectionSet, Sample, merge
from maskwatch.data.voc import read_voc
from maskwatch.data.voc_files import stems_in
from maskwatch.errors import DataError
from maskwatch.labels import ClassMap

__all__ = ["DetectionSet", "Sample", "correct", "merge", "read_corrections", "read_data", "read_voc"]


def read_data(
    path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    classes: ClassMap | None = None,
    stems: Collection[str] | None = None,
) -> DetectionSet:
    """Reads a data set, or several as one. Pascal VOC is the format known so far (see `read_voc`).

    Args:
        path: a folder, or a list of folders that are merged in the order given.
        classes: how annotated names map to classes; None means the mask classes.
        stems: keep only these pictures; each must be in one of the folders.

    Raises:
        DataError: holds every fault of every folder.
    """
    if isinstance(path, str | os.PathLike):
        return read_voc(path, classes, stems)
    sets: list[DetectionSet] = []
    problems: list[str] = [] if path else ["no folder given; name at least one data set"]
    wanted = None if stems is None else set(stems)
    for folder in map(Path, path):
        try:
            here = None if wanted is None else stems_in(folder) & wanted
            if here is None or here:
                sets.append(read_voc(folder, classes, here))
            wanted = None if wanted is None or here is None else wanted - here
        except DataError as error:
            problems += error.problems
    problems += [
        f"{stem!r} is in none of the folders; check the list of stems" for stem in sorted(wanted or ())
    ]
    if problems:
        raise DataError(problems)
    return merge(sets)
