"""Annotates pictures: draws boxes and labels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from maskwatch.boxes import AnyDetections
from maskwatch.labels import color_rgb
from maskwatch.media.images import UInt8Array
from maskwatch.outputs import new_file

Rectangle: TypeAlias = tuple[int, int, int, int]  # x1, y1, x2, y2; the last two are outside
_Font: TypeAlias = "ImageFont.ImageFont | ImageFont.FreeTypeFont"

_SMALLEST_TEXT = 8  # pixels; anything smaller is illegible
_JPEG_QUALITY = 92


@dataclass(frozen=True)
class _Label:
    text: str
    size: int
    place: Rectangle


def draw(image_rgb: UInt8Array, detections: AnyDetections) -> UInt8Array:
    """Draws boxes with class name and score into a copy of a picture (H, W, 3) RGB.

    Line width and text size grow with the picture; text size also with the box. A label stays inside the
    picture and covers no other label, and at most half of another box. Without such a place (in a dense
    crowd) or a legible size (in a tiny picture), the score is left out, then the label, lowest scores first.
    """
    picture = Image.fromarray(image_rgb)
    pen = ImageDraw.Draw(picture)
    height, width = image_rgb.shape[:2]
    line = max(1, round(math.hypot(width, height) / 400))
    boxes = [_whole_pixels(box_xyxy, width, height) for box_xyxy in detections.xyxy]
    class_ids = [0] * len(boxes) if detections.class_id is None else detections.class_id
    colors = [color_rgb(int(class_id)) for class_id in class_ids]
    for box, color in sorted(zip(boxes, colors, strict=True), key=lambda pair: -_area(pair[0])):
        _draw_box(pen, box, color, line)  # small boxes on top of large ones
    taken: list[Rectangle] = []
    for i, (box, color) in enumerate(zip(boxes, colors, strict=True)):
        others = boxes[:i] + boxes[i + 1 :]
        size = _wanted_text_size(box, width, height)
        label = _place_label(_texts(detections, i), size, box, (width, height), taken, others)
        if label is not None:
            _draw_label(pen, label, color)
            taken.append(label.place)
    return np.array(picture, np.uint8)


def save_picture(image_rgb: UInt8Array, path: str | Path) -> None:
    """Writes a picture (H, W, 3) RGB in the format of the suffix, and creates its folder.

    Raises:
        OutputError: it cannot be written.
    """
    path = Path(path)
    with new_file(path) as part:
        Image.fromarray(image_rgb).save(part, quality=_JPEG_QUALITY)


def text_rgb(background_rgb: tuple[int, int, int]) -> tuple[int, int, int]:
    """Black or white, whichever has more contrast on the background (WCAG 2.2, relative luminance)."""
    linear = [
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
        for value in (channel / 255 for channel in background_rgb)
    ]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    black_contrast, white_contrast = (luminance + 0.05) / 0.05, 1.05 / (luminance + 0.05)
    return (0, 0, 0) if black_contrast >= white_contrast else (255, 255, 255)


def _draw_box(pen: ImageDraw.ImageDraw, box: Rectangle, color: tuple[int, int, int], line: int) -> None:
    x1, y1, x2, y2 = box
    line = max(1, min(line, (x2 - x1) // 6, (y2 - y1) // 6))
    # A thin dark edge on both sides keeps the line visible on a background of the same colour.
    if line > 2:
        edge = max(1, line // 3)
        outer = (x1 - edge, y1 - edge, x2 - 1 + edge, y2 - 1 + edge)
        pen.rectangle(outer, outline=(0, 0, 0), width=line + 2 * edge)
    pen.rectangle((x1, y1, x2 - 1, y2 - 1), outline=color, width=line)


def _draw_label(pen: ImageDraw.ImageDraw, label: _Label, color: tuple[int, int, int]) -> None:
    x1, y1, x2, y2 = label.place
    pen.rectangle((x1, y1, x2 - 1, y2 - 1), fill=color)
    middle = ((x1 + x2) / 2, (y1 + y2) / 2)
    pen.text(middle, label.text, fill=text_rgb(color), font=_font(label.size), anchor="mm")


def _place_label(
    texts: tuple[str, ...],
    size: int,
    box: Rectangle,
    picture_wh: tuple[int, int],
    labels: list[Rectangle],
    others: list[Rectangle],
) -> _Label | None:
    """The first of `texts` that has a place, in the largest size up to `size` that fits."""
    for text in texts:
        fitting = _fitting_size(text, size, picture_wh)
        if fitting is None:
            continue
        for place in _places(_label_wh(text, fitting), box, picture_wh):
            covers = any(_overlap(place, label) for label in labels)
            if not covers and all(2 * _overlap(place, other) <= _area(other) for other in others):
                return _Label(text, fitting, place)
    return None


def _wanted_text_size(box: Rectangle, width: int, height: int) -> int:
    diagonal = math.hypot(width, height)
    smallest, largest = max(10.0, diagonal / 110), max(11.0, diagonal / 38)
    return round(min(largest, max(smallest, (box[2] - box[0]) / 6)))


def _fitting_size(text: str, size: int, picture_wh: tuple[int, int]) -> int | None:
    """Largest legible size up to `size` at which a label takes at most half of the picture's height."""
    for smaller in range(size, _SMALLEST_TEXT - 1, -1):
        width, height = _label_wh(text, smaller)
        if width <= picture_wh[0] and 2 * height <= picture_wh[1]:
            return smaller
    return None


@lru_cache(maxsize=4096)
def _label_wh(text: str, size: int) -> tuple[int, int]:
    font = _font(size)
    _, top, _, bottom = font.getbbox("Ag")
    left, _, right, _ = font.getbbox(text)
    return math.ceil(right - left + 0.6 * (bottom - top)), math.ceil(1.5 * (bottom - top))


def _places(size_wh: tuple[int, int], box: Rectangle, picture_wh: tuple[int, int]) -> list[Rectangle]:
    """Above the box, below it, inside at its top, at its bottom; those that need no vertical shift first."""
    (width, height), (x1, y1, x2, y2) = size_wh, box
    places = []
    for top in (y1 - height, y2, y1, y2 - height):
        for left in (x1, x2 - width):
            x = min(max(left, 0), picture_wh[0] - width)
            y = min(max(top, 0), picture_wh[1] - height)
            places.append((y != top, (x, y, x + width, y + height)))
    return [place for _, place in sorted(places, key=lambda pair: pair[0])]  # a stable sort


def _overlap(a: Rectangle, b: Rectangle) -> int:
    return max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))


def _area(a: Rectangle) -> int:
    return (a[2] - a[0]) * (a[3] - a[1])


def _texts(detections: AnyDetections, index: int) -> tuple[str, ...]:
    names = detections.data.get("class_name")
    class_ids, scores = detections.class_id, detections.confidence
    name = str(names[index] if names is not None else "" if class_ids is None else class_ids[index])
    name = name.replace("_", " ")
    if scores is None:
        return (name,)
    # Never 100%: a sigmoid does not reach it, and a reader would take it for certainty.
    return f"{name} {min(99, math.floor(100 * scores[index]))}%", name


def _whole_pixels(box_xyxy: np.ndarray, width: int, height: int) -> Rectangle:
    """The box in whole pixels inside the picture, at least one each way."""
    x1, y1, x2, y2 = (round(float(value)) for value in box_xyxy)
    x1, y1 = min(max(x1, 0), width - 1), min(max(y1, 0), height - 1)
    return x1, y1, min(max(x2, x1 + 1), width), min(max(y2, y1 + 1), height)


@lru_cache(maxsize=64)
def _font(size: int) -> _Font:
    return ImageFont.load_default(size)
