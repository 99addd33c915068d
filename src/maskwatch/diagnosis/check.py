"""What one check found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

State: TypeAlias = Literal["ok", "suspect", "broken", "skipped"]

# Of an AP50: how much better a model must score on changed data or pictures before the change is believed.
CLEAR_GAIN = 0.15
SLIGHT_GAIN = 0.05


@dataclass(frozen=True)
class Check:
    """A check and its outcome.

    Attributes:
        name: what was looked at.
        state: "skipped" where there is nothing to look at.
        measured: the outcome in words, with its numbers.
        advice: what to do; "" where all is well.
        values: the numbers, for JSON.
    """

    name: str
    state: State
    measured: str
    advice: str = ""
    values: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "check": self.name,
            "state": self.state,
            "measured": self.measured,
            "advice": self.advice,
            "values": self.values,
        }


def state_of_gain(gain: float) -> State:
    """What a gain in AP50 says of the data as they are."""
    return "broken" if gain > CLEAR_GAIN else "suspect" if gain > SLIGHT_GAIN else "ok"
