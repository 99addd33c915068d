"""Frames and faces that the tests of live/ make up."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt
import supervision as sv

from maskwatch.live.capture.frame import LiveFrame
from maskwatch.live.events import Event
from maskwatch.live.tracking.faces import Faces
from maskwatch.live.tracking.people_tracker import PeopleTracker
from maskwatch.live.tracking.results import FrameResult, SceneState
from maskwatch.models import ModelMetadata

START = datetime(2025, 1, 1, 12, 0, 0, tzinfo=UTC)
MODEL = ModelMetadata(
    name="made-up",
    version="7",
    classes=("mask", "no_mask", "mask_incorrect"),
    input_size=(64, 64),
    resize="letterbox",
    thresholds=(0.5, 0.5, 0.5),
)
MASK, BARE, WRONG = (0.8, 0.1, 0.0), (0.1, 0.8, 0.0), (0.1, 0.1, 0.8)
EMPTY = np.zeros((400, 600, 3), np.uint8)


def face(x: float, y: float = 200, height: float = 50) -> tuple[float, float, float, float]:
    """A box around a middle."""
    return x - 0.4 * height, y - 0.5 * height, x + 0.4 * height, y + 0.5 * height


def faces(*found: tuple[tuple[float, ...], Sequence[float]], threshold: float = 0.5) -> Faces:
    """Faces of (box, scores) pairs."""
    if not found:
        return Faces.none(3)
    scores = np.array([one[1] for one in found], np.float32)
    boxes = np.array([one[0] for one in found], np.float32)
    return Faces(boxes, scores, scores.max(1) > threshold)


def frame(time_s: float, index: int = 0, start: datetime = START) -> LiveFrame:
    return LiveFrame("door", index, time_s, start + timedelta(seconds=time_s), 0.0, EMPTY)


def frame_result(
    frame: LiveFrame, boxes_xyxy: npt.ArrayLike = (), tracks: Sequence[int] | None = None
) -> FrameResult:
    """A frame with confident faces at (N, 4), without tracks unless they are given."""
    boxes = np.array(boxes_xyxy, np.float32).reshape(-1, 4)
    count = len(boxes)
    found = Faces(boxes, np.zeros((count, 3), np.float32), np.ones(count, bool))
    numbers = np.array([-1] * count if tracks is None else tracks, np.int64)
    return FrameResult(frame, found, SceneState((), (), sv.Detections.empty(), numbers), 0.1)


class Play:
    """Plays faces to `PeopleTracker`, frame after frame, and keeps what comes of it."""

    def __init__(self, people: PeopleTracker, start: datetime = START, fps: float = 10.0) -> None:
        self.people, self.start, self.fps = people, start, fps
        self.frames = 0
        self.scene: SceneState | None = None
        self.events: list[tuple[float, Event]] = []

    @property
    def time_s(self) -> float:
        return self.frames / self.fps

    def show(self, seconds: float, *found: tuple[tuple[float, ...], Sequence[float]]) -> Play:
        """The same faces for so long."""
        for _ in range(round(seconds * self.fps)):
            self.step(*found)
        return self

    def step(self, *found: tuple[tuple[float, ...], Sequence[float]]) -> SceneState:
        self.scene = self.people.update(frame(self.time_s, self.frames, self.start), faces(*found))
        self.events += [(self.time_s, event) for event in self.scene.events]
        self.frames += 1
        return self.scene

    def skip(self, seconds: float) -> Play:
        """No frame for so long."""
        self.frames += round(seconds * self.fps)
        return self

    def finish(self) -> Play:
        last = frame((self.frames - 1) / self.fps, self.frames - 1, self.start)
        self.events += [(self.time_s, event) for event in self.people.finish(last)]
        return self

    def summary(self, *kinds: str) -> list[tuple[float, str, str | None, str | None]]:
        """(time, kind, state, reason) of the events of some kinds; all but minutes without any."""
        return [
            (round(time_s, 3), event.kind, event.state, event.reason)
            for time_s, event in self.events
            if (event.kind in kinds if kinds else event.kind != "minute")
        ]


def draw_person(
    image: npt.NDArray[np.uint8],
    box_xyxy: tuple[float, float, float, float],
    *,
    hair: tuple[int, int, int] = (60, 45, 35),
    clothes: tuple[int, int, int],
) -> None:
    """Draws a person in coloured clothes around a face."""
    x1, y1, x2, y2 = box_xyxy
    width, height = x2 - x1, y2 - y1

    def fill(left: float, top: float, right: float, bottom: float, colour: tuple[int, int, int]) -> None:
        image[max(0, round(top)) : max(0, round(bottom)), max(0, round(left)) : max(0, round(right))] = colour

    fill(x1 - 0.8 * width, y2, x2 + 0.8 * width, y2 + 2 * height, clothes)
    fill(x1 - 0.1 * width, y1 - 0.3 * height, x2 + 0.1 * width, y2, hair)
    fill(x1, y1, x2, y2, (205, 165, 140))
