"""AP50 for comparisons within a diagnosis: of any class against any other, on boxes as written.

The area under the precision envelope at all points; COCO's own number, at 101 recalls, is within 0.01 of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from maskwatch.data import DetectionSet
from maskwatch.evaluation.matching import ranked

if TYPE_CHECKING:
    import supervision as sv


def any_class(detection_set: DetectionSet) -> DetectionSet:
    """The set with all boxes in one class."""
    samples = (replace(s, class_ids=np.zeros_like(s.class_ids)) for s in detection_set.samples)
    return DetectionSet(("any",), tuple(samples))


def as_class(predictions: Sequence[sv.Detections], found: int | None, wanted: int) -> list[sv.Detections]:
    """Predictions of class `found` (None: of any) under the id `wanted`; the others are left out."""
    renamed = []
    for one in predictions:
        assert one.class_id is not None
        kept = np.ones(len(one), bool) if found is None else one.class_id == found
        chosen = one[kept]
        assert isinstance(chosen, type(one))
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
    return ap50(any_class(detection_set), as_class(predictions, None, 0), 0)
