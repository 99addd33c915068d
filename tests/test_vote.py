"""The vote: what changes a state, and what does not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskwatch.live.tracking.vote import Vote, VoteSettings

SETTINGS = VoteSettings()
MASK, BARE = np.array([0.8, 0.1, 0.0], np.float32), np.array([0.1, 0.8, 0.0], np.float32)
WRONG, EITHER = np.array([0.1, 0.1, 0.8], np.float32), np.array([0.1, 0.45, 0.45], np.float32)


def vote_of(settings: VoteSettings = SETTINGS) -> Vote:
    """Of mask, no_mask and mask_incorrect, of which the last two alert."""
    return Vote(3, [1, 2], settings)


def show(vote: Vote, start_s: float, seconds: float, scores: np.ndarray, fps: float = 10) -> float:
    """Adds detections from `start_s` on; gives the time of the next one."""
    count = round(seconds * fps)
    for number in range(count):
        vote.add(start_s + number / fps, scores)
    return start_s + count / fps


def test_undecided_until_the_hold_is_over() -> None:
    vote = vote_of(VoteSettings(hold_s=0.75))
    now = show(vote, 5.0, 0.75, BARE, fps=8)
    assert (vote.state, vote.score) == (None, 0.0)
    assert vote.add(now, BARE)
    assert (vote.state, vote.since_s) == (1, 5.0), "the state began when it was first seen"
    assert vote.score == pytest.approx(8 / 9)


def test_a_hand_before_the_mouth_for_half_a_second_changes_nothing() -> None:
    vote = vote_of()
    now = show(vote, 0, 3, BARE)
    now = show(vote, now, 0.5, MASK)
    assert vote.contested
    show(vote, now, 3, BARE)
    assert (vote.state, vote.since_s, vote.contested) == (1, 0.0, False)


def test_a_flicker_every_third_frame_changes_nothing() -> None:
    vote = vote_of()
    now = show(vote, 0, 3, BARE)
    for number in range(100):
        vote.add(now + number / 10, MASK if number % 3 == 0 else BARE)
    assert vote.state == 1


def test_a_mask_that_is_put_on_changes_the_state_and_counts_from_then() -> None:
    vote = vote_of()
    now = show(vote, 0, 3, BARE)
    now = show(vote, now, 0.8, MASK)
    assert vote.state == 1
    show(vote, now, 0.2, MASK)
    assert (vote.state, vote.since_s) == (0, 3.0)


@pytest.mark.parametrize(("share", "takes_s"), [(0.95, 0.9), (0.8, 1.2), (0.5, 2.3), (0.4, 3.9)])
def test_sure_scores_decide_sooner(share: float, takes_s: float) -> None:
    vote = vote_of()
    now = show(vote, 0, 3, BARE)
    scores = np.array([share, 0.25, 0.0], np.float32)
    while vote.state == 1 and now < 20:
        vote.add(now, scores)
        now += 0.1
    assert now - 0.1 - 3 == pytest.approx(takes_s, abs=0.15)


def test_between_two_alerting_classes_the_side_is_decided() -> None:
    vote = vote_of()
    now = show(vote, 0, 1, EITHER)
    assert vote.state == 1, "the first of the side, where both are as likely"
    for number in range(50):
        vote.add(now + number / 10, np.array([0.1, *((0.5, 0.4), (0.4, 0.5))[number % 2]], np.float32))
    assert (vote.state, vote.since_s) == (1, 0.0)


def test_the_name_of_the_side_can_change() -> None:
    vote = vote_of()
    now = show(vote, 0, 2, BARE)
    show(vote, now, 1, WRONG)
    assert (vote.state, vote.since_s) == (2, 2.0)
    vote = vote_of()
    show(vote, 0, 1, WRONG)
    assert vote.state == 2


def test_without_sides_classes_compete_one_by_one() -> None:
    vote = Vote(3)
    show(vote, 0, 5, EITHER)
    assert vote.state is None
    show(vote, 5, 1, WRONG)
    assert vote.state == 2


def test_a_drop_out_is_no_evidence() -> None:
    """One frame after a minute weighs as half a second, not as the minute."""
    vote = vote_of()
    show(vote, 0, 3, BARE)
    vote.add(63.0, MASK)
    assert vote.state == 1
    assert vote.shares[0] == pytest.approx((0.1 + 0.7 * (1 - np.exp(-0.5 / 2))) / 0.9, abs=1e-5)


def test_confident_detections_outweigh_weak_ones() -> None:
    vote = vote_of()
    for number in range(30):
        vote.add(number / 10, BARE if number % 2 else np.array([0.15, 0.1, 0.0], np.float32))
    assert vote.state == 1


def test_between_two_equals_nothing_is_decided() -> None:
    vote = vote_of()
    show(vote, 0, 5, np.array([0.5, 0.49, 0], np.float32))
    assert vote.state is None


def test_a_model_of_one_class() -> None:
    vote = Vote(1, [0], SETTINGS)
    show(vote, 0, 2, np.array([0.6], np.float32))
    assert (vote.state, vote.score) == (0, 1.0)


def test_a_frame_a_second() -> None:
    vote = vote_of()
    vote.add(0, BARE)
    vote.add(1, BARE)
    assert vote.state is None
    vote.add(2, BARE)
    assert vote.state == 1


scores = st.lists(st.floats(0, 1, width=32), min_size=3, max_size=3).map(
    lambda row: np.array(row, np.float32)
)
steps = st.lists(st.floats(0.01, 0.6), min_size=1, max_size=20)


@given(noise=st.lists(st.tuples(st.floats(0.001, 0.3), scores), max_size=30), before=steps, after=steps)
def test_no_noise_shorter_than_the_hold_changes_a_state(
    noise: list[tuple[float, np.ndarray]], before: list[float], after: list[float]
) -> None:
    vote = vote_of()
    now = show(vote, 0, 2, BARE)
    for step in before:
        now += step
        vote.add(now, BARE)
    assert vote.state == 1
    began = now
    for step, row in noise:
        if now + step >= began + SETTINGS.hold_s:
            break
        now += step
        vote.add(now, row)
        assert vote.state == 1
    for step in after:
        now += step
        vote.add(now, BARE)
        assert (vote.state, vote.since_s) == (1, 0.0)
