"""Where the faces of a video are, also in the frames in which none was found: what has to be covered.

A detector misses a face now and then, for a frame or for several. A frame therefore waits until those that
follow have been looked at. Then it is covered where a face was found in it, between two finds, and for a
while before the first and after the last one, the more widely the longer ago that is. That while is not given
to one or two unsure finds alone: a crowd has a dozen in each frame, elsewhere in the next one, and soon
everything would be covered.
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
"""How far before and after a find a face is covered, in seconds of the source's clock."""

REACH_FRAMES = 2
"""The same in frames, where the frames are so far apart that it is longer."""

MAX_WAITING = 32
"""Frames that wait at the most, 200 MB at 1920 × 1080. Above 60 a second they span less than `REACH_S`."""

# Someone who walks past a camera crosses some nine widths of a face in a second. Two finds tell where to. The
# margin is for what they do not tell, a turn or a jerk of the camera; a face found only once gets more.
_GROWTH = 1.0  # sides of the box a second, on each side
_GROWTH_OF_ONE = 2.0
_MOST_GROWTH = 1.0  # sides of the box, on each side
_TINY_S = 1e-6  # so that rounding decides about no frame
_ENOUGH_FINDS = 3  # so many unsure ones are a face
_NEAR = 1.0  # a find belongs to a face whose centre was expected within this many sides
_SIZE_RATIO = 4.0  # nor may its area differ by more than this factor


@dataclass(frozen=True, eq=False)
class _Find:
    number: int  # of the frame
    time_s: float
    box_xyxy: Boxes  # (4,)
    sure: bool


@dataclass(eq=False)
class _Path:
    """One face through the frames. `count` and `sure` also hold what of `finds` has been dropped."""

    track: int | None
    finds: list[_Find] = field(default_factory=list)
    count: int = 0
    sure: bool = False

    @property
    def is_face(self) -> bool:
        return self.sure or self.count >= _ENOUGH_FINDS

    def add(self, find: _Find) -> _Path:
        self.finds.append(find)
        self.count += 1
        self.sure |= find.sure
        return self


class Cover(Generic[_Item]):
    """A delay line of frames that come out with the boxes to cover in each.

    What one frame carries (a picture, a picture with detections) is the caller's own affair.

    Args:
        reach_s: how far a find reaches into the frames before and after it, in seconds.
        max_waiting: frames that wait at the most, whatever `reach_s` says. 0 lets none wait: a frame then
            comes out at once and is covered by what was found in it and before.
    """

    def __init__(self, *, reach_s: float = REACH_S, max_waiting: int = MAX_WAITING) -> None:
        self._reach_s, self._max_waiting = reach_s, max_waiting
        self._waiting: deque[tuple[_Item, int, float]] = deque()
        self._paths: list[_Path] = []
        self._count = 0

    def add(
        self,
        item: _Item,
        time_s: float,
        boxes_xyxy: npt.ArrayLike,
        track_ids: npt.ArrayLike | None = None,
        *,
        sure: npt.ArrayLike | None = None,
    ) -> list[tuple[_Item, Boxes]]:
        """Takes the next frame; gives those that have waited long enough, each with boxes (N, 4) to cover.

        Args:
            item: what the frame carries.
            time_s: of the frame, never less than that of the one before.
            boxes_xyxy: (N, 4), every face that was found in it, sure or not.
            track_ids: (N,), the tracker's number of each, negative where it has none. Faces without a number
                are joined by where they are.
            sure: bool (N,), whether each counts as a face; None where all do.
        """
        boxes = np.asarray(boxes_xyxy, np.float64).reshape(-1, 4)
        tracks = np.full(len(boxes), -1) if track_ids is None else np.asarray(track_ids).reshape(-1)
        counts = np.ones(len(boxes), bool) if sure is None else np.asarray(sure, bool).reshape(-1)
        finds = [
            _Find(self._count, time_s, box_xyxy, bool(one))
            for box_xyxy, one in zip(boxes, counts, strict=True)
        ]
        self._join(finds, [int(track) if track >= 0 else None for track in tracks])
        self._waiting.append((item, self._count, time_s))
        self._count += 1
        return list(self._ready(time_s))

    def finish(self) -> list[tuple[_Item, Boxes]]:
        """Gives the frames that still wait; nothing follows them. The next frame begins a new video."""
        rest = [self._release() for _ in range(len(self._waiting))]
        self._paths.clear()
        return rest

    def __len__(self) -> int:
        return len(self._waiting)

    def _ready(self, time_s: float) -> Iterator[tuple[_Item, Boxes]]:
        while self._waiting:
            _, number, waited_since = self._waiting[0]
            out_of_reach = not self._reaches(time_s - waited_since, self._count - 1 - number)
            if not out_of_reach and len(self._waiting) <= self._max_waiting:
                return
            yield self._release()

    def _release(self) -> tuple[_Item, Boxes]:
        item, number, time_s = self._waiting.popleft()
        boxes = [box for path in self._paths for box in self._boxes_at(path, number, time_s)]
        self._forget(number, time_s)
        return item, np.array(boxes, np.float64).reshape(-1, 4)

    def _reaches(self, seconds: float, frames: int) -> bool:
        return abs(seconds) <= self._reach_s + _TINY_S or abs(frames) <= REACH_FRAMES

    def _boxes_at(self, path: _Path, number: int, time_s: float) -> Iterator[Boxes]:
        """Where a face is in a frame: found, between two finds, or near one."""
        earlier = [find for find in path.finds if find.number <= number]
        later = [find for find in path.finds if find.number > number]
        if earlier and earlier[-1].number == number:
            yield earlier[-1].box_xyxy
            return
        sides = [side for side in (earlier[::-1], later) if side]
        near = [s for s in sides if self._reaches(time_s - s[0].time_s, number - s[0].number)]
        if len(near) == 2:
            yield _between(near[0][0], near[1][0], time_s)
        elif path.is_face:
            yield from (_beyond(side, time_s) for side in near)

    def _join(self, finds: list[_Find], tracks: list[int | None]) -> None:
        """Adds each find to the path of its face: by its number, else the nearest one, else a new one."""
        by_track = {path.track: path for path in self._paths if path.track is not None}
        rest = []
        for find, track in zip(finds, tracks, strict=True):
            path = None if track is None else by_track.get(track)
            if path is None or path.finds[-1].number == find.number:
                rest.append((find, track))
            else:
                path.add(find)
        free = [path for path in self._paths if rest and path.finds[-1].number != rest[0][0].number]
        joined: set[int] = set()
        for i, j in _nearest_pairs([find for find, _ in rest], free):
            (find, track), path = rest[i], free[j]
            taken = i in joined or path.finds[-1].number == find.number
            if not taken and (track is None or path.track is None):
                path.add(find)
                path.track = path.track if track is None else track
                joined.add(i)
        self._paths += [_Path(track).add(find) for i, (find, track) in enumerate(rest) if i not in joined]

    def _forget(self, number: int, time_s: float) -> None:
        """Drops what reaches no frame to come, but for the one find before that a speed needs."""
        for path in self._paths:
            gone = [not self._reaches(time_s - f.time_s, number - f.number) for f in path.finds]
            past = [f.number < number for f in path.finds]
            drop = sum(1 for old, before in zip(gone, past, strict=True) if old and before)
            if drop == len(path.finds):
                path.finds.clear()
            else:
                del path.finds[: max(0, drop - 1)]
        self._paths = [path for path in self._paths if path.finds]


def _nearest_pairs(finds: list[_Find], paths: list[_Path]) -> list[tuple[int, int]]:
    """(find, path) that may be one face, the nearest first: where it is expected, and of similar size."""
    if not finds or not paths:
        return []
    found = np.stack([find.box_xyxy for find in finds])[:, None]  # (F, 1, 4)
    last = np.stack([path.finds[-1].box_xyxy for path in paths])[None]  # (1, P, 4)
    speeds = np.stack([_velocity(path.finds[::-1]) for path in paths])
    waited = np.array([finds[0].time_s - path.finds[-1].time_s for path in paths])
    sides = np.maximum(np.maximum(_sides(found), _sides(last)), 1.0)  # (F, P, 2)
    gaps = [  # it may have gone on as it went, or have stopped
        (np.abs(_center(found) - _center(place)) / sides).max(axis=2)
        for place in (last + (speeds * waited[:, None])[None], last)
    ]
    distance = np.minimum(*gaps)  # (F, P)
    ratio = (_sides(found).prod(axis=2) + 1) / (_sides(last).prod(axis=2) + 1)
    distance[(ratio > _SIZE_RATIO) | (ratio < 1 / _SIZE_RATIO)] = np.inf
    order = np.argsort(distance, axis=None, kind="stable")[: int((distance <= _NEAR).sum())]
    return [(int(i), int(j)) for i, j in zip(*np.unravel_index(order, distance.shape), strict=True)]


def _between(before: _Find, after: _Find, time_s: float) -> Boxes:
    span = after.time_s - before.time_s
    part = (time_s - before.time_s) / span if span > 0 else 0.5
    box_xyxy = before.box_xyxy + part * (after.box_xyxy - before.box_xyxy)
    away_s = min(time_s - before.time_s, after.time_s - time_s)
    return _grown(box_xyxy, _GROWTH * away_s * _sides(box_xyxy))


def _beyond(finds: list[_Find], time_s: float) -> Boxes:
    """Covers a face that stays where it was found last, and one that goes on as it went. Nearest first."""
    place, away_s = finds[0].box_xyxy, time_s - finds[0].time_s
    moved = place + _velocity(finds) * away_s
    both = np.concatenate([np.minimum(place, moved)[:2], np.maximum(place, moved)[2:]])
    growth = _GROWTH if len(finds) > 1 else _GROWTH_OF_ONE
    return _grown(both, min(growth * abs(away_s), _MOST_GROWTH) * _sides(place))


def _velocity(finds: list[_Find]) -> Boxes:
    """Pixels a second of the centre at `finds[0]`, as (x, y, x, y); zero for a face that was found once."""
    first, other = finds[0], finds[min(2, len(finds) - 1)]  # two frames apart, since boxes tremble
    if first.time_s == other.time_s:
        return np.zeros(4)
    moved = _center(first.box_xyxy) - _center(other.box_xyxy)
    return np.tile(moved / (first.time_s - other.time_s), 2)


def _grown(box_xyxy: Boxes, margin: Boxes) -> Boxes:
    grown: Boxes = box_xyxy + np.concatenate([-margin, margin])
    return grown


def _center(boxes_xyxy: Boxes) -> Boxes:
    center: Boxes = (boxes_xyxy[..., :2] + boxes_xyxy[..., 2:]) / 2
    return center


def _sides(boxes_xyxy: Boxes) -> Boxes:
    sides: Boxes = boxes_xyxy[..., 2:] - boxes_xyxy[..., :2]
    return sides
