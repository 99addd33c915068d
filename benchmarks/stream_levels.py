"""Scripts → streams: what a model finds in them, sampled at random or detected frame by frame.

Part of events.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import supervision as sv
from stream_scripts import HEIGHT, SECONDS, STATES, WIDTH, Actor, Boxes, Script, span, within, write_script

from maskwatch import read_image
from maskwatch.data.dataset import Sample
from maskwatch.live.tracking.faces import WEAK_SCORE, FaceFinder, Faces

LEAST_FACE = 40.0
"""Smallest face that is cut out of a photograph, in pixels of its height."""
MATCH_IOU = 0.5

Image = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Cutout:
    """A head out of a photograph (H, W, 3), and its face in it."""

    image: Image
    box_xyxy: Boxes


@dataclass
class Gallery:
    """One half of the photographs: heads by class, blurred backgrounds, and what a model says of the faces.

    `thresholds` (C,) are the model's. `said` holds for each class the scores (C,) of each face, `strays`
    those of faces where there is none. `scatter` is the deviation of the logits between two looks at one
    face, `box_scatter` that of its edges in face heights.
    """

    class_names: tuple[str, ...]
    thresholds: npt.NDArray[np.float32]
    cutouts: dict[int, list[Cutout]]
    backgrounds: list[Image]
    said: dict[int, list[npt.NDArray[np.float32]]] = field(default_factory=dict)
    strays: list[npt.NDArray[np.float32]] = field(default_factory=list)
    photographs: int = 0
    scatter: float = 0.0
    box_scatter: float = 0.0

    def scripts(self, seeds: Sequence[int]) -> list[Script]:
        ids = [i for i, name in enumerate(self.class_names) if self.cutouts.get(i) and name in STATES]
        shares = np.array([STATES[self.class_names[i]] for i in ids])
        return [write_script(seed, ids, list(shares / shares.sum())) for seed in seeds]


def read_gallery(samples: Sequence[Sample], finder: FaceFinder) -> Gallery:
    """Cuts heads out and asks the model about each photograph, as it is and a little moved and smaller."""
    names = finder.metadata.classes
    thresholds = np.array([finder.detector.thresholds[name] for name in names], np.float32)
    gallery = Gallery(names, thresholds, {}, [])
    steps: list[float] = []
    moves: list[float] = []
    for sample in samples:
        image = read_image(sample.image_path)
        small = cv2.resize(image, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
        gallery.backgrounds.append(np.asarray(cv2.GaussianBlur(small, (0, 0), 30), np.uint8))
        moved = np.asarray(image[3:, 5:], np.uint8)
        one, two = finder([image, moved])
        again = Faces(two.boxes_xyxy + np.array([5, 3, 5, 3], np.float32), two.scores, two.confident)
        _note(gallery, sample, image, one, again, steps, moves)
    gallery.photographs = len(samples)
    # The difference of two looks has twice the variance of one.
    gallery.scatter = float(np.std(steps) / np.sqrt(2)) if steps else 0.3
    gallery.box_scatter = float(np.std(moves) / np.sqrt(2)) if moves else 0.02
    return gallery


def _note(
    gallery: Gallery,
    sample: Sample,
    image: Image,
    one: Faces,
    two: Faces,
    steps: list[float],
    moves: list[float],
) -> None:
    firsts, seconds = (_partners(sample.boxes_xyxy, faces) for faces in (one, two))
    for index, (box, class_id) in enumerate(zip(sample.boxes_xyxy, sample.class_ids, strict=True)):
        if box[3] - box[1] < LEAST_FACE or sample.ignore[index]:
            continue
        a, b = firsts[index], seconds[index]
        nothing = np.zeros(len(gallery.class_names), np.float32)
        gallery.said.setdefault(int(class_id), []).append(nothing if a < 0 else one.scores[a])
        if a >= 0 and b >= 0:
            best = int(one.scores[a].argmax())
            if two.scores[b, best] > 0:
                steps.append(float(_logit(two.scores[b, best]) - _logit(one.scores[a, best])))
            moves += ((two.boxes_xyxy[b] - one.boxes_xyxy[a]) / (box[3] - box[1])).tolist()
        if (cutout := _cut(image, box, np.delete(sample.boxes_xyxy, index, 0))) is not None:
            gallery.cutouts.setdefault(int(class_id), []).append(cutout)
    alone = one.confident & ~np.isin(np.arange(len(one)), firsts)
    gallery.strays += list(one.scores[alone])


def _partners(boxes_xyxy: Boxes, faces: Faces) -> list[int]:
    if not len(faces) or not len(boxes_xyxy):
        return [-1] * len(boxes_xyxy)
    iou = sv.box_iou_batch(boxes_xyxy, faces.boxes_xyxy)
    return [int(row.argmax()) if row.max() >= MATCH_IOU else -1 for row in iou]


def _logit(score: float) -> float:
    clipped = np.clip(score, 0.01, 0.99)
    return float(np.log(clipped / (1 - clipped)))


def _cut(image: Image, box: Boxes, others: Boxes) -> Cutout | None:
    """The head around a face; None where it would include another person's face."""
    size = box[2:] - box[:2]
    low = np.maximum(box[:2] - 0.45 * size, 0).astype(int)
    high = np.minimum(box[2:] + 0.45 * size, (image.shape[1], image.shape[0])).astype(int)
    if len(others) and ((others[:, 2:] > low) & (others[:, :2] < high)).all(1).any():
        return None
    return Cutout(image[low[1] : high[1], low[0] : high[0]], box - np.tile(low, 2).astype(np.float32))


@dataclass(frozen=True)
class Shot:
    """One frame: its time, the faces found, and the truth: box and visibility of each actor."""

    time_s: float
    faces: Faces
    boxes_xyxy: Boxes
    visible: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Stream:
    """What was found in a script. `draw` gives the frame at a time, black where there are no pixels."""

    script: Script
    shots: tuple[Shot, ...]
    draw: Callable[[float], Image]


def black(_: float) -> Image:
    return np.zeros((HEIGHT, WIDTH, 3), np.uint8)


def play(script: Script, found: Sequence[Faces], draw: Callable[[float], Image] = black) -> Stream:
    shots = []
    for time_s, faces in zip(script.times_s, found, strict=True):
        boxes = script.boxes(time_s)
        shots.append(Shot(time_s, faces, boxes, script.visible(time_s, boxes)))
    return Stream(script, tuple(shots), draw)


def rendered(script: Script, gallery: Gallery, finder: FaceFinder) -> Stream:
    """Detects in every frame."""
    draw = partial(draw_frame, script, gallery)
    return play(script, [finder([draw(time_s)])[0] for time_s in script.times_s], draw)


def draw_frame(script: Script, gallery: Gallery, time_s: float) -> Image:
    background = gallery.backgrounds[int(script.background * len(gallery.backgrounds))]
    shift = int(script.pan[0] * np.sin(2 * np.pi * time_s / script.pan[1]))
    image = np.roll(background, shift, 1).copy()
    for actor, box in zip(script.actors, script.boxes(time_s), strict=True):
        if box.any():
            _paste(image, _shown(actor, gallery, time_s), box, hand=within(time_s, actor.hands))
            if within(time_s, actor.hidden):
                left, right = (int(box[0] - (box[2] - box[0]) / 2), int(box[2] + (box[2] - box[0]) / 2))
                image[:, max(0, left) : max(0, right)] = (95, 90, 84)
    if within(time_s, script.blurred):
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), 5), np.uint8)
    noise = np.random.default_rng(int(time_s * 1e6)).normal(0, 3, image.shape)
    return (image + noise).round().clip(0, 255).astype(np.uint8)


def _shown(actor: Actor, gallery: Gallery, time_s: float) -> Cutout:
    class_id = actor.state(time_s)
    if within(time_s, actor.flickers):
        class_id = next((one for one in sorted(gallery.cutouts) if one != class_id), class_id)
    heads = gallery.cutouts[class_id]
    return heads[int(actor.face(time_s) * len(heads))]


def _paste(image: Image, cutout: Cutout, box: Boxes, *, hand: bool) -> None:
    """Pastes a head so that its face fills the box in height, with soft edges."""
    scale = float((box[3] - box[1]) / (cutout.box_xyxy[3] - cutout.box_xyxy[1]))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    head = np.asarray(cv2.resize(cutout.image, None, fx=scale, fy=scale, interpolation=how), np.float32)
    face = cutout.box_xyxy * scale
    if hand:
        middle, size = (face[:2] + face[2:]) / 2, face[2:] - face[:2]
        at = (int(middle[0]), int(face[1] + 0.75 * size[1]))
        cv2.ellipse(head, at, (int(0.45 * size[0]), int(0.25 * size[1])), 10, 0, 360, (205, 160, 135), -1)
    height, width = head.shape[:2]
    soft = max(2, int(0.12 * min(height, width)))
    cover = np.zeros((height, width), np.float32)
    cover[soft:-soft, soft:-soft] = 1
    cover = np.asarray(cv2.GaussianBlur(cover, (0, 0), soft / 2))[..., None]
    corner = ((box[:2] + box[2:]) / 2 - (face[:2] + face[2:]) / 2).astype(int)
    low, high = np.maximum(corner, 0), np.minimum(corner + head.shape[1::-1], (WIDTH, HEIGHT))
    if (low >= high).any():
        return
    there = np.s_[low[1] : high[1], low[0] : high[0]]
    here = np.s_[low[1] - corner[1] : high[1] - corner[1], low[0] - corner[0] : high[0] - corner[0]]
    image[there] = (image[there] * (1 - cover[here]) + head[here] * cover[here]).round()


def perfect(gallery: Gallery) -> Gallery:
    """A model that is never wrong; what is left are hands, flickers, drop-outs, and people who cross."""
    sure = 0.8 * np.eye(len(gallery.class_names), dtype=np.float32)
    said = {class_id: [sure[class_id]] for class_id in gallery.said}
    return replace(gallery, said=said, strays=[], scatter=0.1)


def simulated(script: Script, gallery: Gallery) -> Stream:
    """Samples detections from those of the faces in the photographs."""
    rng = np.random.default_rng(script.seed)
    wander = np.zeros((len(script.actors), len(gallery.class_names)))
    ghosts = _ghosts(rng, gallery)
    found, before_s = [], 0.0
    for time_s in script.times_s:
        # The scatter of the logits wanders with a memory of a quarter of a second.
        keep = np.exp(-(time_s - before_s) / 0.25)
        wander = keep * wander + np.sqrt(1 - keep**2) * rng.normal(0, gallery.scatter, wander.shape)
        before_s = time_s
        boxes = script.boxes(time_s)
        visible = script.visible(time_s, boxes)
        rows = [
            (box, _said(actor, gallery, script, time_s, wander[index]))
            for index, (actor, box) in enumerate(zip(script.actors, boxes, strict=True))
            if visible[index]
        ]
        rows += [(box, scores) for lasts, box, scores in ghosts if within(time_s, (lasts,))]
        found.append(_as_faces(rows, gallery, rng))
    return play(script, found)


def _said(
    actor: Actor, gallery: Gallery, script: Script, time_s: float, wander: npt.NDArray[np.float64]
) -> npt.NDArray[np.float32]:
    class_id = actor.state(time_s)
    names = gallery.class_names
    if within(time_s, actor.flickers):
        class_id = next((one for one in sorted(gallery.said) if one != class_id), class_id)
    elif within(time_s, actor.hands) and "mask" in names:
        class_id = names.index("mask")  # what a hand is most often taken for, see MODEL_CARD.md
    pool = gallery.said[class_id]
    base = np.clip(pool[int(actor.face(time_s) * len(pool))], 0.02, 0.98)
    logits = np.log(base / (1 - base)) + wander - (1.0 if within(time_s, script.blurred) else 0.0)
    scores = 1 / (1 + np.exp(-logits))
    return np.where(scores > WEAK_SCORE, scores, 0).astype(np.float32)


def _ghosts(
    rng: np.random.Generator, gallery: Gallery
) -> list[tuple[tuple[float, float], Boxes, npt.NDArray[np.float32]]]:
    """Faces where there is none, as many a stream as a photograph has; each lasts for a moment or two."""
    number = rng.poisson(len(gallery.strays) / max(1, gallery.photographs))
    ghosts = []
    for _ in range(number if gallery.strays else 0):
        x, y, size = rng.uniform(0, WIDTH - 80), rng.uniform(0, HEIGHT - 80), rng.uniform(30, 80)
        scores = gallery.strays[int(rng.integers(len(gallery.strays)))]
        box = np.array([x, y, x + 0.8 * size, y + size], np.float32)
        ghosts.append((span(rng, 0, SECONDS, 0.2, 3.0), box, scores))
    return ghosts


def _as_faces(rows: Sequence[tuple[Boxes, Any]], gallery: Gallery, rng: np.random.Generator) -> Faces:
    rows = [row for row in rows if row[1].max() > 0]
    if not rows:
        return Faces.none(len(gallery.class_names))
    boxes = np.array([box for box, _ in rows], np.float32)
    heights = boxes[:, 3:] - boxes[:, 1:2]
    boxes = (boxes + rng.normal(0, gallery.box_scatter, boxes.shape) * heights).astype(np.float32)
    scores = np.array([one for _, one in rows], np.float32)
    best = scores.argmax(1)
    limits = gallery.thresholds[best]
    return Faces(boxes, scores, scores.max(1) > limits)
