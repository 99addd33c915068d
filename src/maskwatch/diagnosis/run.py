"""All checks of one model on one data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from maskwatch.data import DetectionSet
from maskwatch.diagnosis.anchors import check_anchors
from maskwatch.diagnosis.boxes import Boxes, Change, check_places, check_units
from maskwatch.diagnosis.channels import check_channels, look
from maskwatch.diagnosis.check import Check
from maskwatch.diagnosis.classes import check_head, check_names, check_order
from maskwatch.diagnosis.curves import check_losses
from maskwatch.diagnosis.overfit import check_overfit
from maskwatch.diagnosis.raw_dataset import Evidence, gather
from maskwatch.diagnosis.target import Subject, open_subject
from maskwatch.labels import ClassMap

PICTURES = 64
"""Pictures that the model is run on, twice."""

_NO_MODEL = "there are no weights that can be run"


def diagnose(
    model: str,
    data: Sequence[Path],
    classes: ClassMap | None = None,
    *,
    pictures: int = PICTURES,
    overfit: bool = False,
    seed: int = 1,
) -> list[Check]:
    """Looks for what usually makes a score bad.

    Args:
        model: folder of a run, checkpoint, model file, or name of an embedded model.
        data: data sets, faults and all; of each all splits.
        classes: how annotated names map to classes; None takes the model's names.
        pictures: at most so many are looked at by the model, drawn by chance.
        overfit: also try to learn eight pictures by heart, which takes a minute or two on a CPU.
        seed: of the draw.

    Raises:
        CheckpointError, ModelFileError: the model cannot be read.
        DataError: the data sets hold no picture with a box.
        ImageError: a picture cannot be read.
    """
    subject = open_subject(model)
    class_map = classes or (ClassMap(subject.class_names) if subject.class_names else ClassMap())
    evidence = gather(data, class_map)
    checks = [
        check_losses(subject.events),
        check_head(subject.head_classes, subject.class_names),
        check_names(evidence, subject.class_names or class_map.names),
        check_units(evidence.detection_set),
        *_run_checks(subject, evidence.sample(pictures, seed)),
        check_anchors(_boxed(evidence), subject.recipe),
    ]
    if overfit:
        start = subject.source if subject.detector else None
        checks.append(check_overfit(evidence.detection_set, start, subject.recipe))
    return checks


def _run_checks(subject: Subject, detection_set: DetectionSet) -> list[Check]:
    """Those that need predictions."""
    names = subject.class_names
    if subject.detector is None:
        return [Check(name, "skipped", _NO_MODEL) for name in ("class order", "box places", "channel order")]
    predictions = look(subject.detector, detection_set)
    swapped = look(subject.detector, detection_set, swapped=True)
    known = detection_set.class_names
    ids = [known.index(name) if name in known else None for name in names]
    return [
        check_order(detection_set, predictions, names),
        check_places(detection_set, predictions, _from_canvas(subject)),
        check_channels(detection_set, predictions, swapped, ids),
    ]


def _from_canvas(subject: Subject) -> Change:
    """From pixels of the network's input to those of the picture."""

    def change(boxes: Boxes, size_hw: tuple[int, int]) -> Boxes:
        assert subject.input_hw is not None
        ratios = [size / side for size, side in zip(size_hw, subject.input_hw, strict=True)]
        y, x = (max(ratios), max(ratios)) if subject.resize == "letterbox" else ratios
        return boxes * np.array([x, y, x, y], np.float32)

    return change


def _boxed(evidence: Evidence) -> DetectionSet:
    a_set = evidence.detection_set
    return DetectionSet(a_set.class_names, tuple(sample for sample in a_set.samples if len(sample)))
