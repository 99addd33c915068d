"""Whether YOLO's lines are boxes with more numbers after them, or polygons.

One line is often ambiguous, so all lines of a set vote.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import combinations, pairwise
from typing import Literal, TypeAlias

from maskwatch.data.issues import Box

Shape = Literal["box", "polygon", "unknown"]
Point: TypeAlias = tuple[float, float]

_MOST_LINES = 2000  # that vote
_CLEAR = 9  # ratio of votes that decides
# How far a box, and any coordinate, may stick out of the picture, as fractions of the picture.
_BORDER, _BEYOND = 0.02, 0.1
_LEAST_SPREAD = 0.2  # of landmarks, as a fraction of the box's width or height
_OUTLINE_CORNERS, _LONGEST_SIDE = 12, 0.35  # least corners of an outline, and its longest side, as a fraction
_MOST_CORNERS = 20  # of a polygon that is searched for crossings


def shape_of(lines: Sequence[Sequence[float]]) -> Shape:
    """The shape of lines with more than a box and one number.

    Args:
        lines: the numbers after the class, of all lines of a set.
    """
    long = [values for values in lines if len(values) > 5 and all(map(math.isfinite, values))]
    if all(map(_ends_in_track, long)):
        return "box"
    long = long[:: max(1, len(long) // _MOST_LINES)]
    votes = Counter(map(_line_shape, long))
    sides: tuple[tuple[Shape, Shape], ...] = (("box", "polygon"), ("polygon", "box"))
    for one, other in sides:
        if votes[one] and votes[one] >= _CLEAR * votes[other]:
            return one
    # Boxes have the same number of landmarks everywhere.
    commonest = max(Counter(map(len, long)).values())
    return "polygon" if not votes["box"] and len(long) > 3 and commonest < len(long) / 2 else "unknown"


def box_corners(values: Sequence[float]) -> Box:
    """Corners of a box as fractions, from centre and size."""
    cx, cy, width, height = values[:4]
    return cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2


def _ends_in_track(values: Sequence[float]) -> bool:
    """Whether only a score and a track id may follow the box."""
    return len(values) == 6 and values[5].is_integer() and 0 <= values[4] <= 1 and fits_box(values)


def _line_shape(values: Sequence[float]) -> Shape:
    """The only possible or likely shape of a line; "unknown" without evidence, or with evidence for both."""
    box, more = values[:4], values[4:]
    if _has_visibilities(more) and fits_box(values):
        return "box"
    shape = _shape_by_points(values[: len(values) // 2 * 2])  # a score may stand at the end
    others = [(*box, *more[1:])] if len(values) % 2 else []  # or behind the box
    if len(more) % 3 == 0:  # or behind each landmark
        others.append((*box, *(value for number, value in enumerate(more) if number % 3 < 2)))
    if shape == "box" or all(_shape_by_points(other) != "box" for other in others):
        return shape
    return "unknown" if shape == "polygon" else "box"


def _shape_by_points(values: Sequence[float]) -> Shape:
    if not fits_box(values):
        return "polygon"
    # A missing landmark, a visibility of 2, or a track id.
    if any(not -_BEYOND <= value <= 1 + _BEYOND for value in values[4:]):
        return "box"
    points = list(zip(values[0::2], values[1::2], strict=False))
    first, second, *rest = points
    if first == rest[-1] or _is_parallelogram(points) or _is_outline(points):
        return "polygon"
    if len(rest) < 3:
        return "unknown"
    if _is_within(first, rest) or not _is_near(rest, first, second):
        return "box"
    return "polygon" if len(points) > _MOST_CORNERS or not _crosses(points) else "unknown"


def fits_box(values: Sequence[float]) -> bool:
    """Whether the first four numbers can be a box in the picture around the other points."""
    (x0, y0, x1, y1), (_, _, width, height) = box_corners(values), values[:4]
    if width <= 0 or height <= 0 or min(x0, y0) < -_BORDER or max(x1, y1) > 1 + _BORDER:
        return False
    more = values[4:]
    pairs = zip(more[0::2], more[1::2], strict=False)
    # An invisible landmark is -1 -1 or 0 0.
    points = [(x, y) for x, y in pairs if min(x, y) >= 0 and max(x, y) > 0]
    if len(points) < 2 or _has_visibilities(more):
        return True
    slack_x, slack_y = width / 4, height / 4
    around = sum(x0 - slack_x <= x <= x1 + slack_x and y0 - slack_y <= y <= y1 + slack_y for x, y in points)
    spread_x, spread_y = _extents(points)
    return 2 * around > len(points) and max(spread_x / width, spread_y / height) > _LEAST_SPREAD


def _has_visibilities(values: Sequence[float]) -> bool:
    return len(values) % 3 == 0 and all(value in (0, 1, 2) for value in values[2::3])


def _is_parallelogram(points: Sequence[Point]) -> bool:
    """Whether four points are the corners of a box, rotated or not."""
    if len(points) != 4:
        return False
    (ax, ay), (bx, by), (cx, cy), (dx, dy) = points
    off = max(abs(ax + cx - bx - dx), abs(ay + cy - by - dy))
    return off < 0.02 * max(_extents(points))


def _is_outline(points: Sequence[Point]) -> bool:
    """Whether there are many points, and the first is close to the second and the last."""
    if len(points) < _OUTLINE_CORNERS:
        return False
    longest = _LONGEST_SIDE * max(_extents(points[2:]))
    return max(math.dist(points[0], points[1]), math.dist(points[0], points[-1])) < longest


def _is_within(point: Point, others: Sequence[Point]) -> bool:
    """Whether a point is well inside the others, like the middle of a face, unlike a polygon's corner."""
    middle = [sum(axis) / len(others) for axis in zip(*others, strict=True)]
    # Outlines are wavy: many of their corners are slightly inside the others.
    x, y = (at + (at - centre) / 3 for at, centre in zip(point, middle, strict=True))
    angles = sorted(math.atan2(other_y - y, other_x - x) for other_x, other_y in others)
    gaps = [later - earlier for earlier, later in pairwise(angles)]
    return max(*gaps, angles[0] + 2 * math.pi - angles[-1]) < math.pi - 1e-6


def _is_near(others: Sequence[Point], *points: Point) -> bool:
    """Whether points are near enough to be corners of a polygon through the others."""
    (x0, x1), (y0, y1) = ((min(axis), max(axis)) for axis in zip(*others, strict=True))
    slack = 2 * max(x1 - x0, y1 - y0)
    return all(x0 - slack <= x <= x1 + slack and y0 - slack <= y <= y1 + slack for x, y in points)


def _extents(points: Sequence[Point]) -> tuple[float, float]:
    spread_x, spread_y = (max(axis) - min(axis) for axis in zip(*points, strict=True))
    return spread_x, spread_y


def _crosses(points: Sequence[Point]) -> bool:
    sides = list(pairwise([*points, points[0]]))
    return any(
        _side(a, b, c) * _side(a, b, d) < 0 and _side(c, d, a) * _side(c, d, b) < 0
        for (a, b), (c, d) in combinations(sides, 2)
    )


def _side(a: Point, b: Point, point: Point) -> float:
    """Positive on one side of the line from a to b, negative on the other."""
    return (b[0] - a[0]) * (point[1] - a[1]) - (b[1] - a[1]) * (point[0] - a[0])
