"""Draws people and zones into a picture, and a grid to read the coordinates of zones from."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt
import supervision as sv
from PIL import Image, ImageDraw, ImageFont

from maskwatch.drawing.annotate import draw, text_rgb
from maskwatch.labels import UNDECIDED_ID, color_rgb
from maskwatch.live.sinks.event_text import duration, state_text
from maskwatch.live.tracking.results import Person
from maskwatch.live.tracking.zones import NormalizedPoints, Zone, Zones
from maskwatch.media.images import UInt8Array, squash

_CONTOUR = (((0, 0, 0), 3), ((255, 255, 255), 1))
"""Colours and widths, one over the other: white with a black edge shows on any background."""

_GRID_STEPS = 10
_GRID_PIXELS = 960  # of the long side; smaller pictures are enlarged, so that there is room for text
_TINT = 0.25
_LINE_RGB = (240, 228, 66)


def draw_people(
    image_rgb: UInt8Array, people: Sequence[Person], class_names: Sequence[str], zones: Zones | None = None
) -> UInt8Array:
    """Draws the people in sight with track number, state and its duration into a copy of (H, W, 3) RGB.

    Undecided people and static faces get a grey box.
    """
    seen = [person for person in people if person.seen]
    image_rgb = image_rgb if zones is None else draw_zones(image_rgb, zones)
    if not seen:
        return image_rgb.copy()
    labels = [f"{p.track} {state_text(p.shown_state)} {duration(p.since_s)}" for p in seen]
    return draw(
        image_rgb,
        sv.Detections(
            xyxy=np.array([person.box_xyxy for person in seen], np.float32),
            class_id=np.array(
                [UNDECIDED_ID if p.state is None else class_names.index(p.state) for p in seen]
            ),
            data={"class_name": np.array(labels)},
        ),
    )


def draw_notice(image_rgb: UInt8Array, lines: Sequence[str]) -> UInt8Array:
    """Writes lines of text in the middle of a dark copy of (H, W, 3) RGB; beyond ASCII, as `?`."""
    lines = [line.encode("ascii", "replace").decode() for line in lines]  # the font has no other characters
    height, width = image_rgb.shape[:2]
    longest = max(ImageFont.load_default(32).getlength(line) for line in lines)
    size = 32 * min(0.9 * width / longest, width / 640, height / (60 * len(lines)))
    picture = Image.fromarray(image_rgb // 4)
    ImageDraw.Draw(picture).multiline_text(
        (width / 2, height / 2), "\n".join(lines), "white", ImageFont.load_default(max(1, size)), "mm",
        align="center",
    )  # fmt: skip
    return np.array(picture, np.uint8)


def draw_zones(image_rgb: UInt8Array, zones: Zones) -> UInt8Array:
    """Draws zones as outlines, and lines with an arrow in the direction of `in`, into a copy."""
    canvas = image_rgb.copy()
    for zone in zones.zones:
        _draw_contour(canvas, zone.points, closed=True)
    for line in zones.lines:
        _draw_contour(canvas, line.points, closed=False)
        (x1, y1), (x2, y2) = pixel_corners(line.points, canvas)
        middle = np.array([(x1 + x2) / 2, (y1 + y2) / 2])
        # Points to the right when looking along the line (y points down).
        normal = np.array([y1 - y2, x2 - x1]) / max(1.0, float(np.hypot(x2 - x1, y2 - y1)))
        end = middle + normal * 0.06 * min(canvas.shape[:2])
        for color, width in _CONTOUR:
            cv2.arrowedLine(
                canvas, tuple(middle.round().astype(int)), tuple(end.round().astype(int)), color, width,
                cv2.LINE_AA, tipLength=0.4,
            )  # fmt: skip
    return canvas


def pixel_corners(points: NormalizedPoints, image: UInt8Array) -> npt.NDArray[np.int32]:
    """NormalizedPoints of a picture (H, W, ...) → pixels in it, (N, 2) as x, y.

    A share counts from edge to edge, like the positions of people: half of 4 pixels is where the third
    begins. Points on the far edge are drawn in the last pixel, to be visible.
    """
    size_wh = np.array(image.shape[1::-1])
    pixels = (np.array(points) * size_wh).round()  # (N, 2)
    return np.asarray(np.minimum(pixels, size_wh - 1), np.int32)


def _draw_contour(canvas: UInt8Array, points: NormalizedPoints, *, closed: bool) -> None:
    for color, width in _CONTOUR:
        cv2.polylines(canvas, [pixel_corners(points, canvas)], closed, color, width, cv2.LINE_AA)


def draw_zones_sheet(image_rgb: UInt8Array, zones: Zones) -> UInt8Array:
    """Draws a grid of shares, zones and lines into a copy of (H, W, 3) RGB, enlarged where it is small."""
    factor = max(1.0, _GRID_PIXELS / max(image_rgb.shape[:2]))
    height, width = (round(side * factor) for side in image_rgb.shape[:2])
    canvas = _with_grid(squash(image_rgb, (height, width))[0])
    band = max(5, canvas.shape[1] // 160)
    for index, zone in enumerate(zones.zones):
        canvas = _tinted(canvas, zone, _zone_rgb(index))
        cv2.polylines(canvas, [pixel_corners(zone.points, canvas)], True, _zone_rgb(index), band, cv2.LINE_AA)
    for line in zones.lines:
        cv2.polylines(canvas, [pixel_corners(line.points, canvas)], False, _LINE_RGB, band, cv2.LINE_AA)
    picture = Image.fromarray(draw_zones(canvas, zones))
    _draw_scale(picture)
    _draw_names(picture, zones)
    return np.array(picture, np.uint8)


def _zone_rgb(index: int) -> tuple[int, int, int]:
    return color_rgb(index + 3)  # the first three are those of the mask states


def _tinted(canvas: UInt8Array, zone: Zone, color: tuple[int, int, int]) -> UInt8Array:
    inside = np.zeros(canvas.shape[:2], np.uint8)
    cv2.fillPoly(inside, [pixel_corners(zone.points, canvas)], 1)
    tinted = canvas * (1 - _TINT) + np.array(color) * _TINT
    return np.where(inside[..., None] > 0, tinted.round(), canvas).astype(np.uint8)


def _with_grid(canvas: UInt8Array) -> UInt8Array:
    """Draws a half transparent line every tenth: white beside black, for any background."""
    height, width = canvas.shape[:2]
    grid = canvas.copy()
    for step in range(1, _GRID_STEPS):
        x, y = round(width * step / _GRID_STEPS), round(height * step / _GRID_STEPS)
        grid[:, x - 1], grid[y - 1] = 0, 0
        grid[:, x], grid[y] = 255, 255
    return ((canvas.astype(np.uint16) + grid) // 2).astype(np.uint8)


def _draw_scale(picture: Image.Image) -> None:
    pen = ImageDraw.Draw(picture)
    width, height = picture.size
    size = max(12, width // 60)
    for step in range(1, _GRID_STEPS):
        text = f"{step / _GRID_STEPS:.1f}"
        _write(pen, (width * step / _GRID_STEPS, size * 0.7), text, size, (0, 0, 0))
        _write(pen, (size * 1.2, height * step / _GRID_STEPS), text, size, (0, 0, 0))


def _draw_names(picture: Image.Image, zones: Zones) -> None:
    pen = ImageDraw.Draw(picture)
    width, height = picture.size
    size = max(14, width // 45)
    for index, zone in enumerate(zones.zones):
        middle = np.mean(zone.points, 0) * (width, height)
        name = zone.name if zone.alert else f"{zone.name} (counts only)"
        _write(pen, (float(middle[0]), float(middle[1])), name, size, _zone_rgb(index))
    for line in zones.lines:
        x, y = line.points[0]
        _write(pen, (x * width, y * height), f"{line.name} (arrow: in)", size, _LINE_RGB)


def _write(
    pen: ImageDraw.ImageDraw, middle: tuple[float, float], text: str, size: int, color: tuple[int, int, int]
) -> None:
    """Writes text on a coloured box, moved so that all of it is in the picture."""
    font = ImageFont.load_default(size)
    left, top, right, bottom = pen.textbbox(middle, text, font=font, anchor="mm")
    edge, (width, height) = size / 4, pen.im.size if pen.im is not None else (right, bottom)
    x = min(max(0.0, edge - left), max(0.0, width - edge - left)) + min(0.0, width - edge - right)
    y = min(max(0.0, edge - top), max(0.0, height - edge - top)) + min(0.0, height - edge - bottom)
    pen.rectangle((left + x - edge, top + y - edge, right + x + edge, bottom + y + edge), fill=color)
    pen.text((middle[0] + x, middle[1] + y), text, fill=text_rgb(color), font=font, anchor="mm")
