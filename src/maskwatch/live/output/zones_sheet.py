"""A picture to read coordinates off: a grid in shares of the frame, and the zones and lines there are."""

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from maskwatch.drawing.annotate import text_rgb
from maskwatch.labels import color_rgb
from maskwatch.live.output.drawing import corners, draw_places, outline
from maskwatch.live.tracking.zones import Zone, Zones
from maskwatch.media.images import UInt8Array

_STEPS = 10
_SHORTEST = 960  # pixels of the long side; smaller pictures are enlarged, so that text finds room
_TINT = 0.25
_LINE_RGB = (240, 228, 66)


def draw_sheet(image_rgb: UInt8Array, places: Zones) -> UInt8Array:
    """Draws grid, zones and lines into a copy of (H, W, 3) RGB, enlarged where it is small."""
    factor = max(1.0, _SHORTEST / max(image_rgb.shape[:2]))
    canvas: UInt8Array = image_rgb
    if factor > 1:
        size = round(image_rgb.shape[1] * factor), round(image_rgb.shape[0] * factor)
        canvas = np.asarray(cv2.resize(image_rgb, size, interpolation=cv2.INTER_LINEAR), np.uint8)
    canvas = _with_grid(canvas)
    band = max(5, canvas.shape[1] // 160)
    for index, zone in enumerate(places.zones):
        canvas = _tinted(canvas, zone, _zone_rgb(index))
        outline(canvas, zone.points, _zone_rgb(index), band, closed=True)
    for line in places.lines:
        outline(canvas, line.points, _LINE_RGB, band, closed=False)
    picture = Image.fromarray(draw_places(canvas, places))
    _draw_scale(picture)
    _draw_names(picture, places)
    return np.array(picture, np.uint8)


def _zone_rgb(index: int) -> tuple[int, int, int]:
    return color_rgb(index + 3)  # the first three are those of the mask states


def _tinted(canvas: UInt8Array, zone: Zone, color: tuple[int, int, int]) -> UInt8Array:
    inside = np.zeros(canvas.shape[:2], np.uint8)
    cv2.fillPoly(inside, [corners(zone.points, canvas)], 1)
    tinted = canvas * (1 - _TINT) + np.array(color) * _TINT
    return np.where(inside[..., None] > 0, tinted.round(), canvas).astype(np.uint8)


def _with_grid(canvas: UInt8Array) -> UInt8Array:
    """A line every tenth: white beside black, to be seen on anything, and half transparent."""
    height, width = canvas.shape[:2]
    grid = canvas.copy()
    for step in range(1, _STEPS):
        x, y = round(width * step / _STEPS), round(height * step / _STEPS)
        grid[:, x - 1], grid[y - 1] = 0, 0
        grid[:, x], grid[y] = 255, 255
    return ((canvas.astype(np.uint16) + grid) // 2).astype(np.uint8)


def _draw_scale(picture: Image.Image) -> None:
    pen = ImageDraw.Draw(picture)
    width, height = picture.size
    size = max(12, width // 60)
    for step in range(1, _STEPS):
        text = f"{step / _STEPS:.1f}"
        _write(pen, (width * step / _STEPS, size * 0.7), text, size, (0, 0, 0))
        _write(pen, (size * 1.2, height * step / _STEPS), text, size, (0, 0, 0))


def _draw_names(picture: Image.Image, places: Zones) -> None:
    pen = ImageDraw.Draw(picture)
    width, height = picture.size
    size = max(14, width // 45)
    for index, zone in enumerate(places.zones):
        middle = np.mean(zone.points, 0) * (width, height)
        name = zone.name if zone.alert else f"{zone.name} (counts only)"
        _write(pen, (float(middle[0]), float(middle[1])), name, size, _zone_rgb(index))
    for line in places.lines:
        x, y = line.points[0]
        _write(pen, (x * width, y * height), f"{line.name} (arrow: in)", size, _LINE_RGB)


def _write(
    pen: ImageDraw.ImageDraw,
    middle: tuple[float, float],
    text: str,
    size: int,
    color: tuple[int, int, int],
) -> None:
    """Text on a coloured box, moved so that all of it is in the picture."""
    font = ImageFont.load_default(size)
    left, top, right, bottom = pen.textbbox(middle, text, font=font, anchor="mm")
    edge, (width, height) = size / 4, pen.im.size if pen.im is not None else (right, bottom)
    x = min(max(0.0, edge - left), max(0.0, width - edge - left)) + min(0.0, width - edge - right)
    y = min(max(0.0, edge - top), max(0.0, height - edge - top)) + min(0.0, height - edge - bottom)
    pen.rectangle((left + x - edge, top + y - edge, right + x + edge, bottom + y + edge), fill=color)
    pen.text((middle[0] + x, middle[1] + y), text, fill=text_rgb(color), font=font, anchor="mm")
