"""AP50 of slices of a data set: by size of the face, by number of faces in the picture, by source."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from maskwatch.data.dataset import DetectionSet, Sample, name_index
from maskwatch.errors import DataError
from maskwatch.evaluation.coco import weighted_scores
from maskwatch.evaluation.matching import Matches
from maskwatch.text import read_rows, reading

FACE_SIDES = (0, 16, 32, 96, 100_000)
"""Edges of the square root of the box's area, pixels of the picture."""

FACE_AREAS = tuple((low**2, high**2) for low, high in pairwise(FACE_SIDES))
"""The `extra_areas` of `match_set` that `by_size` needs."""

CROWDS = ((1, 1), (2, 4), (5, 9), (10, 10_000))
MAX_SOURCES = 8
"""With more prefixes than this, file names do not show the source."""


@dataclass(frozen=True)
class Slice:
    """AP50 of some of the boxes or pictures; None where there is no box."""

    name: str
    pictures: int
    boxes: int
    ap50: float | None


def by_size(matches: Matches) -> list[Slice]:
    """By size of the face; pictures are all that hold one of the size.

    Args:
        matches: made with `FACE_AREAS`.
    """
    areas = [
        (sample.boxes_xyxy[:, 2:] - sample.boxes_xyxy[:, :2]).prod(1)
        for sample in map(Sample.counted, matches.detection_set.samples)
    ]
    area_ranges, precision = matches.evaluation.params.areaRng, matches.accumulated.eval["precision"]
    slices = []
    for (low, high), (side, next_side) in zip(FACE_AREAS, pairwise(FACE_SIDES), strict=True):
        inside = [int(((area >= low) & (area < high)).sum()) for area in areas]
        name = f"from {side} px" if next_side == FACE_SIDES[-1] else f"{side} to {next_side} px"
        curves = precision[matches.level(0.5), ..., area_ranges.index([low, high]), -1]  # (recall, class)
        known = curves[curves > -1]  # pycocotools fills in −1 where a class has no ground truth
        ap50 = float(known.mean()) if known.size else None
        slices.append(Slice(name, sum(map(bool, inside)), sum(inside), ap50))
    return slices


def by_crowd(matches: Matches) -> list[Slice]:
    """By number of labelled faces in the picture; pictures without faces are in no slice."""
    groups = {}
    for low, high in CROWDS:
        name = f"{low} face" if low == high == 1 else f"{low} to {high} faces"
        name = f"from {low} faces" if high == CROWDS[-1][1] else name
        groups[name] = [n for n, faces in enumerate(_faces(matches.detection_set)) if low <= faces <= high]
    return _of_groups(matches, groups)


def by_source(matches: Matches, sources: Mapping[str, str] | None = None) -> list[Slice]:
    """By source of the pictures; [] where there is only one.

    Args:
        sources: name of a picture (see `Sample.image_id`) → source; None takes the part of the file names
            before the first "_", if there are few of these.

    Raises:
        DataError: a name of `sources` means several pictures.
    """
    detection_set = matches.detection_set
    if sources is None:
        names = [
            sample.stem.partition("_")[0] if "_" in sample.stem else "" for sample in detection_set.samples
        ]
        counts = Counter(names)
        if not 1 < len(counts) <= min(MAX_SOURCES, len(names) // 2):
            return []
    else:
        names = _sources_of(detection_set, sources)
    groups: dict[str, list[int]] = {}
    for number, name in enumerate(names):
        groups.setdefault(name or "(no prefix)", []).append(number)
    return _of_groups(matches, dict(sorted(groups.items()))) if len(groups) > 1 else []


def _sources_of(detection_set: DetectionSet, sources: Mapping[str, str]) -> list[str]:
    names = name_index([detection_set])
    found: dict[Path, str] = {}
    problems = []
    for name, source in sources.items():
        samples = names.find(name)
        if len(samples) > 1:
            problems.append(names.ambiguous(name))
        found |= {sample.image_path: source for sample in samples}
    if problems:
        raise DataError(problems)
    return [found.get(sample.image_path, "(unknown)") for sample in detection_set.samples]


def read_sources(path: Path) -> dict[str, str]:
    """Stem → source, from a CSV or TSV file with the columns `stem` and `source` (or `set`).

    Raises:
        DataError: it cannot be read, or lacks a column.
    """
    with reading(path, DataError, "give a CSV or TSV file"):
        (_, columns), *rows = list(read_rows(path)) or [(1, [])]
    column = next((name for name in ("source", "set") if name in columns), None)
    if "stem" not in columns or column is None:
        shown = ", ".join(columns) or "none"
        raise DataError([f"{path}: its columns are {shown}; write stem and source in the first line"])
    if short := [line for line, row in rows if len(row) < len(columns)]:
        raise DataError([f"{path}:{line}: has less than {len(columns)} columns; add them" for line in short])
    stem, source = columns.index("stem"), columns.index(column)
    return {row[stem]: row[source] for _, row in rows}


def _faces(detection_set: DetectionSet) -> list[int]:
    """Boxes to be found in each picture."""
    return [len(sample.counted()) for sample in detection_set.samples]


def _of_groups(matches: Matches, groups: Mapping[str, Sequence[int]]) -> list[Slice]:
    faces = _faces(matches.detection_set)
    slices = []
    for name, indices in groups.items():
        weights = np.zeros(len(faces), np.int64)
        weights[list(indices)] = 1
        ap50 = weighted_scores(matches, weights)["AP50"]
        boxes = sum(faces[index] for index in indices)
        slices.append(Slice(name, len(indices), boxes, None if math.isnan(ap50) else ap50))
    return slices
