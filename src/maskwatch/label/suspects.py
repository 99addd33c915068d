"""Suspects: labels that the model contradicts, or that a file names; and what was decided about them."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from maskwatch.boxes import box_iou
from maskwatch.data.corrections import COLUMNS, SAME_BOX, read_corrections
from maskwatch.data.dataset import CROWD, DetectionSet, Sample
from maskwatch.data.formats.base import shortest
from maskwatch.data.issues import Box
from maskwatch.data.names import NameIndex
from maskwatch.errors import DataError
from maskwatch.evaluation.errors import outcomes
from maskwatch.evaluation.suspects import BOX_OF_DETECTION, SUSPECTS_FILE, suspects
from maskwatch.label.annotation import Annotation, LabelBox, short_hash
from maskwatch.label.errors import ConflictError
from maskwatch.label.jsonl import JsonLines
from maskwatch.label.project import LabelPicture
from maskwatch.label.proposals import Prediction
from maskwatch.labels import ClassMap
from maskwatch.outputs import durable_append

if TYPE_CHECKING:
    import supervision as sv

ALIKE = 0.5
"""IoU from which two suspects of a kind are one: a model that was trained again moves its boxes a little."""


@dataclass(frozen=True)
class LabelSuspect:
    """A label to look at.

    Attributes:
        kind: as in a corrections file: "missing", "class", "box" or "no_face".
        box_xyxy: of the label; of the model for "missing" and "box".
        label, answer: class of the label and that of the model; None for none.
        score: of the model's detection; None if it comes from a file.
    """

    image_id: str
    kind: str
    box_xyxy: Box
    label: str | None
    answer: str | None
    score: float | None

    @property
    def id(self) -> str:
        """The same as long as picture, kind, classes and box are."""
        place = ",".join(str(round(value)) for value in self.box_xyxy)
        return short_hash(f"{self.image_id}|{self.kind}|{self.label}|{self.answer}|{place}".encode())


def computed_suspects(
    picture: LabelPicture,
    annotation: Annotation,
    size_hw: tuple[int, int],
    prediction: Prediction,
    classes: ClassMap,
    thresholds: Sequence[float],
) -> list[LabelSuspect]:
    """The labels of a picture that the model contradicts, as `maskwatch evaluate --suspects` finds them.

    Args:
        thresholds: of the model, one for each class of the project.
    """
    sample = _sample(picture, annotation, size_hw, classes)
    detection_set = DetectionSet(classes.names, (sample,))
    found = cast("list[sv.Detections]", [prediction.found])  # importing supervision takes a second
    wrong = suspects(detection_set, found, outcomes(detection_set, found, thresholds))
    return [
        LabelSuspect(
            picture.image_id, s.fault, s.box_xyxy, s.label_name or None, s.class_name or None, s.score
        )
        for s in wrong
    ]


def _sample(
    picture: LabelPicture, annotation: Annotation, size_hw: tuple[int, int], classes: ClassMap
) -> Sample:
    """The labels as a sample; a box of an unknown class is an ignore region."""
    boxes = annotation.boxes
    ids = [classes.find(box.name) for box in boxes]
    return Sample(
        picture.path,
        picture.annotation,
        size_hw,
        np.array([box.box_xyxy for box in boxes], np.float32).reshape(-1, 4),
        np.array([0 if found is None else found for found in ids], np.int64),
        np.array([box.difficult or i is None for box, i in zip(boxes, ids, strict=True)], np.bool_),
        tuple({CROWD: "1"} if box.crowd else {} for box in boxes),
    )


def read_suspects(
    path: Path, pictures: Sequence[LabelPicture], classes: ClassMap
) -> dict[str, list[LabelSuspect]]:
    """The suspects of a file as `maskwatch evaluate --suspects` writes it, by picture.

    Args:
        path: of the file, or of the report that it is in.

    Raises:
        DataError: the file cannot be read, or none of its pictures is in the folder.
    """
    if path.is_dir():
        path = path / SUSPECTS_FILE
    index = NameIndex((p, p.image_id, _other_names(p)) for p in pictures)
    found: dict[str, list[LabelSuspect]] = defaultdict(list)
    problems = []
    for one in read_corrections(path, classes):
        named = index.find(one.picture, loose=True)
        if len(named) > 1:
            problems.append(f"{one.where}: {index.ambiguous(one.picture)}")
        elif named:
            x0, y0, x1, y1 = (float(value) for value in one.box_xyxy)
            answer = None if one.class_id is None else classes.names[one.class_id]
            name = named[0].image_id
            found[name].append(LabelSuspect(name, one.kind, (x0, y0, x1, y1), None, answer, None))
    if not found and not problems:
        problems.append(f"{path}: names none of these pictures; check the file and the folder")
    if problems:
        raise DataError(problems)
    return found


def _other_names(picture: LabelPicture) -> list[Path]:
    own = [] if picture.format == "coco" else [picture.annotation.absolute()]
    return [picture.path.absolute(), *own]


def fitting(listed: Iterable[LabelSuspect], annotation: Annotation) -> list[LabelSuspect]:
    """The suspects of a file that fit the labels as they are now, with the class of the label."""
    fit = []
    for one in listed:
        label = _label_of(one, annotation.boxes)
        if one.kind == "missing":
            if label is None:
                fit.append(one)
        elif label is not None and not (one.kind == "class" and label.name == one.answer):
            fit.append(replace(one, label=label.name))
    return fit


def _label_of(suspect: LabelSuspect, boxes: Sequence[LabelBox]) -> LabelBox | None:
    """The label that a suspect is about; for "missing", one that is there already."""
    if not boxes:
        return None
    ious = box_iou(np.array([box.box_xyxy for box in boxes]), np.array([suspect.box_xyxy]))[:, 0]
    index = int(ious.argmax())
    least = {"box": 1e-9, "missing": ALIKE}.get(suspect.kind, SAME_BOX)
    return boxes[index] if ious[index] >= least else None


def answered(suspect: LabelSuspect, boxes: Sequence[LabelBox]) -> list[LabelBox]:
    """The boxes with the model's answer instead of the label.

    Raises:
        ConflictError: the label is not there any more.
    """
    label = _label_of(suspect, boxes)
    if suspect.kind == "missing":
        return [*boxes, LabelBox(suspect.box_xyxy, suspect.answer or "")]
    if label is None:
        raise ConflictError(f"{suspect.image_id}: the label of this suspect has changed; look at it again")
    if suspect.kind == "no_face":
        return [box for box in boxes if box is not label]
    box_xyxy = suspect.box_xyxy if suspect.kind == "box" else label.box_xyxy
    new = replace(label, box_xyxy=box_xyxy, name=suspect.answer or label.name)
    return [new if box is label else box for box in boxes]


_KEYS = ("image_id", "kind", "box_xyxy", "label", "answer", "score")


class Decisions:
    """What was decided about suspects, so that none is asked about again.

    Args:
        path: of the file, which may not exist.
    """

    def __init__(self, path: Path) -> None:
        self._rows = JsonLines(path, _KEYS)
        self._made: dict[str, list[LabelSuspect]] = defaultdict(list)

    def open(self, found: Iterable[LabelSuspect]) -> list[LabelSuspect]:
        """The suspects that nothing was decided about."""
        self._read()
        return [one for one in found if not any(_is_same(one, made) for made in self._made[one.image_id])]

    def add(
        self, suspect: LabelSuspect, decision: str, by: str | None = None, reason: str | None = None
    ) -> None:
        """Remembers a decision; who made it and why are left out where they are not known. Raises OSError."""
        more = {key: text for key, text in (("by", by), ("reason", reason)) if text}
        self._rows.append(
            {
                "image_id": suspect.image_id,
                "kind": suspect.kind,
                "box_xyxy": list(suspect.box_xyxy),
                "label": suspect.label,
                "answer": suspect.answer,
                "score": suspect.score,
                "decision": decision,
                "time": datetime.now().astimezone().isoformat(timespec="seconds"),
                **more,
            }
        )

    def _read(self) -> None:
        for row in self._rows.new_rows():
            image_id, kind, box, label, answer, score = (row[key] for key in _KEYS)
            suspect = LabelSuspect(image_id, kind, cast(Box, tuple(box)), label, answer, score)
            self._made[image_id].append(suspect)


def _is_same(one: LabelSuspect, other: LabelSuspect) -> bool:
    if (one.kind, one.answer, one.label) != (other.kind, other.answer, other.label):
        return False
    return float(box_iou(np.array([one.box_xyxy]), np.array([other.box_xyxy]))[0, 0]) >= ALIKE


def append_correction(path: Path, suspect: LabelSuspect) -> None:
    """Adds a line to a corrections file, with the head if the file is new. Raises OSError."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    before = path.read_bytes() if path.exists() else b""
    if not before.strip():
        rows.writerow(COLUMNS)
    elif not before.endswith((b"\n", b"\r")):  # as editors leave it
        text.write("\n")
    exact = suspect.kind not in BOX_OF_DETECTION
    corners = [shortest(value if exact else round(value, 2)) for value in suspect.box_xyxy]
    rows.writerow([suspect.image_id, suspect.kind, suspect.answer or "", *corners])
    path.parent.mkdir(parents=True, exist_ok=True)
    durable_append(path, text.getvalue().encode())
