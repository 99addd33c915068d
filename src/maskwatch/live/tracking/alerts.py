"""Alerts: when a person's state is worth an event, and when it has been said already."""

from __future__ import annotations

from dataclasses import dataclass, field

from maskwatch.live.events import new_id
from maskwatch.live.tracking.face_tracker import center_distance
from maskwatch.media.images import FloatArray

PLACE_REACH = 2.0
"""How far apart, in face heights, a face is still at the place of another."""


@dataclass(frozen=True)
class AlertSettings:
    """When there is an alert, in seconds.

    Attributes:
        dwell_s: how long a state must have lasted.
        cooldown_s: how long one person makes no further alert after the end of one.
        place_cooldown_s: how long somebody makes none who came when a person in an alert had gone out of
            sight at the same place: most likely it is the same person.
        zone_cooldown_s: how long nobody makes one after another has begun in the same zone, or in the same
            source where there is no zone; 0 for no such limit.
    """

    dwell_s: float = 2.0
    cooldown_s: float = 60.0
    place_cooldown_s: float = 10.0
    zone_cooldown_s: float = 0.0


@dataclass
class Alert:
    """An alert that has begun and not ended.

    Attributes:
        state: class id.
        start_s: since when the state has counted, on the source's clock.
        zone: where it began; None for no zone.
        score: the largest share that the state has had in the vote since it began.
        id: that of its event.
    """

    state: int
    start_s: float
    zone: str | None
    score: float
    id: str = field(default_factory=new_id)


@dataclass(frozen=True, eq=False)
class _Place:
    """Where and when a person in an alert was last seen."""

    seen_s: float
    box_xyxy: FloatArray


class Alerts:
    """All alerts of one source: at most one for a person at a time."""

    def __init__(self, settings: AlertSettings) -> None:
        self._settings = settings
        self._open: dict[int, Alert] = {}
        self._places: dict[int, _Place] = {}  # of those in an alert
        self._quiet_people: dict[int, float] = {}  # until when
        self._quiet_zones: dict[str | None, float] = {}
        self._left: list[_Place] = []  # of those whose alert ended out of sight

    def of(self, person: int) -> Alert | None:
        """The alert that a person is in."""
        return self._open.get(person)

    def see(self, person: int, time_s: float, box_xyxy: FloatArray) -> None:
        """Notes where a person in an alert is."""
        if person in self._open:
            self._places[person] = _Place(time_s, box_xyxy)

    def begin(self, person: int, alert: Alert, came_s: float, time_s: float, box_xyxy: FloatArray) -> bool:
        """Begins an alert, if the state has lasted long enough and nothing has been said of it.

        Where a cooldown is in the way, a later call begins it when that is over, should the state still last.

        Args:
            came_s: when the person was first seen.
        """
        if person in self._open or time_s - alert.start_s < self._settings.dwell_s:
            return False
        quiet_s = max(self._quiet_people.get(person, time_s), self._quiet_zones.get(alert.zone, time_s))
        if quiet_s > time_s or self._was_said_here(came_s, time_s, box_xyxy):
            return False
        self._open[person] = alert
        self._quiet_zones[alert.zone] = time_s + self._settings.zone_cooldown_s
        self.see(person, time_s, box_xyxy)
        return True

    def end(self, person: int, time_s: float, *, gone: bool) -> Alert:
        """Ends a person's alert; `gone` when the person is out of sight."""
        self._quiet_people[person] = time_s + self._settings.cooldown_s
        place = self._places.pop(person)
        if gone:
            self._left.append(place)
        return self._open.pop(person)

    def forget(self, person: int) -> None:
        """A person whose number will not come again."""
        self._quiet_people.pop(person, None)

    def _was_said_here(self, came_s: float, time_s: float, box_xyxy: FloatArray) -> bool:
        """Whether a person in an alert had gone out of sight, here, when this one came."""
        cooldown_s = self._settings.place_cooldown_s
        self._left = [place for place in self._left if time_s - place.seen_s < cooldown_s]
        return any(
            place.seen_s <= came_s
            and time_s - place.seen_s < cooldown_s
            and center_distance(box_xyxy, place.box_xyxy) <= PLACE_REACH
            for place in (*self._left, *self._places.values())
        )
