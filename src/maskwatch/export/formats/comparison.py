"""Compares a model in another format with the model file that it came from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from maskwatch.errors import ExportError
from maskwatch.export.compare import Boxes, Tolerance, match
from maskwatch.export.photographs import BATCH, Photograph
from maskwatch.media.images import UInt8Array, fit
from maskwatch.models import ModelMetadata
from maskwatch.runtimes.base import Model, RawDetections

if TYPE_CHECKING:
    import supervision as sv

    from maskwatch.data import DetectionSet
    from maskwatch.detector import Detector

LOW_THRESHOLD = 0.05
"""Compared besides the model's own thresholds."""

AP_TOLERANCE = 0.005


@dataclass(frozen=True)
class Comparison:
    """What was compared, and the largest differences.

    Attributes:
        photographs: their names.
        detections: number compared, with all options and batches together.
        box_difference: pixels of the input.
        ap: of the model file and of the copy on a data set.
    """

    photographs: tuple[str, ...]
    detections: int = 0
    box_difference: float = 0.0
    score_difference: float = 0.0
    ap: tuple[float, float] | None = None

    def __str__(self) -> str:
        count = len(self.photographs)
        average = "" if self.ap is None else "; AP {:.3f}, of the model file {:.3f}".format(*self.ap[::-1])
        return (
            f"compared with the model file on {count} pictures: {self.detections} detections, "
            f"largest differences {self.box_difference:.2g} pixels and {self.score_difference:.2g} in "
            f"score{average}"
        )


def compare_models(
    source: Model,
    copy: Model,
    metadata: ModelMetadata,
    photographs: Sequence[Photograph],
    tolerance: Tolerance,
    batch: int | None = None,
) -> Comparison:
    """Runs both on the same pictures, at the model's thresholds and low ones, with both kinds of NMS.

    Args:
        photographs: at least one.
        batch: the only number of pictures that `copy` takes; None for any.

    Raises:
        ExportError: they differ by more than the tolerance, or there is nothing to compare.
    """
    result = Comparison(tuple(photo.name for photo in photographs))
    fitted = [fit(photo.image_rgb, metadata.input_size, metadata.resize)[0] for photo in photographs]
    for size in (batch,) if batch else (1, BATCH):
        for rows, images in _batches(fitted, size, padded=batch is not None):
            for thresholds, class_agnostic in _options(metadata):
                # Lower than the thresholds, where a score can be on either side of them.
                low = np.maximum(thresholds - tolerance.score, 0).astype(np.float32)
                found = [model(images, low, None, class_agnostic) for model in (source, copy)]
                for place, row in enumerate(rows):
                    expected, actual = (_boxes(raw, place) for raw in found)
                    name = result.photographs[row]
                    result = _with(result, name, expected, actual, thresholds, tolerance, metadata)
    if result.detections == 0:
        raise ExportError(
            f"no score above {LOW_THRESHOLD} on {', '.join(result.photographs)}, so that there is nothing to "
            "compare and nothing was written; name photographs that show faces with --verify-on"
        )
    return result


def compare_ap(detector: Detector, copy: Model, data: DetectionSet, batch: int | None) -> tuple[float, float]:
    """AP of a model file and of its copy on a data set.

    Args:
        detector: of the model file.

    Raises:
        ExportError: they differ by more than `AP_TOLERANCE`.
    """
    from maskwatch.evaluation.coco import STAT_NAMES, coco_evaluate
    from maskwatch.evaluation.predictor import predict_all

    copied = _CopyDetector(detector, copy, batch)
    both = predict_all([detector.variant(threshold=0.0, class_agnostic=False), copied], data)
    ap, copied_ap = (coco_evaluate(data, found).stats[STAT_NAMES[0]] for found in both)
    if abs(ap - copied_ap) > AP_TOLERANCE:
        raise ExportError(
            f"AP {copied_ap:.4f}, of the model file {ap:.4f}: more than {AP_TOLERANCE} apart, so nothing was "
            "written; use another format, or report this with the versions of its packages"
        )
    return ap, copied_ap


class _CopyDetector:
    """A `Detector` whose network is another one."""

    def __init__(self, detector: Detector, model: Model, batch: int | None) -> None:
        self.detector, self.model, self.batch = detector, model, batch
        self.class_names = detector.class_names

    def __call__(self, images: list[UInt8Array]) -> list[sv.Detections]:
        fitted, placements = self.detector.prepare(images)
        zeros = np.zeros(len(self.class_names), np.float32)
        found = []
        for rows, batch in _batches(list(fitted), self.batch or len(images), padded=self.batch is not None):
            raw = self.model(batch, zeros, None, False)
            found += self.detector.collect(raw, [placements[row] for row in rows])
        return found


def _batches(images: Sequence[UInt8Array], size: int, *, padded: bool) -> Iterator[tuple[range, UInt8Array]]:
    """Indices of some images, and these as (N, H, W, 3); padded with the last one, all are full."""
    for start in range(0, len(images), size):
        rows = range(start, min(start + size, len(images)))
        missing = size - len(rows) if padded else 0
        yield rows, np.stack([*(images[row] for row in rows), *[images[rows[-1]]] * missing])


def _options(metadata: ModelMetadata) -> Iterator[tuple[np.ndarray, bool]]:
    own = np.array(metadata.thresholds, np.float32)
    for thresholds in (own, np.full_like(own, LOW_THRESHOLD)):
        for class_agnostic in (True, False):
            yield thresholds, class_agnostic


def _boxes(raw: RawDetections, row: int) -> Boxes:
    used = slice(int(raw.num_detections[row]))
    return Boxes(raw.boxes[row, used], raw.scores[row, used], raw.classes[row, used])


def _with(
    result: Comparison,
    name: str,
    expected: Boxes,
    actual: Boxes,
    thresholds: np.ndarray,
    tolerance: Tolerance,
    metadata: ModelMetadata,
) -> Comparison:
    """The comparison so far with one more picture."""
    pairs = match(expected, actual, tolerance)
    for boxes, rows, title in (
        (expected, pairs.missing, "only the model file"),
        (actual, pairs.added, "only the copy"),
    ):
        for row in rows:
            if boxes.scores[row] > thresholds[boxes.class_ids[row]]:
                corners = ", ".join(f"{value:.1f}" for value in boxes.boxes_xyxy[row])
                raise ExportError(
                    f"on {name}, {title} finds {metadata.classes[boxes.class_ids[row]]} with score "
                    f"{boxes.scores[row]:.4f} at [{corners}] (tolerances {tolerance.box} pixels, "
                    f"{tolerance.score} in score). Nothing was written; use another format, or report this "
                    "with the versions of its packages"
                )
    return replace(
        result,
        detections=result.detections + pairs.pairs,
        box_difference=max(result.box_difference, pairs.box_difference),
        score_difference=max(result.score_difference, pairs.score_difference),
    )
