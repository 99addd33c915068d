"""Two people who met, and whose tracks continued with each other's face."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

from maskwatch.live.tracking.face_tracker import center_distance
from maskwatch.live.tracking.track_state import TrackState

_CLOSE = 1.5  # in face heights; nearer than this boxes can be taken for each other


class MixUps:
    """Finds tracks that were exchanged, in one source.

    Tracks are joined by place and motion, which cannot tell apart two people who cross. That both of them
    change to the state that the other had, right after they met, is less likely than that they were mixed up.

    Args:
        memory_s: how long after two people were close they can be found to be mixed up.
    """

    def __init__(self, memory_s: float) -> None:
        self._memory_s = memory_s
        self._met: dict[tuple[int, int], float] = {}  # numbers → when they were last close

    def update(self, time_s: float, tracks: Sequence[TrackState]) -> Iterator[tuple[TrackState, TrackState]]:
        """The pairs whose faces were exchanged, among all tracks of the source."""
        seen = [track for track in tracks if track.last_s == time_s]
        self._met = {pair: met_s for pair, met_s in self._met.items() if time_s - met_s <= self._memory_s}
        for one, other in combinations(seen, 2):
            pair = one.number, other.number
            if center_distance(one.box_xyxy, other.box_xyxy) <= _CLOSE:
                self._met[pair] = time_s
            if pair in self._met and one.vote.doubtful and other.vote.doubtful and _differ(one, other):
                del self._met[pair]
                yield one, other


def _differ(one: TrackState, other: TrackState) -> bool:
    return None not in (one.vote.side, other.vote.side) and one.vote.side != other.vote.side
