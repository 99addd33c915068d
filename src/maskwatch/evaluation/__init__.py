"""How good a detector is: COCO numbers, measured with pycocotools."""

from __future__ import annotations

from maskwatch.evaluation.coco import ClassScore, CocoResult, coco_evaluate
from maskwatch.evaluation.intervals import Interval, bootstrap_intervals
from maskwatch.evaluation.predictor import DetectorLike, predict

__all__ = [
    "ClassScore",
    "CocoResult",
    "DetectorLike",
    "Interval",
    "bootstrap_intervals",
    "coco_evaluate",
    "predict",
]
