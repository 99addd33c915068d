"""People: who is in front of a source, in which state, and what of it is worth an event."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import supervision as sv

from maskwatch.live.capture.frame import LiveFrame
from maskwatch.live.events import Event
from maskwatch.live.tracking.alerts import Alert, Alerts
from maskwatch.live.tracking.counts import Counts, MinuteCounts
from maskwatch.live.tracking.face_tracker import NO_TRACK, FaceTracker
from maskwatch.live.tracking.faces import Faces
from maskwatch.live.tracking.results import Person, SceneState
from maskwatch.live.tracking.settings import PeopleSettings
from maskwatch.live.tracking.vote import Vote
from maskwatch.live.tracking.zones import Direction, Line, Zones, ZoneState
from maskwatch.media.images import FloatArray
from maskwatch.models import ModelMetadata


@dataclass
class _TrackState:
    """What is remembered of a person.

    `passed`: zones in which he was while undecided. `start_s`: since when he is where alerts are wanted.
    """

    vote: Vote
    box_xyxy: FloatArray
    first_s: float
    last_s: float
    whereabouts: ZoneState = field(default_factory=ZoneState)
    counted: set[str | None] = field(default_factory=set)
    passed: set[str] = field(default_factory=set)
    waiting: list[tuple[float, tuple[str, ...]]] = field(default_factory=list)  # seconds before he is decided
    start_s: float | None = None


class PeopleTracker:
    """Follows the people of one source.

    Args:
        source: short name of the source.
        run: name of this run of the program.
        model: what the model's file says about itself.
        settings: see `PeopleSettings`.
        places: zones and lines, of this source or of all.

    Raises:
        OptionError: a setting that this model cannot have.
    """

    def __init__(
        self,
        source: str,
        run: str,
        model: ModelMetadata,
        settings: PeopleSettings | None = None,
        places: Zones | None = None,
    ) -> None:
        self._settings = settings or PeopleSettings()
        self._names = model.classes
        self._alarming = frozenset(map(model.classes.index, self._settings.alerting(model.classes)))
        self._places = (places or Zones()).for_source(source)
        self._tracks = FaceTracker(self._settings.tracks)
        self._alerts = Alerts(self._settings.alerts)
        self._minutes = MinuteCounts(model.classes, self._places)
        self._known: dict[int, _TrackState] = {}
        self._last_s: float | None = None
        self._minute_began_s: float | None = None  # in the video
        self._about: dict[str, Any] = {
            "source": source,
            "run": run,
            "model": model.name,
            "model_version": model.version,
        }

    def update(self, frame: LiveFrame, faces: Faces) -> SceneState:
        """Takes the next frame of the source and the faces that were found in it."""
        faces = self._large_enough(faces)
        events = list(self._begin(frame))
        numbers = self._tracks.update(frame.time_s, faces)
        for index in np.flatnonzero(numbers != NO_TRACK):
            events += self._see(frame, int(numbers[index]), faces.boxes_xyxy[index], faces.scores[index])
        for number, somebody in list(self._known.items()):
            if frame.time_s - somebody.last_s > self._settings.tracks.lost_s:
                events += self._end_alert(frame, number, "left", somebody.last_s, gone=True)
                self._alerts.forget(number)
                self._count_undecided(somebody)
                del self._known[number]
        people = tuple(self._person(frame.time_s, *item) for item in sorted(self._known.items()))
        tracks = np.where(numbers == NO_TRACK, -1, numbers).astype(np.int64)
        return SceneState(people, tuple(events), self._detections(faces, tracks), tracks)

    def finish(self, last: LiveFrame) -> tuple[Event, ...]:
        """Ends what is going on: alerts as "stopped", and the minute that has begun.

        Nobody is known afterwards. More frames may follow, as from a camera that is back; numbers go on.

        Args:
            last: the newest frame of the source.
        """
        events: list[Event] = []
        for number, somebody in self._known.items():
            events += self._end_alert(last, number, "stopped", somebody.last_s, gone=True)
            self._alerts.forget(number)
            self._count_undecided(somebody)
        self._known.clear()
        self._tracks.clear()
        self._last_s = None
        return (*events, *self._minute(self._minutes.flush()))

    def _large_enough(self, faces: Faces) -> Faces:
        heights = faces.boxes_xyxy[:, 3] - faces.boxes_xyxy[:, 1]
        return Faces(
            faces.boxes_xyxy, faces.scores, faces.confident & (heights >= self._settings.least_height)
        )

    def _begin(self, frame: LiveFrame) -> Iterator[Event]:
        passed_s = 0.0 if self._last_s is None else max(0.0, frame.time_s - self._last_s)
        self._last_s = frame.time_s
        covers_s = min(passed_s, self._settings.tracks.lost_s)
        yield from self._minute(self._minutes.begin_frame(frame.when, covers_s))
        if self._minute_began_s is None:
            self._minute_began_s = frame.media_time_s

    def _see(
        self, frame: LiveFrame, number: int, box_xyxy: FloatArray, scores: FloatArray
    ) -> Iterator[Event]:
        time_s = frame.time_s
        somebody = self._known.get(number)
        if somebody is None:
            vote = Vote(len(self._names), self._settings.vote)
            somebody = self._known[number] = _TrackState(vote, box_xyxy, time_s, time_s)
        self._count_time(somebody, max(0.0, time_s - somebody.last_s))
        somebody.box_xyxy, somebody.last_s = box_xyxy, time_s
        size_wh = frame.image_rgb.shape[1], frame.image_rgb.shape[0]
        somebody.vote.add(time_s, scores)
        self._credit_time(somebody)
        for line, direction in somebody.whereabouts.move(box_xyxy, self._places, size_wh):
            yield self._crossing(frame, number, line, direction)
        self._count_person(somebody)
        yield from self._watch(frame, number, somebody)

    def _watch(self, frame: LiveFrame, number: int, somebody: _TrackState) -> Iterator[Event]:
        """Ends the alert of a person in sight, and begins one."""
        time_s, vote = frame.time_s, somebody.vote
        self._alerts.see(number, time_s, somebody.box_xyxy)
        wanted = self._places.alert_zones(somebody.whereabouts.zones)
        if wanted is None:
            somebody.start_s = None
            yield from self._end_alert(frame, number, "left", time_s)
            return
        if somebody.start_s is None:
            somebody.start_s = time_s
        alert = self._alerts.of(number)
        if alert is not None and alert.state != vote.state:
            yield from self._end_alert(frame, number, "changed", vote.since_s)
        if vote.state in self._alarming:
            zone = wanted[0] if wanted else None
            if (going := self._alerts.of(number)) is not None:
                going.score = max(going.score, vote.score)
                return
            alert = Alert(vote.state, max(vote.since_s, somebody.start_s), zone, vote.score)
            if self._alerts.begin(number, alert, somebody.first_s, time_s, somebody.box_xyxy):
                yield self._begun(frame, number, alert)

    def _begun(self, frame: LiveFrame, number: int, alert: Alert) -> Event:
        self._minutes.alert(self._known[number].whereabouts.zones)
        return self._event(
            frame,
            number,
            "alert",
            id=alert.id,
            state=self._names[alert.state],
            score=alert.score,
            zone=alert.zone,
            duration_s=frame.time_s - alert.start_s,
        )

    def _end_alert(
        self, frame: LiveFrame, number: int, reason: str, end_s: float, *, gone: bool = False
    ) -> Iterator[Event]:
        alert = self._alerts.of(number)
        if alert is None:
            return
        self._alerts.end(number, end_s, gone=gone)
        yield self._event(
            frame,
            number,
            "alert_end",
            state=self._names[alert.state],
            score=alert.score,
            zone=alert.zone,
            duration_s=max(0.0, end_s - alert.start_s),
            alert=alert.id,
            reason=reason,
        )

    def _crossing(self, frame: LiveFrame, number: int, line: Line, direction: Direction) -> Event:
        self._minutes.crossing(line.name, direction)
        state = self._known[number].vote.state
        name = None if state is None else self._names[state]
        score = None if state is None else self._known[number].vote.score
        return self._event(
            frame, number, "crossing", line=line.name, direction=direction, state=name, score=score
        )

    def _count_time(self, somebody: _TrackState, seconds: float) -> None:
        """The time of one who is not decided waits until he is."""
        zones = somebody.whereabouts.zones
        if seconds and (zones or not self._places.only_zones):
            somebody.waiting.append((seconds, zones))
        self._credit_time(somebody)

    def _credit_time(self, somebody: _TrackState) -> None:
        if somebody.vote.state is not None:
            for waited, places in somebody.waiting:
                self._minutes.time(self._names[somebody.vote.state], waited, places)
            somebody.waiting.clear()

    def _count_person(self, somebody: _TrackState) -> None:
        zones = somebody.whereabouts.zones
        if somebody.vote.state is None:
            somebody.passed.update(zones)
            return
        if self._places.only_zones and not zones:
            return
        for place in (None, *zones):
            if place not in somebody.counted:
                somebody.counted.add(place)
                self._minutes.person(self._names[somebody.vote.state], place)

    def _count_undecided(self, somebody: _TrackState) -> None:
        """Counts a person who is gone, unless he was decided."""
        if somebody.vote.state is None and (somebody.passed or not self._places.only_zones):
            self._minutes.undecided(sorted(somebody.passed))

    def _minute(self, ended: tuple[datetime, Counts] | None) -> Iterator[Event]:
        if ended is not None:
            began_s, self._minute_began_s = self._minute_began_s, None
            yield Event("minute", ended[0], time_s=began_s, counts=ended[1].to_record(), **self._about)

    def _event(self, frame: LiveFrame, number: int, kind: Any, **facts: Any) -> Event:
        somebody = self._known[number]
        height, width = frame.image_rgb.shape[:2]
        x1, y1, x2, y2 = map(float, somebody.box_xyxy)
        return Event(
            kind,
            frame.when,
            time_s=frame.media_time_s,
            track=number,
            box_xyxy=(x1, y1, x2, y2),
            width=width,
            height=height,
            **facts,
            **self._about,
        )

    def _person(self, time_s: float, number: int, somebody: _TrackState) -> Person:
        state = somebody.vote.state
        return Person(
            track=number,
            box_xyxy=somebody.box_xyxy,
            state=None if state is None else self._names[state],
            score=somebody.vote.score,
            since_s=time_s - (somebody.first_s if state is None else somebody.vote.since_s),
            zones=somebody.whereabouts.zones,
            seen=somebody.last_s == time_s,
            alert=self._alerts.of(number) is not None,
        )

    def _detections(self, faces: Faces, tracks: npt.NDArray[np.int64]) -> sv.Detections:
        kept = np.flatnonzero(faces.confident)
        class_ids = faces.class_ids[kept]
        return sv.Detections(
            xyxy=faces.boxes_xyxy[kept],
            confidence=faces.scores[kept, class_ids],
            class_id=class_ids,
            tracker_id=tracks[kept],
            data={"class_name": np.array(self._names)[class_ids]},
        )
