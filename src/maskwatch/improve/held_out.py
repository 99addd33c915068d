"""Which pictures are held out to measure on, the same ones in every round."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from maskwatch.data.dataset import DetectionSet, Sample, name_index
from maskwatch.data.names import NameIndex
from maskwatch.data.split import split_groups
from maskwatch.errors import DataError
from maskwatch.outputs import new_file
from maskwatch.text import read_rows, reading

TRAIN, VAL = "train", "val"

VAL_SHARE = 0.2
"""Share of the pictures that is held out where the data has no `val`: from a tenth of 200 pictures, the
interval of a difference is too wide to take any model by."""

MAX_NEW_SHARE = 0.5
"""Most of the new pictures that are held out, so that a round always trains on some of them."""

COLUMNS = ("picture", "split")


def keep_split(
    detection_set: DetectionSet, groups: Sequence[Sequence[int]], known: Mapping[int, str], seed: int = 1
) -> list[int]:
    """Indices of the samples to hold out, in order; the others are to train on.

    A group with a picture that was held out before is held out whole: what was measured on is never trained
    on. A group with a picture that was trained on before, and none that was held out, is trained on. Of the
    other groups, as many are held out as `VAL_SHARE` of all pictures lacks, each class in proportion.

    Args:
        detection_set: the samples.
        groups: indices that stay together (near-duplicates); each index in one group.
        known: index → `TRAIN` or `VAL`, of samples that have a side already.
        seed: the same seed deals new groups alike.
    """
    held: set[int] = set()
    new: list[list[int]] = []
    for group in groups:
        sides = {known[index] for index in group if index in known}
        if VAL in sides:
            held.update(group)
        elif not sides:
            new.append(list(group))
    lacking = VAL_SHARE * len(detection_set) - len(held)
    return sorted(held.union(_deal(detection_set, new, lacking, seed)))


def _deal(detection_set: DetectionSet, new: Sequence[Sequence[int]], lacking: float, seed: int) -> list[int]:
    """Indices of about `lacking` pictures, in whole groups."""
    indices = [index for group in new for index in group]
    if lacking <= 0 or len(new) < 2:  # one group alone is trained on
        return []
    share = min(lacking / len(indices), MAX_NEW_SHARE)
    place = {index: number for number, index in enumerate(indices)}
    local = [[place[index] for index in group] for group in new]
    dealt = split_groups(detection_set.subset(indices), local, {TRAIN: 1 - share, VAL: share}, seed)
    return [indices[number] for number in dealt[VAL]]


# ---- The list of earlier rounds --------------------------------------------------------------------------


def read_list(path: Path, detection_set: DetectionSet) -> dict[int, str]:
    """Index of a sample → its side in earlier rounds; without a file, nothing is known.

    Raises:
        DataError: the file cannot be read, or a line is wrong or fits several pictures.
    """
    names = name_index([detection_set])
    numbers = {id(sample): number for number, sample in enumerate(detection_set.samples)}
    known: dict[int, str] = {}
    problems: list[str] = []
    for line, (name, side) in enumerate(_rows(path), start=2):
        found = names.find(name)
        if len(found) > 1:
            problems.append(f"{path}:{line}: {names.ambiguous(name)}")
        elif found:
            known[numbers[id(found[0])]] = side
    if problems:
        raise DataError(problems)
    return known


def write_list(path: Path, detection_set: DetectionSet, held_out: Sequence[int]) -> None:
    """Writes the side of each sample, and keeps the lines of pictures that are not in the set now."""
    names = name_index([detection_set])
    held = set(held_out)
    rows = [
        (_listed_name(sample, names), VAL if number in held else TRAIN)
        for number, sample in enumerate(detection_set.samples)
    ]
    absent = [row for row in _rows(path) if not names.find(row[0])]
    with new_file(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([COLUMNS, *sorted([*rows, *absent])])


def _rows(path: Path) -> list[tuple[str, str]]:
    if not path.exists():
        return []
    with reading(path, DataError, "give back the list of the earlier rounds, or choose another --out"):
        (_, columns), *rows = list(read_rows(path)) or [(1, [])]
    good = all(len(row) == len(COLUMNS) and row[1] in (TRAIN, VAL) for _, row in rows)
    if tuple(columns) != COLUMNS or not good:
        wanted = f"the line {','.join(COLUMNS)}, then a picture and {TRAIN} or {VAL} a line"
        raise DataError([f"{path}: is not {wanted}; restore it, or choose another --out"])
    return [(name, side) for _, (name, side) in rows]


def _listed_name(sample: Sample, names: NameIndex[Sample]) -> str:
    """Its path below the image folder; where pictures of two data sets share one, the whole path."""
    found = names.find(sample.image_id)
    return sample.image_id if found == [sample] else sample.image_path.absolute().as_posix()
