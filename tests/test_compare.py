"""What the comparison of an export lets pass, and what not."""

from __future__ import annotations

import numpy as np
import pytest

from maskwatch.export.compare import Boxes, NmsOptions, is_valid_nms, match

SIZE = (100, 100)
OPTIONS = NmsOptions(np.array([0.5, 0.3], np.float32), class_agnostic=False)

Row = tuple[tuple[float, float, float, float], float, int]

# The second overlaps the first by 0.667, the third by 0.6 (on the edge) and the fourth by 0.43.
FIRST: Row = ((0, 0, 10, 10), 0.9, 0)
NEAR: Row = ((2, 0, 12, 10), 0.8, 0)
EDGE: Row = ((2.5, 0, 12.5, 10), 0.7, 0)
FAR: Row = ((4, 0, 14, 10), 0.6, 0)
OTHER: Row = ((2, 0, 12, 10), 0.8, 1)


def boxes(*rows: Row) -> Boxes:
    return Boxes(
        np.array([row[0] for row in rows], np.float32).reshape(-1, 4),
        np.array([row[1] for row in rows], np.float32),
        np.array([row[2] for row in rows], np.int64),
    )


def moved(row: Row, pixels: float = 0.0, score: float = 0.0, class_id: int | None = None) -> Row:
    x0, y0, x1, y1 = row[0]
    return (x0, y0, x1 + pixels, y1), row[1] + score, row[2] if class_id is None else class_id


def test_order_does_not_matter_and_differences_are_the_largest() -> None:
    pairs = match(boxes(FIRST, NEAR, OTHER), boxes(moved(OTHER, 0.05), moved(NEAR, score=5e-4), FIRST))
    assert (pairs.pairs, len(pairs.missing), len(pairs.added)) == (3, 0, 0)
    assert pairs.box_difference == pytest.approx(0.05, abs=1e-5)
    assert pairs.score_difference == pytest.approx(5e-4, abs=1e-6)


def test_each_has_one_partner_only() -> None:
    pairs = match(boxes(FIRST, NEAR), boxes(FIRST, FIRST))
    assert pairs.pairs == 1
    assert pairs.missing.tolist() == [1]
    assert len(pairs.added) == 1


@pytest.mark.parametrize(
    "actual",
    [moved(FIRST, 0.2), moved(FIRST, score=-0.002), moved(FIRST, class_id=1)],
    ids=["box", "score", "class"],
)
def test_what_is_off_has_no_partner(actual: Row) -> None:
    pairs = match(boxes(FIRST), boxes(actual))
    assert (pairs.pairs, pairs.missing.tolist(), pairs.added.tolist()) == (0, [0], [0])


def test_small_scores_must_agree_in_proportion() -> None:
    one, other = (FIRST[0], 1e-5, 0), (FIRST[0], 2e-5, 0)
    assert match(boxes(one), boxes(other)).pairs == 0


def test_nothing_agrees_with_nothing() -> None:
    pairs = match(boxes(), boxes())
    assert (pairs.pairs, len(pairs.missing), len(pairs.added)) == (0, 0, 0)


RIGHT = {
    "greedy": ([FIRST, FAR, OTHER], [FIRST, NEAR, FAR, OTHER]),
    "overlap on the edge, kept": ([FIRST, EDGE], [FIRST, EDGE]),
    "overlap on the edge, left out": ([FIRST], [FIRST, EDGE]),
    "equal scores, the one": ([FIRST], [FIRST, (NEAR[0], 0.9001, 0)]),
    "equal scores, the other": ([(NEAR[0], 0.9001, 0)], [FIRST, (NEAR[0], 0.9001, 0)]),
    "at the threshold, kept": ([(FAR[0], 0.4999, 0)], [(FAR[0], 0.4999, 0)]),
    "at the threshold, left out": ([], [(FAR[0], 0.5001, 0)]),
    "nothing": ([], [(FAR[0], 0.4, 0)]),
}

WRONG = {
    "best left out": ([NEAR, OTHER], [FIRST, NEAR, OTHER]),
    "one left out": ([FIRST], [FIRST, FAR]),
    "all left out": ([], [FIRST, FAR]),
    "no NMS": ([FIRST, NEAR], [FIRST, NEAR]),
    "twice": ([FIRST, FIRST], [FIRST, NEAR]),
    "no candidate": ([FIRST, FAR], [FIRST, NEAR]),
    "box moved": ([moved(FIRST, 0.5)], [FIRST]),
    "score off": ([moved(FIRST, score=0.01)], [FIRST]),
    "class changed": ([moved(FIRST, class_id=1)], [FIRST]),
    "below the threshold": ([(FAR[0], 0.45, 0)], [(FAR[0], 0.45, 0)]),
    "other class beaten": ([FIRST], [FIRST, OTHER]),
}


@pytest.mark.parametrize(("found", "candidates"), RIGHT.values(), ids=RIGHT)
def test_right_answers(found: list[Row], candidates: list[Row]) -> None:
    assert is_valid_nms(boxes(*found), boxes(*candidates), OPTIONS, SIZE)


@pytest.mark.parametrize(("found", "candidates"), WRONG.values(), ids=WRONG)
def test_wrong_answers(found: list[Row], candidates: list[Row]) -> None:
    assert not is_valid_nms(boxes(*found), boxes(*candidates), OPTIONS, SIZE)


def test_all_classes_compete_where_they_should() -> None:
    agnostic = NmsOptions(OPTIONS.thresholds, class_agnostic=True)
    assert is_valid_nms(boxes(FIRST), boxes(FIRST, OTHER), agnostic, SIZE)
    assert not is_valid_nms(boxes(FIRST, OTHER), boxes(FIRST, OTHER), agnostic, SIZE)


def test_only_the_weakest_may_be_left_out_of_more_than_a_hundred() -> None:
    rows = [((i * 0.5, 0, i * 0.5 + 0.4, 1), 0.99 - i / 1000, 0) for i in range(110)]
    assert is_valid_nms(boxes(*rows[:100]), boxes(*rows), OPTIONS, SIZE)
    assert not is_valid_nms(boxes(*rows[1:101]), boxes(*rows), OPTIONS, SIZE)
    assert not is_valid_nms(boxes(*rows[:99]), boxes(*rows), OPTIONS, SIZE)


def test_boxes_are_compared_clipped_and_compete_unclipped() -> None:
    candidates = boxes(((-100, 0, 100, 10), 0.9, 0), ((0, 0, 200, 10), 0.8, 0))
    shown = ((0, 0, 100, 10), 0.9, 0), ((0, 0, 100, 10), 0.8, 0)
    assert is_valid_nms(boxes(*shown), candidates, OPTIONS, SIZE)
    assert not is_valid_nms(boxes(shown[0]), candidates, OPTIONS, SIZE)


def test_boxes_are_compared_as_they_are_placed_and_compete_as_they_were() -> None:
    """Voting has moved both towards each other; as placed, NMS would keep but one of them."""
    raw = boxes(FIRST, FAR)
    placed = np.array([[1, 0, 11, 10], [2, 0, 12, 10]], np.float32)
    candidates = Boxes(raw.boxes_xyxy, raw.scores, raw.class_ids, placed)
    as_detections = Boxes(placed, raw.scores, raw.class_ids)
    assert is_valid_nms(as_detections, candidates, OPTIONS, SIZE)
    assert not is_valid_nms(raw, candidates, OPTIONS, SIZE)


def test_of_equal_scores_beyond_the_candidates_any_may_be_found() -> None:
    apart = [((x, y, x + 1, y + 1), 0.7, 0) for y in range(20, 100, 2) for x in range(0, 100, 2)]
    apart += [((x, y, x + 1, y + 1), 0.7, 0) for y in range(21, 41, 2) for x in range(1, 100, 2)]
    assert is_valid_nms(boxes(*apart[-100:]), boxes(*apart), OPTIONS, SIZE)
    assert not is_valid_nms(boxes(*apart[-100:-1]), boxes(FIRST, *apart), OPTIONS, SIZE)
    assert not is_valid_nms(boxes(*apart[:50], *apart[:50]), boxes(*apart), OPTIONS, SIZE)


def test_clipped_boxes_may_hide_where_they_come_from() -> None:
    """Shown alike, one reaches out to the left and one to the right; their IoU is a third."""
    left, right = ((-100, 0, 100, 10), 0.9, 0), ((0, 0, 200, 10), 0.9, 0)
    shown = ((0, 0, 100, 10), 0.9, 0)
    assert is_valid_nms(boxes(shown, shown), boxes(left, right), OPTIONS, SIZE)
    assert not is_valid_nms(boxes(shown, shown), boxes(left, left), OPTIONS, SIZE)
    assert not is_valid_nms(boxes(shown, shown), boxes(left), OPTIONS, SIZE)
