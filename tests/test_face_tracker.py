"""Tracks of faces: numbers stay through drop-outs, weak frames and uneven times."""

from __future__ import annotations

from importlib.metadata import version

import numpy as np
import pytest

from live_scenes import BARE, EMPTY, MASK, draw_person, face, faces
from maskwatch.live.tracking.appearance import colours, unlikeness
from maskwatch.live.tracking.face_tracker import (
    NO_TRACK,
    TESTED_TRACKERS,
    FaceTracker,
    TrackSettings,
    center_distance,
)

SETTINGS = TrackSettings(lost_s=2.0, widen=0.3, min_iou=0.1, min_frames=2, reach=1.0, frame_rate=10.0)
WEAK = (0.1, 0.3, 0.0)


def test_a_face_has_a_number_from_its_second_frame_on() -> None:
    tracks = FaceTracker(SETTINGS)
    assert tracks.update(0.0, faces((face(100), BARE))).tolist() == [NO_TRACK]
    assert tracks.update(0.1, faces((face(101), BARE))).tolist() == [1]


def test_weak_faces_continue_a_track_and_never_begin_one() -> None:
    tracks = FaceTracker(SETTINGS)
    for number in range(20):
        assert tracks.update(number / 10, faces((face(300), WEAK))).tolist() == [NO_TRACK]
    for number in range(20, 25):
        tracks.update(number / 10, faces((face(300), BARE)))
    for number in range(25, 60):
        assert tracks.update(number / 10, faces((face(300), WEAK))).tolist() == [1]


def test_numbers_are_those_of_the_faces_in_their_order() -> None:
    tracks = FaceTracker(SETTINGS)
    left, right = (face(100), BARE), (face(400), MASK)
    tracks.update(0.0, faces(left, right))
    assert tracks.update(0.1, faces(left, right)).tolist() == [1, 2]
    assert tracks.update(0.2, faces(right, left)).tolist() == [2, 1]
    assert tracks.update(0.3, faces(((0, 0, 5, 5), WEAK), right)).tolist() == [NO_TRACK, 2]


def test_a_drop_out_of_a_second_keeps_the_number() -> None:
    tracks = FaceTracker(SETTINGS)
    for number in range(10):
        tracks.update(number / 10, faces((face(100), BARE)))
    for number in range(10, 20):
        tracks.update(number / 10, faces())
    assert tracks.update(2.0, faces((face(110), BARE))).tolist() == [1]


def test_a_longer_absence_begins_a_new_track() -> None:
    tracks = FaceTracker(SETTINGS)
    for number in range(10):
        tracks.update(number / 10, faces((face(100), BARE)))
    tracks.update(3.5, faces((face(100), BARE)))
    assert tracks.update(3.6, faces((face(100), BARE))).tolist() == [2]


def test_irregular_and_repeated_times() -> None:
    tracks = FaceTracker(SETTINGS)
    numbers = [
        tracks.update(time_s, faces((face(100 + 40 * time_s), BARE))).tolist()
        for time_s in (0.0, 0.05, 0.5, 0.5, 0.52, 1.7, 1.75, 3.0)
    ]
    assert numbers == [[NO_TRACK], *[[1]] * 7]


def test_a_walk_with_big_steps() -> None:
    """At three frames a second a face of 50 pixels moves by 45, less than its own width in between."""
    tracks = FaceTracker(SETTINGS)
    numbers = [tracks.update(n / 3, faces((face(60 + 45 * n), BARE))).tolist() for n in range(11)]
    assert numbers[2:] == [[1]] * 9


def test_two_people_who_cross_keep_their_numbers() -> None:
    tracks = FaceTracker(SETTINGS)
    seen: dict[str, set[int]] = {"right": set(), "left": set()}
    for number in range(60):
        x = 50 + 8 * number
        rows = {"right": (face(x, 200), BARE), "left": (face(550 - x, 225), MASK)}
        if 24 <= number <= 32:  # one is before the other
            del rows["left"]
        for name, found in zip(rows, tracks.update(number / 10, faces(*rows.values())), strict=True):
            if found != NO_TRACK:
                seen[name].add(int(found))
    assert seen == {"right": {1}, "left": {2}}


@pytest.mark.parametrize(("appearance", "kept"), [(0.3, True), (0.0, False)])
def test_two_people_who_meet_and_turn_back_keep_their_numbers(appearance: float, kept: bool) -> None:
    """Motion alone takes them for two who walked on; their clothes tell them apart."""
    tracks = FaceTracker(TrackSettings(appearance=appearance))
    seen: dict[str, set[int]] = {"left": set(), "right": set()}
    for number in range(60):
        aside = 8 + 8 * abs(number - 30)
        rows = {"left": (face(300 - aside), BARE), "right": (face(300 + aside), MASK)}
        image = EMPTY + np.uint8(110)
        draw_person(image, rows["right"][0], clothes=(30, 60, 160))
        draw_person(image, rows["left"][0], clothes=(190, 40, 40))
        if 26 <= number <= 34:  # one is before the other
            del rows["right"]
        for name, found in zip(rows, tracks.update(number / 10, faces(*rows.values()), image), strict=True):
            if found != NO_TRACK:
                seen[name].add(int(found))
    assert (seen == {"left": {1}, "right": {2}}) is kept


def test_a_face_alone_keeps_its_number_whatever_it_looks_like() -> None:
    tracks = FaceTracker(TrackSettings())
    numbers = []
    for number in range(20):
        image = EMPTY + np.uint8(110)
        draw_person(image, face(100), clothes=(190, 40, 40) if number < 10 else (30, 60, 160))
        numbers += tracks.update(number / 10, faces((face(100), BARE)), image).tolist()
    assert numbers == [NO_TRACK, *[1] * 19]


def test_colours_do_not_depend_on_the_exposure_and_exist_at_the_edge() -> None:
    def seen(place: tuple[float, ...], clothes: tuple[int, int, int], gain: float = 1.0) -> np.ndarray:
        image = EMPTY + np.uint8(110)
        draw_person(image, place, clothes=clothes)
        return colours((image * gain).astype(np.uint8), np.array(place, np.float32))

    red, dim = (seen(face(100), (190, 40, 40), gain) for gain in (1.0, 0.6))
    blue = seen(face(300), (30, 60, 160))
    assert red.shape == (54,)
    assert unlikeness(red, dim) == 0
    assert unlikeness(red, blue) > 0.5
    assert np.isfinite(seen(face(-5), (190, 40, 40))).all()


def test_a_face_that_returns_nearby_continues_its_track() -> None:
    """The motion model has lost a face that stopped while it was hidden; it is within a face's height."""
    tracks = FaceTracker(SETTINGS)
    for number in range(15):
        tracks.update(number / 10, faces((face(100 + 15 * number), BARE)))
    for number in range(15, 30):
        tracks.update(number / 10, faces())
    tracks.update(3.0, faces((face(350), BARE)))
    assert tracks.update(3.1, faces((face(350), BARE))).tolist() == [1]


def test_a_continued_track_leaves_the_library() -> None:
    """If it fails: see whether `trackers` offers a way now, or its list may still be shortened."""
    assert version("trackers").partition(".")[0] in TESTED_TRACKERS
    tracks = FaceTracker(SETTINGS)
    for number in range(15):
        tracks.update(number / 10, faces((face(100 + 15 * number), BARE)))
    tracks.update(3.0, faces((face(350), BARE)))
    library = tracks._tracker
    assert len([track for track in library.tracks if track.tracker_id >= 0]) == 1
    assert tracks.update(3.1, faces((face(350), BARE))).tolist() == [1]
    assert [track.tracker_id for track in library.tracks] == [max(tracks._numbers)]


def test_clear_forgets_tracks_and_keeps_counting() -> None:
    tracks = FaceTracker(SETTINGS)
    for number in range(3):
        tracks.update(number / 10, faces((face(100), BARE)))
    tracks.clear()
    tracks.update(0.3, faces((face(100), BARE)))
    assert tracks.update(0.4, faces((face(100), BARE))).tolist() == [2]


def test_center_distance_in_face_heights() -> None:
    def box(*place: float) -> np.ndarray:
        return np.array(face(*place), np.float32)

    assert center_distance(box(100, 200, 50), box(100, 225, 50)) == 0.5
    assert center_distance(box(100, 200, 50), box(140, 200, 80)) == 0.5
    assert center_distance(box(100, 200, 50), box(100, 200, 81)) == np.inf


def test_lost_s_is_exact_though_the_library_rounds_it_to_frames() -> None:
    tracks = FaceTracker(TrackSettings(lost_s=0.99, reach=0.0))
    for time_s in (0.0, 0.125):
        tracks.update(time_s, faces((face(100), BARE)))
    assert tracks.update(0.125 + 0.995, faces((face(100), BARE))).tolist() == [2]
