"""The tiles of a frame, one box for a face that several looks show, and small faces on real pictures."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest

from maskwatch import read_image
from maskwatch.live.tracking.faces import FaceFinder, Faces, merge_tiles
from maskwatch.live.tracking.tiles import Tile, TilePlan, Tiles, split, zone_area
from maskwatch.live.tracking.zones import Line, Zone, Zones

EXAMPLES = Path(__file__).parents[1] / "examples"
NETWORK = (320, 320)
FULL_HD = (1920, 1080)
DOOR = Zones((Zone("door", ((0.5, 0.4), (0.6, 0.4), (0.6, 0.6), (0.5, 0.6))),), only_zones=True)


def faces(*rows: tuple[tuple[float, float, float, float], float]) -> Faces:
    """Faces without a mask: (box, score), confident above 0.5."""
    boxes = np.array([box for box, _ in rows], np.float32).reshape(-1, 4)
    scores = np.zeros((len(rows), 3), np.float32)
    scores[:, 1] = [score for _, score in rows]
    return Faces(boxes, scores, scores[:, 1] > 0.5)


def test_two_tiles_side_by_side() -> None:
    assert split(Tile(0, 0, *FULL_HD), 2, 200) == (Tile(0, 0, 1060, 1080), Tile(860, 0, 1920, 1080))


def test_three_tiles_along_an_upright_frame_need_two_columns() -> None:
    assert split(Tile(0, 0, 1080, 1920), 3, 120) == (
        Tile(0, 0, 600, 720),
        Tile(480, 0, 1080, 720),
        Tile(0, 600, 600, 1320),
        Tile(480, 600, 1080, 1320),
        Tile(0, 1200, 600, 1920),
        Tile(480, 1200, 1080, 1920),
    )


def test_area_of_a_zone_is_a_square_with_a_margin() -> None:
    """The zone is 192×216 pixels around (1056, 540), the margin a tenth of 1920 on each side."""
    assert zone_area(DOOR, FULL_HD, 320) == Tile(756, 240, 1356, 840)


def test_area_of_zones_is_not_smaller_than_the_network_and_stays_in_the_frame() -> None:
    corner = Zones(lines=(Line("step", ((0.9, 1.0), (1.0, 1.0))),))
    assert zone_area(corner, FULL_HD, 640) == Tile(1280, 440, 1920, 1080)
    assert zone_area(corner, (640, 480), 640) == Tile(0, 0, 640, 480)


def test_tiles_are_as_many_as_there_is_time_for() -> None:
    counts = [len(TilePlan(NETWORK, across=None, looks=looks).tiles(FULL_HD).tiles) for looks in (1, 2, 3, 7)]
    assert counts == [0, 0, 2, 6]


def test_small_frames_have_no_tiles_of_their_own_accord() -> None:
    plan = TilePlan(NETWORK, across=None, looks=99)
    assert plan.tiles((640, 480)).tiles == ()
    assert TilePlan((640, 640), across=None, looks=99).tiles((1024, 768)).tiles == ()
    assert len(TilePlan(NETWORK, across=2).tiles((640, 480)).tiles) == 2


def test_zones_have_a_tile_where_there_is_time_for_one() -> None:
    tiles = [TilePlan(NETWORK, DOOR, None, looks).tiles(FULL_HD).tiles for looks in (1, 2)]
    assert tiles == [(), (Tile(756, 240, 1356, 840),)]
    assert TilePlan(NETWORK, DOOR, 0, 2).tiles(FULL_HD).tiles == ()
    whole = Zones((Zone("hall", ((0, 0), (1, 0), (1, 1), (0, 1))),))
    assert TilePlan(NETWORK, whole, None, 2).tiles(FULL_HD).tiles == ()
    assert TilePlan(NETWORK, whole, 1).tiles(FULL_HD).tiles == ()


def test_description_names_the_smallest_face() -> None:
    assert TilePlan(NETWORK).describe(FULL_HD) == "1920x1080, faces from 144 px"
    assert TilePlan(NETWORK, across=2).describe(FULL_HD) == "1920x1080 in 2 tiles, faces from 81 px"
    in_zones = TilePlan(NETWORK, DOOR, None, 2).describe(FULL_HD)
    assert in_zones == "1920x1080, faces from 144 px, in zones from 45 px"
    assert TilePlan(NETWORK, least_face=16).describe((160, 120)) == "160x120, faces from 16 px"


def test_borders_of_a_tile_cut_faces_but_borders_of_the_frame_do_not() -> None:
    tile = Tile(100, 0, 200, 100)
    boxes = np.array([(101, 0, 121, 20), (103, 0, 123, 20), (150, 79, 170, 99), (170, 9, 199, 30)], "f")
    assert tile.cuts(boxes, (400, 100)).tolist() == [True, False, False, True]
    assert tile.cuts(boxes, (200, 100)).tolist() == [True, False, False, False]


def test_one_box_for_a_face_in_two_tiles_and_the_whole_frame() -> None:
    """The tiles overlap from 80 to 120; the whole frame shows the face badly."""
    tiles = Tiles((Tile(0, 0, 120, 100), Tile(80, 0, 200, 100)), large_face=40)
    whole = faces(((88, 40, 108, 66), 0.3))
    left, right = faces(((90, 40, 110, 60), 0.9)), faces(((10, 40, 30, 61), 0.8))
    found = merge_tiles(whole, tiles, [left, right], (200, 100))
    np.testing.assert_allclose(found.boxes_xyxy, [(90, 40, 110, 60)])
    np.testing.assert_allclose(found.scores, [(0, 0.9, 0)])


def test_a_cut_face_gives_way_to_the_whole_one_and_never_counts_alone() -> None:
    tiles = Tiles((Tile(0, 0, 120, 100), Tile(80, 0, 200, 100)), large_face=40)
    cut, complete = faces(((100, 40, 120, 70), 0.9)), faces(((22, 40, 47, 70), 0.6))
    found = merge_tiles(faces(), tiles, [cut, complete], (200, 100))
    np.testing.assert_allclose(found.boxes_xyxy, [(102, 40, 127, 70)])
    assert found.confident.tolist() == [True]
    alone = merge_tiles(faces(), tiles, [cut, faces()], (200, 100))
    np.testing.assert_allclose(alone.boxes_xyxy, [(100, 40, 120, 70)])
    assert alone.confident.tolist() == [False]


def test_a_large_face_is_that_of_the_whole_frame() -> None:
    """A tile shows only its mouth, and is more certain of it."""
    tiles = Tiles((Tile(0, 0, 120, 100), Tile(80, 0, 200, 100)), large_face=40)
    whole, mouth = faces(((60, 10, 130, 90), 0.6)), faces(((60, 40, 100, 80), 0.9))
    found = merge_tiles(whole, tiles, [mouth, faces()], (200, 100))
    np.testing.assert_allclose(found.boxes_xyxy, [(60, 10, 130, 90)])


def test_neighbours_stay_two_faces_best_first() -> None:
    tiles = Tiles((Tile(0, 0, 120, 100),), large_face=40)
    found = merge_tiles(faces(((10, 10, 30, 30), 0.6)), tiles, [faces(((25, 10, 45, 30), 0.9))], (200, 100))
    np.testing.assert_allclose(found.scores[:, 1], [0.9, 0.6])


def small_portraits(*centres: tuple[int, int], height: int = 44) -> np.ndarray:
    """A grey frame of 1920×1080 with astronauts whose faces are `height` pixels high."""
    portrait = read_image(EXAMPLES / "astronaut.jpg")[:260, 90:350]  # a face of 110 pixels
    side = round(260 * height / 110)
    small = cv2.resize(portrait, (side, side), interpolation=cv2.INTER_AREA)
    frame = np.full((1080, 1920, 3), 120, np.uint8)
    for x, y in centres:
        frame[y - side // 2 : y - side // 2 + side, x - side // 2 : x - side // 2 + side] = small
    return frame


def test_tiles_find_small_faces_once_also_on_their_borders() -> None:
    """Six tiles overlap around x = 640 and 1280, and around y = 540."""
    centres = [(300, 250), (640, 540), (1280, 300)]
    frame, finder = small_portraits(*centres), FaceFinder("maskwatch-320", threads=1)
    assert not finder([frame])[0].confident.any()
    tiles = TilePlan(finder.detector.input_size, across=3).tiles(FULL_HD)
    assert len(tiles.tiles) == 6
    found = finder([frame], [tiles])[0]
    boxes = found.boxes_xyxy[found.confident]
    middles = sorted(((boxes[:, :2] + boxes[:, 2:]) / 2).tolist())
    assert len(middles) == 3
    for (x, y), centre in zip(middles, centres, strict=True):
        assert math.dist((x, y), centre) < 30


def test_a_batch_of_frames_with_and_without_tiles(tiny_model: Path) -> None:
    """A cell has 16 pixels at the network's size; in the frame of 128×64 it has 8, a quarter of one."""
    finder = FaceFinder(tiny_model, threads=1)
    frame = np.full((64, 128, 3), 90, np.uint8)
    frame[16:32, 80:96] = (255, 0, 0)
    plain, tiled = finder([frame, frame], [Tiles(), Tiles((Tile(64, 0, 128, 64),), 50)])
    np.testing.assert_allclose(plain.boxes_xyxy, finder([frame])[0].boxes_xyxy)
    np.testing.assert_allclose(tiled.boxes_xyxy[0], (80, 16, 96, 32))
    assert tiled.scores[0, 1] == pytest.approx(1)
    assert plain.scores[0, 1] < 0.5
