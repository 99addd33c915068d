"""AP50 of parts of a data set: by size of the face, by number of faces in the picture, by source."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from maskwatch.data.dataset import DetectionSet, Sample, name_index
from maskwatch.errors import DataError
from maskwatch.evaluation.coco import accumulate, compare, iou_index, mean_known
from maskwatch.evaluation.tally import Tally
from maskwatch.text import read_rows, reading

if TYPE_CHECKING:
    import supervision as sv

FACE_SIDES = (0, 16, 32, 96, 100_000)
"""Edges, pixels of the picture, of the root of the box's area."""

CROWDS = ((1, 1), (2, 4), (5, 9), (10, 10_000))
MOST_SOURCES = 8
"""File names with more prefixes than this are not named after their source."""


@dataclass(frozen=True)
class Slice:
    """AP50 of one part; None where it holds no box."""

    name: str
    pictures: int
    boxes: int
    ap50: float | None


def by_size(detection_set: DetectionSet, predictions: Sequence[sv.Detections]) -> list[Slice]:
    """By size of the face; pictures are all that hold one of the size."""
    areas = [(low**2, high**2) for low, high in zip(FACE_SIDES[:-1], FACE_SIDES[1:], strict=True)]  # noqa: RUF007
    evaluation = compare(detection_set, predictions, [(0, FACE_SIDES[-1] ** 2), *areas])
    accumulate(evaluation)
    half = iou_index(evaluation, 0.5)
    sides = [
        (sample.boxes_xyxy[:, 2:] - sample.boxes_xyxy[:, :2]).prod(1)
        for sample in map(Sample.counted, detection_set.samples)
    ]
    slices = []
    for number, (low, high) in enumerate(areas, start=1):
        inside = [int(((area >= low) & (area < high)).sum()) for area in sides]
        name = f"{FACE_SIDES[number - 1]} to {FACE_SIDES[number]} px"
        if number == len(areas):
            name = f"from {FACE_SIDES[number - 1]} px"
        ap50 = mean_known(evaluation.eval["precision"][half, :, :, number, -1])
        slices.append(Slice(name, sum(map(bool, inside)), sum(inside), ap50))
    return slices


def by_crowd(detection_set: DetectionSet, predictions: Sequence[sv.Detections]) -> list[Slice]:
    """By number of labelled faces in the picture; pictures without any are in none."""
    groups = {}
    for low, high in CROWDS:
        name = f"{low} face" if low == high == 1 else f"{low} to {high} faces"
        name = f"from {low} faces" if high == CROWDS[-1][1] else name
        groups[name] = [n for n, faces in enumerate(_faces(detection_set)) if low <= faces <= high]
    return _of_groups(detection_set, predictions, groups)


def by_source(
    detection_set: DetectionSet,
    predictions: Sequence[sv.Detections],
    sources: Mapping[str, str] | None = None,
) -> list[Slice]:
    """By source of the pictures; [] where there is one only.

    Args:
        detection_set, predictions: as for `coco_evaluate`.
        sources: name of a picture (see `Sample.image_id`) → source; None takes what stands before the first
            "_" of the file names, if there are few of these.

    Raises:
        DataError: a name of `sources` means several pictures.
    """
    if sources is None:
        names = [
            sample.stem.partition("_")[0] if "_" in sample.stem else "" for sample in detection_set.samples
        ]
        counts = Counter(names)
        if not 1 < len(counts) <= min(MOST_SOURCES, len(names) // 2):
            return []
    else:
        names = _sources_of(detection_set, sources)
    groups: dict[str, list[int]] = {}
    for number, name in enumerate(names):
        groups.setdefault(name or "(no prefix)", []).append(number)
    return _of_groups(detection_set, predictions, dict(sorted(groups.items()))) if len(groups) > 1 else []


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


def _of_groups(
    detection_set: DetectionSet, predictions: Sequence[sv.Detections], groups: Mapping[str, Sequence[int]]
) -> list[Slice]:
    tally, faces = Tally.of(detection_set, predictions), _faces(detection_set)
    slices = []
    for name, indices in groups.items():
        weights = np.zeros(len(detection_set), np.int64)
        weights[list(indices)] = 1
        ap50 = tally.scores(weights)["AP50"]
        boxes = sum(faces[index] for index in indices)
        slices.append(Slice(name, len(indices), boxes, None if math.isnan(ap50) else ap50))
    return slices
