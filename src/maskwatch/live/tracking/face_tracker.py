"""Tracks: which face of this frame is which of the last one. ByteTrack of the library `trackers`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import supervision as sv
from trackers import BIoU, ByteTrackTracker

from maskwatch.live.tracking.faces import Faces
from maskwatch.media.images import FloatArray

NO_TRACK = 0
"""Stands for a face that belongs to no track; tracks are numbered from 1."""

_LIBRARY_FPS = 30.0  # `lost_track_buffer` counts frames of this rate
_COUNTS = 0.5  # confidence that divides faces that count from weak ones, in what the library is told


@dataclass(frozen=True)
class TrackSettings:
    """How tracks are followed; the defaults were chosen by benchmarks/events.py.

    Attributes:
        lost_s: a track that has not been seen for longer is over.
        widen: boxes are widened by this share of their size on each side before they are compared. It holds
            tracks together where a face moves by its own width between two frames, and mixes up neighbours.
        least_iou: widened boxes that overlap less are not the same face.
        least_frames: a new track needs so many frames in a row.
        reach: a track that begins within this many face heights of one that is out of sight goes on with
            its number; 0 for never.
        frame_rate: frames a second for which the noise of the motion model is meant.
    """

    lost_s: float = 2.0
    widen: float = 0.0
    least_iou: float = 0.2
    least_frames: int = 2
    reach: float = 1.0
    frame_rate: float = 10.0


class FaceTracker:
    """The tracks of one source.

    Time is the source's own; frames may come at any distance, as they do from a camera of which only the
    newest frame is looked at.
    """

    def __init__(self, settings: TrackSettings | None = None) -> None:
        self._settings = settings or TrackSettings()
        self._tracker = ByteTrackTracker(
            lost_track_buffer=round(self._settings.lost_s * _LIBRARY_FPS),
            frame_rate=self._settings.frame_rate,
            track_activation_threshold=_COUNTS,
            high_conf_det_threshold=_COUNTS,
            minimum_consecutive_frames=self._settings.least_frames,
            minimum_iou_threshold=self._settings.least_iou,
            iou=BIoU(self._settings.widen),
        )
        self._time_s = -np.inf
        self._numbers: dict[int, int] = {}  # of the library → ours
        self._last: dict[int, tuple[float, FloatArray]] = {}  # ours → when and where last seen
        self._next = 1

    def update(self, time_s: float, faces: Faces) -> npt.NDArray[np.int64]:
        """Gives each face the number of its track: (N,), `NO_TRACK` for those that have none.

        A face that does not count continues a track and never begins one.
        """
        # The library warns of a clock that stands still, and leaves out a frame when it goes back.
        self._time_s = max(time_s, np.nextafter(self._time_s, np.inf) + 1e-6)
        tracked = self._tracker.update(self._told(faces), timestamp=float(self._time_s))
        ids = np.full(len(faces), -1, np.int64)
        if len(tracked):
            assert tracked.tracker_id is not None
            ids[tracked.data["face"]] = tracked.tracker_id
        self._last = {number: last for number, last in self._last.items() if self._in_time(last[0])}
        # The library rounds `lost_s` to its frames, and may know somebody a moment longer.
        self._numbers = {one: number for one, number in self._numbers.items() if number in self._last}
        numbers = np.full(len(faces), NO_TRACK, np.int64)
        known = [index for index in np.flatnonzero(ids >= 0) if int(ids[index]) in self._numbers]
        for index in known:
            numbers[index] = self._numbers[int(ids[index])]
        for index in np.flatnonzero((ids >= 0) & (numbers == NO_TRACK)):
            taken = {int(number) for number in numbers}
            numbers[index] = self._begin(int(ids[index]), faces.boxes_xyxy[index], taken)
        for index in np.flatnonzero(numbers != NO_TRACK):
            self._last[int(numbers[index])] = (self._time_s, faces.boxes_xyxy[index])
        self._forget()
        return numbers

    def clear(self) -> None:
        """Forgets all tracks; numbers go on."""
        self._tracker.reset()
        self._numbers.clear()
        self._last.clear()

    def _told(self, faces: Faces) -> sv.Detections:
        """Scores such that the library's one threshold divides faces that count from those that do not."""
        best = faces.scores.max(1) if len(faces) else np.zeros(0, np.float32)
        confidence = np.where(faces.confident, _COUNTS + best / 2, np.minimum(best / 2, _COUNTS - 0.01))
        return sv.Detections(
            xyxy=faces.boxes_xyxy,
            confidence=confidence.astype(np.float32),
            data={"face": np.arange(len(faces))},
        )

    def _begin(self, library_id: int, box_xyxy: FloatArray, taken: set[int]) -> int:
        """A new number, or that of a track out of sight which was lost right here."""
        away = [
            (center_distance(box_xyxy, box), number)
            for number, (_, box) in self._last.items()
            if number not in taken
        ]
        distance, number = min(away, default=(np.inf, NO_TRACK))
        if distance > self._settings.reach:
            number = self._next
            self._next += 1
        else:
            old = {one for one, ours in self._numbers.items() if ours == number}
            self._tracker.tracks = [track for track in self._tracker.tracks if track.tracker_id not in old]
            self._numbers = {one: ours for one, ours in self._numbers.items() if one not in old}
        self._numbers[library_id] = number
        return number

    def _forget(self) -> None:
        alive = {track.tracker_id for track in self._tracker.tracks}
        self._numbers = {one: ours for one, ours in self._numbers.items() if one in alive}

    def _in_time(self, seen_s: float) -> bool:
        return bool(self._time_s - seen_s <= self._settings.lost_s)


def center_distance(a_xyxy: FloatArray, b_xyxy: FloatArray) -> float:
    """Distance of the centres in heights of the larger face; infinite where one is 1.6 times the other."""
    heights = float(a_xyxy[3] - a_xyxy[1]), float(b_xyxy[3] - b_xyxy[1])
    if max(heights) > 1.6 * max(min(heights), 1e-6):
        return float(np.inf)
    middle = (a_xyxy[:2] + a_xyxy[2:] - b_xyxy[:2] - b_xyxy[2:]) / 2
    return float(np.hypot(*middle)) / max(heights)
