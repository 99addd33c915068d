"""The vote on the state of a person, from the detections over time."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from maskwatch.media.images import FloatArray

# A detection weighs as much as the time since the one before it, at most this: after a gap one frame must not
# outweigh everything before.
_LONGEST_WEIGHT_S = 0.5


@dataclass(frozen=True)
class VoteSettings:
    """How fast a state changes; the defaults were chosen by benchmarks/events.py.

    Attributes:
        memory_s: time constant: a detection of this age has 1/e of its weight left.
        hold_s: how long a class must lead before it becomes the state.
        margin: by how much its share (0..1) must lead.
    """

    memory_s: float = 2.0
    hold_s: float = 0.8
    margin: float = 0.1


class Vote:
    """The state of one person.

    The share of a class is the exponential moving average of its scores over the time in which the person
    was seen, divided by the sum over all classes. So a confident detection weighs more than a weak one, and
    time without any detection weighs nothing. A class becomes the state when its share has led by `margin`
    for `hold_s` without a break and the class is also the best of the newest detection.

    Attributes:
        state: class id; None while no class has led long enough.
        since_s: when the lead of the state began, on the source's clock.
    """

    def __init__(self, classes: int, settings: VoteSettings | None = None) -> None:
        self._settings = settings or VoteSettings()
        self._means: FloatArray = np.zeros(classes, np.float32)
        self._time_s: float | None = None
        self._leader, self._leads_since_s, self._led_s = -1, 0.0, 0.0
        self.state: int | None = None
        self.since_s = 0.0

    @property
    def shares(self) -> FloatArray:
        """Shares of the classes, float32 (C,); they sum to 1 after the first detection."""
        total = float(self._means.sum())
        return self._means / total if total > 0 else self._means

    @property
    def score(self) -> float:
        """Share of the state, 0..1; 0 while there is none."""
        return 0.0 if self.state is None else float(self.shares[self.state])

    def add(self, time_s: float, scores: FloatArray) -> bool:
        """Adds the scores (C,) of one detection; True when the state has changed."""
        passed_s = 0.0
        if self._time_s is None:
            self._means = scores.astype(np.float32)
        else:
            passed_s = min(max(time_s - self._time_s, 0.0), _LONGEST_WEIGHT_S)
            new = 1 - math.exp(-passed_s / self._settings.memory_s)
            self._means = (self._means + new * (scores - self._means)).astype(np.float32)
        self._time_s = time_s
        return self._decide(time_s, passed_s, int(scores.argmax()))

    def _decide(self, time_s: float, passed_s: float, best: int) -> bool:
        leader = self._winner()
        self._led_s += passed_s
        if leader != self._leader:
            self._leader, self._leads_since_s, self._led_s = leader, time_s, 0.0
        if leader in (-1, self.state) or leader != best or self._led_s < self._settings.hold_s:
            return False
        self.state, self.since_s = leader, self._leads_since_s
        return True

    def _winner(self) -> int:
        """The class that leads the state (all others while there is none) by the margin; -1 for none."""
        shares = self.shares
        best = int(shares.argmax())
        others = np.delete(shares, best)
        rival = float(others.max(initial=0.0)) if self.state is None else float(shares[self.state])
        return best if best == self.state or shares[best] - rival > self._settings.margin else -1
