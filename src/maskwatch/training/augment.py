"""Views of a picture for training. All randomness comes from the generator that is handed in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from maskwatch.media.images import PAD_VALUE, ResizeRule, fit

UInt8Array: TypeAlias = npt.NDArray[np.uint8]
Generator: TypeAlias = np.random.Generator

# The class id of an ignore region: what is in it is neither a face to find nor background.
IGNORE_CLASS = -1
# A face of which less than this is left in a crop is no longer asked for.
MIN_VISIBLE = 0.35
# Nor is one that is smaller than this many pixels of the network's input.
MIN_SIDE = 5.0
# Smallest side of a face whose mouth is worth covering, in the same pixels.
MIN_COVERED = 24.0
# Share of the masks put on bare faces that sit as they should; the others are this share of the face too low.
WORN_WELL = 0.3
TOO_LOW = (0.16, 0.4)
# How far beyond the scale that the network sees a picture may be blown up for a large face.
MAX_BLOW_UP = 8.0


@dataclass(frozen=True)
class View:
    """A picture and its boxes. image (H, W, 3) uint8 RGB, boxes_xyxy (G, 4) float32, class_ids (G,) int64.

    Ignore regions have the class id `IGNORE_CLASS`.
    """

    image: UInt8Array
    boxes_xyxy: npt.NDArray[np.float32]
    class_ids: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Donor:
    """A masked face whose mask others may wear. image (H, W, 3) uint8 RGB, box_xyxy (4,)."""

    image: UInt8Array
    box_xyxy: npt.NDArray[np.float32]


@dataclass(frozen=True)
class FaceClasses:
    """Ids of the three mask classes, and where masks to put on come from (None where there are none)."""

    mask: int
    bare: int
    incorrect: int
    donor: Callable[[Generator], Donor] | None = None


def flip(view: View) -> View:
    """Left to right."""
    boxes = view.boxes_xyxy.copy()
    boxes[:, [0, 2]] = view.image.shape[1] - view.boxes_xyxy[:, [2, 0]]
    return View(np.ascontiguousarray(view.image[:, ::-1]), boxes, view.class_ids)


# ---- as the TF Object Detection API ----------------------------------------------------------------------


def ssd_view(
    view: View,
    size: int,
    rng: Generator,
    resize: ResizeRule = "squash",
    *,
    flips: bool = True,
    crops: bool = True,
) -> View:
    """random_horizontal_flip, random_crop_image and a resize, as in pipeline.config."""
    if flips and rng.random() < 0.5:
        view = flip(view)
    if crops:
        view = _crop_region(view, _ssd_region(view.image.shape[:2], rng))
    image, placement = fit(view.image, (size, size), resize)
    return View(image, placement.to_network(view.boxes_xyxy), view.class_ids)


def _ssd_region(
    size_hw: tuple[int, ...],
    rng: Generator,
    area: tuple[float, float] = (0.75, 1.0),
    aspect: tuple[float, float] = (0.75, 3.0),
) -> tuple[int, int, int, int]:
    """x0, y0, x1, y1 of a crop of this share of the area and this width : height, else the whole picture.

    Source: `sample_distorted_bounding_box` of TensorFlow, with min_object_covered 0.
    """
    height, width = size_hw[:2]
    for _ in range(100):
        ratio = rng.uniform(*aspect)
        share = rng.uniform(*area) * height * width
        crop_h, crop_w = round((share / ratio) ** 0.5), round((share * ratio) ** 0.5)
        if 0 < crop_h <= height and 0 < crop_w <= width:
            x, y = int(rng.integers(width - crop_w + 1)), int(rng.integers(height - crop_h + 1))
            return x, y, x + crop_w, y + crop_h
    return 0, 0, width, height


def _crop_region(view: View, region_xyxy: tuple[int, int, int, int]) -> View:
    x0, y0, x1, y1 = region_xyxy
    boxes = view.boxes_xyxy - np.array([x0, y0, x0, y0], np.float32)
    boxes = boxes.clip(0, np.array([x1 - x0, y1 - y0] * 2, np.float32))
    kept = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    return View(view.image[y0:y1, x0:x1], boxes[kept], view.class_ids[kept])


# ---- crops at many scales --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Strength:
    """How far views depart from what the network will see.

    natural: share of the views at about the scale of a letterbox; the others give a face a random size.
    scales: range of that scale, times the letterbox's.
    stretch: largest factor between width and height, either way.
    recoloured: share of the views whose colours are changed.
    dressed: share of the bare faces that get the mask of another.
    covered: share of the bare faces that get something before the mouth.
    """

    natural: float
    scales: tuple[float, float]
    stretch: float
    recoloured: float
    dressed: float
    covered: float


STRONG = Strength(natural=0.5, scales=(0.6, 1.5), stretch=1.1, recoloured=1.0, dressed=0.1, covered=0.1)
# For the last steps, which fit the network to pictures as they come; large faces are still practised.
MILD = Strength(natural=0.75, scales=(0.85, 1.2), stretch=1.0, recoloured=0.3, dressed=0.05, covered=0.05)


def scale_view(
    view: View,
    size: int,
    network_size: int,
    rng: Generator,
    strength: Strength = STRONG,
    faces: FaceClasses | None = None,
) -> View:
    """A square crop at a random scale, flipped and recoloured.

    A share of the crops scale the picture around what the network will see, a letterbox of `network_size`;
    the others pick a face and give it a random size, so that faces from a dozen pixels to the whole crop all
    come up. Where the classes are known to be those of faces, some bare ones get a mask, or something before
    the mouth that is none.
    """
    height, width = view.image.shape[:2]
    natural = network_size / max(height, width)
    faces_at = np.flatnonzero(view.class_ids != IGNORE_CLASS)
    face = int(faces_at[rng.integers(len(faces_at))]) if len(faces_at) else None
    if face is None or rng.random() < strength.natural:
        scale = natural * _log_uniform(rng, *strength.scales)
    else:
        x0, y0, x1, y1 = view.boxes_xyxy[face]
        # Evenly in octaves for the small ones, evenly in pixels for the large ones.
        least_face, largest_face = 16.0, 0.95 * size
        small = rng.random() < 0.5
        wanted = (_log_uniform if small else _uniform)(rng, least_face, largest_face)
        # A picture much smaller than the crop would teach grey; one blown up further shows nothing new.
        least = 0.6 * size / max(height, width)
        scale = float(np.clip(wanted / max(x1 - x0, y1 - y0), least, max(least, MAX_BLOW_UP * natural)))
    stretch = _log_uniform(rng, 1 / strength.stretch, strength.stretch)
    aim = face if rng.random() < 0.8 else None
    cropped = _scaled_crop(view, size, (scale * stretch, scale / stretch), aim, rng)
    if rng.random() < 0.5:
        cropped = flip(cropped)
    if faces is not None:
        cropped = dress(cropped, rng, strength.dressed, faces)
        cropped = cover_mouths(cropped, rng, strength.covered, faces.bare)
    if rng.random() < strength.recoloured:
        cropped = replace(cropped, image=recolour(cropped.image, rng))
    return cropped


def _uniform(rng: Generator, low: float, high: float) -> float:
    return float(rng.uniform(low, high))


def _log_uniform(rng: Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _scaled_crop(
    view: View, size: int, scale_xy: tuple[float, float], face: int | None, rng: Generator
) -> View:
    """The picture at this scale behind a window of size × size that holds the face, where one is named."""
    height, width = view.image.shape[:2]
    origin = []  # of the window, in pixels of the scaled picture
    for axis, length in ((0, width * scale_xy[0]), (1, height * scale_xy[1])):
        low, high = min(0.0, length - size), max(0.0, length - size)
        if face is not None:
            start, end = (float(view.boxes_xyxy[face, side]) * scale_xy[axis] for side in (axis, axis + 2))
            inner = (max(low, min(start, end - size)), min(high, max(start, end - size)))
            low, high = inner if inner[0] <= inner[1] else (low, high)
        origin.append(rng.uniform(low, high))
    image, factors_xy, offset_xy = _window(view.image, size, scale_xy, (origin[0], origin[1]))
    full = (view.boxes_xyxy * np.array(factors_xy * 2) + np.array(offset_xy * 2)).astype(np.float32)
    boxes = full.clip(0, size)
    visible = _area(boxes) / np.maximum(_area(full), 1e-6)
    kept = (visible >= MIN_VISIBLE) & ((boxes[:, 2:] - boxes[:, :2]).min(1, initial=np.inf) >= MIN_SIDE)
    kept |= (view.class_ids == IGNORE_CLASS) & (visible > 0)  # whatever is left of a region is still ignored
    return View(image, boxes[kept].astype(np.float32), view.class_ids[kept])


def _area(boxes_xyxy: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    sides = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).clip(0)
    return np.asarray(sides[:, 0] * sides[:, 1])


def _window(
    image: UInt8Array, size: int, scale_xy: tuple[float, float], origin_xy: tuple[float, float]
) -> tuple[UInt8Array, tuple[float, float], tuple[float, float]]:
    """What the window shows; and the factors and the offset by which points of the picture really got there.

    Cuts before it resizes, so that only what the window shows is computed, averaged over area when shrinking.
    Both sides of the cut and of the resized part are whole numbers; a small face would notice that rounding,
    were it left out of the boxes.
    """
    height, width = image.shape[:2]
    spans = []
    for origin, scale, length in zip(origin_xy, scale_xy, (width, height), strict=True):
        first = int(np.clip(np.floor(origin / scale), 0, length - 1))
        last = int(np.clip(np.ceil((origin + size) / scale), first + 1, length))
        spans.append((first, last))
    (x0, x1), (y0, y1) = spans
    part = np.ascontiguousarray(image[y0:y1, x0:x1])
    new_wh = (max(1, round((x1 - x0) * scale_xy[0])), max(1, round((y1 - y0) * scale_xy[1])))
    method = cv2.INTER_AREA if scale_xy[0] * scale_xy[1] < 1 else cv2.INTER_LINEAR
    part = np.asarray(cv2.resize(part, new_wh, interpolation=method), np.uint8)
    canvas = np.full((size, size, 3), PAD_VALUE, np.uint8)
    left, top = round(x0 * scale_xy[0] - origin_xy[0]), round(y0 * scale_xy[1] - origin_xy[1])
    factors = new_wh[0] / (x1 - x0), new_wh[1] / (y1 - y0)
    offset = left - x0 * factors[0], top - y0 * factors[1]
    part = part[max(0, -top) :, max(0, -left) :]
    left, top = max(0, left), max(0, top)
    part = part[: size - top, : size - left]
    canvas[top : top + part.shape[0], left : left + part.shape[1]] = part
    return canvas, factors, offset


# ---- things before the mouth -----------------------------------------------------------------------------


def cover_mouths(view: View, rng: Generator, share: float, bare_class: int) -> View:
    """A piece of the same picture over the mouth of some bare faces, which stay bare.

    Hands, cups and microphones come before mouths more often in front of cameras than in the data. The piece
    is the face's own forehead, as skin, or comes from anywhere, as a thing.
    """
    covered = _some_bare_faces(view, rng, share, bare_class)
    if not covered:
        return view
    image = view.image.copy()
    for index in covered:
        _cover_mouth(image, view.boxes_xyxy[index], rng)
    return replace(view, image=image)


def _some_bare_faces(view: View, rng: Generator, share: float, bare_class: int) -> list[int]:
    """Indices of a share of the bare faces that are large enough for a change to be seen."""
    sides = (view.boxes_xyxy[:, 2:] - view.boxes_xyxy[:, :2]).min(1, initial=np.inf)
    chosen = (view.class_ids == bare_class) & (sides >= MIN_COVERED) & (rng.random(len(sides)) < share)
    return [int(index) for index in np.nonzero(chosen)[0]]


def _cover_mouth(image: UInt8Array, box_xyxy: npt.NDArray[np.float32], rng: Generator) -> None:
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
    piece = cv2.getRectSubPix(
        image,
        (max(2, round(source_wh[0])), max(2, round(source_wh[1]))),
        (float(source[0]), float(source[1])),
    )
    reach = int(np.ceil(max(axes))) + 1
    left, top = round(centre[0]) - reach, round(centre[1]) - reach
    piece = cv2.resize(piece, (2 * reach, 2 * reach), interpolation=cv2.INTER_LINEAR)
    inside = np.zeros((2 * reach, 2 * reach), np.uint8)
    half = (max(1, round(axes[0])), max(1, round(axes[1])))
    cv2.ellipse(inside, (reach, reach), half, rng.uniform(-40, 40), 0, 360, 255, -1, cv2.LINE_AA)
    rows, columns = slice(max(0, top), max(0, top + 2 * reach)), slice(max(0, left), max(0, left + 2 * reach))
    target = image[rows, columns]
    from_y, from_x = rows.start - top, columns.start - left
    part = np.s_[from_y : from_y + target.shape[0], from_x : from_x + target.shape[1]]
    weight = inside[part][..., None] / np.float32(255)
    target[:] = (target * (1 - weight) + piece[part] * weight).round().astype(np.uint8)


# ---- masks of others -------------------------------------------------------------------------------------

# Outline of a mask in shares of the face's box: over the nose, down the cheeks, under the chin.
_HALF_MASK = np.array([(0.5, 0.4), (0.72, 0.48), (0.93, 0.54), (0.88, 0.8), (0.7, 0.96), (0.5, 1.02)])
_MASK_OUTLINE = np.concatenate([_HALF_MASK, (np.array([1.0, 0.0]) + _HALF_MASK * [-1, 1])[::-1]])


def dress(view: View, rng: Generator, share: float, faces: FaceClasses) -> View:
    """The mask of another person on some bare faces: most too low, below nose or mouth, some as it should be.

    Masks that are worn in a wrong way are the rarest class. The ones that sit well are there so that the seam
    of the cut does not tell the class.
    """
    if faces.donor is None:
        return view
    chosen = _some_bare_faces(view, rng, share, faces.bare)
    if not chosen:
        return view
    image, class_ids = view.image, view.class_ids.copy()
    for index in chosen:
        well = rng.random() < WORN_WELL
        drop = float(rng.uniform(-0.03, 0.03) if well else rng.uniform(*TOO_LOW))
        image = wear(image, view.boxes_xyxy[index], faces.donor(rng), drop)
        class_ids[index] = faces.mask if well else faces.incorrect
    return View(image, view.boxes_xyxy, class_ids)


def wear(image: UInt8Array, box_xyxy: npt.NDArray[np.float32], donor: Donor, drop: float) -> UInt8Array:
    """The picture with the donor's mask on the face, `drop` of the face's height too low."""
    height, width = image.shape[:2]
    sides, donor_sides = box_xyxy[2:] - box_xyxy[:2], donor.box_xyxy[2:] - donor.box_xyxy[:2]
    scale = sides / donor_sides
    offset = box_xyxy[:2] + np.array([0, drop * sides[1]]) - scale * donor.box_xyxy[:2]
    matrix = np.array([[scale[0], 0, offset[0]], [0, scale[1], offset[1]]])
    moved = cv2.warpAffine(donor.image, matrix, (width, height), flags=cv2.INTER_LINEAR)
    inside = np.zeros((height, width), np.float32)
    corners = box_xyxy[:2] + (_MASK_OUTLINE + np.array([0, drop])) * sides
    cv2.fillPoly(inside, [corners.round().astype(np.int32)], 1.0, cv2.LINE_AA)
    weight = np.asarray(cv2.GaussianBlur(inside, (0, 0), max(0.5, float(sides.max()) / 60)))[..., None]
    return np.asarray((image * (1 - weight) + moved * weight).round(), np.uint8)


# ---- colours ---------------------------------------------------------------------------------------------


def recolour(image: UInt8Array, rng: Generator) -> UInt8Array:
    """Brightness, contrast, gamma, tint; sometimes grey, blurred, noisy or badly compressed."""
    image = _tone(image, rng)
    if rng.random() < 0.5:
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None].repeat(3, -1)
        saturation = 0.0 if rng.random() < 0.1 else rng.uniform(0.5, 1.5)
        image = np.asarray(cv2.addWeighted(image, saturation, grey, 1 - saturation, 0), np.uint8)
    if rng.random() < 0.1:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.5, 1.5)), np.uint8)
    if rng.random() < 0.1:
        noise = rng.normal(0, rng.uniform(3, 12), image.shape).astype(np.int16)
        image = (image.astype(np.int16) + noise).clip(0, 255).astype(np.uint8)
    if rng.random() < 0.15:
        quality = int(rng.integers(20, 80))
        image = as_jpeg(image, quality)
    return image


def as_jpeg(image_rgb: UInt8Array, quality: int) -> UInt8Array:
    """A picture (H, W, 3) as it comes out of a JPEG file of some quality."""
    # OpenCV's order is BGR; in the other one it would keep blue as finely as green, and red coarsely.
    _, packed = cv2.imencode(".jpg", image_rgb[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    image_bgr = np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR), np.uint8)
    return np.ascontiguousarray(image_bgr[:, :, ::-1])


def _tone(image: UInt8Array, rng: Generator) -> UInt8Array:
    """One table a channel, so that brightness, contrast, gamma and tint cost one look-up."""
    levels = np.linspace(0, 1, 256) ** _log_uniform(rng, 0.6, 1.6)
    contrast, brightness = rng.uniform(0.7, 1.3), rng.uniform(-0.12, 0.12)
    tints = rng.uniform(0.92, 1.08, 3)
    tables = ((levels[:, None] - 0.5) * contrast + 0.5 + brightness) * tints
    table = (tables * 255).clip(0, 255).astype(np.uint8)[None]  # (1, 256, 3)
    return np.asarray(cv2.LUT(image, table), np.uint8)
