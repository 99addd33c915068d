"""Alerts: when the state of a person becomes an event, and when a cooldown suppresses it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from maskwatch.live.tracking.face_tracker import center_distance
from maskwatch.live.tracking.track_state import Alert, TrackState

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


class Alerts:
    """Begins and ends the alerts of one source; a person has at most one."""

    def __init__(self, settings: AlertSettings) -> None:
        self._settings = settings
        self._zone_cooldowns: dict[str | None, float] = {}  # until when
        self._lost: list[TrackState] = []  # people whose alert ended when they were lost

    def begin(self, track: TrackState, alert: Alert, time_s: float, tracks: Iterable[TrackState]) -> bool:
        """Begins an alert if the state has lasted long enough and no cooldown suppresses it.

        Returns whether it began. After the cooldown a later call begins it if the state still lasts.

        Args:
            track: of a person without an open alert.
            tracks: of all people of the source.
        """
        if time_s - alert.start_s < self._settings.dwell_s:
            return False
        cooldown_until_s = max(track.cooldown_until_s, self._zone_cooldowns.get(alert.zone, 0.0))
        if cooldown_until_s > time_s or self._was_alerted_here(track, time_s, tracks):
            return False
        track.alert = alert
        self._zone_cooldowns[alert.zone] = time_s + self._settings.zone_cooldown_s
        return True

    def end(self, track: TrackState, time_s: float, *, gone: bool) -> Alert | None:
        """Ends the open alert of a person and returns it; `gone` when the person is lost."""
        alert, track.alert = track.alert, None
        if alert is not None:
            track.cooldown_until_s = time_s + self._settings.cooldown_s
            if gone:
                self._lost.append(track)
        return alert

    def forget(self) -> None:
        """Forgets where people with an alert were lost, as after a cut."""
        self._lost.clear()

    def _was_alerted_here(self, track: TrackState, time_s: float, tracks: Iterable[TrackState]) -> bool:
        """Whether a person with an alert was last seen here, before this one appeared."""
        cooldown_s = self._settings.place_cooldown_s
        self._lost = [lost for lost in self._lost if time_s - lost.last_s < cooldown_s]
        return any(
            other.last_s <= track.first_s
            and time_s - other.last_s < cooldown_s
            and center_distance(track.box_xyxy, other.box_xyxy) <= _SAME_PLACE
            for other in (*self._lost, *(one for one in tracks if one.alert is not None))
        )
