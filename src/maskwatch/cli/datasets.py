"""Data sets named on the command line → sets of samples."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from maskwatch.errors import DataError, OptionError
from maskwatch.labels import ClassMap
from maskwatch.text import read_lines, reading

if TYPE_CHECKING:
    from maskwatch.data import DetectionSet


class Group(NamedTuple):
    """Data sets that are to be one: their paths, the stems to keep, the split to take."""

    paths: Sequence[Path]
    stems: Collection[str] | None = None
    split: str | None = None


def read_sets(groups: Sequence[Group], classes: ClassMap) -> list[DetectionSet]:
    """One set of each group.

    Raises:
        DataError: holds every fault of every group, so that one run shows them all.
    """
    from maskwatch.data import read_data

    sets: list[DetectionSet] = []
    problems: list[str] = []
    for paths, stems, split in groups:
        try:
            sets.append(read_data(list(paths), classes, stems, split))
        except DataError as error:
            problems += error.problems
    if problems:
        raise DataError(problems)
    return sets


def read_validation(paths: Sequence[Path], classes: ClassMap) -> DetectionSet:
    """The set that `--tune` chooses thresholds on: the `val` of data sets that are split.

    Raises:
        DataError: holds every fault, or there is no box in it to choose by.
    """
    (validation,) = read_sets([Group(paths, None, "val")], classes)
    if not any(validation.class_counts().values()):
        problem = f"{paths[0]}: holds no box of {', '.join(classes.names)} to choose thresholds by"
        raise DataError([f"{problem}; give annotated pictures to --tune"])
    return validation


def splits_of(path: Path) -> set[str]:
    """The splits that a data set has; empty where it is not split.

    Raises:
        DataError: there is no data set.
    """
    from maskwatch.data import find_parts

    return {part.split for part in find_parts(path)} - {""}


def correct_sets(sets: Sequence[DetectionSet], path: Path | None, classes: ClassMap) -> list[DetectionSet]:
    """The sets with their labels corrected by a file; None for the file leaves them as they are.

    Raises:
        DataError: the file cannot be read, does not fit the annotations, or is of other pictures.
    """
    if path is None:
        return list(sets)
    from maskwatch.data import correct_all, read_corrections
    from maskwatch.data.dataset import names_of

    corrections = read_corrections(path, classes)
    names = names_of(sets)
    if not any(names.find(correction.picture) for correction in corrections):
        raise DataError([f"{path}: corrects none of these pictures; check the file and the data set"])
    return correct_all(sets, corrections)


def read_stems(path: Path | None) -> list[str] | None:
    """Names that a text file lists, one a line (or several with white space between); None stays None.

    Raises:
        OptionError: the file cannot be read.
    """
    if path is None:
        return None
    from maskwatch.data.names import unquoted

    with reading(f"--stems {path}", OptionError, "give a text file of names"):
        return [unquoted(line) for line in read_lines(path) if line.strip()]
