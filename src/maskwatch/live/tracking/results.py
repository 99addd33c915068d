"""Results: the people and events of one frame, and the interface of their receivers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import supervision as sv

from maskwatch.live.capture.frame import LiveFrame
from maskwatch.live.events import Event
from maskwatch.live.tracking.faces import Faces
from maskwatch.media.images import FloatArray


@dataclass(frozen=True, eq=False)
class Person:
    """One person, as of one frame.

    Attributes:
        track: number of the track, from 1, within a source and a run.
        box_xyxy: the face, float32 (4,) in pixels of the frame in which it was last seen.
        state: class name; None while undecided.
        score: share of the state in the vote, 0..1.
        since_s: seconds for which the state has lasted; while undecided, since the person appeared.
        zones: names of the zones that the person is in.
        seen: in this frame; otherwise lost for less than `TrackSettings.lost_s`.
        alert: an alert of this person is open.
        static: the face has not moved for minutes, so it is a picture; it has no state.
    """

    track: int
    box_xyxy: FloatArray
    state: str | None
    score: float
    since_s: float
    zones: tuple[str, ...]
    seen: bool
    alert: bool
    static: bool = False

    @property
    def shown_state(self) -> str | None:
        """The state as people read it: "static" for a picture, None while undecided."""
        return "static" if self.static else self.state


@dataclass(frozen=True, eq=False)
class SceneState:
    """All people in front of a source, as of one frame.

    Attributes:
        people: includes those who are briefly lost.
        events: in the order in which they happened.
        detections: the confident faces, with `tracker_id` (-1 for a face without a track yet).
        tracks: int64 (N,), the track of each face of the frame, also of those that are not confident; -1 for
            none.
    """

    people: tuple[Person, ...]
    events: tuple[Event, ...]
    detections: sv.Detections
    tracks: npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class FrameResult:
    """One frame and what was found in it.

    Attributes:
        faces: all of them, also those that are not confident, in the order of `scene.tracks`.
        age_s: age of the frame in seconds when its result was ready.
    """

    frame: LiveFrame
    faces: Faces
    scene: SceneState
    age_s: float


class Observer:
    """Receives every result and every event, in the thread of the loop: must be quick and must not raise."""

    def on_frame(self, result: FrameResult) -> None:
        """Called for each frame, before the events of that frame."""

    def on_event(self, event: Event) -> None:
        """Called for each event."""
