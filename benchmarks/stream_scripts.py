"""Scripts of streams whose truth is known: who is where, in which state, and what the camera does.

Part of events.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

WIDTH, HEIGHT = 960, 540
SECONDS = 20.0

# Shares of a script's people, and how often things happen; made up to be harder than a quiet door.
STATES = {"mask": 0.5, "no_mask": 0.35, "mask_incorrect": 0.15}
CHANGES, HAND, FLICKER, PILLAR, GAP, BLUR = 0.25, 0.4, 0.3, 0.3, 0.4, 0.3

Boxes = npt.NDArray[np.float32]
Spans = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Actor:
    """One person: from where to where (centre and height of the face at both ends), when, in which states.

    `states` holds (from when, class id); `faces` picks a cut-out for each of them; `flickers` are times in
    which a face of another class is shown though the state stays; `hidden` those behind the pillar.
    """

    span: tuple[float, float]
    ends: tuple[tuple[float, float, float], tuple[float, float, float]]
    states: tuple[tuple[float, int], ...]
    faces: tuple[float, ...]
    hands: Spans
    flickers: Spans
    hidden: Spans

    def state(self, time_s: float) -> int:
        return [class_id for start, class_id in self.states if start <= max(time_s, self.states[0][0])][-1]

    def face(self, time_s: float) -> float:
        return self.faces[sum(start <= time_s for start, _ in self.states[1:])]


@dataclass(frozen=True)
class Script:
    """Times of the frames in seconds, people from the back to the front, and what the camera does."""

    times_s: tuple[float, ...]
    actors: tuple[Actor, ...]
    pan: tuple[float, float, float]
    blurred: Spans
    background: float
    seed: int

    def boxes(self, time_s: float) -> Boxes:
        """(P, 4) of all actors, zeros for those who are not there."""
        width, period, zoom = self.pan
        swing = np.sin(2 * np.pi * time_s / period)
        scale = 1 + zoom * swing
        boxes = np.zeros((len(self.actors), 4), np.float32)
        for index, actor in enumerate(self.actors):
            begin, end = actor.span
            if begin <= time_s < end:
                share = (time_s - begin) / (end - begin)
                x, y, size = (1 - share) * np.array(actor.ends[0]) + share * np.array(actor.ends[1])
                x += 4 * np.sin(2.1 * time_s + index) + width * swing
                y += 4 * np.sin(6.0 * time_s + index)  # steps
                x, y = (x - WIDTH / 2) * scale + WIDTH / 2, (y - HEIGHT / 2) * scale + HEIGHT / 2
                half = np.array([0.4, 0.5]) * size * scale
                boxes[index] = (x - half[0], y - half[1], x + half[0], y + half[1])
        return boxes

    def visible(self, time_s: float, boxes_xyxy: Boxes) -> npt.NDArray[np.bool_]:
        """(P,) whose face is in the picture, before the pillar and not behind another person."""
        middles = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2
        there = ((boxes_xyxy[:, 2] > 0) & (middles > 0).all(1) & (middles < (WIDTH, HEIGHT)).all(1)).tolist()
        for index, actor in enumerate(self.actors):
            front = boxes_xyxy[index + 1 :]
            covered = _covered(boxes_xyxy[index], front) if len(front) else 0.0
            there[index] = there[index] and covered < 0.5 and not within(time_s, actor.hidden)
        return np.array(there, bool)


def within(time_s: float, spans: Spans) -> bool:
    return any(start <= time_s < end for start, end in spans)


def _covered(box: Boxes, others: Boxes) -> float:
    """The largest share of a face that one head in front covers; a head is larger than its face."""
    size = others[:, 2:] - others[:, :2]
    low, high = others[:, :2] - size * 0.2, others[:, 2:] + size * 0.2
    meet = (np.minimum(box[2:], high) - np.maximum(box[:2], low)).clip(0).prod(1)
    return float(meet.max() / max(1e-6, float((box[2:] - box[:2]).prod())))


def write_script(seed: int, class_ids: Sequence[int], shares: Sequence[float]) -> Script:
    """A random script; the same for the same seed."""
    rng = np.random.default_rng(seed)
    fps = float(rng.choice([4, 8, 12]))
    times = np.cumsum(rng.uniform(0.6, 1.4, int(SECONDS * fps * 1.2)) / fps)
    gaps = [span(rng, 2, SECONDS - 3, 0.5, 1.5)] if rng.random() < GAP else []
    times_s = tuple(float(t) for t in times if t < SECONDS and not within(t, tuple(gaps)))
    actors = tuple(_actor(rng, class_ids, shares) for _ in range(rng.integers(1, 5)))
    pan = (float(rng.uniform(0, 60)), float(rng.uniform(6, 15)), float(rng.uniform(0, 0.12)))
    blurred = tuple(span(rng, 1, SECONDS - 2, 0.2, 0.6) for _ in range(3) if rng.random() < BLUR)
    return Script(times_s, actors, pan, blurred, float(rng.random()), seed)


def span(rng: np.random.Generator, low: float, high: float, short: float, long: float) -> tuple[float, float]:
    start = float(rng.uniform(low, high))
    return start, start + float(rng.uniform(short, long))


def _actor(rng: np.random.Generator, class_ids: Sequence[int], shares: Sequence[float]) -> Actor:
    kind = rng.choice(["stand", "walk", "approach"])
    size = float(rng.uniform(90, 190))
    x, y = float(rng.uniform(120, WIDTH - 120)), float(rng.uniform(120, HEIGHT - 160))
    begin, long = float(rng.uniform(0, 0.4 * SECONDS)), float(rng.uniform(8, 20))
    first, last = (x, y, size), (x + float(rng.uniform(-60, 60)), y, size)
    if kind == "walk":
        first, last, long = (-60.0, y, size), (WIDTH + 60.0, y, size), float(rng.uniform(5, 12))
        first, last = (first, last) if rng.random() < 0.5 else (last, first)
    elif kind == "approach":
        first = (x, y, size * 0.5)
    end = min(SECONDS, begin + long)
    states = [(begin, int(rng.choice(class_ids, p=shares)))]
    if rng.random() < CHANGES and end - begin > 8 and len(class_ids) > 1:
        others = [one for one in class_ids if one != states[0][1]]
        states.append(((begin + end) / 2, int(rng.choice(others))))
    busy = [
        tuple(span(rng, begin + 1, end - 1, *lasts) for _ in range(2) if rng.random() < share)
        for share, lasts in ((HAND, (0.3, 0.7)), (FLICKER, (0.2, 0.5)), (PILLAR, (0.4, 1.2)))
    ]
    faces = tuple(float(value) for value in rng.random(len(states)))
    return Actor((begin, end), (first, last), tuple(states), faces, *busy)
