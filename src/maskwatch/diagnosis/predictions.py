"""AP50 for the checks, and whether the model learnt red and blue swapped.

AP50 compares any class with any other, on boxes as written. It is the area under the precision envelope at
all points, within 0.01 of COCO's, which samples 101 recalls.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from maskwatch.data import DetectionSet
from maskwatch.diagnosis.check import Finding, state_of_gain
from maskwatch.evaluation.matching import ranked

if TYPE_CHECKING:
    import supervision as sv

# Gains in AP50. A sound model loses by the swap (the embedded one 0.2 of 0.73), and both are measured on the
# same pictures, so that even a small gain is significant.
CLEAR_SWAP_GAIN = 0.05
SLIGHT_SWAP_GAIN = 0.02


def as_class(predictions: Sequence[sv.Detections], found: int | None, wanted: int) -> list[sv.Detections]:
    """Predictions of class `found` (None: of any class) with the id `wanted`, without the others."""
    renamed = []
    for detections in predictions:
        assert detections.class_id is not None
        kept = np.ones(len(detections), bool) if found is None else detections.class_id == found
        chosen = detections[kept]
        assert isinstance(chosen, type(detections))
        renamed.append(replace(chosen, class_id=np.full(len(chosen), wanted)))
    return renamed


def ap50(detection_set: DetectionSet, predictions: Sequence[sv.Detections], class_id: int) -> float:
    """AP at IoU 0.5 of one class; 0 where it has no ground truth."""
    _, hits, truths = ranked(detection_set, predictions, class_id)
    if not truths or not len(hits):
        return 0.0
    true = np.cumsum(hits)
    precision = true / np.arange(1, len(hits) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float((envelope * hits).sum() / truths)


def ap50_any(detection_set: DetectionSet, predictions: Sequence[sv.Detections]) -> float:
    """AP at IoU 0.5 with all classes taken as one: whether boxes are where faces are."""
    samples = (replace(s, class_ids=np.zeros_like(s.class_ids)) for s in detection_set.samples)
    return ap50(DetectionSet(("any",), tuple(samples)), as_class(predictions, None, 0), 0)


def check_channels(
    detection_set: DetectionSet,
    predictions: Sequence[sv.Detections],
    swapped: Sequence[sv.Detections],
    ids: Sequence[int | None],
) -> Finding:
    """Mean AP50 as the pictures are, and with red and blue swapped.

    Args:
        ids: for each class of the model that of the data; None where it has none.
    """
    now, then = (_mean(detection_set, each, ids) for each in (predictions, swapped))
    values = {"AP50": now, "AP50 swapped": then}
    text = f"AP50 {now:.3f}, {then:.3f} with red and blue swapped"
    state = state_of_gain(then - now, CLEAR_SWAP_GAIN, SLIGHT_SWAP_GAIN)
    if state == "ok":
        return Finding("channel order", state, text, values=values)
    advice = "the model learnt BGR: read pictures as RGB where it is trained or exported"
    return Finding("channel order", state, text, advice, values)


def _mean(
    detection_set: DetectionSet, predictions: Sequence[sv.Detections], ids: Sequence[int | None]
) -> float:
    counts = list(detection_set.class_counts().values())
    known = [(found, own) for found, own in enumerate(ids) if own is not None and counts[own]]
    scores = [ap50(detection_set, as_class(predictions, found, own), own) for found, own in known]
    return float(np.mean(scores)) if scores else 0.0
