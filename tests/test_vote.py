"""The vote: what changes a state, and what does not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskwatch.live.tracking.vote import Vote, VoteSettings

SETTINGS = VoteSettings(memory_s=1.0, hold_s=0.8, margin=0.1)
MASK, BARE = np.array([0.8, 0.1, 0.0], np.float32), np.array([0.1, 0.8, 0.0], np.float32)


def show(vote: Vote, start_s: float, seconds: float, scores: np.ndarray, fps: float = 10) -> float:
    """Adds detections from `start_s` on; gives the time of the next one."""
    count = round(seconds * fps)
    for number in range(count):
        vote.add(start_s + number / fps, scores)
    return start_s + count / fps


def test_undecided_until_the_lead_has_been_held() -> None:
    vote = Vote(3, VoteSettings(hold_s=0.75))
    now = show(vote, 5.0, 0.75, BARE, fps=8)
    assert (vote.state, vote.score) == (None, 0.0)
    assert vote.add(now, BARE)
    assert (vote.state, vote.since_s) == (1, 5.0), "the state began when it was first seen"
    assert vote.score == pytest.approx(8 / 9)


def test_a_hand_before_the_mouth_for_half_a_second_changes_nothing() -> None:
    vote = Vote(3, SETTINGS)
    now = show(vote, 0, 3, BARE)
    now = show(vote, now, 0.5, MASK)
    show(vote, now, 3, BARE)
    assert (vote.state, vote.since_s) == (1, 0.0)


def test_a_flicker_every_other_frame_changes_nothing() -> None:
    vote = Vote(3, SETTINGS)
    now = show(vote, 0, 3, BARE)
    for number in range(100):
        vote.add(now + number / 10, MASK if number % 3 == 0 else BARE)
    assert vote.state == 1


def test_a_mask_that_is_put_on_changes_the_state() -> None:
    vote = Vote(3, SETTINGS)
    now = show(vote, 0, 3, BARE)
    show(vote, now, 3, MASK)
    assert vote.state == 0
    # The new share leads by a tenth when half and a little more is forgotten: 0.7 to 0.9 s after the change.
    assert 3.6 < vote.since_s < 4.0


def test_a_drop_out_is_no_evidence() -> None:
    """One frame after a minute weighs as half a second, not as the minute."""
    vote = Vote(3, SETTINGS)
    show(vote, 0, 3, BARE)
    vote.add(63.0, MASK)
    assert vote.state == 1
    assert vote.shares[0] == pytest.approx((0.1 + 0.7 * (1 - np.exp(-0.5))) / 0.9, abs=1e-5)


def test_confident_detections_outweigh_weak_ones() -> None:
    vote = Vote(3, SETTINGS)
    for number in range(30):
        vote.add(number / 10, BARE if number % 2 else np.array([0.3, 0.0, 0.0], np.float32))
    assert vote.shares[1] > 0.6


def test_between_two_equals_nothing_is_decided() -> None:
    vote = Vote(3, SETTINGS)
    show(vote, 0, 5, np.array([0.5, 0.49, 0], np.float32))
    assert vote.state is None


def test_a_model_of_one_class() -> None:
    vote = Vote(1, SETTINGS)
    show(vote, 0, 2, np.array([0.6], np.float32))
    assert (vote.state, vote.score) == (0, 1.0)


def test_a_frame_a_second() -> None:
    vote = Vote(3, SETTINGS)
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
    vote = Vote(3, SETTINGS)
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
