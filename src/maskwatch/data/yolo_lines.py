"""Lines of YOLO's label files: `class cx cy width height`, or `class x y x y x y …` of a polygon.

What follows a box are landmarks (`x y` or `x y visibility` of each), a score or a track id. A line alone
often does not tell a box with landmarks from a polygon, so all lines of a set decide together.

Sources: https://docs.ultralytics.com/datasets/ (detect, segment, pose, obb), the label files of yolov5-face.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Literal, TypeAlias

from maskwatch.data.faults import Box
from maskwatch.data.raw import NO_BOX, RawObject
from maskwatch.labels import find_class

Shape = Literal["box", "polygon", "unknown"]
Point: TypeAlias = tuple[float, float]

# Of so many lines the shape is told, however many there are.
_MOST_LINES = 2000
# One shape has to be so many times as frequent as the other among the lines that tell.
_CLEAR = 9
# How far a box may stick out of the picture, and a coordinate beyond it, as shares of the picture.
_BORDER, _BEYOND = 0.02, 0.1
# Least share of the box over which landmarks spread, in width or height.
_LEAST_SPREAD = 0.2
# From so many corners on, an outline has no side longer than this share of it.
_OUTLINE_CORNERS, _LONGEST_SIDE = 12, 0.35
# Polygons of more corners are not searched for crossings.
_MOST_CORNERS = 20

_BOX = "class cx cy width height"
_WAY_OUT = f"write {_BOX}, or state kpt_shape in the data.yaml if landmarks follow the box"


@dataclass(frozen=True)
class Line:
    """One line: its number, the word of the class, those after it, and their values (NaN for no number)."""

    number: int
    class_word: str
    words: tuple[str, ...]
    values: tuple[float, ...]


def parse_line(text: str, number: int) -> Line | None:
    """The words of a line, separated by blanks, commas or semicolons; None for a blank one or a comment."""
    text = text.partition("#")[0].strip()
    if not text:
        return None
    if "." not in text and re.search(r"\d,\d", text) and re.search(r"\d[\s;]+\d", text):
        text = re.sub(r"(?<=\d),(?=\d)", ".", text)  # the decimal sign of many languages
    class_word, *words = re.split(r"[\s,;]+", text.strip(",; \t"))
    return Line(number, class_word, tuple(words), tuple(map(_value, words)))


def _value(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        return math.nan


def shape_of(lines: Sequence[Line], landmarks: int | None = None) -> Shape:
    """What the lines with more than a box and one number are.

    Args:
        lines: of all label files of a set.
        landmarks: how many numbers follow each box, where the set states it.
    """
    long = [line for line in lines if len(line.values) > 5 and all(map(math.isfinite, line.values))]
    if landmarks is not None or all(map(_ends_in_track, long)):
        return "box"
    long = long[:: max(1, len(long) // _MOST_LINES)]
    told = Counter(_told_shape(line.values) for line in long)
    sides: tuple[tuple[Shape, Shape], ...] = (("box", "polygon"), ("polygon", "box"))
    for one, other in sides:
        if told[one] and told[one] >= _CLEAR * told[other]:
            return one
    # Boxes have the same number of landmarks everywhere.
    commonest = max(Counter(len(line.values) for line in long).values())
    return "polygon" if not told["box"] and len(long) > 3 and commonest < len(long) / 2 else "unknown"


class LineReader:
    """Lines of one set → objects.

    Args:
        lines: all of the set, which tell together what follows a box.
        names: of the classes by number; a number without a name stands for itself.
        landmarks: how many numbers follow each box, where the set states it.
    """

    def __init__(self, lines: Sequence[Line], names: Mapping[int, str], landmarks: int | None = None) -> None:
        self.names, self.shape = names, shape_of(lines, landmarks)
        counts = Counter(len(line.values) for line in lines if len(line.values) > 5)
        # Behind landmarks that are stated, a score and the number of a track may follow.
        least = None if landmarks is None else 4 + landmarks
        self._counts = [n for n, _ in counts.most_common(1)] if least is None else [*range(least, least + 3)]
        self._scored = bool(counts) and all(count % 2 for count in counts)

    def read(self, line: Line) -> RawObject:
        """The object of a line; with its fault where it cannot be read."""
        where = f"line {line.number}"
        shown = "box " + (" ".join(line.words[:8]) + (" …" if len(line.words) > 8 else "") or "missing")
        name = _class_name(line.class_word, self.names)
        if name is None:
            known = ", ".join(f"{number} {name}" for number, name in list(self.names.items())[:8])
            text = f"has the class {line.class_word!r}, which is not the number of one"
            mend = f"write one of {known}" if known else "write a whole number from 0"
            return RawObject(where, "", NO_BOX, shown, fault=("class-unknown", text, mend))
        fault = self._fault(line)
        if fault is not None:
            return RawObject(where, name, NO_BOX, shown, fault=("box-invalid", *fault))
        return RawObject(where, name, self._box(line.values), shown)

    def _fault(self, line: Line) -> tuple[str, str] | None:
        """What is wrong with the numbers of a line, and how to mend it."""
        pairs = zip(line.words, line.values, strict=True)
        wrong, count = [word for word, value in pairs if not math.isfinite(value)], len(line.values)
        if wrong:
            return f"holds {wrong[0]!r}, which is no number", f"write {_BOX}"
        if count < 4:
            return f"has {count} numbers after the class", f"write {_BOX}"
        if count == 4 or (count == 5 and self.shape != "polygon"):
            return None
        if self.shape == "unknown":
            return f"has {count} numbers, of a box with landmarks or of a polygon", _WAY_OUT
        if self.shape == "polygon" and count % 2 and not self._scored:
            return f"has {count} numbers, which are no pairs of a polygon", "write x y of each of its points"
        if self.shape == "box" and count not in self._counts:
            expected = " or ".join(map(str, [4, *self._counts]))
            return f"has {count} numbers after the class, not {expected}", _WAY_OUT
        return None

    def _box(self, values: Sequence[float]) -> Box:
        """Corners as shares, from centre and size, or around a polygon, behind which its score may stand."""
        if self.shape != "polygon" or len(values) == 4:
            return _corners(values)
        xs, ys = zip(*zip(values[0::2], values[1::2], strict=False), strict=True)
        return min(xs), min(ys), max(xs), max(ys)


def _corners(values: Sequence[float]) -> Box:
    cx, cy, width, height = values[:4]
    return cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2


def _class_name(word: str, names: Mapping[int, str]) -> str | None:
    value = _value(word)
    if math.isfinite(value) and value.is_integer() and value >= 0:
        return names.get(int(value), str(int(value)))
    place = find_class(list(names.values()), word)
    return None if place is None else list(names.values())[place]


# ---- Telling boxes with landmarks from polygons ------------------------------------------------------------


def _ends_in_track(line: Line) -> bool:
    """Whether a score and the number of a track may follow the box, and nothing else."""
    is_track = len(line.values) == 6 and line.words[5].isdecimal() and 0 <= line.values[4] <= 1
    return is_track and _fits_box(line.values)


def _told_shape(values: Sequence[float]) -> Shape:
    """What a line can only be, or is likely to be; "unknown" where nothing speaks for either."""
    if len(values) % 2 and not _has_visibilities(values[4:]):
        # A score stands at the end, or behind the box.
        at_end, behind_box = _told_shape(values[:-1]), _told_shape((*values[:4], *values[5:]))
        if behind_box != "box" or at_end == "box":
            return at_end
        return "unknown" if at_end == "polygon" else "box"
    more = values[4:]
    if not _fits_box(values):
        return "polygon"
    # A landmark that is not there, a visibility of 2, the number of a track.
    if any(not -_BEYOND <= value <= 1 + _BEYOND for value in more) or _has_visibilities(more):
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


def _fits_box(values: Sequence[float]) -> bool:
    """Whether the first four numbers can be a box in the picture around what follows."""
    (x0, y0, x1, y1), (_, _, width, height) = _corners(values), values[:4]
    if width <= 0 or height <= 0 or min(x0, y0) < -_BORDER or max(x1, y1) > 1 + _BORDER:
        return False
    more = values[4:]
    pairs = zip(more[0::2], more[1::2], strict=False)
    # A landmark that is not seen is -1 -1 or 0 0.
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
    """Whether four points are the corners of a box, turned or not."""
    if len(points) != 4:
        return False
    (ax, ay), (bx, by), (cx, cy), (dx, dy) = points
    off = max(abs(ax + cx - bx - dx), abs(ay + cy - by - dy))
    return off < 0.02 * max(_extents(points))


def _is_outline(points: Sequence[Point]) -> bool:
    """Whether points are many and the first of them lies beside the second and the last."""
    if len(points) < _OUTLINE_CORNERS:
        return False
    longest = _LONGEST_SIDE * max(_extents(points[2:]))
    return max(math.dist(points[0], points[1]), math.dist(points[0], points[-1])) < longest


def _is_within(point: Point, others: Sequence[Point]) -> bool:
    """Whether a point lies well within others, as the middle of a face does and no corner of a polygon."""
    middle = [sum(axis) / len(others) for axis in zip(*others, strict=True)]
    # Outlines are wavy: many of their corners lie a little within the others.
    x, y = (at + (at - centre) / 3 for at, centre in zip(point, middle, strict=True))
    angles = sorted(math.atan2(other_y - y, other_x - x) for other_x, other_y in others)
    gaps = [later - earlier for earlier, later in pairwise(angles)]
    return max(*gaps, angles[0] + 2 * math.pi - angles[-1]) < math.pi - 1e-6


def _is_near(others: Sequence[Point], *points: Point) -> bool:
    """Whether points lie where a polygon through the others may have its corners."""
    (x0, x1), (y0, y1) = ((min(axis), max(axis)) for axis in zip(*others, strict=True))
    slack = 2 * max(x1 - x0, y1 - y0)
    return all(x0 - slack <= x <= x1 + slack and y0 - slack <= y <= y1 + slack for x, y in points)


def _extents(points: Sequence[Point]) -> tuple[float, float]:
    spread_x, spread_y = (max(axis) - min(axis) for axis in zip(*points, strict=True))
    return spread_x, spread_y


def _crosses(points: Sequence[Point]) -> bool:
    """Whether two sides of a polygon cross."""
    sides = list(pairwise([*points, points[0]]))
    return any(
        _side(a, b, c) * _side(a, b, d) < 0 and _side(c, d, a) * _side(c, d, b) < 0
        for (a, b), (c, d) in combinations(sides, 2)
    )


def _side(a: Point, b: Point, point: Point) -> float:
    """Above 0 on the one side of the line from a to b, below 0 on the other."""
    return (b[0] - a[0]) * (point[1] - a[1]) - (b[1] - a[1]) * (point[0] - a[0])
