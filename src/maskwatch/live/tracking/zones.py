"""Zones that people are in and lines that they cross."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from maskwatch.media.images import FloatArray

# Half the width of every border, in face heights, so that a face that jitters on a border or a line does not
# enter and leave repeatedly.
_BORDER = 0.25

NormalizedPoints: TypeAlias = tuple[tuple[float, float], ...]
"""(x, y) in shares (0..1) of the frame's width and height."""

Direction: TypeAlias = Literal["in", "out"]


@dataclass(frozen=True)
class Zone:
    """A polygon.

    Attributes:
        source: name of its source; None for all.
        alert: False for a zone that only counts.
    """

    name: str
    points: NormalizedPoints
    source: str | None = None
    alert: bool = True

    def contains(self, point: FloatArray, border: float, size_wh: tuple[int, int], *, inside: bool) -> bool:
        """Whether a point (2,) in pixels is in the zone; if it was `inside`, also up to `border` beyond."""
        corners = _pixels(self.points, size_wh)
        distance = cv2.pointPolygonTest(corners, (float(point[0]), float(point[1])), True)
        return distance >= (-border if inside else 0.0)


@dataclass(frozen=True)
class Line:
    """A line from the first point to the second.

    Seen along this direction, crossing from left to right is "in", from right to left "out".
    """

    name: str
    points: NormalizedPoints
    source: str | None = None

    def side(self, point: FloatArray, border: float, size_wh: tuple[int, int]) -> int:
        """1 for a point (2,) on the right, -1 on the left, 0 nearer than `border` to the line; pixels."""
        start, end = _pixels(self.points, size_wh)
        distance = _cross(end - start, point - start) / float(np.hypot(*(end - start)))
        return 0 if abs(distance) < border else int(math.copysign(1, distance))

    def crossed_by(self, a: FloatArray, b: FloatArray, size_wh: tuple[int, int]) -> bool:
        """Whether the path from a to b, points on either side of the line, passes between its ends."""
        start, end = _pixels(self.points, size_wh)
        return _cross(b - a, start - a) * _cross(b - a, end - a) <= 0


@dataclass(frozen=True)
class Zones:
    """The zones and lines of one source, in the order of the file.

    Attributes:
        only_zones: people in no zone neither count nor alert.
    """

    zones: tuple[Zone, ...] = ()
    lines: tuple[Line, ...] = ()
    only_zones: bool = False

    @property
    def shapes(self) -> tuple[Zone | Line, ...]:
        """All zones, then all lines."""
        return (*self.zones, *self.lines)

    def for_source(self, name: str) -> Zones:
        """The zones and lines for this source, or for all."""
        return Zones(
            tuple(zone for zone in self.zones if zone.source in (None, name)),
            tuple(line for line in self.lines if line.source in (None, name)),
            self.only_zones,
        )

    def alert_zones(self, inside: Sequence[str]) -> tuple[str, ...] | None:
        """Of the zones `inside` which a person is, those that alert; None where the person cannot alert.

        Outside all zones people alert unless `only_zones` is set.
        """
        if not inside:
            return None if self.only_zones else ()
        return tuple(zone.name for zone in self.zones if zone.alert and zone.name in inside) or None


@dataclass
class ZoneState:
    """The zones of one person, and the side of each line. Its memory gives borders their width.

    Attributes:
        zones: names of the zones that the person is in, in the order of the file.
    """

    zones: tuple[str, ...] = ()
    _sides: dict[str, tuple[int, FloatArray]] = field(default_factory=dict)

    def move(
        self, box_xyxy: FloatArray, zones: Zones, size_wh: tuple[int, int]
    ) -> list[tuple[Line, Direction]]:
        """Takes the new box of the face in pixels and returns the lines that its centre has crossed."""
        point = np.asarray((box_xyxy[:2] + box_xyxy[2:]) / 2, np.float32)
        border = _BORDER * float(box_xyxy[3] - box_xyxy[1])
        self.zones = tuple(
            zone.name
            for zone in zones.zones
            if zone.contains(point, border, size_wh, inside=zone.name in self.zones)
        )
        crossed: list[tuple[Line, Direction]] = []
        for line in zones.lines:
            side = line.side(point, border, size_wh)
            before, last_point = self._sides.get(line.name, (0, point))
            if side and before and side != before and line.crossed_by(last_point, point, size_wh):
                crossed.append((line, "in" if side > 0 else "out"))
            if side:
                self._sides[line.name] = (side, point)
        return crossed


def shape_error(points: NormalizedPoints) -> str | None:
    """What is wrong with a polygon: edges that cross, or no area; None when it is fine."""
    corners = np.array(points, np.float64)
    edges = list(zip(corners, np.roll(corners, -1, 0), strict=True))
    for first, (a, b) in enumerate(edges):
        for second in range(first + 2, len(edges)):
            neighbours = first == 0 and second == len(edges) - 1
            if not neighbours and _edges_cross(a, b, *edges[second]):
                return f"the edges from point {first + 1} and from point {second + 1} cross; order the points"
    x, y = corners.T
    if abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) < 1e-6:
        return f"points {[list(point) for point in points]} enclose nothing; move one of them"
    return None


def _edges_cross(a: npt.NDArray[Any], b: npt.NDArray[Any], c: npt.NDArray[Any], d: npt.NDArray[Any]) -> bool:
    sides = _cross(b - a, c - a) * _cross(b - a, d - a), _cross(d - c, a - c) * _cross(d - c, b - c)
    return sides[0] < 0 and sides[1] < 0


def _cross(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> float:
    return float(a[0] * b[1] - a[1] * b[0])


def _pixels(points: NormalizedPoints, size_wh: tuple[int, int]) -> FloatArray:
    return np.array(points, np.float32) * np.array(size_wh, np.float32)
