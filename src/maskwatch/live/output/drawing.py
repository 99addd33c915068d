"""People and places → a drawn picture."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt
import supervision as sv

from maskwatch.drawing.annotate import draw
from maskwatch.labels import UNDECIDED_ID
from maskwatch.live.output.lines import duration, shown_state
from maskwatch.live.tracking.results import Person
from maskwatch.live.tracking.zones import Shares, Zones
from maskwatch.media.images import UInt8Array

_CONTOUR = (((0, 0, 0), 3), ((255, 255, 255), 1))
"""Colours and widths, one over the other: white with a black edge is seen on anything."""


def draw_people(
    image_rgb: UInt8Array, people: Sequence[Person], class_names: Sequence[str], places: Zones | None = None
) -> UInt8Array:
    """Draws who is in sight, with number, state and how long it has lasted, into a copy of (H, W, 3) RGB.

    Who is undecided gets a grey box.
    """
    seen = [person for person in people if person.seen]
    image_rgb = image_rgb if places is None else draw_places(image_rgb, places)
    if not seen:
        return image_rgb.copy()
    labels = [f"{p.track} {shown_state(p.state)} {duration(p.since_s)}" for p in seen]
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
    """A dark copy of a picture (H, W, 3) RGB with lines of text across it, beyond ASCII as `?`."""
    canvas = image_rgb // 4
    height, width = canvas.shape[:2]
    font, gap = cv2.FONT_HERSHEY_SIMPLEX, 1.6
    longest = max(cv2.getTextSize(line, font, 1.0, 2)[0][0] for line in lines)
    scale = min(0.9 * width / longest, width / 640, height / (60 * len(lines)))
    step = gap * cv2.getTextSize("X", font, scale, 2)[0][1]
    for number, line in enumerate(lines):
        left = (width - cv2.getTextSize(line, font, scale, 1)[0][0]) / 2
        place = (round(left), round(height / 2 + (number + 1 - len(lines) / 2) * step))
        cv2.putText(canvas, line, place, font, scale, (255, 255, 255), max(1, round(2 * scale)), cv2.LINE_AA)
    return canvas


def draw_places(image_rgb: UInt8Array, places: Zones) -> UInt8Array:
    """Draws zones as outlines and lines with an arrow in the direction of `in` into a copy."""
    canvas = image_rgb.copy()
    for zone in places.zones:
        _draw_contour(canvas, zone.points, closed=True)
    for line in places.lines:
        _draw_contour(canvas, line.points, closed=False)
        (x1, y1), (x2, y2) = corners(line.points, canvas)
        middle = np.array([(x1 + x2) / 2, (y1 + y2) / 2])
        # The right of who looks along the line, with y pointing down.
        normal = np.array([y1 - y2, x2 - x1]) / max(1.0, float(np.hypot(x2 - x1, y2 - y1)))
        end = middle + normal * 0.06 * min(canvas.shape[:2])
        for color, width in _CONTOUR:
            cv2.arrowedLine(
                canvas, tuple(middle.round().astype(int)), tuple(end.round().astype(int)), color, width,
                cv2.LINE_AA, tipLength=0.4,
            )  # fmt: skip
    return canvas


def outline(
    canvas: UInt8Array, points: Shares, color: tuple[int, int, int], width: int, *, closed: bool
) -> None:
    """Draws a zone's or line's course, `width` pixels wide, into a picture (H, W, 3) itself."""
    cv2.polylines(canvas, [corners(points, canvas)], closed, color, width, cv2.LINE_AA)


def corners(points: Shares, image: UInt8Array) -> npt.NDArray[np.int32]:
    """Shares of a picture (H, W, ...) → pixels in it, (N, 2) as x, y.

    A share counts from edge to edge, as where people stand is measured against zones: half of 4 pixels is
    where the third begins. What lies on the far edge is drawn in the last pixel, or nobody would see it.
    """
    size_wh = np.array(image.shape[1::-1])
    pixels = (np.array(points) * size_wh).round()  # (N, 2)
    return np.asarray(np.minimum(pixels, size_wh - 1), np.int32)


def _draw_contour(canvas: UInt8Array, points: Shares, *, closed: bool) -> None:
    for color, width in _CONTOUR:
        outline(canvas, points, color, width, closed=closed)
