"""Whether the model was taught red and blue the other way round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from maskwatch.data import DetectionSet
from maskwatch.diagnosis.check import Check, State
from maskwatch.diagnosis.score import ap50
from maskwatch.evaluation.predictor import BATCH_SIZE, DetectorLike
from maskwatch.media.images import read_image

if TYPE_CHECKING:
    import supervision as sv

# Gains in AP50. A sound model loses by the swap (the embedded one 0.2 of 0.73), and both are measured on the
# same pictures, so that a small gain says much.
CLEAR_GAIN = 0.05
SLIGHT_GAIN = 0.02


def look(detector: DetectorLike, detection_set: DetectionSet, swapped: bool = False) -> list[sv.Detections]:
    """Predictions for each picture as it is, or with red and blue swapped.

    Raises:
        ImageError: a picture cannot be read.
    """
    predictions: list[sv.Detections] = []
    for start in range(0, len(detection_set), BATCH_SIZE):
        images = [read_image(s.image_path) for s in detection_set.samples[start : start + BATCH_SIZE]]
        predictions += detector(
            [np.ascontiguousarray(image[..., ::-1]) for image in images] if swapped else images
        )
    return predictions


def check_channels(
    detection_set: DetectionSet,
    predictions: Sequence[sv.Detections],
    swapped: Sequence[sv.Detections],
    ids: Sequence[int | None],
) -> Check:
    """Mean AP50 as the pictures are, and with red and blue swapped.

    Args:
        ids: for each class of the model that of the data; None where it has none.
    """
    now, then = (_mean(detection_set, each, ids) for each in (predictions, swapped))
    values = {"AP50": now, "AP50 swapped": then}
    text = f"AP50 {now:.3f}, {then:.3f} with red and blue swapped"
    gain = then - now
    state: State = "broken" if gain > CLEAR_GAIN else "suspect" if gain > SLIGHT_GAIN else "ok"
    advice = (
        "" if state == "ok" else "the model learnt BGR: read pictures as RGB where it is trained or exported"
    )
    return Check("channel order", state, text, advice, values)


def _mean(
    detection_set: DetectionSet, predictions: Sequence[sv.Detections], ids: Sequence[int | None]
) -> float:
    counts = list(detection_set.class_counts().values())
    known = [class_id for class_id in ids if class_id is not None and counts[class_id]]
    renamed = [_renamed(one, ids) for one in predictions]
    return float(np.mean([ap50(detection_set, renamed, class_id) for class_id in known])) if known else 0.0


def _renamed(found: sv.Detections, ids: Sequence[int | None]) -> sv.Detections:
    assert found.class_id is not None
    table = np.array([-1 if class_id is None else class_id for class_id in ids], np.int64)
    return replace(found, class_id=table[found.class_id])
