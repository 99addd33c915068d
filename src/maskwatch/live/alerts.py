"""Alerts: when a person's state is worth an event, and when it has been said already."""

from __future__ import annotations

from dataclasses import dataclass, field

from maskwatch.images import FloatArray
from maskwatch.live.events import new_id
from maskwatch.live.tracks import apart

PLACE_REACH = 2.0
"""How far apart, in face heights, a face is still at the place of another."""


@dataclass(frozen=True)
class AlertSettings:
    """When there is an alert, in seconds.

    Attributes:
        dwell_s: how long a state must have lasted.
        cooldown_s: how long one person makes no further alert after the end of one.
        place_cooldown_s: how long somebody new makes none where a person in an alert went out of sight: most
            likely it is the same person.
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
        id: that of its event.
    """

    state: int
    start_s: float
    zone: str | None
    id: str = field(default_factory=new_id)


@dataclass(frozen=True, eq=False)
class _Place:
    until_s: float
    box_xyxy: FloatArray


class Alerts:
    """All alerts of one source: at most one for a person at a time."""

    def __init__(self, settings: AlertSettings) -> None:
        self._settings = settings
        self._open: dict[int, Alert] = {}
        self._boxes: dict[int, tuple[float, FloatArray]] = {}  # of those in an alert: when and where seen
        self._quiet_people: dict[int, float] = {}  # until when
        self._quiet_zones: dict[str | None, float] = {}
        self._quiet_places: list[_Place] = []

    def of(self, person: int) -> Alert | None:
        """The alert that a person is in."""
        return self._open.get(person)

    def see(self, person: int, time_s: float, box_xyxy: FloatArray) -> None:
        """Notes where a person in an alert is."""
        if person in self._open:
            self._boxes[person] = time_s, box_xyxy

    def begin(
        self, person: int, state: int, start_s: float, zone: str | None, time_s: float, box_xyxy: FloatArray
    ) -> Alert | None:
        """A new alert, if the state has lasted long enough and nothing has been said of it.

        Where a cooldown is in the way, it begins when that is over, should the state still last.
        """
        if person in self._open or time_s - start_s < self._settings.dwell_s:
            return None
        if max(self._quiet_people.get(person, time_s), self._quiet_zones.get(zone, time_s)) > time_s:
            return None
        if self._was_said_here(time_s, box_xyxy):
            return None
        self._open[person] = alert = Alert(state, start_s, zone)
        self._quiet_zones[zone] = time_s + self._settings.zone_cooldown_s
        self.see(person, time_s, box_xyxy)
        return alert

    def end(self, person: int, time_s: float, *, gone: bool) -> Alert:
        """Ends a person's alert; `gone` when the person is out of sight."""
        self._quiet_people[person] = time_s + self._settings.cooldown_s
        seen_s, box_xyxy = self._boxes.pop(person)
        if gone:
            self._quiet_places.append(_Place(seen_s + self._settings.place_cooldown_s, box_xyxy))
        return self._open.pop(person)

    def forget(self, person: int) -> None:
        """A person whose number will not come again."""
        self._quiet_people.pop(person, None)

    def _was_said_here(self, time_s: float, box_xyxy: FloatArray) -> bool:
        """Whether a person in an alert is out of sight, and was last seen where this one is."""
        self._quiet_places = [place for place in self._quiet_places if place.until_s > time_s]
        places = [place.box_xyxy for place in self._quiet_places]
        for seen_s, box in self._boxes.values():
            if seen_s < time_s < seen_s + self._settings.place_cooldown_s:
                places.append(box)
        return any(apart(box_xyxy, box) <= PLACE_REACH for box in places)
