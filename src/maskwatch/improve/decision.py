"""Whether a new model may replace the current one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from maskwatch.evaluation.intervals import Difference
from maskwatch.evaluation.report import Report

TOLERANCE = 0.01
"""Largest loss of AP that passes where less was measured than the current model has: small beside the
differences between one place and another."""

_CLASS_SCORE = "AP50 "


@dataclass(frozen=True)
class SetDecision:
    """The comparison on one data set.

    ap: new minus current model; worse_classes: those whose AP50 is lower for certain, with the difference.
    """

    name: str
    ap: Difference
    worse_classes: Mapping[str, Difference]

    @property
    def not_worse(self) -> bool:
        """Whether the model passes here.

        The AP measured must be at least that of the current model, or the lower end of the 95 % interval of
        the difference above −`TOLERANCE`; and no class may have an interval of its AP50 below 0. The first
        half lets a model pass that is as good in all that was measured; without the second, few pictures
        could never show that two models are alike. The third protects a rare class, whose loss the mean over
        the classes hides.
        """
        measured = self.ap.first >= self.ap.second  # false where one is NaN
        return not self.worse_classes and (measured or self.ap.interval.low > -TOLERANCE)

    def words(self) -> str:
        """One line: the verdict and its numbers."""
        ap = self.ap
        numbers = (
            f"AP {ap.first:.3f} against {ap.second:.3f}, difference {ap.first - ap.second:+.3f} "
            f"({ap.interval.low:+.3f} to {ap.interval.high:+.3f})"
        )
        classes = "".join(
            f"; AP50 of {name} {one.first:.3f} against {one.second:.3f}"
            for name, one in self.worse_classes.items()
        )
        return f"{self.name}: {self._verdict()}: {numbers}{classes}"

    def _verdict(self) -> str:
        if self.worse_classes:
            return f"worse for {', '.join(self.worse_classes)}"
        interval = self.ap.interval
        if interval.low > 0:
            return "better"
        if self.not_worse:
            return "not worse" if interval.high >= 0 else f"lower, by less than {TOLERANCE}"
        return "worse" if interval.high < 0 else "lower, and these pictures cannot rule out a loss"

    def as_dict(self) -> dict[str, Any]:
        return {
            "data": self.name,
            "not_worse": self.not_worse,
            "verdict": self.words(),
            "AP": self.ap.as_dict(),
            "worse_classes": {name: one.as_dict() for name, one in self.worse_classes.items()},
        }


def decide(report: Report) -> tuple[SetDecision, ...]:
    """The comparison on each data set of a report of the new model against the current one."""
    return tuple(
        SetDecision(
            part.name,
            part.against["AP"],
            {
                score.removeprefix(_CLASS_SCORE): difference
                for score, difference in part.against.items()
                if score.startswith(_CLASS_SCORE) and difference.interval.high < 0
            },
        )
        for part in report.sets
    )
