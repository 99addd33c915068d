"""Settings of the people tracker: dwell, cooldowns, vote, tracks."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from maskwatch.errors import OptionError
from maskwatch.labels import find_classes
from maskwatch.live.tracking.alerts import AlertSettings
from maskwatch.live.tracking.face_tracker import TrackSettings
from maskwatch.live.tracking.vote import VoteSettings

ALERT_CLASSES = ("no_mask", "mask_incorrect")
"""Classes that alert by default, for a model of the mask classes."""

_POSITIVE = frozenset(["lost_s", "memory_s", "independent_s", "doubt", "frame_rate", "min_frames"])
_SHARES = frozenset(["min_iou", "appearance"])


@dataclass(frozen=True)
class PeopleSettings:
    """All settings of `PeopleTracker`, checked.

    Attributes:
        alert_classes: classes that alert; None for those of `ALERT_CLASSES` that the model has.
        found_s: how much longer a face must have been found with confidence than missed before it counts as
            a person.
        static_s: a face that has not moved for so long is a picture; 0 for never.
        min_height: faces below this height in pixels of the frame never begin a track.

    Raises:
        OptionError: a value out of range.
    """

    alerts: AlertSettings = field(default_factory=AlertSettings)
    vote: VoteSettings = field(default_factory=VoteSettings)
    tracks: TrackSettings = field(default_factory=TrackSettings)
    alert_classes: tuple[str, ...] | None = None
    found_s: float = 0.5
    static_s: float = 120.0
    min_height: float = 16.0

    def __post_init__(self) -> None:
        for name in ("found_s", "static_s", "min_height"):
            _check(name, getattr(self, name))
        for group in (self.alerts, self.vote, self.tracks):
            for name, value in dataclasses.asdict(group).items():
                _check(name, value)

    def alerting(self, class_names: Sequence[str]) -> tuple[str, ...]:
        """The classes that alert, for a model of these classes.

        Raises:
            OptionError: the model does not have a named class, or no class was named and it has none of
                `ALERT_CLASSES`.
        """
        known = ", ".join(class_names)
        if self.alert_classes is None:
            chosen = tuple(name for name in ALERT_CLASSES if name in class_names)
            if not chosen:
                raise OptionError(
                    f"the model has none of the classes {' and '.join(ALERT_CLASSES)}, but {known}; "
                    f"name those that alert, for example --alert {class_names[-1]}"
                )
            return chosen
        try:
            found = find_classes(class_names, self.alert_classes)
        except KeyError as error:
            unknown = error.args[0]
            raise OptionError(
                f"--alert {unknown}: the model has no such class; use some of {known}"
            ) from None
        return tuple(class_names[class_id] for class_id in found)


def _check(name: str, value: object) -> None:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value < math.inf:
        raise OptionError(f"{name} is {value!r}; pass a number that is not below 0")
    if name in _POSITIVE and value == 0:
        raise OptionError(f"{name} is {value!r}; pass a number above 0")
    if name in _SHARES and value > 1:
        raise OptionError(f"{name} is {value!r}; pass a number from 0 to 1")
