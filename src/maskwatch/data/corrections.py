"""Corrections of labels: a CSV file of what a person found wrong, beside annotations that stay as they are.

Columns `picture,fault,class,xmin,ymin,xmax,ymax`, one fault a line, corners in pixels of the picture:

- `class`: the label at this box has the wrong class; `class` is the right one.
- `box`: the label that overlaps this box most has wrong edges; it gets this box and `class`.
- `missing`: a face without a label; it gets this box and `class`.
- `no_face`: the label at this box is of no face and goes; `class` stays empty.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from maskwatch.data.dataset import DetectionSet, Sample
from maskwatch.errors import DataError, LabelError
from maskwatch.labels import ClassMap
from maskwatch.text import read_rows, reason_of

COLUMNS = ("picture", "fault", "class", "xmin", "ymin", "xmax", "ymax")
FAULTS = ("class", "box", "missing", "no_face")
# Least IoU of the box of `class` and `no_face` with the label that is meant: it was copied from there.
SAME_BOX = 0.9


@dataclass(frozen=True)
class Correction:
    """One line of the file.

    where: file and line, for messages; stem: of the picture; fault: one of `FAULTS`; box_xyxy: (4,) float32
    pixels; class_id: None for `no_face`.
    """

    where: str
    stem: str
    fault: str
    box_xyxy: npt.NDArray[np.float32]
    class_id: int | None


def read_corrections(path: str | Path, classes: ClassMap | None = None) -> tuple[Correction, ...]:
    """Reads a file of corrections.

    Raises:
        DataError: the file cannot be read, or names every line that is wrong.
    """
    class_map = classes or ClassMap()
    try:
        (_, columns), *rows = list(read_rows(path)) or [(1, [])]
    except (OSError, ValueError) as error:
        reason = reason_of(error)
        raise DataError([f"{path}: cannot be read ({reason}); give a CSV file of corrections"]) from None
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


def _parse(row: list[str], where: str, classes: ClassMap) -> Correction:
    if len(row) != len(COLUMNS):
        raise ValueError(f"has {len(row)} columns; write {','.join(COLUMNS)}")
    stem, fault, name, *corners = row
    if fault not in FAULTS:
        raise ValueError(f"fault {fault!r} is not one of {', '.join(FAULTS)}; choose one")
    try:
        with np.errstate(over="ignore"):
            box = np.array(corners, dtype=np.float32)
    except ValueError:
        raise ValueError(f"corners {','.join(corners)} are no numbers; write pixels") from None
    if not (np.isfinite(box).all() and (box[2:] > box[:2]).all()):
        raise ValueError(f"corners {','.join(corners)} span no box; write xmin,ymin,xmax,ymax")
    return Correction(where, stem, fault, box, None if fault == "no_face" else classes.id_of(name))


def correct(detection_set: DetectionSet, corrections: Sequence[Correction]) -> DetectionSet:
    """The set with its labels corrected; corrections of pictures that it does not hold are passed over.

    Raises:
        DataError: names every correction whose label is not there, so that a file for other annotations is
            noticed.
    """
    of_picture: dict[str, list[Correction]] = {}
    for correction in corrections:
        of_picture.setdefault(correction.stem, []).append(correction)
    problems: list[str] = []
    samples = []
    for sample in detection_set.samples:
        for correction in of_picture.get(sample.stem, ()):
            try:
                sample = _corrected(sample, correction)
            except ValueError as error:
                problems.append(f"{correction.where}: {sample.image_path.name}: {error}")
        samples.append(sample)
    if problems:
        raise DataError(problems)
    return DetectionSet(detection_set.class_names, tuple(samples))


def _corrected(sample: Sample, correction: Correction) -> Sample:
    boxes, class_ids = sample.boxes_xyxy.copy(), sample.class_ids.copy()
    height, width = sample.size_hw
    box = correction.box_xyxy.clip(0, np.array([width, height] * 2, np.float32))
    if (box[2:] <= box[:2]).any():
        raise ValueError(f"the box is outside the picture of {width}x{height}; correct the corners")
    if correction.fault == "missing":
        return replace(
            sample,
            boxes_xyxy=np.concatenate([boxes, box[None]]),
            class_ids=np.append(class_ids, np.int64(correction.class_id or 0)),
            difficult=np.append(sample.difficult, False),
            notes=(*sample.notes, {}) if sample.notes else (),
        )
    index, iou = _nearest(boxes, box)
    if iou < SAME_BOX if correction.fault != "box" else iou <= 0:
        raise ValueError(
            f"no label at {', '.join(f'{corner:g}' for corner in correction.box_xyxy)}; "
            "are these the annotations that the file was made for?"
        )
    if correction.fault == "no_face":
        kept = np.arange(len(boxes)) != index
        return replace(
            sample,
            boxes_xyxy=boxes[kept],
            class_ids=class_ids[kept],
            difficult=sample.difficult[kept],
            notes=tuple(note for number, note in enumerate(sample.notes) if kept[number]),
        )
    assert correction.class_id is not None
    class_ids[index] = correction.class_id
    if correction.fault == "box":
        boxes[index] = box
    return replace(sample, boxes_xyxy=boxes, class_ids=class_ids)


def _nearest(boxes_xyxy: npt.NDArray[np.float32], box_xyxy: npt.NDArray[np.float32]) -> tuple[int, float]:
    """Index of the box with the largest IoU, and that IoU; (-1, 0) where there is none."""
    if not len(boxes_xyxy):
        return -1, 0.0
    import supervision as sv

    iou = sv.box_iou_batch(boxes_xyxy, box_xyxy[None])[:, 0]
    return int(iou.argmax()), float(iou.max())
