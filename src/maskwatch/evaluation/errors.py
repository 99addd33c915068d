"""The outcome of each face and each detection at thresholds: true positive, false negative, wrong class …"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from maskwatch.data.dataset import DetectionSet, Sample
from maskwatch.evaluation.matching import (
    IGNORED,
    IOU,
    UNMATCHED,
    Bools,
    Floats,
    Ints,
    best,
    match_detections,
    overlaps,
)

if TYPE_CHECKING:
    import supervision as sv

NEAR_IOU = 0.1
"""From here up to `IOU` a detection is a localization error of a face."""

ErrorKind = Literal["true_positive", "class", "localization", "false_negative", "false_positive"]
ERROR_TITLES: Mapping[ErrorKind, str] = {
    "false_positive": "false positive: a detection where no face is labelled",
    "false_negative": "false negative: a labelled face without a detection",
    "class": "wrong class: the face is found, but its class is another",
    "localization": "localization: a detection that overlaps the face by less than half",
}
"""The kinds of errors with a title for each, in the order of the report."""


@dataclass(frozen=True)
class Outcome:
    """The outcome of a face, a detection, or both.

    Attributes:
        picture: index of the sample.
        kind: one of the above.
        truth: index of the labelled box; None for a false positive.
        detection: index of the detection; None for a false negative.
        truth_class, found_class: class ids, None like the indices.
        score: of the detection; for a false negative, of the best detection of the face below its threshold,
            0 for none.
        iou: of the two boxes, 0 where there is only one.
    """

    picture: int
    kind: ErrorKind
    truth: int | None
    detection: int | None
    truth_class: int | None
    found_class: int | None
    score: float
    iou: float


def outcomes(
    detection_set: DetectionSet, predictions: Sequence[sv.Detections], thresholds: Sequence[float]
) -> list[Outcome]:
    """All outcomes, picture by picture.

    Detections above the threshold of their class are matched to faces of any class, best score first, each to
    the free face of largest IoU: first with an IoU of at least 0.5, then the rest with at least 0.1.

    Args:
        predictions: one for each sample, with scores down to about 0.
        thresholds: one for each class; a detection counts when its score is above.
    """
    found: list[Outcome] = []
    for picture, (sample, detections) in enumerate(zip(detection_set.samples, predictions, strict=True)):
        found += _of_picture(picture, sample, detections, np.asarray(thresholds, np.float32))
    return found


def confusion(outcomes: Sequence[Outcome], num_classes: int) -> Ints:
    """(C + 1, C + 1) counts: rows are labels, columns are detections.

    The last row counts false positives, the last column false negatives. A localization error counts as one
    of each, as at COCO's IoU of 0.5.
    """
    matrix = np.zeros((num_classes + 1, num_classes + 1), np.int64)
    for outcome in outcomes:
        if outcome.kind == "localization":
            matrix[outcome.truth_class, num_classes] += 1
            matrix[num_classes, outcome.found_class] += 1
            continue
        row = num_classes if outcome.truth_class is None else outcome.truth_class
        column = num_classes if outcome.found_class is None else outcome.found_class
        matrix[row, column] += 1
    return matrix


def _of_picture(
    picture: int, sample: Sample, detections: sv.Detections, thresholds: npt.NDArray[np.float32]
) -> Iterator[Outcome]:
    assert detections.class_id is not None
    assert detections.confidence is not None
    # In the precision of the model file: as float64, 0.3 is less than its float32 0.3.
    scores, class_ids = detections.confidence.astype(np.float32), detections.class_id
    overlap, ignore = overlaps(detections.xyxy, sample), sample.ignore  # (D, G)
    counted = scores > thresholds[class_ids]
    pairs, ignored = _pairs(overlap, scores, counted, ignore)
    for d, g in pairs.items():
        kind: ErrorKind = "localization" if overlap[d, g] < IOU else "true_positive"
        if kind == "true_positive" and class_ids[d] != sample.class_ids[g]:
            kind = "class"
        classes = (int(sample.class_ids[g]), int(class_ids[d]))
        yield Outcome(picture, kind, g, d, *classes, float(scores[d]), float(overlap[d, g]))
    for d in np.argsort(-scores, kind="stable").tolist():
        if counted[d] and d not in pairs and d not in ignored:
            found_class = int(class_ids[d])
            yield Outcome(picture, "false_positive", None, d, None, found_class, float(scores[d]), 0.0)
    for g in sorted(set(np.flatnonzero(~ignore).tolist()) - set(pairs.values())):
        weak = scores[~counted & (overlap[:, g] >= IOU)]
        seen = float(weak.max(initial=0.0))
        yield Outcome(picture, "false_negative", g, None, int(sample.class_ids[g]), None, seen, 0.0)


def _pairs(
    overlap: Floats,
    scores: npt.NDArray[np.float32],
    counted: Bools,
    ignore: Bools,
) -> tuple[dict[int, int], set[int]]:
    """Detection → face, each at most once; and the detections on ignore regions, which are not errors."""
    rows = np.flatnonzero(counted)
    rows = rows[np.argsort(-scores[rows], kind="stable")]
    found = match_detections(overlap[rows], scores[rows], ignore)
    pairs = {int(d): int(g) for d, g in zip(rows, found, strict=True) if g >= 0}
    free = np.where(ignore, -1.0, overlap)
    free[:, list(pairs.values())] = -1.0
    for d in rows[found == UNMATCHED].tolist():
        g = best(free[d])
        if g >= 0 and free[d, g] >= NEAR_IOU:
            pairs[d] = g
            free[:, g] = -1.0
    return pairs, set(rows[found == IGNORED].tolist())
