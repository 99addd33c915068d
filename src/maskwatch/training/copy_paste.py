"""Copy-paste augmentation of faces: masks of other people, and occlusions of the mouth that are no masks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np

from maskwatch.media.images import PAD_VALUE
from maskwatch.training.crops import FloatArray, Generator, TrainingSample, UInt8Array

# Smallest side of a face to change, in pixels of the network's input.
MIN_TARGET_SIDE = 24.0
# Rows of a face's box that hold a mask, as shares of its height, and the outline of the mask: x as shares of
# the width, y as shares of these rows. Over the nose, down the cheeks, under the chin.
MASK_TOP = 0.4
_HALF_MASK = np.array([(0.5, 0.0), (0.72, 0.1), (0.93, 0.22), (0.88, 0.65), (0.7, 0.92), (0.5, 1.0)])
_MASK_OUTLINE = np.concatenate([_HALF_MASK, (np.array([1.0, 0.0]) + _HALF_MASK * [-1, 1])[::-1]])
# Bounds of what a paste is multiplied by to match its new face: all channels, and one against another.
LIGHT_GAIN = (0.4, 1.6)
TINT_GAIN = (0.93, 1.08)
# Largest blur of a paste: its standard deviation as a share of the face's width.
MAX_BLUR = 1 / 30


@dataclass(frozen=True)
class Wearing:
    """A way to wear a mask.

    share: of the pasted masks. top, bottom: ranges of the mask's edges, in shares of the height of the face's
    box. width: of the mask, relative to one worn correctly.
    """

    share: float
    top: tuple[float, float]
    bottom: tuple[float, float]
    width: float


# A mask that is pulled down folds at the chin, where the face is narrower.
CORRECTLY = Wearing(0.3, top=(0.38, 0.44), bottom=(0.98, 1.05), width=1.0)
BELOW_NOSE = Wearing(0.4, top=(0.58, 0.68), bottom=(0.99, 1.08), width=1.0)
BELOW_MOUTH = Wearing(0.15, top=(0.76, 0.84), bottom=(1.06, 1.18), width=0.94)
UNDER_CHIN = Wearing(0.15, top=(0.87, 0.95), bottom=(1.18, 1.32), width=0.88)
WEARINGS = (CORRECTLY, BELOW_NOSE, BELOW_MOUTH, UNDER_CHIN)


@dataclass(frozen=True)
class SourceFace:
    """A masked face to copy the mask from. image (H, W, 3) uint8 RGB, box_xyxy (4,)."""

    image: UInt8Array
    box_xyxy: FloatArray


@dataclass(frozen=True)
class FaceClasses:
    """Ids of the three mask classes, and what picks a source face (None where the data has none).

    pick_source: gets the smaller side of the target face in pixels; its source should not be much smaller.
    """

    mask: int
    no_mask: int
    mask_incorrect: int
    pick_source: Callable[[Generator, float], SourceFace] | None = None


def _bare_faces(sample: TrainingSample, rng: Generator, probability: float, no_mask: int) -> list[int]:
    """Indices of bare faces, chosen with this probability among those large enough to show a change."""
    sides = (sample.boxes_xyxy[:, 2:] - sample.boxes_xyxy[:, :2]).min(1, initial=np.inf)
    large_bare = (sample.class_ids == no_mask) & (sides >= MIN_TARGET_SIDE)
    return [int(index) for index in np.nonzero(large_bare & (rng.random(len(sides)) < probability))[0]]


def paste_masks(
    sample: TrainingSample, rng: Generator, probability: float, classes: FaceClasses
) -> TrainingSample:
    """Pastes masks of other people on some bare faces, worn in one of `WEARINGS`; boxes stay.

    Incorrectly worn masks are the rarest class. With the correct ones, the seam of the paste does not reveal
    the class.
    """
    if classes.pick_source is None:
        return sample
    chosen = _bare_faces(sample, rng, probability, classes.no_mask)
    if not chosen:
        return sample
    image, class_ids = sample.image.copy(), sample.class_ids.copy()
    shares = [wearing.share for wearing in WEARINGS]
    for index in chosen:
        wearing = WEARINGS[int(rng.choice(len(WEARINGS), p=shares))]
        edges_y = float(rng.uniform(*wearing.top)), float(rng.uniform(*wearing.bottom))
        box = sample.boxes_xyxy[index]
        source = classes.pick_source(rng, float((box[2:] - box[:2]).min()))
        paste_mask(image, box, source, edges_y, wearing.width)
        class_ids[index] = classes.mask if wearing is CORRECTLY else classes.mask_incorrect
    return TrainingSample(image, sample.boxes_xyxy, class_ids)


def paste_mask(
    image: UInt8Array,
    box_xyxy: FloatArray,
    source: SourceFace,
    edges_y: tuple[float, float],
    width: float = 1.0,
) -> None:
    """Pastes the source's mask on a face, in place, with the light, tint and sharpness of that face.

    Args:
        image: (H, W, 3) uint8 RGB.
        box_xyxy: (4,) of the face.
        source: the masked face.
        edges_y: top and bottom of the pasted mask, in shares of the height of the face's box.
        width: of the mask, relative to the source's face.
    """
    face_w, face_h = box_xyxy[2:] - box_xyxy[:2]
    x0, y0, x1, y1 = source.box_xyxy.round().astype(int)
    source_face = source.image[max(0, y0) : y1, max(0, x0) : x1]
    lower = source_face[round(MASK_TOP * len(source_face)) :]
    piece_w = max(2, round(face_w * width))
    piece_h = max(2, round(face_h * (edges_y[1] - edges_y[0])))
    face_wh = max(2, round(face_w)), max(2, round(face_h))
    x, y = (box_xyxy[:2] + box_xyxy[2:] - 1) / 2
    face = np.asarray(cv2.getRectSubPix(image, face_wh, (float(x), float(y))), np.uint8)
    piece = _match(_resize(lower, piece_w, piece_h), _resize(source_face, *face_wh), face)
    softness = max(0.6, float(max(face_w, face_h)) / 80)
    margin = round(2 * softness)
    alpha = np.zeros((piece_h + 2 * margin, piece_w + 2 * margin), np.uint8)
    corners = _MASK_OUTLINE * (piece_w, piece_h) + margin
    cv2.fillPoly(alpha, [corners.round().astype(np.int32)], 255, cv2.LINE_AA)
    alpha = np.asarray(cv2.GaussianBlur(alpha, (0, 0), softness), np.uint8)
    piece = np.asarray(
        cv2.copyMakeBorder(piece, margin, margin, margin, margin, cv2.BORDER_REPLICATE), np.uint8
    )
    left = (box_xyxy[0] + box_xyxy[2] - piece_w) / 2 - margin
    top = box_xyxy[1] + edges_y[0] * face_h - margin
    _blend(image, piece, alpha, (round(float(left)), round(float(top))))


def _resize(image: UInt8Array, width: int, height: int) -> UInt8Array:
    method = cv2.INTER_AREA if width < image.shape[1] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (width, height), interpolation=method), np.uint8)


def _match(piece: UInt8Array, source_face: UInt8Array, face: UInt8Array) -> UInt8Array:
    """A part of the source's face as it would look on the other face, which has the same size.

    Compares the upper halves, which no mask covers.
    """
    before, after = source_face[: len(face) // 2], face[: len(face) // 2]
    mean, wanted = before.mean((0, 1)) + 8, after.mean((0, 1)) + 8  # dark faces say little about light
    light = np.clip(wanted.mean() / mean.mean(), *LIGHT_GAIN)
    # A white mask stays below white: bright skin may be darker than it by any amount.
    light = min(light, max(1.0, 235 / (piece.mean() + piece.std() + 1)))
    tint = np.clip(wanted / wanted.mean() * mean.mean() / mean, *TINT_GAIN)
    saturation = min(1.0, 1.5 * _chroma(after) / max(_chroma(before) * light, 1.0))
    if (sigma := _blur_between(before, after)) > 0.3:
        piece = np.asarray(cv2.GaussianBlur(piece, (0, 0), sigma), np.uint8)
    grey = piece.mean(2, keepdims=True, dtype=np.float32)
    coloured = (grey + (piece - grey) * np.float32(saturation)) * (light * tint).astype(np.float32)
    return np.asarray(coloured.clip(0, 255).round(), np.uint8)


def _chroma(image: UInt8Array) -> float:
    return float((image.max(2) - image.min(2)).mean())


def _blur_between(before: UInt8Array, after: UInt8Array) -> float:
    """Standard deviation in pixels of the blur after which one image is about as sharp as another one."""
    ratio = _sharpness(after) / max(_sharpness(before), 1e-6)
    sigma = 0.65 * float(np.sqrt(max(0.0, 1 / max(ratio, 1e-3) ** 2 - 1)))
    return min(MAX_BLUR * float(after.shape[1]), sigma)


def _sharpness(image: UInt8Array) -> float:
    """Share of fine detail in the contrast of an image."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    fine = np.asarray(grey - cv2.GaussianBlur(grey, (0, 0), 1.0))
    return float(fine.std() / (grey.std() + 1))


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
    """Blends a piece into the image in place, as far as it lies inside and not on padding."""
    (left, top), (height, width) = corner_xy, alpha.shape
    rows, columns = slice(max(0, top), max(0, top + height)), slice(max(0, left), max(0, left + width))
    target = image[rows, columns]
    from_y, from_x = rows.start - top, columns.start - left
    part = np.s_[from_y : from_y + target.shape[0], from_x : from_x + target.shape[1]]
    weight = (alpha[part] * (target != PAD_VALUE).any(2))[..., None] / np.float32(255)
    target[:] = (target * (1 - weight) + piece[part] * weight).round().astype(np.uint8)
