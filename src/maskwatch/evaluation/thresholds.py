"""Score thresholds: the objective, precision and recall at thresholds, and how they are chosen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from maskwatch.data.dataset import DetectionSet, Sample
from maskwatch.errors import OptionError
from maskwatch.evaluation.candidates import FLOOR, Candidates
from maskwatch.evaluation.matching import IGNORED, Floats, Ints, match_detections, overlaps, ranked

if TYPE_CHECKING:
    import supervision as sv

DECIMALS = 4
"""Of a threshold, as many as in a model file, so that the chosen threshold is the one in use."""

_ROUNDS = 5

Number = TypeVar("Number", float, Floats)


@dataclass(frozen=True)
class ThresholdObjective:
    """The best F1, the least cost, or the fewest false positives at a recall.

    false_negative_cost: of a face without a detection of its class; false_positive_cost: of a detection
    without a face of its class; each is 1 if only the other is given. recall: share of the faces of each
    class to be found; it replaces the costs. Without any of them, F1.
    """

    false_negative_cost: float | None = None
    false_positive_cost: float | None = None
    recall: float | None = None

    def __post_init__(self) -> None:
        costs = self._costs
        if not all(0 < cost < np.inf for cost in costs):
            raise OptionError(f"costs {costs[0]:g} and {costs[1]:g} must be positive; write for example 5")
        if self.recall is not None and not 0 < self.recall <= 1:
            raise OptionError(f"recall {self.recall:g} is not above 0 and up to 1; write for example 0.9")

    def __str__(self) -> str:
        if self.recall is not None:
            return f"recall of {self.recall:g} for each class"
        return self.price if self.has_costs else "the best F1 of each class"

    @property
    def has_costs(self) -> bool:
        """Whether a cost is given."""
        return (self.false_negative_cost, self.false_positive_cost) != (None, None)

    @property
    def price(self) -> str:
        """What mistakes cost, in words."""
        return "a missed face costs {:g}, a false alarm {:g}".format(*self._costs)

    def cost(self, false_negatives: Number, false_positives: Number) -> Number:
        """What these mistakes cost together."""
        one_negative, one_positive = self._costs
        return one_negative * false_negatives + one_positive * false_positives

    @property
    def _costs(self) -> tuple[float, float]:
        costs = self.false_negative_cost, self.false_positive_cost
        return (1.0 if costs[0] is None else costs[0], 1.0 if costs[1] is None else costs[1])


@dataclass(frozen=True)
class OperatingPoint:
    """One class at its score threshold, at IoU 0.5, with the other classes at theirs.

    truths: ground truths; shown: detections, without those on ignore regions; hits: true positives.
    """

    name: str
    threshold: float
    truths: int
    shown: int
    hits: int

    @property
    def false_positives(self) -> int:
        return self.shown - self.hits

    @property
    def false_negatives(self) -> int:
        return self.truths - self.hits

    @property
    def precision(self) -> float:
        """1 where nothing is shown."""
        return self.hits / self.shown if self.shown else 1.0

    @property
    def recall(self) -> float:
        return self.hits / self.truths if self.truths else 0.0

    @property
    def f1(self) -> float:
        return 2 * self.hits / (self.shown + self.truths) if self.hits else 0.0

    def as_dict(self, objective: ThresholdObjective) -> dict[str, Any]:
        """For JSON and pages, with what the mistakes cost."""
        return {
            "class": self.name,
            "threshold": round(self.threshold, 4),
            "precision": round(self.precision, 4),
            "recall": round(self.recall, 4),
            "f1": round(self.f1, 4),
            "cost": round(objective.cost(self.false_negatives, float(self.false_positives)), 1),
        }


def operating_points(
    detection_set: DetectionSet, shown: Sequence[sv.Detections], thresholds: Sequence[float]
) -> list[OperatingPoint]:
    """Precision and recall of a detector at thresholds, by class.

    Args:
        shown: one for each sample, from the detector at these thresholds; lower scores do not count.
        thresholds: one for each class.
    """
    points = []
    for class_id, (name, threshold) in enumerate(zip(detection_set.class_names, thresholds, strict=True)):
        scores, hits, truths = ranked(detection_set, shown, class_id)
        counted = scores > np.float32(threshold)
        points.append(OperatingPoint(name, threshold, truths, int(counted.sum()), int(hits[counted].sum())))
    return points


# ---- The choice ------------------------------------------------------------------------------------------


def choose(
    detection_set: DetectionSet,
    candidates: Sequence[Candidates],
    objective: ThresholdObjective,
    fallback: Sequence[float],
) -> tuple[OperatingPoint, ...]:
    """Chooses the threshold of each class; returns the operating points there.

    Sets one class after the other to its best threshold while the others stay, until none changes: which
    detections of one class are shown depends on the thresholds of the others. A threshold is half way between
    two scores; of equally good ones, the highest. Where no threshold reaches the wanted recall, the objective
    is the highest recall.

    Args:
        detection_set: a validation set, never the one of the report.
        candidates: one for each sample, from `gather`.
        objective: what to optimise.
        fallback: threshold of a class without ground truth, or without a true positive.
    """
    pictures = [_MatchedCandidates(*pair) for pair in zip(detection_set.samples, candidates, strict=True)]
    truths = np.array(list(detection_set.class_counts().values()), np.int64)
    thresholds = list(fallback)
    for _ in range(_ROUNDS):
        before = list(thresholds)
        for class_id in np.flatnonzero(truths).tolist():
            best = _best(_sweep(pictures, thresholds, class_id), truths, class_id, objective)
            thresholds[class_id] = fallback[class_id] if best is None else best
        if thresholds == before:
            break
    counts = np.zeros((len(truths), 2), np.int64)
    for picture in pictures:
        counts += picture.counts(np.array(thresholds, np.float32))[0]
    rows = zip(detection_set.class_names, thresholds, truths.tolist(), *counts.T.tolist(), strict=True)
    return tuple(OperatingPoint(*row) for row in rows)


class _MatchedCandidates:
    """The candidates of one picture, and their overlaps with its boxes."""

    def __init__(self, sample: Sample, candidates: Candidates) -> None:
        self.candidates = candidates
        self._class_ids, self._ignore = sample.class_ids, sample.ignore
        self._overlap = overlaps(candidates.output_xyxy, sample)  # (K, G)

    def counts(self, thresholds: npt.NDArray[np.float32]) -> tuple[Ints, list[int]]:
        """(C, 2) detections and hits of each class at thresholds (C,), and the indices of those shown."""
        shown = self.candidates.shown(thresholds)
        rows, counts = np.array(shown, np.int64), np.zeros((len(thresholds), 2), np.int64)
        for class_id in np.unique(self.candidates.class_ids[rows]).tolist():
            mine = rows[self.candidates.class_ids[rows] == class_id]
            boxes = self._class_ids == class_id
            found = match_detections(
                self._overlap[mine][:, boxes], self.candidates.scores[mine], self._ignore[boxes]
            )
            counts[class_id] = (found != IGNORED).sum(), (found >= 0).sum()
        return counts, shown

    def steps(self, thresholds: npt.NDArray[np.float32], class_id: int) -> Iterator[tuple[float, Ints]]:
        """Thresholds of a class, from `FLOOR` up, at which the counts change, and the counts from there on.

        Only a box that is shown changes the counts when it falls below the threshold.
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


def _sweep(
    pictures: Sequence[_MatchedCandidates], thresholds: Sequence[float], class_id: int
) -> tuple[Floats, Ints]:
    """Thresholds of a class where the counts change, (S,) ascending; (S, C, 2) the counts from there on."""
    others = np.array(thresholds, np.float32)
    at, changes = [], []
    for picture in pictures:
        before = np.zeros((len(others), 2), np.int64)
        for threshold, counts in picture.steps(others, class_id):
            at.append(threshold)
            changes.append(counts - before)
            before = counts
    order = np.argsort(at, kind="stable")
    totals = np.cumsum(np.array(changes)[order], axis=0)
    starts = np.array(at)[order]
    last = np.append(starts[1:] > starts[:-1], True)  # one entry a threshold
    return starts[last], totals[last]


def _best(
    sweep: tuple[Floats, Ints], truths: Ints, class_id: int, objective: ThresholdObjective
) -> float | None:
    """The best threshold of a class; None without a true positive."""
    starts, counts = sweep
    ends = np.append(starts[1:], 1.0)
    middles = np.round((starts + ends) / 2, DECIMALS)
    # Between two very close scores there may be no threshold with so few decimals.
    between = (middles.astype(np.float32) >= starts) & (middles.astype(np.float32) < ends)
    middles, counts = middles[between][::-1], counts[between][::-1]
    if not counts[:, class_id, 1].any():
        return None
    return float(middles[_worth(counts, truths, class_id, objective).argmax()])


def _worth(counts: Ints, truths: Ints, class_id: int, objective: ThresholdObjective) -> Floats:
    """(S,) how well the objective is met; more is better."""
    shown, hits = counts[..., 0].astype(np.float64), counts[..., 1].astype(np.float64)  # (S, C)
    false_positives = shown - hits
    if objective.recall is not None:
        reached = hits[:, class_id] / truths[class_id]
        enough = reached >= min(objective.recall, reached.max()) - 1e-9
        return np.where(enough, -false_positives.sum(1), -np.inf)
    if objective.has_costs:
        return np.asarray(-objective.cost(truths - hits, false_positives).sum(1))
    return np.asarray((2 * hits / np.maximum(shown + truths, 1)).sum(1))
