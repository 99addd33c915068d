"""The vote on the state of a person, from the detections over time."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from maskwatch.media.images import FloatArray

# A detection weighs as much as the time since the one before it, at most this: after a gap one frame must not
# outweigh everything before.
_LONGEST_WEIGHT_S = 0.5


@dataclass(frozen=True)
class VoteSettings:
    """How fast a state changes; the defaults were chosen by benchmarks/events.py.

    Attributes:
        hold_s: how long a new state must have been seen before it counts.
        evidence: how much more likely it must be than the old one, as a natural logarithm of the ratio.
        independent_s: detections within this time count as one look, since they repeat each other's mistakes.
        doubt: what is added to the scores of a detection, half for each side, so that a weak one says little.
        margin: how much of the logarithm of one look does not count, so that a slight lead proves nothing.
        preference: how much more likely, as a logarithm for each look, a class must be than the first of its
            side.
        memory_s: time constant of `Vote.shares`: a detection of this age has 1/e of its weight left.
    """

    hold_s: float = 0.8
    evidence: float = 3.0
    independent_s: float = 0.4
    doubt: float = 0.1
    margin: float = 0.1
    preference: float = 0.4
    memory_s: float = 2.0


class Vote:
    """The state of one person.

    Two questions, in this order: does the person alert, and which class of that side is it? So a face that is
    half of one alerting class and half of the other is decided.

    Each question is answered by the cumulative sum test (Page, Continuous inspection schemes, Biometrika
    1954): the logarithm of the ratio of the likelihoods, of another answer to the present one, is summed over
    the time in which the person was seen and never falls below 0. When it reaches `evidence`, the answer
    changes, and it counts since the sum last left 0. So sure detections decide quickly and unsure ones
    slowly, and time without any detection decides nothing.

    Args:
        classes: number of classes.
        alerting: ids of those that alert. With none or all of them there is only the second question.

    Attributes:
        state: class id; None while nothing is decided.
        since_s: when the person came to the side of the state, on the source's clock.
    """

    def __init__(
        self, classes: int, alerting: Collection[int] = (), settings: VoteSettings | None = None
    ) -> None:
        self._settings = settings or VoteSettings()
        self._sides = _sides(classes, alerting)
        self._doubt = np.zeros(classes)
        self._preference = np.zeros(classes)
        for side in self._sides:
            self._doubt[side] = self._settings.doubt / len(self._sides) / len(side)
            self._preference[side[1:]] = self._settings.preference
        self._means: FloatArray = np.zeros(classes, np.float32)
        self._time_s: float | None = None
        self._for_side = [_Evidence(classes) for _ in self._sides]
        self._for_class = [_Evidence(classes) for _ in range(classes)]
        self._side: int | None = None
        self.state: int | None = None
        self.since_s = 0.0

    @property
    def shares(self) -> FloatArray:
        """Moving average of the scores of each class as shares, float32 (C,); they sum to 1."""
        total = float(self._means.sum())
        return self._means / total if total > 0 else self._means

    @property
    def score(self) -> float:
        """Share of the state, 0..1; 0 while there is none."""
        return 0.0 if self.state is None else float(self.shares[self.state])

    @property
    def contested(self) -> bool:
        """Whether there is evidence of another side since the last time there was none."""
        return any(one.total > 0 for index, one in enumerate(self._for_side) if index != self._side)

    def add(self, time_s: float, scores: FloatArray) -> bool:
        """Adds the scores (C,) of one detection; True when the state has changed."""
        first = self._time_s is None
        passed_s = 0.0 if self._time_s is None else min(max(time_s - self._time_s, 0.0), _LONGEST_WEIGHT_S)
        new = 1.0 if first else 1 - math.exp(-passed_s / self._settings.memory_s)
        self._means = (self._means + new * (scores - self._means)).astype(np.float32)
        self._time_s = time_s
        likelihoods = (scores + self._doubt) / (float(scores.sum()) + self._settings.doubt)
        looks = 1.0 if first else passed_s / self._settings.independent_s
        step = _Step(time_s, passed_s, looks * (np.log(likelihoods) - self._preference))
        return self._decide_side(step, looks, likelihoods) or self._decide_class(step)

    def _decide_side(self, step: _Step, looks: float, likelihoods: npt.NDArray[np.float64]) -> bool:
        logs = looks * np.log([likelihoods[side].sum() for side in self._sides])
        for index, evidence in enumerate(self._for_side):
            if index == self._side:
                continue
            rival = np.delete(logs, index).max(initial=-np.inf) if self._side is None else logs[self._side]
            evidence.add(step, float(logs[index] - rival) - looks * self._settings.margin)
            if evidence.decides(self._settings):
                side = self._sides[index]
                self._side, self.since_s = index, evidence.since_s
                self.state = int(side[evidence.logs[side].argmax()])
                self._clear()
                return True
        return False

    def _decide_class(self, step: _Step) -> bool:
        if self._side is None or self.state is None:
            return False
        for class_id in self._sides[self._side]:
            if class_id == self.state:
                continue
            evidence = self._for_class[class_id]
            evidence.add(step, float(step.logs[class_id] - step.logs[self.state]))
            if evidence.decides(self._settings):
                self.state, self.since_s = int(class_id), evidence.since_s
                self._clear()
                return True
        return False

    def _clear(self) -> None:
        for evidence in (*self._for_side, *self._for_class):
            evidence.total = 0.0


@dataclass(frozen=True)
class _Step:
    """What a detection adds: at `time_s`, `passed_s` after the one before it, `logs` (C,) of likelihoods."""

    time_s: float
    passed_s: float
    logs: npt.NDArray[np.float64]


class _Evidence:
    """The cumulative sum for one answer.

    Attributes:
        total: natural logarithm of how much more likely it is than the present one; 0 or more.
        since_s: when it last left 0, on the source's clock.
        logs: (C,), summed since then.
    """

    def __init__(self, classes: int) -> None:
        self.total = 0.0
        self.since_s = 0.0
        self._seen_s = 0.0
        self._agrees = False
        self.logs = np.zeros(classes)

    def add(self, step: _Step, gain: float) -> None:
        if self.total == 0:
            self.since_s, self._seen_s, self.logs = step.time_s, 0.0, step.logs
        else:
            self._seen_s += step.passed_s
            self.logs = self.logs + step.logs
        self.total = max(0.0, self.total + gain)
        self._agrees = gain > 0

    def decides(self, settings: VoteSettings) -> bool:
        """Whether it is enough, and the newest detection is among it."""
        return self._agrees and self.total >= settings.evidence and self._seen_s >= settings.hold_s


def _sides(classes: int, alerting: Collection[int]) -> list[npt.NDArray[np.int64]]:
    """The ids of the classes that do not alert and of those that do; each class alone where one is empty."""
    alerts = np.isin(np.arange(classes), list(alerting))
    if alerts.all() or not alerts.any():
        return [np.array([class_id]) for class_id in range(classes)]
    return [np.flatnonzero(~alerts), np.flatnonzero(alerts)]
