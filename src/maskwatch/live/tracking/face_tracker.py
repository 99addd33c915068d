"""Tracks of faces: links the faces of consecutive frames, with ByteTrack of the library `trackers`."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt
import supervision as sv
from trackers import BIoU, ByteTrackTracker

from maskwatch.live.tracking.appearance import colours, unlikeness
from maskwatch.live.tracking.faces import Faces
from maskwatch.media.images import FloatArray, UInt8Array

NO_TRACK = -1
"""The number of a face without a track, as in supervision; tracks are numbered from 1."""

TESTED_TRACKERS = frozenset(["2"])
"""Major versions of `trackers` whose list of tracks and whose similarities are known to be safe to change."""

_IS_TESTED = version("trackers").partition(".")[0] in TESTED_TRACKERS
_LIBRARY_FPS = 30.0  # `lost_track_buffer` counts frames at this rate
_ALONE = 1.0  # distance in face heights from which a face has its surroundings for itself
_MEMORY_S = 1.0  # time constant of the colours of a person
_CONFIDENT = 0.5  # confidence that divides confident from weak faces, as the library is given them


@dataclass(frozen=True)
class TrackSettings:
    """How tracks are followed; the defaults were chosen by benchmarks/events.py.

    Attributes:
        lost_s: seconds without a face after which a track ends.
        widen: boxes are widened by this share of their size on each side before they are compared. It holds
            tracks together where a face moves by its own width between two frames, and mixes up neighbours.
        min_iou: widened boxes that overlap less are not the same face.
        min_frames: frames in a row that a new track needs.
        reach: a track that begins within this many face heights of a lost one continues it, with its number;
            0 for never.
        frame_rate: frames per second for which the noise of the motion model is tuned.
        appearance: the share of the IoU that a face loses with a track whose person has quite other colours
            around the face; 0 for motion alone.
    """

    lost_s: float = 2.0
    widen: float = 0.0
    min_iou: float = 0.2
    min_frames: int = 2
    reach: float = 1.0
    frame_rate: float = 10.0
    appearance: float = 0.3


class FaceTracker:
    """The tracks of one source.

    Time is that of the source. Intervals between frames may vary, as they do when only the newest frame of a
    camera is analysed.
    """

    def __init__(self, settings: TrackSettings | None = None) -> None:
        self._settings = settings or TrackSettings()
        self._tracker = _ByteTrack(
            lost_track_buffer=round(self._settings.lost_s * _LIBRARY_FPS),
            frame_rate=self._settings.frame_rate,
            track_activation_threshold=_CONFIDENT,
            high_conf_det_threshold=_CONFIDENT,
            minimum_consecutive_frames=self._settings.min_frames,
            minimum_iou_threshold=self._settings.min_iou,
            iou=BIoU(self._settings.widen),
        )
        self._tracker.appearance = self._settings.appearance
        self._time_s = -np.inf
        self._numbers: dict[int, int] = {}  # of the library → ours
        self._last: dict[int, tuple[float, FloatArray]] = {}  # ours → when and where last seen
        self._next = 1

    def update(
        self, time_s: float, faces: Faces, image_rgb: UInt8Array | None = None
    ) -> npt.NDArray[np.int64]:
        """The number of each face's track: int64 (N,), `NO_TRACK` for faces without one.

        A face that is not confident continues a track and never begins one.

        Args:
            image_rgb: the frame, uint8 (H, W, 3), for the colours around the faces; None for motion alone.
        """
        # The library warns when the time stays the same, and skips a frame when it goes back.
        self._time_s = max(time_s, np.nextafter(self._time_s, np.inf) + 1e-6)
        library_ids = self._library_ids(faces, image_rgb)
        lost_s = self._settings.lost_s
        self._last = {number: last for number, last in self._last.items() if self._time_s - last[0] <= lost_s}
        # The library rounds `lost_s` to its frames, and may keep a track a moment longer.
        self._numbers = {one: number for one, number in self._numbers.items() if number in self._last}
        numbers = np.array([self._numbers.get(int(one), NO_TRACK) for one in library_ids], np.int64)
        for index in np.flatnonzero((library_ids != NO_TRACK) & (numbers == NO_TRACK)):
            taken = {int(number) for number in numbers}
            numbers[index] = self._begin(int(library_ids[index]), faces.boxes_xyxy[index], taken)
        for index in np.flatnonzero(numbers != NO_TRACK):
            self._last[int(numbers[index])] = (self._time_s, faces.boxes_xyxy[index])
        return numbers

    def clear(self) -> None:
        """Forgets all tracks; new ones get new numbers."""
        self._tracker.reset()
        self._numbers.clear()
        self._last.clear()

    def _library_ids(self, faces: Faces, image_rgb: UInt8Array | None) -> npt.NDArray[np.int64]:
        """The library's numbers (N,). The scores are scaled to its one threshold."""
        best = faces.scores.max(1)
        scaled = np.where(faces.confident, _CONFIDENT + best / 2, np.minimum(best / 2, _CONFIDENT - 0.01))
        detections = sv.Detections(
            xyxy=faces.boxes_xyxy,
            confidence=scaled.astype(np.float32),
            data={"face": np.arange(len(faces))},
        )
        self._tracker.show(faces, image_rgb, self._time_s)
        tracked = self._tracker.update(detections, timestamp=float(self._time_s))
        ids = np.full(len(faces), NO_TRACK, np.int64)
        if len(tracked):
            assert tracked.tracker_id is not None
            ids[tracked.data["face"]] = tracked.tracker_id
        return ids

    def _begin(self, library_id: int, box_xyxy: FloatArray, taken: set[int]) -> int:
        """A new number, or that of a track that was lost here."""
        lost = [
            (center_distance(box_xyxy, box), number)
            for number, (_, box) in self._last.items()
            if number not in taken
        ]
        distance, number = min(lost, default=(np.inf, NO_TRACK))
        if distance > self._settings.reach:
            number = self._next
            self._next += 1
        else:
            continued = {one for one, ours in self._numbers.items() if ours == number}
            self._tracker.forget(continued)
            self._numbers = {one: ours for one, ours in self._numbers.items() if one not in continued}
        self._numbers[library_id] = number
        return number


class _ByteTrack(ByteTrackTracker):
    """ByteTrack that also sees colours, and can forget lost tracks; the library has a method for neither.

    It changes the similarities that the library computes, and shortens the library's own list, only in
    versions in which that is tested. With others motion alone counts, and a lost track remains beside the one
    that continues it, and may sometimes take a face from it.

    Attributes:
        appearance: as in `TrackSettings`.
    """

    appearance = 0.0

    def show(self, faces: Faces, image_rgb: UInt8Array | None, time_s: float) -> None:
        """The faces of the next update; None for the picture, where there is none."""
        self._looks: list[FloatArray] | None = None
        if image_rgb is not None and _IS_TESTED and self.appearance > 0:
            self._looks = [colours(image_rgb, box) for box in faces.boxes_xyxy]
        self._alone = _alone(faces.boxes_xyxy)
        self._time_s = time_s
        # The library asks twice: for confident faces and all tracks, then for the others and what is left.
        self._stages = [np.flatnonzero(faces.confident), np.flatnonzero(~faces.confident)]
        self._rows: list[Any] | None = None

    def _get_associated_indices(
        self, similarity_matrix: npt.NDArray[Any], min_similarity_thresh: float
    ) -> tuple[list[tuple[int, int]], list[int], list[int]]:
        """As the library does it, but a track and a face that look unlike have less of their similarity.

        So who looks alike wins where several tracks and faces overlap. Alone, a face stays on its track
        whatever it looks like, since hands and masks come and go.
        """
        if self._looks is None:
            return super()._get_associated_indices(similarity_matrix, min_similarity_thresh)
        tracks = self.tracks if self._rows is None else self._rows
        faces = self._stages.pop(0)
        weighted = similarity_matrix.copy()
        for row, column in zip(*np.nonzero(similarity_matrix >= min_similarity_thresh), strict=True):
            if hasattr(tracks[row], "look"):
                unlike = unlikeness(tracks[row].look, self._looks[faces[column]])
                weighted[row, column] *= 1 - self.appearance * unlike
        weighted[similarity_matrix < min_similarity_thresh] = 0
        matched, lost, new = super()._get_associated_indices(weighted, 1e-9)
        for row, column in matched:
            self._remember(tracks[row], int(faces[column]))
        self._rows = [tracks[row] for row in lost]
        return matched, lost, new

    def _remember(self, track: Any, face: int) -> None:
        """Notes the colours around a face, unless another face is among them."""
        assert self._looks is not None
        look = self._looks[face]
        if not hasattr(track, "look"):
            track.look, track.look_s = look, self._time_s
        elif self._alone[face]:
            new = 1 - np.exp((track.look_s - self._time_s) / _MEMORY_S)
            track.look, track.look_s = track.look + new * (look - track.look), self._time_s

    def forget(self, track_ids: Container[int]) -> None:
        """Drops lost tracks, so that they do not compete with their continuations."""
        if _IS_TESTED:
            self.tracks = [track for track in self.tracks if track.tracker_id not in track_ids]


def center_distance(a_xyxy: FloatArray, b_xyxy: FloatArray) -> float:
    """Distance of the centres in heights of the larger face; infinite where one is over 1.6 times as high."""
    heights = float(a_xyxy[3] - a_xyxy[1]), float(b_xyxy[3] - b_xyxy[1])
    if max(heights) > 1.6 * max(min(heights), 1e-6):
        return float(np.inf)
    offset = (a_xyxy[:2] + a_xyxy[2:] - b_xyxy[:2] - b_xyxy[2:]) / 2
    return float(np.hypot(*offset)) / max(heights)


def _alone(boxes_xyxy: FloatArray) -> npt.NDArray[np.bool_]:
    """(N,) which faces have no other close to them, measured in heights of the larger."""
    middles, heights = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2, boxes_xyxy[:, 3] - boxes_xyxy[:, 1]
    distances = np.linalg.norm(middles[:, None] - middles, axis=-1)
    close = distances < _ALONE * np.maximum(heights[:, None], heights)
    return np.asarray(close.sum(1) <= 1)
