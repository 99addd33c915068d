"""All checks of one model on one data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from maskwatch.data import DetectionSet
from maskwatch.diagnosis.anchors import check_anchors
from maskwatch.diagnosis.boxes import check_positions, check_units
from maskwatch.diagnosis.check import Finding
from maskwatch.diagnosis.classes import check_head, check_names, check_order
from maskwatch.diagnosis.predictions import check_channels
from maskwatch.diagnosis.raw_dataset import read_raw_dataset
from maskwatch.diagnosis.target import Target, open_target
from maskwatch.diagnosis.training_run import check_losses, check_overfit
from maskwatch.evaluation.predictor import in_batches
from maskwatch.labels import ClassMap
from maskwatch.media.images import UInt8Array

if TYPE_CHECKING:
    import supervision as sv

PICTURES = 64
"""Pictures on which the model runs, twice."""


def diagnose(
    model: str,
    data: Sequence[Path],
    classes: ClassMap | None = None,
    *,
    pictures: int = PICTURES,
    overfit: bool = False,
    seed: int = 1,
) -> list[Finding]:
    """Checks for what usually makes a score bad.

    Args:
        model: folder of a run, checkpoint, model file, or name of an embedded model.
        data: data sets as they are, with their errors; all splits of each.
        classes: how annotated names map to classes; None for the names of the model.
        pictures: the model runs on at most so many, chosen at random.
        overfit: also try to overfit eight pictures, which takes a minute or two on a CPU.
        seed: of the choice.

    Raises:
        CheckpointError, ModelFileError: the model cannot be read.
        DataError: the data sets hold no picture with a box.
        ImageError: a picture cannot be read.
    """
    target = open_target(model)
    class_map = classes or (ClassMap(target.class_names) if target.class_names else ClassMap())
    raw = read_raw_dataset(data, class_map)
    checks = [
        check_losses(target.events),
        check_head(target.head_classes, target.class_names),
        check_names(raw, target.class_names or class_map.names),
        check_units(raw.detection_set),
        *_run_checks(target, raw.sample(pictures, seed)),
        check_anchors(raw.detection_set, target.recipe),
    ]
    if overfit:
        start = target.source if target.detector else None
        checks.append(check_overfit(raw.detection_set, start, target.recipe))
    return checks


def _run_checks(target: Target, detection_set: DetectionSet) -> list[Finding]:
    """Those that need predictions."""
    detector = target.detector
    if detector is None:
        skipped = ("class order", "box places", "channel order")
        return [Finding(name, "skipped", "there are no weights to run") for name in skipped]

    def run_bgr(images: list[UInt8Array]) -> list[sv.Detections]:
        return detector([np.ascontiguousarray(image[..., ::-1]) for image in images])

    predictions, swapped = in_batches(detector, detection_set), in_batches(run_bgr, detection_set)
    known = detection_set.class_names
    ids = [known.index(name) if name in known else None for name in target.class_names]
    return [
        check_order(detection_set, predictions, target.class_names),
        check_positions(detection_set, predictions, target.to_original),
        check_channels(detection_set, predictions, swapped, ids),
    ]
