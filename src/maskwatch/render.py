"""Detections → a drawn picture."""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias

import numpy as np
import supervision as sv
from PIL import Image, ImageDraw, ImageFont

from maskwatch.images import UInt8Array
from maskwatch.labels import color_rgb
from maskwatch.outputs import make_folder, replacing, writing

Rectangle: TypeAlias = tuple[int, int, int, int]  # x1, y1, x2, y2; the last two are outside
_Font: TypeAlias = "ImageFont.ImageFont | ImageFont.FreeTypeFont"

_SMALLEST_TEXT = 8  # pixels; below that nobody reads anything
_JPEG_QUALITY = 92


def draw(image_rgb: UInt8Array, detections: sv.Detections) -> UInt8Array:
    """Draws boxes with class name and score into a copy of a picture (H, W, 3) RGB.

    Line width and text grow with the picture and, for the text, with the box. A label stays inside the
    picture and, where there is room, off the other labels; it loses its score, then itself, in a picture
    too small for legible text.
    """
    picture = Image.fromarray(image_rgb)
    pen = ImageDraw.Draw(picture)
    height, width = image_rgb.shape[:2]
    line = max(1, round(math.hypot(width, height) / 500))
    order = np.argsort(-_areas(detections.xyxy), kind="stable")  # small boxes on top of large ones
    boxes = {int(i): _whole(detections.xyxy[i], width, height) for i in order}
    for i, box in boxes.items():
        _draw_box(pen, box, _color(detections, i), line)
    taken: list[Rectangle] = []
    for i, box in boxes.items():
        taken += _draw_label(pen, box, _texts(detections, i), _color(detections, i), taken)
    return np.array(picture, np.uint8)


def save_picture(image_rgb: UInt8Array, path: Path) -> None:
    """Writes a picture (H, W, 3) RGB in the format of the suffix, creating folders on the way.

    Raises:
        OutputError: it cannot be written.
    """
    make_folder(path.parent)
    with replacing(path) as part, writing(path):
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
    # A thin dark edge on both sides keeps the line visible on a background of its own colour.
    if line > 1:
        edge = max(1, line // 3)
        outer = (x1 - edge, y1 - edge, x2 - 1 + edge, y2 - 1 + edge)
        pen.rectangle(outer, outline=(0, 0, 0), width=line + 2 * edge)
    pen.rectangle((x1, y1, x2 - 1, y2 - 1), outline=color, width=line)


def _draw_label(
    pen: ImageDraw.ImageDraw,
    box: Rectangle,
    texts: tuple[str, ...],
    color: tuple[int, int, int],
    taken: list[Rectangle],
) -> list[Rectangle]:
    """Draws the longest of `texts` that fits; returns the rectangle it covers, or nothing."""
    width, height = pen.im.size
    fitted = _fit_text(texts, _wanted_text_size(box, width, height), width, height)
    if fitted is None:
        return []
    text, font = fitted
    spot = _place(_label_size(text, font), box, (width, height), taken)
    pen.rectangle((spot[0], spot[1], spot[2] - 1, spot[3] - 1), fill=color)
    middle = ((spot[0] + spot[2]) / 2, (spot[1] + spot[3]) / 2)
    pen.text(middle, text, fill=text_rgb(color), font=font, anchor="mm")
    return [spot]


def _wanted_text_size(box: Rectangle, width: int, height: int) -> int:
    diagonal = math.hypot(width, height)
    smallest, largest = max(11.0, diagonal / 110), max(11.0, diagonal / 38)
    return round(min(largest, max(smallest, (box[2] - box[0]) / 6)))


def _fit_text(texts: tuple[str, ...], size: int, width: int, height: int) -> tuple[str, _Font] | None:
    """The first text that fits into the picture, in the largest size up to `size` that lets it."""
    for text in texts:
        for smaller in range(size, _SMALLEST_TEXT - 1, -1):
            font = _font(smaller)
            label_width, label_height = _label_size(text, font)
            if label_width <= width and 2 * label_height <= height:
                return text, font
    return None


def _label_size(text: str, font: _Font) -> tuple[int, int]:
    left, top, right, bottom = font.getbbox("Ag")
    line_height = bottom - top
    left, _, right, _ = font.getbbox(text)
    return math.ceil(right - left + 0.6 * line_height), math.ceil(1.5 * line_height)


def _place(
    size_wh: tuple[int, int], box: Rectangle, picture_wh: tuple[int, int], taken: list[Rectangle]
) -> Rectangle:
    """Above the box, below it, or inside at its top or bottom: the first that covers no other label."""
    (width, height), (x1, y1, x2, y2) = size_wh, box
    lefts = (x1, x2 - width)
    tops = (y1 - height, y2, y1, y2 - height)
    spots = []
    for top in tops:
        for left in lefts:
            inside = 0 <= top <= picture_wh[1] - height
            x = min(max(left, 0), picture_wh[0] - width)
            y = min(max(top, 0), picture_wh[1] - height)
            spots.append((not inside, (x, y, x + width, y + height)))
    spots.sort(key=lambda spot: spot[0])  # stable: those that need no shift come first
    free = [spot for _, spot in spots if not any(_overlap(spot, other) for other in taken)]
    return free[0] if free else spots[0][1]


def _overlap(a: Rectangle, b: Rectangle) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _texts(detections: sv.Detections, index: int) -> tuple[str, ...]:
    names = detections.data.get("class_name")
    class_ids, scores = detections.class_id, detections.confidence
    name = str(names[index] if names is not None else "" if class_ids is None else class_ids[index])
    name = name.replace("_", " ")
    if scores is None:
        return (name,)
    # Never 100%: the network's sigmoid does not get there, and a reader would take it for certainty.
    return f"{name} {min(99, math.floor(100 * scores[index]))}%", name


def _color(detections: sv.Detections, index: int) -> tuple[int, int, int]:
    return color_rgb(0 if detections.class_id is None else int(detections.class_id[index]))


def _whole(box_xyxy: np.ndarray, width: int, height: int) -> Rectangle:
    """Whole pixels inside the picture, at least one each way."""
    x1, y1, x2, y2 = (round(float(value)) for value in box_xyxy)
    x1, y1 = min(max(x1, 0), width - 1), min(max(y1, 0), height - 1)
    return x1, y1, min(max(x2, x1 + 1), width), min(max(y2, y1 + 1), height)


def _areas(boxes_xyxy: np.ndarray) -> np.ndarray:
    sides = boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]
    return np.asarray(sides[:, 0] * sides[:, 1])


@lru_cache(maxsize=64)
def _font(size: int) -> _Font:
    return ImageFont.load_default(size)
