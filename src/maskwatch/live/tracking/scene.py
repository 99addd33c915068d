"""The scene in front of a source as of one frame: who is there, and what has happened."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import supervision as sv

from maskwatch.live.events import Event
from maskwatch.media.images import FloatArray


@dataclass(frozen=True, eq=False)
class Person:
    """One person, as of one frame.

    Attributes:
        track: number, from 1, within a source and a run.
        box_xyxy: the face in pixels of the frame in which it was last seen.
        state: class name; None while undecided.
        score: share of the state in the vote, 0..1.
        since_s: seconds for which the state has lasted; while undecided, since the person came.
        zones: names of the zones that the person is in.
        seen: in this very frame; else out of sight for less than `TrackSettings.lost_s`.
        alert: whether an alert goes on.
    """

    track: int
    box_xyxy: FloatArray
    state: str | None
    score: float
    since_s: float
    zones: tuple[str, ...]
    seen: bool
    alert: bool


@dataclass(frozen=True, eq=False)
class Scene:
    """What one frame has brought.

    Attributes:
        people: all who are there, those included who are out of sight for a moment.
        events: in the order in which they happened.
        detections: the faces that count, with `tracker_id` (-1 for one that is nobody yet).
        tracks: (N,) the number of each face that came in, the unsure ones too; -1 for nobody.
    """

    people: tuple[Person, ...]
    events: tuple[Event, ...]
    detections: sv.Detections
    tracks: npt.NDArray[np.int64]
