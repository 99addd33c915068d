"""The boxes to cover in each frame of a video, also where the detector misses a face for some frames.

A frame waits for the detections of the next ones. Then boxes cover each detection in it, the places between
two detections of a face, and those shortly before its first and after its last one, wider with time. One or
two uncertain detections do not reach into other frames: a crowd has a dozen in each frame, elsewhere in the
next one, and soon everything would be covered.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

Boxes: TypeAlias = npt.NDArray[np.float64]
_Item = TypeVar("_Item")

REACH_S = 0.5
"""How far before and after a detection a face is covered, in seconds of the source's clock."""

REACH_FRAMES = 2
"""The same in frames; the longer of both counts."""

MAX_WAITING = 32
"""Limit of waiting frames: 200 MB at 1920 × 1080. Above 60 frames a second they span less than `REACH_S`."""

# Someone who walks past a camera crosses some nine widths of a face in a second. Two detections give the
# velocity. The margin is for turns and jerks of the camera; a single detection gets more.
_GROWTH = 1.0  # sides of the box a second, on each side
_GROWTH_OF_ONE = 2.0
_MAX_GROWTH = 1.0  # sides of the box, on each side
_EPSILON_S = 1e-6  # for rounding
_MIN_DETECTIONS = 3  # of uncertain ones that make a face
_MAX_DISTANCE = 1.0  # of a detection from the expected centre of its face, in sides of the box
_MAX_AREA_RATIO = 4.0  # of a detection and its face


@dataclass(frozen=True, eq=False)
class _Detection:
    number: int  # index of the frame
    time_s: float
    box_xyxy: Boxes  # (4,)
    confident: bool


@dataclass(eq=False)
class _Track:
    """One face through the frames. `count` and `confident` include detections that were dropped."""

    track_id: int | None
    detections: list[_Detection] = field(default_factory=list)
    count: int = 0
    confident: bool = False

    @property
    def is_face(self) -> bool:
        return self.confident or self.count >= _MIN_DETECTIONS

    def add(self, detection: _Detection) -> _Track:
        self.detections.append(detection)
        self.count += 1
        self.confident |= detection.confident
        return self


class PrivacyMask(Generic[_Item]):
    """Delays frames until the boxes to cover in each are known. A frame may be an item of any type.

    Args:
        reach_s: how far a detection reaches into the frames before and after it, in seconds.
        max_waiting: limit of waiting frames, whatever `reach_s` is. 0 returns each frame at once, covered by
            the detections in it and before.
    """

    def __init__(self, *, reach_s: float = REACH_S, max_waiting: int = MAX_WAITING) -> None:
        self._reach_s, self._max_waiting = reach_s, max_waiting
        self._waiting: deque[tuple[_Item, int, float]] = deque()
        self._tracks: list[_Track] = []
        self._count = 0

    def add(
        self,
        item: _Item,
        time_s: float,
        boxes_xyxy: npt.ArrayLike,
        track_ids: npt.ArrayLike | None = None,
        *,
        confident: npt.ArrayLike | None = None,
    ) -> list[tuple[_Item, Boxes]]:
        """Takes the next frame; returns those that have waited long enough, with boxes (N, 4) to cover.

        Args:
            item: the frame.
            time_s: of the frame, never decreasing.
            boxes_xyxy: (N, 4), all faces found in it, confident or not.
            track_ids: (N,), the tracker's ids, negative for none. Faces without an id are joined by position.
            confident: bool (N,), whether each counts as a face; None if all do.
        """
        boxes = np.asarray(boxes_xyxy, np.float64).reshape(-1, 4)
        ids = np.full(len(boxes), -1) if track_ids is None else np.asarray(track_ids).reshape(-1)
        counts = np.ones(len(boxes), bool) if confident is None else np.asarray(confident, bool).reshape(-1)
        detections = [
            _Detection(self._count, time_s, box_xyxy, bool(one))
            for box_xyxy, one in zip(boxes, counts, strict=True)
        ]
        self._join(detections, [int(track_id) if track_id >= 0 else None for track_id in ids])
        self._waiting.append((item, self._count, time_s))
        self._count += 1
        return list(self._ready(time_s))

    def finish(self) -> list[tuple[_Item, Boxes]]:
        """Returns the frames that still wait. The next frame begins a new video."""
        rest = [self._release() for _ in range(len(self._waiting))]
        self._tracks.clear()
        return rest

    def __len__(self) -> int:
        return len(self._waiting)

    def _ready(self, time_s: float) -> Iterator[tuple[_Item, Boxes]]:
        while self._waiting:
            _, number, began_s = self._waiting[0]
            reached = self._reaches(time_s - began_s, self._count - 1 - number)
            if reached and len(self._waiting) <= self._max_waiting:
                return
            yield self._release()

    def _release(self) -> tuple[_Item, Boxes]:
        item, number, time_s = self._waiting.popleft()
        boxes = [box for track in self._tracks for box in self._boxes_at(track, number, time_s)]
        self._forget(number, time_s)
        return item, np.array(boxes, np.float64).reshape(-1, 4)

    def _reaches(self, seconds: float, frames: int) -> bool:
        return abs(seconds) <= self._reach_s + _EPSILON_S or abs(frames) <= REACH_FRAMES

    def _boxes_at(self, track: _Track, number: int, time_s: float) -> Iterator[Boxes]:
        """The boxes of a face in a frame: its detection, between two detections, or near one or two."""
        earlier = [detection for detection in track.detections if detection.number <= number]
        later = [detection for detection in track.detections if detection.number > number]
        if earlier and earlier[-1].number == number:
            yield earlier[-1].box_xyxy
            return
        sides = [side for side in (earlier[::-1], later) if side]
        near = [s for s in sides if self._reaches(time_s - s[0].time_s, number - s[0].number)]
        if len(near) == 2:
            yield _between(near[0][0], near[1][0], time_s)
        elif track.is_face:
            yield from (_beyond(side, time_s) for side in near)

    def _join(self, detections: list[_Detection], track_ids: list[int | None]) -> None:
        """Adds each detection to the track with its id, else to the nearest one, else to a new one."""
        by_track = {track.track_id: track for track in self._tracks if track.track_id is not None}
        rest = []
        for detection, track_id in zip(detections, track_ids, strict=True):
            track = None if track_id is None else by_track.get(track_id)
            if track is None or track.detections[-1].number == detection.number:
                rest.append((detection, track_id))
            else:
                track.add(detection)
        free = [track for track in self._tracks if rest and track.detections[-1].number != rest[0][0].number]
        joined: set[int] = set()
        for i, j in _nearest_pairs([detection for detection, _ in rest], free):
            (detection, track_id), track = rest[i], free[j]
            taken = i in joined or track.detections[-1].number == detection.number
            if not taken and (track_id is None or track.track_id is None):
                track.add(detection)
                track.track_id = track.track_id if track_id is None else track_id
                joined.add(i)
        self._tracks += [
            _Track(track_id).add(detection) for i, (detection, track_id) in enumerate(rest) if i not in joined
        ]

    def _forget(self, number: int, time_s: float) -> None:
        """Drops detections that reach no later frame, except the last one, which a velocity needs."""
        for track in self._tracks:
            drop = sum(
                detection.number < number
                and not self._reaches(time_s - detection.time_s, number - detection.number)
                for detection in track.detections
            )
            if drop < len(track.detections):
                drop = max(0, drop - 1)
            del track.detections[:drop]
        self._tracks = [track for track in self._tracks if track.detections]


def _nearest_pairs(detections: list[_Detection], tracks: list[_Track]) -> list[tuple[int, int]]:
    """Indices (detection, track) that may be one face, by place and size, nearest first."""
    if not detections or not tracks:
        return []
    found = np.stack([detection.box_xyxy for detection in detections])[:, None]  # (F, 1, 4)
    last = np.stack([track.detections[-1].box_xyxy for track in tracks])[None]  # (1, P, 4)
    speeds = np.stack([_velocity(track.detections[::-1]) for track in tracks])
    waited = np.array([detections[0].time_s - track.detections[-1].time_s for track in tracks])
    sides = np.maximum(np.maximum(_sides(found), _sides(last)), 1.0)  # (F, P, 2)
    gaps = [  # it may have moved on, or have stopped
        (np.abs(_center(found) - _center(place)) / sides).max(axis=2)
        for place in (last + (speeds * waited[:, None])[None], last)
    ]
    distance = np.minimum(*gaps)  # (F, P)
    ratio = (_sides(found).prod(axis=2) + 1) / (_sides(last).prod(axis=2) + 1)
    distance[(ratio > _MAX_AREA_RATIO) | (ratio < 1 / _MAX_AREA_RATIO)] = np.inf
    order = np.argsort(distance, axis=None, kind="stable")[: int((distance <= _MAX_DISTANCE).sum())]
    return [(int(i), int(j)) for i, j in zip(*np.unravel_index(order, distance.shape), strict=True)]


def _between(before: _Detection, after: _Detection, time_s: float) -> Boxes:
    span = after.time_s - before.time_s
    part = (time_s - before.time_s) / span if span > 0 else 0.5
    box_xyxy = before.box_xyxy + part * (after.box_xyxy - before.box_xyxy)
    away_s = min(time_s - before.time_s, after.time_s - time_s)
    return _grown(box_xyxy, _GROWTH * away_s * _sides(box_xyxy))


def _beyond(detections: list[_Detection], time_s: float) -> Boxes:
    """Covers a face that stays at its nearest detection, `detections[0]`, and one that keeps its velocity."""
    place, away_s = detections[0].box_xyxy, time_s - detections[0].time_s
    moved = place + _velocity(detections) * away_s
    both = np.concatenate([np.minimum(place, moved)[:2], np.maximum(place, moved)[2:]])
    growth = _GROWTH if len(detections) > 1 else _GROWTH_OF_ONE
    return _grown(both, min(growth * abs(away_s), _MAX_GROWTH) * _sides(place))


def _velocity(detections: list[_Detection]) -> Boxes:
    """Pixels a second of the centre at `detections[0]`, as (x, y, x, y); zero for a single detection."""
    # Two frames apart, since boxes jitter.
    first, other = detections[0], detections[min(2, len(detections) - 1)]
    if first.time_s == other.time_s:
        return np.zeros(4)
    moved = _center(first.box_xyxy) - _center(other.box_xyxy)
    return np.tile(moved / (first.time_s - other.time_s), 2)


def _grown(box_xyxy: Boxes, margin: Boxes) -> Boxes:
    return np.concatenate([box_xyxy[:2] - margin, box_xyxy[2:] + margin])


def _center(boxes_xyxy: Boxes) -> Boxes:
    center: Boxes = (boxes_xyxy[..., :2] + boxes_xyxy[..., 2:]) / 2
    return center


def _sides(boxes_xyxy: Boxes) -> Boxes:
    return boxes_xyxy[..., 2:] - boxes_xyxy[..., :2]
