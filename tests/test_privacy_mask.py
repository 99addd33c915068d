"""Which boxes cover a frame: those found in it, and those of the frames around it."""

from __future__ import annotations

import numpy as np
import pytest

from maskwatch.drawing.privacy_mask import MAX_WAITING, PrivacyMask

FACE = np.array([100, 100, 140, 150], np.float64)
RIGHT = np.array([1, 0, 1, 0], np.float64)


def run(
    finds: list[list[np.ndarray]],
    fps: float = 10,
    tracks: list[list[int]] | None = None,
    **options: float,
) -> list[np.ndarray]:
    """The boxes of every frame, given those found in each."""
    cover: PrivacyMask[int] = PrivacyMask(**options)  # type: ignore[arg-type]
    out = []
    for index, boxes in enumerate(finds):
        ids = None if tracks is None else tracks[index]
        out += cover.add(index, index / fps, np.array(boxes).reshape(-1, 4), ids)
    out += cover.finish()
    assert [index for index, _ in out] == list(range(len(finds)))
    return [boxes for _, boxes in out]


def covers(boxes: np.ndarray, face: np.ndarray) -> bool:
    return any((box[:2] <= face[:2] + 1e-6).all() and (box[2:] >= face[2:] - 1e-6).all() for box in boxes)


def test_a_face_that_is_found_is_covered_as_it_was_found() -> None:
    for boxes in run([[FACE + 5 * i * RIGHT] for i in range(8)]):
        assert len(boxes) == 1
    np.testing.assert_array_equal(run([[FACE]] * 3)[1], [FACE])


@pytest.mark.parametrize("with_tracks", [False, True])
def test_a_gap_is_filled_on_the_way(with_tracks: bool) -> None:
    """Four frames missed by a face that goes 8 pixels a frame."""
    finds = [[] if 4 <= i <= 7 else [FACE + 8 * i * RIGHT] for i in range(12)]
    tracks = [[7] * len(boxes) for boxes in finds] if with_tracks else None
    covered = run(finds, tracks=tracks)
    for i in range(12):
        assert len(covered[i]) == 1
        assert covers(covered[i], FACE + 8 * i * RIGHT)
    # A tenth of a second from a find, a tenth of a side more on each side.
    np.testing.assert_allclose(covered[4], [FACE + 32 * RIGHT + np.array([-4, -5, 4, 5])])
    np.testing.assert_allclose(covered[5], [FACE + 40 * RIGHT + np.array([-8, -10, 8, 10])])


@pytest.mark.parametrize("speed", [0, 5, 20])
def test_before_the_first_find_and_after_the_last(speed: float) -> None:
    finds = [[FACE + speed * i * RIGHT] if 6 <= i <= 9 else [] for i in range(17)]
    covered = run(finds)
    for i in range(1, 15):
        assert covers(covered[i], FACE + speed * i * RIGHT), i
    assert [len(covered[i]) for i in (0, 15, 16)] == [0, 0, 0]  # more than half a second away


def test_the_margin_grows_and_ends() -> None:
    covered = run([[], [], [FACE], [], [], [], [], [], []])
    np.testing.assert_allclose(covered[1], [FACE + np.array([-8, -10, 8, 10])])
    np.testing.assert_allclose(covered[3], [FACE + np.array([-8, -10, 8, 10])])
    np.testing.assert_allclose(covered[7], [FACE + np.array([-40, -50, 40, 50])])
    assert len(covered[8]) == 0
    two = run([[], [], [FACE], [FACE], [], []])
    np.testing.assert_allclose(two[1], [FACE + np.array([-4, -5, 4, 5])])


def test_unsure_finds_reach_no_other_frame_before_there_are_three() -> None:
    cover: PrivacyMask[int] = PrivacyMask()

    def counts(finds: str) -> str:
        """The number of boxes in each frame; x is a sure find, ? an unsure one."""
        out = []
        for index, kind in enumerate(finds):
            boxes = [] if kind == "." else [FACE]
            out += cover.add(
                index, index / 10, np.array(boxes).reshape(-1, 4), confident=[kind == "x"] * len(boxes)
            )
        return "".join(str(len(boxes)) for _, boxes in out + cover.finish())

    assert counts("....?.........") == "00001000000000"
    assert counts("....x.........") == "11111111110000"
    assert counts("....?.?.......") == "00001110000000"  # but the way between two is covered
    assert counts("....?.?.?.....") == "00111111111111"  # two frames had gone by then
    assert counts("....?.x.......") == "11111111111100"


def test_a_slow_source_reaches_two_frames() -> None:
    covered = run([[], [], [], [FACE], [], [], []], fps=1)
    assert [len(boxes) for boxes in covered] == [0, 1, 1, 1, 1, 1, 0]


def test_a_gap_longer_than_the_reach_is_covered_from_both_ends() -> None:
    finds = [[FACE] if i in (0, 1, 9, 10) else [] for i in range(11)]
    covered = run(finds)
    for i in range(11):
        assert covers(covered[i], FACE), i


def test_neighbours_are_told_apart() -> None:
    """Two faces side by side that both miss a frame, in changing order."""
    other = FACE + np.array([60, 0, 60, 0])
    finds = [[FACE, other], [other, FACE], [], [FACE, other], [other, FACE]]
    covered = run(finds)
    assert [len(boxes) for boxes in covered] == [2] * 5
    assert covers(covered[2], FACE)
    assert covers(covered[2], other)
    assert (covered[2][:, 2] - covered[2][:, 0]).max() < 60


def test_a_face_gets_its_number_later() -> None:
    tracks = [[-1], [-1], [3], [], [3]]
    covered = run([[FACE], [FACE], [FACE], [], [FACE]], tracks=tracks)
    assert [len(boxes) for boxes in covered] == [1] * 5


def test_a_number_given_twice_loses_no_face() -> None:
    other = FACE + np.array([300, 0, 300, 0])
    for boxes in run([[FACE, other]] * 3, tracks=[[5, 5]] * 3):
        assert covers(boxes, FACE)
        assert covers(boxes, other)


def test_a_number_that_jumps_is_covered_at_both_places() -> None:
    """A tracker that hands a number to somebody else: both finds stay covered."""
    other = FACE + np.array([300, 0, 300, 0])
    covered = run([[FACE], [FACE], [other], [other]], tracks=[[1]] * 4)
    assert covers(covered[1], FACE)
    assert covers(covered[2], other)


def test_frames_wait_half_a_second_and_never_too_many() -> None:
    cover: PrivacyMask[int] = PrivacyMask()
    waiting = [0]
    for index in range(100):
        cover.add(index, index / 10, [FACE])
        waiting.append(len(cover))
    assert max(waiting) == 6
    cover.finish()
    fast = []
    for index in range(200):
        cover.add(index, index / 240, [FACE])
        fast.append(len(cover))
    assert max(fast) == MAX_WAITING


def test_what_is_remembered_does_not_grow() -> None:
    cover: PrivacyMask[int] = PrivacyMask()
    random = np.random.default_rng(0)
    for index in range(300):
        corner = random.uniform(0, 1000, (3, 2))
        cover.add(index, index / 10, np.concatenate([corner, corner + 30], axis=1))
    assert sum(len(track.detections) for track in cover._tracks) < 3 * 2 * 12 * 2


def test_without_a_delay_frames_come_at_once_and_know_the_past() -> None:
    cover: PrivacyMask[int] = PrivacyMask(max_waiting=0)
    counts = []
    for index, boxes in enumerate([[], [FACE], [], [], [], [], [], [], []]):
        ((number, covered),) = cover.add(index, index / 10, np.array(boxes).reshape(-1, 4))
        assert number == index
        counts.append(len(covered))
    assert counts == [0, 1, 1, 1, 1, 1, 1, 0, 0]
    assert cover.finish() == []
