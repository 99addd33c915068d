"""The part of a picture around some boxes, with the boxes drawn, for pages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from maskwatch.media.images import UInt8Array, read_image

Corners = Sequence[float]
Color = tuple[int, int, int]

WHITE: Color = (255, 255, 255)
RED: Color = (213, 40, 40)

SIDE = 220
"""Pixels of a crop."""

GREY: Color = (190, 190, 190)
_DASH = 6  # pixels of a dash, and between two
_CONTEXT = 1.5  # margin around the boxes, in their longer side
_MIN_SIDE = 64  # pixels of the picture


def crop(path: Path, boxes: Sequence[tuple[Corners, Color]], ignored: Sequence[Corners] = ()) -> UInt8Array:
    """A square of `SIDE` pixels around all boxes (xyxy, pixels of the picture, corners in any order), with
    the ignore regions that reach into it; without boxes, the whole picture at a smaller size.

    Raises:
        ImageError: the picture cannot be read.
    """
    image = Image.fromarray(read_image(path))
    if not boxes:
        image.thumbnail((SIDE, SIDE))
        return np.array(image, np.uint8)
    points = np.array([box for box, _ in boxes], np.float64).reshape(-1, 2)  # (2 · boxes, 2)
    low, high = points.min(0), points.max(0)
    # For a box that is far too large, twice the picture is enough.
    side = min(max(_MIN_SIDE, (1 + _CONTEXT) * float((high - low).max())), 2.0 * max(image.size))
    left, top = (round(float(value)) for value in (low + high - side) / 2)
    part = image.crop((left, top, left + round(side), top + round(side)))  # black beyond the picture
    scale = SIDE / part.width
    part = part.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    pen = ImageDraw.Draw(part)
    for region in ignored:
        draw_dashed(pen, [(v - o) * scale for v, o in zip(region, (left, top) * 2, strict=True)])
    for box, color in boxes:
        xs, ys = sorted(box[0::2]), sorted(box[1::2])
        x0, x1, y0, y1 = ((v - o) * scale for v, o in zip((*xs, *ys), (left, left, top, top), strict=True))
        pen.rectangle((x0 - 1, y0 - 1, max(x0, x1) + 1, max(y0, y1) + 1), outline=(0, 0, 0))
        pen.rectangle((x0, y0, max(x0 + 1, x1), max(y0 + 1, y1)), outline=color, width=2)
    return np.array(part, np.uint8)


def draw_dashed(pen: ImageDraw.ImageDraw, box_xyxy: Corners) -> None:
    """Draws an ignore region, as a dashed grey box."""
    x0, y0, x1, y1 = box_xyxy
    for start, end, level, flat in ((x0, x1, y0, 1), (x0, x1, y1, 1), (y0, y1, x0, 0), (y0, y1, x1, 0)):
        for at in np.arange(start, end, 2 * _DASH).tolist():
            stop = min(at + _DASH, end)
            line = (at, level, stop, level) if flat else (level, at, level, stop)
            pen.line(line, fill=(0, 0, 0), width=4)
            pen.line(line, fill=GREY, width=2)
