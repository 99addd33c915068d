"""Chooses score thresholds on what a detector shows at them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from maskwatch.data.dataset import DetectionSet, Sample
from maskwatch.evaluation.candidates import FLOOR, Candidates
from maskwatch.evaluation.matching import IGNORED, Floats, match, overlaps
from maskwatch.evaluation.operating import Goal, OperatingPoint

DECIMALS = 4
"""Of a threshold: as many as a model file keeps, so that what is chosen is what is used."""

_ROUNDS = 5

Counts = npt.NDArray[np.int64]


def choose(
    detection_set: DetectionSet, candidates: Sequence[Candidates], goal: Goal, fallback: Sequence[float]
) -> tuple[OperatingPoint, ...]:
    """The threshold of each class that meets the goal best, and what is shown there.

    One class after the other is set to its best threshold with the others held, until none moves, since what
    is shown of one class depends on the thresholds of the others. A threshold lies half way between two
    scores; of equally good ones the highest is taken. Where a wanted recall is out of reach, all counts that
    raises it.

    Args:
        detection_set: choose on a validation set, never on the one that is reported.
        candidates: one for each sample.
        goal: what is wanted.
        fallback: threshold of a class without a box or a detection that finds one.
    """
    pictures = [_Picture(*pair) for pair in zip(detection_set.samples, candidates, strict=True)]
    truths = np.array(list(detection_set.class_counts().values()), np.int64)
    thresholds = list(fallback)
    for _ in range(_ROUNDS):
        before = list(thresholds)
        for class_id in np.flatnonzero(truths).tolist():
            best = _best(_sweep(pictures, thresholds, class_id), truths, class_id, goal)
            thresholds[class_id] = fallback[class_id] if best is None else best
        if thresholds == before:
            break
    counts = np.zeros((len(truths), 2), np.int64)
    for picture in pictures:
        counts += picture.counts(np.array(thresholds, np.float32))[0]
    rows = zip(detection_set.class_names, thresholds, truths.tolist(), *counts.T.tolist(), strict=True)
    return tuple(OperatingPoint(*row) for row in rows)


class _Picture:
    """The candidates of one picture, held against its boxes."""

    def __init__(self, sample: Sample, candidates: Candidates) -> None:
        self.candidates = candidates
        self._class_ids, self._ignore = sample.class_ids, sample.ignore
        self._overlap = overlaps(candidates.placed_xyxy, sample)  # (K, G)

    def counts(self, thresholds: npt.NDArray[np.float32]) -> tuple[Counts, list[int]]:
        """(C, 2) detections and hits of each class at thresholds (C,), and which candidates are shown."""
        shown = self.candidates.shown(thresholds)
        rows, counts = np.array(shown, np.int64), np.zeros((len(thresholds), 2), np.int64)
        for class_id in np.unique(self.candidates.class_ids[rows]).tolist():
            mine = rows[self.candidates.class_ids[rows] == class_id]
            boxes = self._class_ids == class_id
            found = match(self._overlap[mine][:, boxes], self.candidates.scores[mine], self._ignore[boxes])
            counts[class_id] = (found != IGNORED).sum(), (found >= 0).sum()
        return counts, shown

    def steps(self, thresholds: npt.NDArray[np.float32], class_id: int) -> Iterator[tuple[float, Counts]]:
        """Each threshold of a class, from `FLOOR` up, from which on other counts hold, and these counts.

        Only a box that is shown changes anything by going; those that lost against another do not.
        """
        at = thresholds.copy()
        at[class_id] = FLOOR
        while True:
            counts, shown = self.counts(at)
            yield float(at[class_id]), counts
            scores = self.candidates.scores[[n for n in shown if self.candidates.class_ids[n] == class_id]]
            if not len(scores):
                return
            at[class_id] = scores.min()


def _sweep(pictures: Sequence[_Picture], thresholds: Sequence[float], class_id: int) -> tuple[Floats, Counts]:
    """All thresholds of a class at which counts change, (S,) rising, and the counts from there, (S, C, 2)."""
    others = np.array(thresholds, np.float32)
    places, changes = [], []
    for picture in pictures:
        before = np.zeros((len(others), 2), np.int64)
        for place, counts in picture.steps(others, class_id):
            places.append(place)
            changes.append(counts - before)
            before = counts
    order = np.argsort(places, kind="stable")
    totals = np.cumsum(np.array(changes)[order], axis=0)
    starts = np.array(places)[order]
    last = np.append(starts[1:] > starts[:-1], True)  # what changes at one threshold changes together
    return starts[last], totals[last]


def _best(sweep: tuple[Floats, Counts], truths: Counts, class_id: int, goal: Goal) -> float | None:
    """The best threshold of a class; None where it has no hit."""
    starts, counts = sweep
    ends = np.append(starts[1:], 1.0)
    middles = np.round((starts + ends) / 2, DECIMALS)
    # Scores can be so near to each other that no threshold with these decimals lies between them.
    between = (middles.astype(np.float32) >= starts) & (middles.astype(np.float32) < ends)
    middles, counts = middles[between][::-1], counts[between][::-1]
    if not counts[:, class_id, 1].any():
        return None
    return float(middles[_worth(counts, truths, class_id, goal).argmax()])


def _worth(counts: Counts, truths: Counts, class_id: int, goal: Goal) -> Floats:
    """(S,) how well the goal is met, the more the better."""
    shown, hits = counts[..., 0].astype(np.float64), counts[..., 1].astype(np.float64)  # (S, C)
    alarms = shown - hits
    if goal.recall is not None:
        reached = hits[:, class_id] / truths[class_id]
        return np.where(reached >= min(goal.recall, reached.max()) - 1e-9, -alarms.sum(1), -np.inf)
    if goal.missed is None and goal.alarm is None:
        return np.asarray((2 * hits / np.maximum(shown + truths, 1)).sum(1))
    return np.asarray(-goal.cost(truths - hits, alarms).sum(1))
