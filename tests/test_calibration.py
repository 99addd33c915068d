"""Calibrated scores: the map, its fit, and what it does to a detector."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskwatch.data import DetectionSet, Sample
from maskwatch.evaluation.calibration import MIN_EACH, fit_calibration, fit_scores
from maskwatch.evaluation.candidates import FLOOR, Candidates
from maskwatch.evaluation.curves import calibration_curve
from maskwatch.models import UNCALIBRATED, Calibration


def calibrated(scores: np.ndarray, slope: float, offset: float) -> np.ndarray:
    import torch

    from maskwatch.network.postprocess import calibrate

    class_ids = torch.ones(len(scores), dtype=torch.int64)
    return calibrate(torch.from_numpy(scores), class_ids, (UNCALIBRATED, (slope, offset))).numpy()


def draw(count: int, slope: float, offset: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Scores above `FLOOR`, and hits that come at the rate of these calibrated scores."""
    scores = rng.uniform(FLOOR + 0.01, 0.99, count)
    shares = 1 / (1 + np.exp(-(slope * np.log(scores / (1 - scores)) + offset)))
    return scores, rng.random(count) < shares


# ---- The map ---------------------------------------------------------------------------------------------


def test_the_map_is_a_line_on_the_logit() -> None:
    scores = np.array([0.2, 0.5, 0.8, 0.9])
    logits = 2 * np.log(scores / (1 - scores)) - 0.7
    np.testing.assert_allclose(calibrated(scores, 2, -0.7), 1 / (1 + np.exp(-logits)), rtol=1e-12)
    assert calibrated(np.array([0.75]), 2, math.log(1 / 3)).item() == pytest.approx(3 / 4)  # odds 3² / 3


@given(st.floats(0.05, 20), st.floats(-10, 10), st.lists(st.floats(0, 1, width=32), min_size=2))
def test_it_never_falls_and_stays_between_0_and_1(slope: float, offset: float, scores: list[float]) -> None:
    values = calibrated(np.array([0, *sorted(scores), 1], np.float32), slope, offset)
    assert (values[0], values[-1]) == (0, 1)
    assert (np.diff(values) >= -1e-6).all()


@given(st.lists(st.floats(0, 1, width=32), min_size=1))
def test_slope_1_and_offset_0_keep_every_bit(scores: list[float]) -> None:
    array = np.array(scores, np.float32)
    assert calibrated(array, *UNCALIBRATED).tobytes() == array.tobytes()


# ---- The fit ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("slope", "offset"), [(2.5, 0.5), (1.0, 0.0), (0.4, -1.5), (6.0, 3.0)])
def test_the_fit_finds_what_the_hits_were_drawn_with(slope: float, offset: float) -> None:
    scores, hits = draw(100_000, slope, offset, np.random.default_rng(0))
    assert fit_scores(scores, hits) == (
        pytest.approx(slope, rel=0.03),
        pytest.approx(offset, abs=0.06),
    )


def test_no_other_values_are_likelier() -> None:
    scores, hits = draw(300, 2.5, 0.5, np.random.default_rng(1))

    def likelihood(slope: float, offset: float) -> float:
        shares = calibrated(scores, slope, offset)
        return float(np.log(np.where(hits, shares, 1 - shares)).sum())

    slope, offset = fit_scores(scores, hits)
    for other in (
        (slope + 0.05, offset),
        (slope - 0.05, offset),
        (slope, offset + 0.05),
        (slope, offset - 0.05),
    ):
        assert likelihood(*other) < likelihood(slope, offset)


def test_what_tells_nothing_leaves_the_scores_as_they_are() -> None:
    rng = np.random.default_rng(2)
    scores, hits = draw(1000, 2.5, 0.5, rng)
    few = np.concatenate([np.flatnonzero(hits)[: MIN_EACH - 1], np.flatnonzero(~hits)])
    assert fit_scores(scores[few], hits[few]) == UNCALIBRATED, "too few hits"
    assert fit_scores(scores[hits], hits[hits]) == UNCALIBRATED, "hits only"
    assert fit_scores(np.empty(0), np.empty(0, bool)) == UNCALIBRATED
    assert fit_scores(scores, scores < 0.5) == UNCALIBRATED, "the lower the score, the more hits"


def test_scores_that_part_the_hits_perfectly_have_a_fit() -> None:
    scores = np.linspace(0.1, 0.9, 100)
    slope, offset = fit_scores(scores, scores > 0.6)
    assert 1 < slope < 1000
    assert calibrated(np.array([0.55, 0.65]), slope, offset) == pytest.approx([0, 1], abs=0.05)
    assert np.isfinite([slope, offset]).all()


# ---- On a data set ---------------------------------------------------------------------------------------


def crowd(pictures: int, truths: Calibration, seed: int) -> tuple[DetectionSet, list[Candidates]]:
    """Two classes; boxes that are hits as often as calibrated scores say, one in nine in an ignore region."""
    rng = np.random.default_rng(seed)
    samples, found = [], []
    for number in range(pictures):
        places = np.array([(x * 20, y * 20) for x in range(6) for y in range(6)], np.float32)
        boxes = np.concatenate([places, places + 10], 1)
        class_ids = rng.integers(0, 2, len(boxes))
        scores, hits = np.empty(len(boxes)), np.empty(len(boxes), bool)
        for class_id, values in enumerate(truths):
            mine = class_ids == class_id
            scores[mine], hits[mine] = draw(int(mine.sum()), *values, rng)
        ignore = np.arange(len(boxes)) % 9 == 0
        scores[ignore] = 0.98  # if they counted, high scores would look wrong
        labelled = hits | ignore
        order = np.argsort(-scores)
        single = scores[order].astype(np.float32)
        found.append(Candidates(boxes[order], boxes[order], single, single, class_ids[order]))
        samples.append(
            Sample(
                Path(f"{number}.png"),
                None,
                (120, 120),
                boxes[labelled],
                class_ids[labelled],
                ignore[labelled],
            )
        )
    return DetectionSet(("mask", "no_mask"), tuple(samples)), found


def expected_error(data: DetectionSet, found: list[Candidates]) -> float:
    """Ten bins of score, one by one: |share of hits − mean score| by number. All boxes are apart."""
    rows = []
    for sample, one in zip(data.samples, found, strict=True):
        labels = {tuple(box): flag for box, flag in zip(sample.boxes_xyxy, sample.ignore, strict=True)}
        for box, score in zip(one.output_xyxy, one.scores, strict=True):
            if score > FLOOR and not labels.get(tuple(box), False):
                rows.append((float(score), tuple(box) in labels))
    total = 0.0
    for low in range(10):
        inside = [(score, hit) for score, hit in rows if low / 10 <= score < (low + 1) / 10]
        if inside:
            mean_score, share = np.mean(inside, axis=0)
            total += len(inside) * abs(mean_score - share)
    return total / len(rows)


TRUTHS = ((2.5, 0.5), (0.6, -1.0))


def test_each_class_gets_its_own_without_ignore_regions() -> None:
    data, found = crowd(400, TRUTHS, 0)
    fit = fit_calibration(data, found)
    for got, true in zip(fit.calibration, TRUTHS, strict=True):
        assert got == (pytest.approx(true[0], abs=0.15), pytest.approx(true[1], abs=0.1))
    assert fit.pictures == 400
    assert fit.error_before == pytest.approx(expected_error(data, found), abs=1e-6)
    after = [one.calibrated(fit.calibration) for one in found]
    assert fit.error_after == pytest.approx(expected_error(data, after), abs=1e-6)
    assert "before" in fit.summary(data.class_names)
    assert "mask 2." in fit.summary(data.class_names)


def test_it_holds_on_pictures_it_was_not_fitted_on() -> None:
    fit = fit_calibration(*crowd(200, TRUTHS, 1))
    data, found = crowd(200, TRUTHS, 2)
    before = expected_error(data, found)
    after = expected_error(data, [one.calibrated(fit.calibration) for one in found])
    assert before > 0.07
    assert after < 0.02


def test_an_older_calibration_is_replaced_not_added_to() -> None:
    data, found = crowd(50, TRUTHS, 3)
    again = fit_calibration(data, [one.calibrated(((3.0, 1.0), (2.0, -1.0))) for one in found])
    assert again.calibration == fit_calibration(data, found).calibration


def test_calibration_changes_no_box_and_no_order_within_a_class() -> None:
    rng = np.random.default_rng(4)
    corners = rng.uniform(0, 30, (60, 2)).astype(np.float32)
    boxes = np.concatenate([corners, corners + 12], 1)
    scores = np.sort(rng.uniform(0.06, 0.95, 60).astype(np.float32))[::-1].copy()
    one = Candidates(boxes, boxes, scores, scores, rng.integers(0, 2, 60))
    other = one.calibrated(((1.0, 2.0), (1.0, -0.5)))
    floors = np.zeros(2, np.float32)
    before, after = one.shown(floors), other.shown(floors)
    assert before != after
    assert sorted(before) == sorted(after)
    for class_id in (0, 1):
        rows = [[n for n in shown if one.class_ids[n] == class_id] for shown in (before, after)]
        assert rows[0] == rows[1]
    assert (np.diff(other.scores[after]) <= 0).all()


def test_the_curve_is_literal() -> None:
    curve = calibration_curve(np.array([0.04, 0.15, 0.18, 0.95, 1.0]), np.array([1, 0, 1, 1, 0], bool))
    assert curve.number.tolist() == [0, 2, 0, 0, 0, 0, 0, 0, 0, 2]
    assert curve.error == pytest.approx((2 * abs(0.165 - 0.5) + 2 * abs(0.975 - 0.5)) / 4)
