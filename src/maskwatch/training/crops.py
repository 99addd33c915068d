"""Geometry of training samples: flips, turns, crops, and where boxes go with them.

All randomness comes from the generator that is passed in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from maskwatch.media.images import PAD_VALUE

UInt8Array: TypeAlias = npt.NDArray[np.uint8]
FloatArray: TypeAlias = npt.NDArray[np.float32]
Generator: TypeAlias = np.random.Generator

# The class id of an ignore region: it holds neither a face to find nor background.
IGNORE_CLASS = -1
# A crop drops a box of which less than this share is left, or a side is below so many pixels of the input.
MIN_VISIBLE = 0.35
MIN_SIDE = 5.0


@dataclass(frozen=True)
class TrainingSample:
    """An image and its boxes. image (H, W, 3) uint8 RGB, boxes_xyxy (G, 4) float32, class_ids (G,) int64.

    Ignore regions have the class id `IGNORE_CLASS`.
    """

    image: UInt8Array
    boxes_xyxy: FloatArray
    class_ids: npt.NDArray[np.int64]


def flip(sample: TrainingSample) -> TrainingSample:
    """Left to right."""
    boxes = sample.boxes_xyxy.copy()
    boxes[:, [0, 2]] = sample.image.shape[1] - sample.boxes_xyxy[:, [2, 0]]
    return TrainingSample(np.ascontiguousarray(sample.image[:, ::-1]), boxes, sample.class_ids)


def ssd_crop(sample: TrainingSample, rng: Generator) -> TrainingSample:
    """A crop of 0.75 to 1 of the area, 0.75 to 3 times as wide as high; the whole image where none fits.

    Source: `sample_distorted_bounding_box` of TensorFlow, with min_object_covered 0.
    """
    height, width = sample.image.shape[:2]
    for _ in range(100):
        ratio = rng.uniform(0.75, 3.0)
        share = rng.uniform(0.75, 1.0) * height * width
        crop_h, crop_w = round((share / ratio) ** 0.5), round((share * ratio) ** 0.5)
        if 0 < crop_h <= height and 0 < crop_w <= width:
            x, y = int(rng.integers(width - crop_w + 1)), int(rng.integers(height - crop_h + 1))
            return _crop(sample, (x, y, x + crop_w, y + crop_h))
    return _crop(sample, (0, 0, width, height))


def _crop(sample: TrainingSample, region_xyxy: tuple[int, int, int, int]) -> TrainingSample:
    x0, y0, x1, y1 = region_xyxy
    boxes = sample.boxes_xyxy - np.array([x0, y0, x0, y0], np.float32)
    boxes = boxes.clip(0, np.array([x1 - x0, y1 - y0] * 2, np.float32))
    kept = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    return TrainingSample(sample.image[y0:y1, x0:x1], boxes[kept], sample.class_ids[kept])


def scaled_crop(
    sample: TrainingSample, size: int, scale_xy: tuple[float, float], target: int | None, rng: Generator
) -> TrainingSample:
    """The image at this scale behind a window of size × size, which holds the box `target` unless None."""
    height, width = sample.image.shape[:2]
    origin = []  # of the window, in pixels of the scaled image
    for axis, length in ((0, width * scale_xy[0]), (1, height * scale_xy[1])):
        low, high = min(0.0, length - size), max(0.0, length - size)
        if target is not None:
            box = sample.boxes_xyxy[target]
            start, end = float(box[axis]) * scale_xy[axis], float(box[axis + 2]) * scale_xy[axis]
            inner = (max(low, min(start, end - size)), min(high, max(start, end - size)))
            low, high = inner if inner[0] <= inner[1] else (low, high)
        origin.append(rng.uniform(low, high))
    image, factors_xy, offset_xy = _window(sample.image, size, scale_xy, (origin[0], origin[1]))
    full = (sample.boxes_xyxy * np.array(factors_xy * 2) + np.array(offset_xy * 2)).astype(np.float32)
    boxes, kept = _clip(full, sample.class_ids, (size, size))
    return TrainingSample(image, boxes[kept], sample.class_ids[kept])


def rotate(sample: TrainingSample, degrees: float) -> TrainingSample:
    """Turned about its centre, counter-clockwise on the screen; what comes from outside is padding.

    A box becomes the one around the ellipse that it held, since a face fills its box as an ellipse does; one
    around the turned corners would be far too large. An ignore region gets that, to cover what it did.
    """
    height, width = sample.image.shape[:2]
    centre_xy = np.array([width / 2, height / 2])
    # Pixel centres lie at halves in box coordinates and at whole numbers in OpenCV's.
    matrix = cv2.getRotationMatrix2D((width / 2 - 0.5, height / 2 - 0.5), degrees, 1.0)
    image = cv2.warpAffine(sample.image, matrix, (width, height), borderValue=(PAD_VALUE,) * 3)
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    corners = sample.boxes_xyxy.reshape(-1, 2, 2)  # (G, 2, 2)
    offsets_xy = corners.mean(1) - centre_xy
    centres_xy = offsets_xy @ np.array([[cos, -sin], [sin, cos]]) + centre_xy
    sides_wh = corners[:, 1] - corners[:, 0]
    parts_wh = np.stack([sides_wh * abs(cos), sides_wh[:, ::-1] * abs(sin)])  # (2, G, 2)
    ellipse_wh, rectangle_wh = np.hypot(*parts_wh), parts_wh.sum(0)
    new_wh = np.where((sample.class_ids == IGNORE_CLASS)[:, None], rectangle_wh, ellipse_wh)
    full = np.concatenate([centres_xy - new_wh / 2, centres_xy + new_wh / 2], 1).astype(np.float32)
    boxes, kept = _clip(full, sample.class_ids, (width, height))
    return TrainingSample(np.asarray(image, np.uint8), boxes[kept], sample.class_ids[kept])


def _clip(
    full_xyxy: FloatArray, class_ids: npt.NDArray[np.int64], size_wh: tuple[int, int]
) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """Boxes (G, 4) as far as they lie in the image, and which of them (G,) still show enough."""
    boxes = full_xyxy.clip(0, np.array(size_wh * 2, np.float32))
    visible = _area(boxes) / np.maximum(_area(full_xyxy), 1e-6)
    kept = (visible >= MIN_VISIBLE) & ((boxes[:, 2:] - boxes[:, :2]).min(1, initial=np.inf) >= MIN_SIDE)
    kept |= (class_ids == IGNORE_CLASS) & (visible > 0)  # any rest of an ignore region is still one
    return boxes, kept


def _area(boxes_xyxy: FloatArray) -> FloatArray:
    sides = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).clip(0)
    return np.asarray(sides[:, 0] * sides[:, 1])


def _window(
    image: UInt8Array, size: int, scale_xy: tuple[float, float], origin_xy: tuple[float, float]
) -> tuple[UInt8Array, tuple[float, float], tuple[float, float]]:
    """The pixels of the window, and the exact factors and offset from the image to it.

    Crops before it resizes, so that only the pixels in the window are computed. The sides of the crop and of
    the resized part are whole numbers; the boxes follow that rounding, which matters for small faces.
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
