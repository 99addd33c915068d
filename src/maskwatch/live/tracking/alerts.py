"""Alerts: when the state of a person becomes an event, and when a cooldown suppresses it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from maskwatch.live.events import new_id
from maskwatch.live.tracking.face_tracker import center_distance
from maskwatch.media.images import FloatArray

_SAME_PLACE = 2.0  # distance in face heights up to which a face is at the place of another


@dataclass(frozen=True)
class AlertSettings:
    """When an alert begins, in seconds.

    Attributes:
        dwell_s: how long a state must have lasted.
        cooldown_s: after the end of an alert, how long the same person causes no other.
        place_cooldown_s: how long a new person causes none after a person with an alert was lost at the same
            place, since most likely it is the same person.
        zone_cooldown_s: after an alert begins, how long no other begins in the same zone, or in the same
            source where there is no zone; 0 for no such limit.
    """

    dwell_s: float = 2.0
    cooldown_s: float = 60.0
    place_cooldown_s: float = 10.0
    zone_cooldown_s: float = 0.0


@dataclass
class Alert:
    """An open alert.

    Attributes:
        state: class id.
        start_s: since when the state counts, on the source's clock.
        zone: where it began; None for no zone.
        score: largest share of the state in the vote since the alert began.
        id: of its event.
    """

    state: int
    start_s: float
    zone: str | None
    score: float
    id: str = field(default_factory=new_id)


class _LastSeen(NamedTuple):
    """Where and when a person with an alert was last seen."""

    time_s: float
    box_xyxy: FloatArray


class Alerts:
    """The alerts of one source: at most one open alert for each person."""

    def __init__(self, settings: AlertSettings) -> None:
        self._settings = settings
        self._open: dict[int, Alert] = {}
        self._last_seen: dict[int, _LastSeen] = {}  # of people with an alert
        self._person_cooldowns: dict[int, float] = {}  # until when
        self._zone_cooldowns: dict[str | None, float] = {}
        self._lost: list[_LastSeen] = []  # of people whose alert ended when they were lost

    def of(self, person: int) -> Alert | None:
        """The open alert of a person."""
        return self._open.get(person)

    def see(self, person: int, time_s: float, box_xyxy: FloatArray) -> None:
        """Notes where a person with an alert is."""
        if person in self._open:
            self._last_seen[person] = _LastSeen(time_s, box_xyxy)

    def begin(self, person: int, alert: Alert, came_s: float, time_s: float, box_xyxy: FloatArray) -> bool:
        """Begins an alert if the state has lasted long enough and no cooldown suppresses it.

        Returns whether it began. After the cooldown a later call begins it if the state still lasts.

        Args:
            came_s: when the person was first seen.
        """
        if person in self._open or time_s - alert.start_s < self._settings.dwell_s:
            return False
        cooling = max(self._person_cooldowns.get(person, 0), self._zone_cooldowns.get(alert.zone, 0)) > time_s
        if cooling or self._was_alerted_here(came_s, time_s, box_xyxy):
            return False
        self._open[person] = alert
        self._zone_cooldowns[alert.zone] = time_s + self._settings.zone_cooldown_s
        self.see(person, time_s, box_xyxy)
        return True

    def end(self, person: int, time_s: float, *, gone: bool) -> Alert | None:
        """Ends the open alert of a person and returns it; `gone` when the person is lost."""
        if person not in self._open:
            return None
        self._person_cooldowns[person] = time_s + self._settings.cooldown_s
        last_seen = self._last_seen.pop(person)
        if gone:
            self._lost.append(last_seen)
        return self._open.pop(person)

    def forget(self, person: int) -> None:
        """Forgets a person whose number will not be used again."""
        self._person_cooldowns.pop(person, None)

    def _was_alerted_here(self, came_s: float, time_s: float, box_xyxy: FloatArray) -> bool:
        """Whether a person with an alert was last seen here, before this one appeared."""
        cooldown_s = self._settings.place_cooldown_s
        self._lost = [seen for seen in self._lost if time_s - seen.time_s < cooldown_s]
        return any(
            seen.time_s <= came_s
            and time_s - seen.time_s < cooldown_s
            and center_distance(box_xyxy, seen.box_xyxy) <= _SAME_PLACE
            for seen in (*self._lost, *self._last_seen.values())
        )
