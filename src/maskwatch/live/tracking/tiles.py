"""The tiles of a frame: the parts that the network looks at enlarged, beside the whole frame.

The network sees a frame at its own size, so a small face in a large frame has too few pixels left. A tile is
looked at as if it were a frame: its faces are larger by its gain. With zones the tiles cover these, otherwise
the frame. The whole frame is looked at in any case: someone who comes close is larger than a tile, people
outside the zones may count, and the faces of those who do not are still hidden in pictures. Slicing goes back
to SAHI (Akyon et al. 2022, https://arxiv.org/abs/2202.06934).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from maskwatch.live.tracking.zones import Zones
from maskwatch.media.images import FloatArray, UInt8Array

MAX_TILES_ACROSS = 8

# Height in pixels of the network's input. Of faces in `masks/test`, maskwatch-320 finds 45 % from 12 to 16
# pixels, 82 % from 16 to 24 and at least 96 % from 32. Video is less sharp, and a person is a face that is
# found in most frames.
_SMALLEST_FACE = 24.0

_AUTO_ACROSS = (3, 2, 1)  # tried in this order while the time allows
_LEAST_GAIN = 1.25  # a smaller one is not worth the time of a tile
_LARGE_FRAME = 1280  # longer side; smaller frames are sub-streams, whose cameras are close to the faces
_MARGIN = 0.1  # around zones and lines, of the longer side, so that faces on their borders are whole
_OVERLAP = 1.5  # of tiles, in smallest faces: the whole frame shows larger ones well
_CUT = 0.1  # of its size: a box that is nearer to the border of a tile may go on behind it


class Tile(NamedTuple):
    """A rectangle in pixels of the frame."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height."""
        return self.right - self.left, self.bottom - self.top

    def crop(self, image_rgb: UInt8Array) -> UInt8Array:
        """Its part of a frame (H, W, 3), a view."""
        return image_rgb[self.top : self.bottom, self.left : self.right]

    def to_frame(self, boxes_xyxy: FloatArray) -> FloatArray:
        """Boxes (N, 4) in pixels of the tile → pixels of the frame."""
        return boxes_xyxy + np.array([self.left, self.top] * 2, np.float32)

    def cuts(self, boxes_xyxy: FloatArray, size_wh: tuple[int, int]) -> npt.NDArray[np.bool_]:
        """Which boxes (N, 4) reach a border of the tile inside the frame, so may be cut: bool (N,)."""
        near = _CUT * (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2])  # (N, 2)
        low = (boxes_xyxy[:, :2] - (self.left, self.top) < near) & (np.array([self.left, self.top]) > 0)
        inner = np.array([self.right, self.bottom]) < size_wh
        high = ((self.right, self.bottom) - boxes_xyxy[:, 2:] < near) & inner
        return np.asarray((low | high).any(1))


@dataclass(frozen=True)
class Tiles:
    """The tiles of one frame.

    Attributes:
        large_face: height in pixels of the frame from which on tiles may cut a face, which the whole frame
            then shows well.
    """

    tiles: tuple[Tile, ...] = ()
    large_face: float = math.inf


@dataclass(frozen=True)
class TilePlan:
    """Chooses the tiles of a source's frames.

    Attributes:
        input_size: (H, W) of the network.
        zones: of the source.
        across: tiles along the longer side of the zones' area, or of the frame; 0 for none, None for as many
            as `looks` allow.
        looks: pictures of a frame, the whole one included, for which there is time.
        least_face: height in pixels below which faces do not count anyway.
    """

    input_size: tuple[int, int]
    zones: Zones = field(default_factory=Zones)
    across: int | None = 0
    looks: int = 1
    least_face: float = 0.0

    def tiles(self, size_wh: tuple[int, int]) -> Tiles:
        """The tiles of a frame of this size."""
        overlap = _OVERLAP * self._smallest_face(size_wh)
        area = zone_area(self.zones, size_wh, max(self.input_size)) if self.zones.shapes else None
        frame = Tile(0, 0, *size_wh)
        if self.across is not None:
            found = split(area or frame, self.across, overlap) if self.across else ()
            return Tiles(() if found == (frame,) else found, overlap)
        for across in _AUTO_ACROSS:
            found = split(area or frame, across, overlap)
            if len(found) < self.looks and self._worth_it(found[0], size_wh, in_zones=area is not None):
                return Tiles(found, overlap)
        return Tiles()

    def describe(self, size_wh: tuple[int, int]) -> str:
        """For people: `1920x1080 in 2 tiles, faces from 27 px`, the height of the smallest faces it shows."""
        tiles = self.tiles(size_wh).tiles
        whole = f"{size_wh[0]}x{size_wh[1]}"
        if not tiles:
            return f"{whole}, faces from {self._shown_face(size_wh)} px"
        in_tiles = self._shown_face(tiles[0].size_wh)
        if self.zones.shapes:
            return f"{whole}, faces from {self._shown_face(size_wh)} px, in zones from {in_tiles} px"
        return f"{whole} in {len(tiles)} tile{'s' * (len(tiles) > 1)}, faces from {in_tiles} px"

    def _worth_it(self, tile: Tile, size_wh: tuple[int, int], *, in_zones: bool) -> bool:
        """Whether it shows faces larger than the whole frame does, but not larger than the camera does."""
        gain = self._smallest_face(size_wh) / self._smallest_face(tile.size_wh)
        enough_pixels = max(tile.size_wh) >= max(self.input_size)
        return gain >= _LEAST_GAIN and enough_pixels and (in_zones or max(size_wh) >= _LARGE_FRAME)

    def _smallest_face(self, size_wh: tuple[int, int]) -> float:
        """Height in pixels of a picture of this size that the network still finds."""
        scale = min(self.input_size[0] / size_wh[1], self.input_size[1] / size_wh[0])
        return _SMALLEST_FACE / scale

    def _shown_face(self, size_wh: tuple[int, int]) -> int:
        return math.ceil(max(self._smallest_face(size_wh), self.least_face) - 1e-6)


def zone_area(zones: Zones, size_wh: tuple[int, int], least_side: int) -> Tile:
    """The square around all zones and lines with a margin, within the frame.

    A square, since the network's input is one: more of the surroundings costs nothing.

    Args:
        least_side: the side is not shorter, as the network could not show more than the camera does.
    """
    points = [point for shape in zones.shapes for point in shape.points]
    corners = np.array(points) * size_wh
    low, high = corners.min(0), corners.max(0)
    side = max(float((high - low).max()) + 2 * _MARGIN * max(size_wh), least_side)
    length = np.minimum(side, size_wh)
    start = ((low + high - length) / 2).clip(0, size_wh - length)
    left, top, right, bottom = (round(float(value)) for value in (*start, *(start + length)))
    return Tile(left, top, right, bottom)


def split(area: Tile, across: int, overlap: float) -> tuple[Tile, ...]:
    """Splits an area into overlapping tiles of one size, row by row: `across` along its longer side.

    The other side has as many as make them nearly square.
    """
    longer, shorter = max(area.size_wh), min(area.size_wh)
    step = (longer - overlap) / across
    other = max(1, round((shorter - overlap) / step))
    columns, rows = (across, other) if area.size_wh[0] >= area.size_wh[1] else (other, across)
    return tuple(
        Tile(left, top, right, bottom)
        for top, bottom in _spans(area.top, area.bottom, rows, overlap)
        for left, right in _spans(area.left, area.right, columns, overlap)
    )


def _spans(start: int, end: int, count: int, overlap: float) -> Iterator[tuple[int, int]]:
    """`count` spans of one length that cover start to end."""
    step = (end - start - overlap) / count
    return ((round(start + i * step), round(start + (i + 1) * step + overlap)) for i in range(count))
