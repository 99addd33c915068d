"""What is remembered of one person between frames, and what the person adds to the counts of the source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from maskwatch.live.events import new_id
from maskwatch.live.tracking.counts import MinuteCounts
from maskwatch.live.tracking.stillness import Stillness
from maskwatch.live.tracking.vote import Vote
from maskwatch.live.tracking.zones import ZoneState
from maskwatch.media.images import FloatArray


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


@dataclass
class TrackCounts:
    """Counts one person: once for the source and once for each zone, and the time in sight.

    Time counts for the state of the person, so it waits until the state is decided.

    Attributes:
        only_zones: a person in no zone does not count.
    """

    minutes: MinuteCounts
    only_zones: bool
    _counted: set[str | None] = field(default_factory=set)  # zones; None for the source
    _undecided_zones: set[str] = field(default_factory=set)
    _undecided_time: list[tuple[float, tuple[str, ...]]] = field(default_factory=list)

    def add_time(self, seconds: float, zones: tuple[str, ...]) -> None:
        """Notes time in sight and the zones in which it passed, for `decide`."""
        if seconds and (zones or not self.only_zones):
            self._undecided_time.append((seconds, zones))

    def decide(self, state: str | None) -> None:
        """Counts the noted time for a state; None counts none yet."""
        if state is not None:
            for seconds, zones in self._undecided_time:
                for zone in (None, *zones):
                    self.minutes.people(zone).seconds[state] += seconds
            self._undecided_time.clear()

    def add_person(self, state: str | None, zones: Sequence[str]) -> None:
        """Counts the person where that has not happened yet; None only notes the zones."""
        if state is None:
            self._undecided_zones.update(zones)
            return
        if self.only_zones and not zones:
            return
        for zone in (None, *zones):
            if zone not in self._counted:
                self._counted.add(zone)
                self.minutes.people(zone).people[state] += 1

    def leave(self, state: str | None) -> None:
        """Counts a person who is gone as undecided, unless there was a state."""
        if state is None and (self._undecided_zones or not self.only_zones):
            for zone in (None, *self._undecided_zones):
                self.minutes.people(zone).undecided += 1


@dataclass
class TrackState:
    """What is remembered of one person. Times are on the source's clock.

    Attributes:
        number: of the track.
        stillness: since when the face has not moved.
        box_xyxy: the face, float32 (4,) in pixels of the frame in which it was last seen.
        first_s, last_s: first and last time in sight.
        alertable_s: since when the person is where people alert; None while elsewhere.
        alert: the open alert; None without one.
        cooldown_until_s: no new alert begins before.
        static: the face is a picture.
        found_s: how much longer the face was found with confidence than missed.
        is_person: that was long enough once; until then it may be a flower or the back of a head.
    """

    number: int
    vote: Vote
    counts: TrackCounts
    stillness: Stillness
    box_xyxy: FloatArray
    first_s: float
    last_s: float
    zone_state: ZoneState = field(default_factory=ZoneState)
    alertable_s: float | None = None
    alert: Alert | None = None
    cooldown_until_s: float = 0.0
    static: bool = False
    found_s: float = 0.0
    is_person: bool = False

    @property
    def zones(self) -> tuple[str, ...]:
        """Names of the zones that the person is in."""
        return self.zone_state.zones
