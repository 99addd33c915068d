"""The result of one check."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

CheckState: TypeAlias = Literal["ok", "suspect", "broken", "skipped"]

# Gains in AP50 on changed data or pictures from which on the change explains the score.
CLEAR_GAIN = 0.15
SLIGHT_GAIN = 0.05


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes:
        state: "skipped" where there is nothing to check.
        measured: the result in words, with its numbers.
        advice: what to do; "" where all is well.
        values: the numbers, for JSON.
    """

    name: str
    state: CheckState
    measured: str
    advice: str = ""
    values: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        rest = dict(vars(self))
        return {"check": rest.pop("name"), **rest}


def state_of_gain(gain: float, clear: float = CLEAR_GAIN, slight: float = SLIGHT_GAIN) -> CheckState:
    """The state of the unchanged data or model, given how much AP50 a change gains."""
    return "broken" if gain > clear else "suspect" if gain > slight else "ok"
