"""Labels that look wrong, for a person to decide whether the label or the model is."""

from __future__ import annotations

import csv
import io
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from maskwatch.boxes import box_iou
from maskwatch.data.corrections import COLUMNS
from maskwatch.data.dataset import DetectionSet, Sample, file_names, name_index
from maskwatch.data.formats.base import shortest
from maskwatch.data.formats.voc import voc_xml
from maskwatch.data.names import NameIndex, without_suffix
from maskwatch.evaluation.errors import Outcome
from maskwatch.outputs import make_folder, new_file, new_folder, output_errors

if TYPE_CHECKING:
    import supervision as sv

SUSPECTS_FILE = "suspects.csv"
"""In the folder of a report."""

CONFIDENT = 0.6
"""From this score on, a detection that contradicts the labels is as likely to be right as they are."""

UNSEEN = 0.05
"""A labelled face without a detection of this score may be no face."""

_FAULTS: dict[str, str] = {"false_positive": "missing", "class": "class", "localization": "box"}

BOX_OF_DETECTION = ("missing", "box")
"""Values of `fault` with the box of the detection; the others have that of the label, which corrections look
for."""


@dataclass(frozen=True)
class Suspect:
    """A label to look at.

    `fault`: as in a corrections file, "missing", "class", "box" or "no_face"; class_name: class of the
    detection, "" for none; label_name: class of the label, "" for none; box_xyxy: pixels, of the label, or of
    the detection (`BOX_OF_DETECTION`); score: of the detection.
    """

    picture: int
    fault: str
    class_name: str
    label_name: str
    box_xyxy: tuple[float, float, float, float]
    score: float


def suspects(
    detection_set: DetectionSet, predictions: Sequence[sv.Detections], outcomes: Sequence[Outcome]
) -> list[Suspect]:
    """The labels that the outcomes contradict, highest score first.

    A confident detection without a label, one of another class than the label, one beside the label, and a
    labelled face without even a weak detection.
    """
    names = detection_set.class_names
    found = []
    for outcome in outcomes:
        fault = fault_of(outcome)
        if fault is None:
            continue
        labelled_xyxy = detection_set.samples[outcome.picture].boxes_xyxy
        if fault in BOX_OF_DETECTION:
            box_xyxy = predictions[outcome.picture].xyxy[outcome.detection]
            if fault == "box" and box_iou(labelled_xyxy, box_xyxy[None])[:, 0].argmax() != outcome.truth:
                continue  # the correction would change another label
        else:
            box_xyxy = labelled_xyxy[outcome.truth]
        label = "" if outcome.truth_class is None else names[outcome.truth_class]
        name = "" if outcome.found_class is None else names[outcome.found_class]
        x0, y0, x1, y1 = (float(value) for value in box_xyxy)
        found.append(Suspect(outcome.picture, fault, name, label, (x0, y0, x1, y1), outcome.score))
    return sorted(found, key=lambda suspect: (suspect.fault == "no_face", -suspect.score))


def fault_of(outcome: Outcome) -> str | None:
    """What may be wrong with the label, as `Suspect.fault`; None where the model is."""
    if outcome.kind == "false_negative":
        return "no_face" if outcome.score < UNSEEN else None
    return _FAULTS.get(outcome.kind) if outcome.score >= CONFIDENT else None


def write_suspects(
    detection_set: DetectionSet, found: Sequence[Suspect], target: Path, *, force: bool
) -> None:
    """Writes a .csv file that `--corrections` reads, or a folder of Pascal VOC XML.

    In the XML, <name> is the class of the detection (for "no_face", of the label); <suspect>, <label> and
    <score> give the reason.

    Raises:
        OutputError: the target exists and `force` is not given, or it cannot be written.
    """
    if target.suffix.lower() == ".csv":
        with new_file(target) as part:
            part.write_text(suspects_csv([(detection_set, found)]), encoding="utf-8")
        return
    with new_folder(target, force=force) as folder:
        names = file_names(detection_set)
        for picture in sorted({suspect.picture for suspect in found}):
            sample = _as_sample(detection_set, [suspect for suspect in found if suspect.picture == picture])
            path = folder / f"{without_suffix(names[picture])}.xml"
            root = ET.fromstring(voc_xml(sample, detection_set.class_names))
            ET.SubElement(root, "path").text = str(sample.image_path.absolute())
            ET.indent(root)
            make_folder(path.parent)
            with output_errors(path):
                path.write_bytes(ET.tostring(root, encoding="utf-8") + b"\n")


def suspects_csv(parts: Sequence[tuple[DetectionSet, Sequence[Suspect]]]) -> str:
    """The text of a file that `--corrections` reads; each name fits one picture of all sets."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(COLUMNS)
    found_rows: dict[tuple[str, ...], None] = {}
    names = name_index([detection_set for detection_set, _ in parts])
    for detection_set, suspect in ((a_set, suspect) for a_set, found in parts for suspect in found):
        exact = suspect.fault not in BOX_OF_DETECTION
        corners = [shortest(value if exact else round(value, 2)) for value in suspect.box_xyxy]
        name = "" if suspect.fault == "no_face" else suspect.class_name
        picture = _shortest_name(detection_set.samples[suspect.picture], names)
        found_rows[picture, suspect.fault, name, *corners] = None  # once, though a set may be given twice
    rows.writerows(found_rows)
    return text.getvalue()


def _shortest_name(sample: Sample, names: NameIndex[Sample]) -> str:
    """The shortest name that identifies a sample; in merged sets, two pictures may have one name."""
    for name in (without_suffix(sample.image_id), sample.image_id):
        if {found.image_path for found in names.find(name)} == {sample.image_path}:
            return name
    return str(sample.image_path.absolute())


def _as_sample(detection_set: DetectionSet, found: Sequence[Suspect]) -> Sample:
    names = detection_set.class_names
    notes = tuple(
        {"suspect": suspect.fault, "label": suspect.label_name or "none", "score": f"{suspect.score:.3f}"}
        for suspect in found
    )
    return replace(
        detection_set.samples[found[0].picture],
        boxes_xyxy=np.array([s.box_xyxy for s in found], np.float32),
        class_ids=np.array([names.index(s.class_name or s.label_name) for s in found], np.int64),
        difficult=np.zeros(len(found), np.bool_),
        notes=notes,
    )
