"""Corrections of labels: a CSV file of label errors, applied while reading; the annotations do not change.

Columns `picture,fault,class,xmin,ymin,xmax,ymax`, one error a line, corners in pixels of the picture. The
picture is a path relative to the image folder, or a unique end of it, with or without suffix. `fault` is:

- `class`: the label at this box has the wrong class; `class` is the right one.
- `box`: the label that overlaps this box most has wrong edges; it gets this box and `class`.
- `missing`: a face without a label; it gets this box and `class`.
- `no_face`: the label at this box is removed; `class` stays empty.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from maskwatch.boxes import box_iou
from maskwatch.data.dataset import DetectionSet, Sample, name_index
from maskwatch.errors import DataError, LabelError
from maskwatch.labels import ClassMap
from maskwatch.text import read_rows, reading

COLUMNS = ("picture", "fault", "class", "xmin", "ymin", "xmax", "ymax")
KINDS = ("class", "box", "missing", "no_face")
# Least IoU of the box of `class` and `no_face` with its label: the box is a copy of the label's.
SAME_BOX = 0.9


@dataclass(frozen=True)
class Correction:
    """One line of the file.

    where: file and line, for messages; picture: its name as written; kind: one of `KINDS`; box_xyxy: (4,)
    float32 pixels; class_id: None for `no_face`.
    """

    where: str
    picture: str
    kind: str
    box_xyxy: npt.NDArray[np.float32]
    class_id: int | None


def read_corrections(path: str | Path, classes: ClassMap | None = None) -> tuple[Correction, ...]:
    """Reads a file of corrections.

    Raises:
        DataError: the file cannot be read, or names every line that is wrong.
    """
    class_map = classes or ClassMap()
    with reading(path, DataError, "give a CSV file of corrections"):
        (_, columns), *rows = [(line, _cells(row)) for line, row in read_rows(path)] or [(1, [])]
    if tuple(columns) != COLUMNS:
        raise DataError([f"{path}:1: the first line must be {','.join(COLUMNS)}"])
    corrections: list[Correction] = []
    problems: list[str] = []
    for line, row in rows:
        where = f"{path}:{line}"
        try:
            corrections.append(_parse(row, where, class_map))
        except (ValueError, LabelError) as error:
            problems.append(f"{where}: {error}")
    if problems:
        raise DataError(problems)
    return tuple(corrections)


def _cells(row: list[str]) -> list[str]:
    """The cells of a row without surrounding blanks, nor empty columns at the end (from spreadsheets)."""
    cells = [cell.strip() for cell in row]
    return cells[: len(COLUMNS)] if not any(cells[len(COLUMNS) :]) else cells


def _parse(row: list[str], where: str, classes: ClassMap) -> Correction:
    if len(row) != len(COLUMNS):
        raise ValueError(f"has {len(row)} columns; write {','.join(COLUMNS)}")
    picture, kind, name, *corners = row
    if kind not in KINDS:
        raise ValueError(f"fault {kind!r} is not one of {', '.join(KINDS)}; choose one")
    try:
        with np.errstate(over="ignore"):
            # A comma in a cell is a decimal comma.
            box = np.array([corner.replace(",", ".") for corner in corners], dtype=np.float32)
    except ValueError:
        raise ValueError(f"corners {','.join(corners)} are not numbers; write pixels") from None
    if not (np.isfinite(box).all() and (box[2:] > box[:2]).all()):
        raise ValueError(f"corners {','.join(corners)} span no box; write xmin,ymin,xmax,ymax")
    return Correction(where, picture, kind, box, None if kind == "no_face" else classes.id_of(name))


def correct(detection_set: DetectionSet, corrections: Sequence[Correction]) -> DetectionSet:
    """The set with its labels corrected; ignores corrections of images that are not in it.

    Raises:
        DataError: names every correction that fits several images, or whose label does not exist (as in a
            file for other annotations).
    """
    (corrected,) = correct_all([detection_set], corrections)
    return corrected


def correct_all(
    sets: Sequence[DetectionSet], corrections: Sequence[Correction], file: Path | None = None
) -> list[DetectionSet]:
    """As `correct`, for sets that are used together: a name must fit one image of them all.

    Args:
        file: of the corrections; if given, it is an error if none fits.
    """
    names = name_index(sets)
    by_image: dict[Path, list[Correction]] = {}
    problems: list[str] = []
    for correction in corrections:
        found = names.find(correction.picture)
        if len(found) > 1:
            problems.append(f"{correction.where}: {names.ambiguous(correction.picture)}")
        elif found:
            by_image.setdefault(found[0].image_path, []).append(correction)
    if file is not None and not by_image and not problems:
        problems.append(f"{file}: corrects none of these pictures; check the file and the data set")
    corrected = []
    for a_set in sets:
        samples = [_all_corrected(s, by_image.get(s.image_path, ()), problems) for s in a_set.samples]
        corrected.append(DetectionSet(a_set.class_names, tuple(samples)))
    if problems:
        raise DataError(problems)
    return corrected


def _all_corrected(sample: Sample, corrections: Iterable[Correction], problems: list[str]) -> Sample:
    for correction in corrections:
        try:
            sample = _corrected(sample, correction)
        except ValueError as error:
            problems.append(f"{correction.where}: {sample.image_id}: {error}")
    return sample


def _corrected(sample: Sample, correction: Correction) -> Sample:
    boxes, class_ids = sample.boxes_xyxy.copy(), sample.class_ids.copy()
    height, width = sample.size_hw
    box = correction.box_xyxy.clip(0, np.array([width, height] * 2, np.float32))
    if (box[2:] <= box[:2]).any():
        raise ValueError(f"the box is outside the picture of {width}x{height}; correct the corners")
    if correction.kind == "missing":
        return replace(
            sample,
            boxes_xyxy=np.concatenate([boxes, box[None]]),
            class_ids=np.append(class_ids, np.int64(correction.class_id or 0)),
            difficult=np.append(sample.difficult, False),
            notes=(*sample.notes, {}) if sample.notes else (),
        )
    ious = box_iou(boxes, box[None])[:, 0] if len(boxes) else np.zeros(1)
    index = int(ious.argmax())
    if ious[index] < SAME_BOX if correction.kind != "box" else ious[index] <= 0:
        raise ValueError(
            f"no label at {', '.join(f'{corner:g}' for corner in correction.box_xyxy)}; "
            "are these the annotations that the file was made for?"
        )
    if correction.kind == "no_face":
        return sample.take(np.arange(len(boxes)) != index)
    assert correction.class_id is not None
    class_ids[index] = correction.class_id
    if correction.kind == "box":
        boxes[index] = box
    return replace(sample, boxes_xyxy=boxes, class_ids=class_ids)
