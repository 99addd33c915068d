"""Intervals against draws of the data set that are measured from scratch."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import supervision as sv

from maskwatch.data import DetectionSet, Sample
from maskwatch.evaluation import Interval, bootstrap_intervals, coco_evaluate
from maskwatch.evaluation.coco import weighted_scores
from maskwatch.evaluation.intervals import Bootstrap
from maskwatch.evaluation.matching import match_set

NAMES = ("mask", "no_mask", "mask_incorrect")


def noisy_set(pictures: int = 12) -> tuple[DetectionSet, list[sv.Detections]]:
    """One to three boxes a picture of the first two classes, found a little beside where they are."""
    rng = np.random.default_rng(3)
    samples, predictions = [], []
    for number in range(pictures):
        count = int(rng.integers(1, 4))
        corners = rng.uniform(0, 100, (count, 2)) + np.arange(count)[:, None] * 200
        boxes = np.concatenate([corners, corners + rng.uniform(20, 80, (count, 1))], 1).astype(np.float32)
        ids = rng.integers(0, 2, count)
        samples.append(Sample(Path(f"{number}.jpg"), None, (900, 900), boxes, ids, np.zeros(count, bool)))
        predictions.append(
            sv.Detections(
                xyxy=(boxes + rng.normal(0, 4, boxes.shape)).astype(np.float32),
                class_id=np.where(rng.random(count) < 0.8, ids, 1 - ids),
                confidence=rng.random(count).astype(np.float32),
            )
        )
    return DetectionSet(NAMES, tuple(samples)), predictions


def test_one_draw_is_the_score_of_that_data_set() -> None:
    truth, predictions = noisy_set()
    for seed in range(5):
        drawn = np.random.default_rng(seed).integers(len(truth), size=len(truth))
        expected = coco_evaluate(
            dataclasses.replace(truth, samples=tuple(truth.samples[i] for i in drawn)),
            [predictions[i] for i in drawn],
        )
        intervals = bootstrap_intervals(truth, predictions, draws=1, seed=seed)
        for name in ("AP", "AP50", "AP75", "AR100"):
            assert intervals[name].low == intervals[name].high
            assert intervals[name].low == pytest.approx(expected.stats[name], abs=1e-12)
        for score in expected.per_class[:2]:
            assert score.ap50 is not None
            assert intervals[f"AP50 {score.name}"].low == pytest.approx(score.ap50, abs=1e-12)


def test_intervals_hold_the_score_and_repeat() -> None:
    truth, predictions = noisy_set()
    stats = coco_evaluate(truth, predictions).stats
    intervals = bootstrap_intervals(truth, predictions, draws=60)
    for name in ("AP", "AP50", "AP75", "AR100"):
        assert intervals[name].low < stats[name] < intervals[name].high
    again = bootstrap_intervals(truth, predictions, draws=60)
    assert {k: dataclasses.astuple(v) for k, v in again.items() if not math.isnan(v.low)} == {
        k: dataclasses.astuple(v) for k, v in intervals.items() if not math.isnan(v.low)
    }


def test_a_class_without_a_box_has_no_interval() -> None:
    interval = bootstrap_intervals(*noisy_set(), draws=2)["AP50 mask_incorrect"]
    assert isinstance(interval, Interval)
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)


def test_no_draw_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        bootstrap_intervals(*noisy_set(), draws=0)


def test_no_draw_gives_the_scores_of_the_set_as_it_is() -> None:
    truth, predictions = noisy_set()
    expected = coco_evaluate(truth, predictions)
    scores = Bootstrap.of(match_set(truth, predictions), 0).whole
    for name in ("AP", "AP50", "AP75", "AR100"):
        assert scores[name] == pytest.approx(expected.stats[name], abs=1e-12)
    assert math.isnan(scores["AP50 mask_incorrect"])


def test_a_weight_of_a_picture_is_its_presence() -> None:
    truth, predictions = noisy_set()
    kept = [0, 3, 4, 9]
    weights = np.isin(np.arange(len(truth)), kept).astype(np.int64)
    expected = coco_evaluate(truth.subset(kept), [predictions[i] for i in kept])
    matches = match_set(truth, predictions)
    assert weighted_scores(matches, weights)["AP"] == pytest.approx(expected.stats["AP"], abs=1e-12)
    nothing = weighted_scores(matches, np.zeros(len(truth), np.int64))
    assert all(math.isnan(score) for score in nothing.values())
