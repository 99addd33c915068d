"""Whether two programs that run one network on one image find the same detections.

Two programs round differently in the last digits, so that boxes and scores may differ a little. Where the
scores or the overlap of two competing boxes are that close to the limit, NMS may even keep another box; the
detections must then still be a valid result of NMS, which `is_valid_nms` decides from its definition.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from maskwatch.boxes import box_iou
from maskwatch.media.images import FloatArray
from maskwatch.models import CANDIDATES, IOU_THRESHOLD, MAX_DETECTIONS

BOX_TOLERANCE = 0.1
"""Pixels of the network's input, for each corner."""

SCORE_TOLERANCE = 1e-3
SCORE_SHARE = 0.02
"""A score may differ by either, whichever is less: 0.0001 and 0.0009 do not agree."""

IOU_TOLERANCE = 5e-3
"""Whether two boxes compete is open when their IoU is this close to the threshold."""


@dataclass(frozen=True)
class Tolerance:
    """How far a detection may be from its counterpart.

    box: pixels of the network's input, for each corner. score, share: a score may differ by either, whichever
    is less.
    """

    box: float
    score: float
    share: float = 1.0

    def of_scores(self, scores: FloatArray) -> FloatArray:
        return np.asarray(np.minimum(self.score, self.share * scores))


EXACT = Tolerance(BOX_TOLERANCE, SCORE_TOLERANCE, SCORE_SHARE)
"""Of two programs that both compute in float32."""


@dataclass(frozen=True)
class Boxes:
    """Detections of an image, or candidates for them: (D, 4) xyxy in pixels, (D,), (D,).

    Of candidates also network_scores (D,), by which NMS goes, and, with box voting, voted_xyxy (D, 4), the
    boxes of the detections.
    """

    boxes_xyxy: FloatArray
    scores: FloatArray
    class_ids: npt.NDArray[np.int64]
    voted_xyxy: FloatArray | None = None
    network_scores: FloatArray | None = None

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, rows: npt.NDArray[np.intp]) -> Boxes:
        voted = None if self.voted_xyxy is None else self.voted_xyxy[rows]
        own = None if self.network_scores is None else self.network_scores[rows]
        return Boxes(self.boxes_xyxy[rows], self.scores[rows], self.class_ids[rows], voted, own)

    @property
    def nms_scores(self) -> FloatArray:
        """(D,) by which NMS goes: those of the network, which are the scores where nothing is calibrated."""
        return self.scores if self.network_scores is None else self.network_scores

    def as_detections(self, size_hw: tuple[int, int]) -> Boxes:
        """Candidates as detections: after box voting, clipped to the image."""
        limits = np.array([size_hw[1], size_hw[0]] * 2, np.float32)
        boxes_xyxy = self.boxes_xyxy if self.voted_xyxy is None else self.voted_xyxy
        return Boxes(boxes_xyxy.clip(0, limits), self.scores, self.class_ids)


@dataclass(frozen=True)
class NmsOptions:
    """Score thresholds (C,), NMS over all classes or within each."""

    thresholds: FloatArray
    class_agnostic: bool


@dataclass(frozen=True)
class Match:
    """Pairs of `expected` and `actual` that agree, and the rows of either that have no partner."""

    pairs: int
    box_difference: float
    score_difference: float
    missing: npt.NDArray[np.intp]
    added: npt.NDArray[np.intp]


def match(expected: Boxes, actual: Boxes, tolerance: Tolerance = EXACT) -> Match:
    """Pairs detections of one class whose boxes and scores agree, the closest first, whatever their order."""
    agree, box_gaps, score_gaps = _agreement(expected, actual, tolerance)
    # Voting can put two boxes in one place.
    gaps = box_gaps / tolerance.box + score_gaps / tolerance.score
    left = np.ones(len(expected), np.bool_)
    right = np.ones(len(actual), np.bool_)
    differences = [(0.0, 0.0)]
    for flat in np.argsort(np.where(agree, gaps, np.inf), axis=None)[: agree.sum()]:
        row, column = np.unravel_index(flat, agree.shape)
        if left[row] and right[column]:
            left[row] = right[column] = False
            differences.append((float(box_gaps[row, column]), float(score_gaps[row, column])))
    box_difference, score_difference = np.max(differences, axis=0).tolist()
    rows = np.flatnonzero(left), np.flatnonzero(right)
    return Match(len(differences) - 1, box_difference, score_difference, *rows)


def is_valid_nms(found: Boxes, pairs: Boxes, options: NmsOptions, size_hw: tuple[int, int]) -> bool:
    """Whether `found` is a result of NMS on the best of `pairs`, within the tolerances.

    Greedy NMS keeps the one set of candidates in which no two compete and each suppressed one competes with a
    better one that was kept. This checks that property instead of replaying the order of NMS.

    Args:
        found: what the model file returns, clipped to the image.
        pairs: all pairs of anchor and class as torch computes them, in any order, not clipped.
        size_hw: the network's input in pixels.
    """
    candidates, certain = _candidates(pairs)
    agree, *_ = _agreement(candidates.as_detections(size_hw), found)  # (K, D)
    thresholds = options.thresholds[found.class_ids]
    if not agree.any(0).all() or (found.scores <= thresholds - _score_tolerance(thresholds)).any():
        return False  # one is not a candidate, or is below its threshold
    kept = np.flatnonzero(agree.any(1))  # P of the K
    if _compete(candidates.take(kept), agree[kept], options):
        return False
    scores = candidates.nms_scores
    suppressed = _wrongly_suppressed(candidates, kept, options) & (scores > certain)
    if len(found) == MAX_DETECTIONS:
        last = np.where(agree, scores[:, None], -np.inf).max(0).min()
        suppressed &= scores - _score_tolerance(scores) > last
    return not suppressed.any()


def _candidates(pairs: Boxes) -> tuple[Boxes, float]:
    """Those that may be among the best `CANDIDATES`, and the score above which they certainly are.

    Where many scores are equal, as in an untrained network, each program may pick others of them.
    """
    if len(pairs) <= CANDIDATES:
        return pairs, -np.inf
    scores = pairs.nms_scores
    last = np.partition(scores, -CANDIDATES)[-CANDIDATES]
    tolerance = _score_tolerance(last)
    return pairs.take(np.flatnonzero(scores >= last - tolerance)), float(last + tolerance)


def _compete(kept: Boxes, agree: npt.NDArray[np.bool_], options: NmsOptions) -> bool:
    """Whether the detections hold two of which NMS keeps one.

    `agree` (P, D): which of the kept candidates a detection can be, several where boxes are clipped. One
    choice in which the two do not compete is enough.
    """
    apart = _overlaps(kept, kept, options) <= IOU_THRESHOLD + IOU_TOLERANCE  # (P, P)
    np.fill_diagonal(apart, False)
    choices = agree.T.astype(np.int64) @ apart @ agree  # (D, D)
    np.fill_diagonal(choices, 1)
    return not choices.all()


def _wrongly_suppressed(
    candidates: Boxes, kept: npt.NDArray[np.intp], options: NmsOptions
) -> npt.NDArray[np.bool_]:
    """(K,) True for candidates above their threshold that compete with no better one that was kept."""
    thresholds = options.thresholds[candidates.class_ids]
    winners = candidates.take(kept)
    scores = candidates.nms_scores
    better = winners.nms_scores >= (scores - _score_tolerance(scores))[:, None]  # (K, P)
    close = _overlaps(candidates, winners, options) >= IOU_THRESHOLD - IOU_TOLERANCE
    wrongly: npt.NDArray[np.bool_] = ~(better & close).any(1) & (
        candidates.scores > thresholds + _score_tolerance(thresholds)
    )
    wrongly[kept] = False
    return wrongly


def _agreement(
    expected: Boxes, actual: Boxes, tolerance: Tolerance = EXACT
) -> tuple[npt.NDArray[np.bool_], FloatArray, FloatArray]:
    """(E, A) each: whether two agree; largest difference of their corners in pixels; that of their scores."""
    box_gaps: FloatArray = np.abs(expected.boxes_xyxy[:, None] - actual.boxes_xyxy).max(-1)
    score_gaps: FloatArray = np.abs(expected.scores[:, None] - actual.scores)
    agree = (expected.class_ids[:, None] == actual.class_ids) & (box_gaps <= tolerance.box)
    agree &= score_gaps <= tolerance.of_scores(expected.scores)[:, None]
    return agree, box_gaps, score_gaps


def _score_tolerance(scores: FloatArray) -> FloatArray:
    return EXACT.of_scores(scores)


def _overlaps(one: Boxes, other: Boxes, options: NmsOptions) -> FloatArray:
    """(A, B) IoU of boxes that compete, 0 for those that do not."""
    iou: FloatArray = box_iou(one.boxes_xyxy, other.boxes_xyxy)
    same_class = one.class_ids[:, None] == other.class_ids
    return iou if options.class_agnostic else np.where(same_class, iou, np.float32(0))
