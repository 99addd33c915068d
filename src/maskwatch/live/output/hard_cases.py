"""Finds the hard cases of what is watched, and puts them aside."""

from __future__ import annotations

import queue
import threading
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from maskwatch.errors import OutputError
from maskwatch.hard_cases import HardCase, HardCaseStore, HardReason, hard_reason
from maskwatch.live.sinks.delivery import OnError, ignore
from maskwatch.live.sinks.dispatcher import describe_error
from maskwatch.live.tracking.results import FrameResult, Observer, Person

INTERVAL_S = 10.0
"""Least seconds between two cases of a source, on its own clock."""

_WAITING = 2  # uncompressed frames
_CLOSE_S = 10.0


@dataclass(eq=False)
class _Source:
    """What is remembered of a source: its last case; of each person in sight the state, whether it has
    flipped, and the reasons of the cases."""

    last_s: float | None = None
    states: dict[int, str] = field(default_factory=dict)
    flipped: set[int] = field(default_factory=set)
    reasons: dict[int, set[HardReason]] = field(default_factory=lambda: defaultdict(set))


class HardCases(Observer):
    """Keeps a frame when the state of a person flips, two classes have nearly the same score, or the score of
    a person is near its threshold: once for each person and reason, and one frame of a source in
    `INTERVAL_S`.

    Faces that do not move are pictures and never hard. A thread writes; where it is behind, frames are left
    out. What cannot be written is reported, once for each reason, and watching continues.

    Args:
        store: where they go.
        model: its name.
        thresholds: score above which each class counts, in the order of the class ids.
        on_error: receives a name and why nothing was stored.
    """

    def __init__(
        self, store: HardCaseStore, model: str, thresholds: Mapping[str, float], on_error: OnError = ignore
    ) -> None:
        self._store, self._model, self._on_error = store, model, on_error
        self._names = tuple(thresholds)
        self._thresholds = np.array([*thresholds.values()], np.float32)
        self._sources: dict[str, _Source] = defaultdict(_Source)
        self._reported: set[str] = set()
        self._waiting = queue.Queue[HardCase | None](_WAITING)
        self._thread = threading.Thread(target=self._run, name="hard-cases", daemon=True)

    def __enter__(self) -> HardCases:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._waiting.put(None, timeout=_CLOSE_S)
        except queue.Full:
            return
        self._thread.join(_CLOSE_S)

    def on_frame(self, result: FrameResult) -> None:
        source, now_s = self._sources[result.frame.source], result.frame.clock_s
        _update_states(source, result)
        if source.last_s is not None and 0 <= now_s - source.last_s < INTERVAL_S:
            return
        for reason, track, row in self._hard_faces(result, source.flipped):
            if reason not in source.reasons[track] and self._put(self._case(result, reason, track, row)):
                source.reasons[track].add(reason)
                source.flipped -= {track} if reason == "flip" else set()
                source.last_s = now_s
                return

    def _hard_faces(self, result: FrameResult, flipped: set[int]) -> list[tuple[HardReason, int, int]]:
        """Reason, track and row in `faces` of each hard face, flips first, then close classes."""
        people = {one.track: one for one in result.scene.people}
        found: list[tuple[HardReason, int, int]] = []
        for row, track in enumerate(result.scene.tracks.tolist()):
            person: Person | None = people.get(track)
            if person is None or person.static:
                continue
            reason: HardReason | None = "flip"
            if track not in flipped:
                reason = hard_reason(result.faces.scores[row], self._thresholds)
            if reason is not None:
                found.append((reason, track, row))
        return sorted(found)  # "flip", "margin", "threshold"

    def _case(self, result: FrameResult, reason: HardReason, track: int, row: int) -> HardCase:
        faces = result.faces
        shown = faces.confident | (np.arange(len(faces)) == row)
        return HardCase(
            result.frame.image_rgb,
            reason,
            result.frame.source,
            result.frame.when,
            self._model,
            self._names,
            faces.boxes_xyxy[shown],
            faces.class_ids[shown],
            faces.scores[shown],
            faces.boxes_xyxy[row],
            track,
        )

    def _put(self, case: HardCase) -> bool:
        try:
            self._waiting.put_nowait(case)
        except queue.Full:
            return False
        return True

    def _run(self) -> None:
        while (case := self._waiting.get()) is not None:
            try:
                self._store.keep(case)
            except OutputError as error:
                self._report(str(error))
            except Exception as error:  # a bug must not end the thread
                self._report(describe_error(error))

    def _report(self, text: str) -> None:
        if text not in self._reported:
            self._reported.add(text)
            self._on_error("keep-hard", text)


def _update_states(source: _Source, result: FrameResult) -> None:
    """Notes the people whose state is another than in the frame before; forgets those who are gone."""
    present = {one.track for one in result.scene.people}
    for track in [*source.states, *source.reasons]:
        if track not in present:
            source.states.pop(track, None)
            source.reasons.pop(track, None)
    source.flipped &= present
    for one in result.scene.people:
        if one.state is not None:
            if source.states.get(one.track, one.state) != one.state:
                source.flipped.add(one.track)
            source.states[one.track] = one.state
