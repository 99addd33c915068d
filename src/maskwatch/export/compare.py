"""Whether two runs of one network on one picture found the same.

Two programs round differently in the last digits, so that boxes and scores may differ a little. Where two
boxes compete whose scores or overlap lie on the edge by that little, they may even keep another box; then
what was kept must still be a right answer of NMS, which `is_right` decides from its definition.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from maskwatch.boxes import box_iou
from maskwatch.media.images import FloatArray
from maskwatch.network.postprocess import CANDIDATES, MAX_DETECTIONS

BOX_TOLERANCE = 0.1
"""Pixels of the network's input, for each corner."""

SCORE_TOLERANCE = 1e-3
SCORE_SHARE = 0.02
"""A score may be off by either, whichever is less: 0.0001 and 0.0009 do not agree."""

IOU_TOLERANCE = 5e-3
"""Two boxes compete on the edge when their IoU is this near to the threshold."""


@dataclass(frozen=True)
class Boxes:
    """Detections of a picture, or candidates for them: (D, 4) xyxy in pixels, (D,), (D,).

    placed_xyxy (D, 4): of candidates, the boxes that are given out for those that NMS keeps.
    """

    boxes_xyxy: FloatArray
    scores: FloatArray
    class_ids: npt.NDArray[np.int64]
    placed_xyxy: FloatArray | None = None

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, rows: npt.NDArray[np.intp]) -> Boxes:
        placed = None if self.placed_xyxy is None else self.placed_xyxy[rows]
        return Boxes(self.boxes_xyxy[rows], self.scores[rows], self.class_ids[rows], placed)

    def given_out(self, size_hw: tuple[int, int]) -> Boxes:
        """What these are as detections: placed, and clipped to the picture."""
        limits = np.array([size_hw[1], size_hw[0]] * 2, np.float32)
        placed = self.boxes_xyxy if self.placed_xyxy is None else self.placed_xyxy
        return Boxes(placed.clip(0, limits), self.scores, self.class_ids)


@dataclass(frozen=True)
class Setting:
    """How to pick detections: score thresholds (C,), IoU threshold, NMS over all classes or each."""

    thresholds: FloatArray
    iou_threshold: float
    class_agnostic: bool


@dataclass(frozen=True)
class Match:
    """Pairs of `expected` and `actual` that agree, and the rows of either that have no partner."""

    pairs: int
    box_difference: float
    score_difference: float
    missing: npt.NDArray[np.intp]
    added: npt.NDArray[np.intp]


def match(expected: Boxes, actual: Boxes) -> Match:
    """Pairs detections of one class whose boxes and scores agree, the closest first, whatever their order."""
    fits, box_gaps = _fits(expected, actual)
    score_gaps = np.abs(expected.scores[:, None] - actual.scores)
    gaps = box_gaps / BOX_TOLERANCE + score_gaps / SCORE_TOLERANCE  # voting can put two boxes in one place
    left = np.ones(len(expected), np.bool_)
    right = np.ones(len(actual), np.bool_)
    differences = [(0.0, 0.0)]
    for flat in np.argsort(np.where(fits, gaps, np.inf), axis=None)[: fits.sum()]:
        row, column = np.unravel_index(flat, fits.shape)
        if left[row] and right[column]:
            left[row] = right[column] = False
            differences.append((float(box_gaps[row, column]), float(score_gaps[row, column])))
    box_difference, score_difference = np.max(differences, axis=0)
    return Match(
        len(differences) - 1,
        float(box_difference),
        float(score_difference),
        np.flatnonzero(left),
        np.flatnonzero(right),
    )


def is_right(found: Boxes, pairs: Boxes, setting: Setting, size_hw: tuple[int, int]) -> bool:
    """Whether `found` is what NMS makes of the best of `pairs`, within the tolerances.

    Greedy NMS keeps the one set of candidates in which no two compete and each left out competes with a
    better one that was kept; that is what is looked at, so that no order of events has to be replayed.

    Args:
        found: clipped to the picture, as the model file gives it.
        pairs: all pairs of anchor and class as torch computes them, in any order, not clipped.
        size_hw: the network's input in pixels.
    """
    candidates, certain = _candidates(pairs)
    fits, _ = _fits(candidates.given_out(size_hw), found)  # (K, D)
    edges = setting.thresholds[found.class_ids]
    if not fits.any(0).all() or (found.scores <= edges - _slack(edges)).any():
        return False  # one is no candidate, or does not count
    kept = np.flatnonzero(fits.any(1))  # P of the K
    if _compete(candidates.take(kept), fits[kept], setting):
        return False
    left_out = _left_out_wrongly(candidates, kept, setting) & (candidates.scores > certain)
    if len(found) == MAX_DETECTIONS:
        left_out &= candidates.scores - _slack(candidates.scores) > found.scores.min()
    return not left_out.any()


def _candidates(pairs: Boxes) -> tuple[Boxes, float]:
    """Those that may be among the best `CANDIDATES`, and the score above which they certainly are.

    Where many scores are equal, as in a network that has not learnt yet, either program takes others of them.
    """
    if len(pairs) <= CANDIDATES:
        return pairs, -np.inf
    last = np.partition(pairs.scores, -CANDIDATES)[-CANDIDATES]
    return pairs.take(np.flatnonzero(pairs.scores >= last - _slack(last))), float(last + _slack(last))


def _compete(kept: Boxes, fits: npt.NDArray[np.bool_], setting: Setting) -> bool:
    """Whether two detections were found of which NMS keeps one.

    `fits` (P, D) says which of the kept candidates a detection can be. Clipped boxes hide where they come
    from, so that it can be several; then one choice in which the two do not compete is enough.
    """
    apart = _overlaps(kept, kept, setting) <= setting.iou_threshold + IOU_TOLERANCE  # (P, P)
    np.fill_diagonal(apart, False)
    choices = fits.T.astype(np.int64) @ apart @ fits  # (D, D)
    np.fill_diagonal(choices, 1)
    return not choices.all()


def _left_out_wrongly(
    candidates: Boxes, kept: npt.NDArray[np.intp], setting: Setting
) -> npt.NDArray[np.bool_]:
    """(K,) True for candidates that count, were not kept, and compete with no better one that was."""
    edges = setting.thresholds[candidates.class_ids]
    winners = candidates.take(kept)
    better = winners.scores >= (candidates.scores - _slack(candidates.scores))[:, None]  # (K, P)
    close = _overlaps(candidates, winners, setting) >= setting.iou_threshold - IOU_TOLERANCE
    wrongly: npt.NDArray[np.bool_] = ~(better & close).any(1) & (candidates.scores > edges + _slack(edges))
    wrongly[kept] = False
    return wrongly


def _fits(expected: Boxes, actual: Boxes) -> tuple[npt.NDArray[np.bool_], FloatArray]:
    """(E, A): whether two agree; largest difference of their corners in pixels."""
    box_gaps: FloatArray = np.abs(expected.boxes_xyxy[:, None] - actual.boxes_xyxy).max(-1)
    score_gaps = np.abs(expected.scores[:, None] - actual.scores)
    same_class = expected.class_ids[:, None] == actual.class_ids
    fits = same_class & (box_gaps <= BOX_TOLERANCE) & (score_gaps <= _slack(expected.scores)[:, None])
    return fits, box_gaps


def _slack(scores: FloatArray) -> FloatArray:
    """How far scores may be off."""
    slack: FloatArray = np.minimum(SCORE_TOLERANCE, SCORE_SHARE * scores)
    return slack


def _overlaps(one: Boxes, other: Boxes, setting: Setting) -> FloatArray:
    """(A, B) IoU of boxes that compete, 0 for those that do not."""
    iou: FloatArray = box_iou(one.boxes_xyxy, other.boxes_xyxy)
    if not setting.class_agnostic:
        iou = np.where(one.class_ids[:, None] == other.class_ids, iou, np.float32(0))
    return iou
