"""Follows the people in front of a source from frame to frame, and reports events."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import supervision as sv

from maskwatch.live.capture.frame import LiveFrame
from maskwatch.live.events import Event, EventKind
from maskwatch.live.tracking.alerts import Alerts
from maskwatch.live.tracking.counts import Counts, MinuteCounts
from maskwatch.live.tracking.cuts import SceneCuts
from maskwatch.live.tracking.face_tracker import NO_TRACK, FaceTracker
from maskwatch.live.tracking.faces import Faces
from maskwatch.live.tracking.results import Person, SceneState
from maskwatch.live.tracking.settings import PeopleSettings
from maskwatch.live.tracking.stillness import Stillness, same_place
from maskwatch.live.tracking.track_state import Alert, TrackCounts, TrackState
from maskwatch.live.tracking.vote import Vote
from maskwatch.live.tracking.zones import Zones
from maskwatch.media.images import FloatArray
from maskwatch.models import ModelMetadata

_MOST_PICTURES = 100  # whose places are remembered
_LONGEST_LOOK_S = 0.5  # a frame stands for the time since the one before it, at most this


class PeopleTracker:
    """Follows the people in front of one source.

    Args:
        source: short name of the source.
        run: name of this run of the program.
        model: metadata of the model that finds the faces.
        settings: see `PeopleSettings`.
        zones: zones and lines, of this source or of all.

    Raises:
        OptionError: a setting does not fit the model.
    """

    def __init__(
        self,
        source: str,
        run: str,
        model: ModelMetadata,
        settings: PeopleSettings | None = None,
        zones: Zones | None = None,
    ) -> None:
        self._settings = settings or PeopleSettings()
        self._class_names = model.classes
        self._alert_ids = frozenset(map(model.classes.index, self._settings.alerting(model.classes)))
        self._zones = (zones or Zones()).for_source(source)
        self._face_tracker = FaceTracker(self._settings.tracks)
        self._alerts = Alerts(self._settings.alerts)
        self._minutes = MinuteCounts(model.classes, self._zones)
        self._tracks: dict[int, TrackState] = {}
        self._cuts = SceneCuts()
        self._pictures: deque[FloatArray] = deque(maxlen=_MOST_PICTURES)  # boxes of static faces
        self._last_s: float | None = None
        self._passed_s = 0.0  # since the frame before
        self._minute_began_s: float | None = None  # in the video
        self._new_event = partial(
            Event, source=source, run=run, model=model.name, model_version=model.version
        )

    def update(self, frame: LiveFrame, faces: Faces) -> SceneState:
        """Takes the next frame of the source and the faces that were found in it."""
        faces = self._large_enough(faces)
        events = list(self._begin(frame))
        if self._cuts.update(frame.image_rgb):
            events += self._leave_all(frame, "left")
            self._alerts.forget()
        numbers = self._face_tracker.update(frame.clock_s, faces, frame.image_rgb)
        for index in np.flatnonzero(numbers != NO_TRACK):
            events += self._see(frame, int(numbers[index]), faces, int(index))
        for number, track in list(self._tracks.items()):
            if track.last_s < frame.clock_s:
                self._look(track, found=False)
            if frame.clock_s - track.last_s > self._settings.tracks.lost_s:
                events += self._leave(frame, track, "left")
                del self._tracks[number]
        people = tuple(self._person(frame.clock_s, track) for _, track in sorted(self._tracks.items()))
        return SceneState(people, tuple(events), self._detections(faces, numbers), numbers)

    def finish(self, last: LiveFrame) -> tuple[Event, ...]:
        """Ends all tracks: their alerts as "stopped", and the minute that has begun.

        More frames may follow, as from a camera that is back. They begin new tracks with new numbers.

        Args:
            last: the newest frame of the source.
        """
        events = self._leave_all(last, "stopped")
        self._last_s = None
        return (*events, *self._minute(self._minutes.flush()))

    def _large_enough(self, faces: Faces) -> Faces:
        heights = faces.boxes_xyxy[:, 3] - faces.boxes_xyxy[:, 1]
        return replace(faces, confident=faces.confident & (heights >= self._settings.min_height))

    def _begin(self, frame: LiveFrame) -> Iterator[Event]:
        passed_s = 0.0 if self._last_s is None else max(0.0, frame.clock_s - self._last_s)
        self._last_s, self._passed_s = frame.clock_s, min(passed_s, _LONGEST_LOOK_S)
        covers_s = min(passed_s, self._settings.tracks.lost_s)
        yield from self._minute(self._minutes.begin_frame(frame.when, covers_s))
        if self._minute_began_s is None:
            self._minute_began_s = frame.media_time_s

    def _see(self, frame: LiveFrame, number: int, faces: Faces, index: int) -> Iterator[Event]:
        time_s, box_xyxy = frame.clock_s, faces.boxes_xyxy[index]
        if number not in self._tracks:
            self._tracks[number] = self._new_track(number, box_xyxy, time_s)
        track = self._tracks[number]
        if not track.static:
            track.counts.add_time(max(0.0, time_s - track.last_s), track.zones)
            track.counts.decide(self._state(track))
        track.box_xyxy, track.last_s = box_xyxy, time_s
        self._look(track, found=bool(faces.confident[index]))
        track.vote.add(time_s, faces.scores[index])
        yield from self._check_motion(frame, track)
        if track.static:
            return
        state = self._state(track)
        track.counts.decide(state)
        size_wh = frame.image_rgb.shape[1], frame.image_rgb.shape[0]
        for line, direction in track.zone_state.move(box_xyxy, self._zones, size_wh):
            self._minutes.crossing(line.name, direction)
            score = None if state is None else track.vote.score
            fields = {"line": line.name, "direction": direction, "state": state, "score": score}
            yield self._event(frame, track, "crossing", **fields)
        track.counts.add_person(state, track.zones)
        yield from self._update_alert(frame, track)

    def _new_track(self, number: int, box_xyxy: FloatArray, time_s: float) -> TrackState:
        vote = Vote(len(self._class_names), self._alert_ids, self._settings.vote)
        counts = TrackCounts(self._minutes, self._zones.only_zones)
        track = TrackState(number, vote, counts, Stillness(box_xyxy, time_s), box_xyxy, time_s, time_s)
        track.static = any(same_place(box_xyxy, picture) for picture in self._pictures)
        return track

    def _look(self, track: TrackState, *, found: bool) -> None:
        """Notes whether a face was found in this frame: a face mostly is, anything else now and then."""
        track.found_s = max(0.0, track.found_s + (self._passed_s if found else -self._passed_s))
        track.is_person = track.is_person or track.found_s >= self._settings.found_s

    def _check_motion(self, frame: LiveFrame, track: TrackState) -> Iterator[Event]:
        """Finds that a face is a picture, or that it is none."""
        moved = track.stillness.add(frame.clock_s, track.box_xyxy)
        static_s = self._settings.static_s
        if track.static:
            track.static = not moved
        elif static_s and frame.clock_s - track.stillness.since_s >= static_s:
            track.static = True
            self._pictures.append(track.stillness.box_xyxy)
            yield from self._end_alert(frame, track, "static", frame.clock_s)

    def _state(self, track: TrackState) -> str | None:
        """The state that counts; None while undecided, and for what is not a person."""
        if track.vote.state is None or track.static or not track.is_person:
            return None
        return self._class_names[track.vote.state]

    def _update_alert(self, frame: LiveFrame, track: TrackState) -> Iterator[Event]:
        """Ends the alert of a person in sight, and begins one."""
        time_s, vote = frame.clock_s, track.vote
        alert_zones = self._zones.alert_zones(track.zones)
        if alert_zones is None:
            track.alertable_s = None
            yield from self._end_alert(frame, track, "left", time_s)
            return
        if track.alertable_s is None:
            track.alertable_s = time_s
        if track.alert is not None and track.alert.state != vote.state:
            yield from self._end_alert(frame, track, "changed", vote.since_s)
        if track.alert is not None:
            track.alert.score = max(track.alert.score, vote.score)
        elif vote.state in self._alert_ids and track.is_person and not vote.contested:
            start_s, alert_zone = max(vote.since_s, track.alertable_s), next(iter(alert_zones), None)
            alert = Alert(vote.state, start_s, alert_zone, vote.score)
            if self._alerts.begin(track, alert, time_s, self._tracks.values()):
                for zone in (None, *track.zones):
                    self._minutes.people(zone).alerts += 1
                yield self._event(frame, track, "alert", id=alert.id, **self._alert_fields(alert, time_s))

    def _leave_all(self, frame: LiveFrame, reason: str) -> list[Event]:
        events = [event for track in self._tracks.values() for event in self._leave(frame, track, reason)]
        self._tracks.clear()
        self._face_tracker.clear()
        return events

    def _leave(self, frame: LiveFrame, track: TrackState, reason: str) -> Iterator[Event]:
        yield from self._end_alert(frame, track, reason, track.last_s, gone=True)
        if not track.static:
            track.counts.leave(self._state(track))

    def _end_alert(
        self, frame: LiveFrame, track: TrackState, reason: str, end_s: float, *, gone: bool = False
    ) -> Iterator[Event]:
        alert = self._alerts.end(track, end_s, gone=gone)
        if alert is not None:
            fields = {"alert": alert.id, "reason": reason, **self._alert_fields(alert, end_s)}
            yield self._event(frame, track, "alert_end", **fields)

    def _alert_fields(self, alert: Alert, until_s: float) -> dict[str, Any]:
        duration_s = max(0.0, until_s - alert.start_s)
        state = self._class_names[alert.state]
        return {"state": state, "score": alert.score, "zone": alert.zone, "duration_s": duration_s}

    def _minute(self, ended: tuple[datetime, Counts] | None) -> Iterator[Event]:
        if ended is not None:
            began_s, self._minute_began_s = self._minute_began_s, None
            counts = ended[1].to_record()
            yield self._new_event("minute", ended[0], time_s=began_s, counts=counts)

    def _event(self, frame: LiveFrame, track: TrackState, kind: EventKind, **fields: Any) -> Event:
        height, width = frame.image_rgb.shape[:2]
        x1, y1, x2, y2 = map(float, track.box_xyxy)
        fields |= {"track": track.number, "box_xyxy": (x1, y1, x2, y2), "width": width, "height": height}
        return self._new_event(kind, frame.when, time_s=frame.media_time_s, **fields)

    def _person(self, time_s: float, track: TrackState) -> Person:
        state = self._state(track)
        return Person(
            track=track.number,
            box_xyxy=track.box_xyxy,
            state=state,
            score=track.vote.score,
            since_s=time_s - (track.first_s if state is None else track.vote.since_s),
            zones=track.zones,
            seen=track.last_s == time_s,
            alert=track.alert is not None,
            static=track.static,
        )

    def _detections(self, faces: Faces, numbers: npt.NDArray[np.int64]) -> sv.Detections:
        kept = np.flatnonzero(faces.confident)
        class_ids = faces.class_ids[kept]
        return sv.Detections(
            xyxy=faces.boxes_xyxy[kept],
            confidence=faces.scores[kept, class_ids],
            class_id=class_ids,
            tracker_id=numbers[kept],
            data={"class_name": np.array(self._class_names)[class_ids]},
        )
