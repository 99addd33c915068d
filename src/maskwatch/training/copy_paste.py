"""Copy-paste augmentation of faces: masks of other people, and occlusions of the mouth that are no masks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np

from maskwatch.training.crops import FloatArray, Generator, TrainingSample, UInt8Array

# Smallest side of a face to change, in pixels of the network's input.
MIN_TARGET_SIDE = 24.0
# Share of the pasted masks that are worn correctly. The others are too low by this share of a face's height.
CORRECT_SHARE = 0.3
INCORRECT_DROP = (0.16, 0.4)
# Outline of a mask in shares of the face's box: over the nose, down the cheeks, under the chin.
_HALF_MASK = np.array([(0.5, 0.4), (0.72, 0.48), (0.93, 0.54), (0.88, 0.8), (0.7, 0.96), (0.5, 1.02)])
_MASK_OUTLINE = np.concatenate([_HALF_MASK, (np.array([1.0, 0.0]) + _HALF_MASK * [-1, 1])[::-1]])


@dataclass(frozen=True)
class SourceFace:
    """A masked face to copy the mask from. image (H, W, 3) uint8 RGB, box_xyxy (4,)."""

    image: UInt8Array
    box_xyxy: FloatArray


@dataclass(frozen=True)
class FaceClasses:
    """Ids of the three mask classes, and what picks a source face (None where the data has none)."""

    mask: int
    no_mask: int
    mask_incorrect: int
    pick_source: Callable[[Generator], SourceFace] | None = None


def _bare_faces(sample: TrainingSample, rng: Generator, probability: float, no_mask: int) -> list[int]:
    """Indices of bare faces, chosen with this probability among those large enough to show a change."""
    sides = (sample.boxes_xyxy[:, 2:] - sample.boxes_xyxy[:, :2]).min(1, initial=np.inf)
    large_bare = (sample.class_ids == no_mask) & (sides >= MIN_TARGET_SIDE)
    return [int(index) for index in np.nonzero(large_bare & (rng.random(len(sides)) < probability))[0]]


def paste_masks(
    sample: TrainingSample, rng: Generator, probability: float, classes: FaceClasses
) -> TrainingSample:
    """Pastes masks of other people on some bare faces: most too low, below nose or mouth, some correctly.

    Incorrectly worn masks are the rarest class. With the correct ones, the seam of the paste does not reveal
    the class.
    """
    if classes.pick_source is None:
        return sample
    chosen = _bare_faces(sample, rng, probability, classes.no_mask)
    if not chosen:
        return sample
    image, class_ids = sample.image, sample.class_ids.copy()
    for index in chosen:
        correct = rng.random() < CORRECT_SHARE
        drop = float(rng.uniform(-0.03, 0.03) if correct else rng.uniform(*INCORRECT_DROP))
        image = paste_mask(image, sample.boxes_xyxy[index], classes.pick_source(rng), drop)
        class_ids[index] = classes.mask if correct else classes.mask_incorrect
    return TrainingSample(image, sample.boxes_xyxy, class_ids)


def paste_mask(image: UInt8Array, box_xyxy: FloatArray, source: SourceFace, drop: float) -> UInt8Array:
    """A copy of the image with the source's mask on the face, too low by `drop` of the face's height."""
    height, width = image.shape[:2]
    sides, source_sides = box_xyxy[2:] - box_xyxy[:2], source.box_xyxy[2:] - source.box_xyxy[:2]
    scale = sides / source_sides
    offset = box_xyxy[:2] + np.array([0, drop * sides[1]]) - scale * source.box_xyxy[:2]
    matrix = np.array([[scale[0], 0, offset[0]], [0, scale[1], offset[1]]])
    moved = cv2.warpAffine(source.image, matrix, (width, height), flags=cv2.INTER_LINEAR)
    inside = np.zeros((height, width), np.float32)
    corners = box_xyxy[:2] + (_MASK_OUTLINE + np.array([0, drop])) * sides
    cv2.fillPoly(inside, [corners.round().astype(np.int32)], 1.0, cv2.LINE_AA)
    weight = np.asarray(cv2.GaussianBlur(inside, (0, 0), max(0.5, float(sides.max()) / 60)))[..., None]
    return np.asarray((image * (1 - weight) + moved * weight).round(), np.uint8)


def occlude_mouths(
    sample: TrainingSample, rng: Generator, probability: float, no_mask: int
) -> TrainingSample:
    """Pastes a piece of the same image over the mouth of some bare faces, which stay `no_mask`.

    Hands, cups and microphones hide mouths more often in front of cameras than in the data. The piece is the
    face's own forehead, as skin, or comes from anywhere, as an object.
    """
    chosen = _bare_faces(sample, rng, probability, no_mask)
    if not chosen:
        return sample
    image = sample.image.copy()
    for index in chosen:
        _occlude_mouth(image, sample.boxes_xyxy[index], rng)
    return replace(sample, image=image)


def _occlude_mouth(image: UInt8Array, box_xyxy: FloatArray, rng: Generator) -> None:
    """Pastes an ellipse of other pixels on the lower face, in place."""
    height, width = image.shape[:2]
    x0, y0 = box_xyxy[:2]
    face_w, face_h = box_xyxy[2:] - box_xyxy[:2]
    centre = x0 + face_w * rng.uniform(0.35, 0.65), y0 + face_h * rng.uniform(0.7, 0.9)
    axes = face_w * rng.uniform(0.2, 0.45), face_h * rng.uniform(0.12, 0.28)
    if rng.random() < 0.5:
        source = x0 + face_w * rng.uniform(0.4, 0.6), y0 + face_h * rng.uniform(0.15, 0.3)
        source_wh = face_w * 0.5, face_h * 0.2
    else:
        source = float(rng.uniform(0, width)), float(rng.uniform(0, height))
        source_wh = 2 * axes[0], 2 * axes[1]
    piece_wh = (max(2, round(source_wh[0])), max(2, round(source_wh[1])))
    piece = cv2.getRectSubPix(image, piece_wh, (float(source[0]), float(source[1])))
    reach = int(np.ceil(max(axes))) + 1
    resized = cv2.resize(piece, (2 * reach, 2 * reach), interpolation=cv2.INTER_LINEAR)
    inside = np.zeros((2 * reach, 2 * reach), np.uint8)
    half = (max(1, round(axes[0])), max(1, round(axes[1])))
    cv2.ellipse(inside, (reach, reach), half, rng.uniform(-40, 40), 0, 360, 255, -1, cv2.LINE_AA)
    _blend(image, np.asarray(resized, np.uint8), inside, (round(centre[0]) - reach, round(centre[1]) - reach))


def _blend(image: UInt8Array, piece: UInt8Array, alpha: UInt8Array, corner_xy: tuple[int, int]) -> None:
    """Blends a piece into the image in place, as far as it lies inside."""
    (left, top), (height, width) = corner_xy, alpha.shape
    rows, columns = slice(max(0, top), max(0, top + height)), slice(max(0, left), max(0, left + width))
    target = image[rows, columns]
    from_y, from_x = rows.start - top, columns.start - left
    part = np.s_[from_y : from_y + target.shape[0], from_x : from_x + target.shape[1]]
    weight = alpha[part][..., None] / np.float32(255)
    target[:] = (target * (1 - weight) + piece[part] * weight).round().astype(np.uint8)
