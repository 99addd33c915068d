"""Backoff, limit of frames, pace and the clocks of frames."""

from __future__ import annotations

import threading
import time
from datetime import datetime, timedelta

import numpy as np
import pytest

from maskwatch.errors import OptionError
from maskwatch.live.timing import Backoff, FrameClock, Pacer, RateLimit

PATIENCE_S = 20.0


def test_backoff_doubles_up_to_its_cap() -> None:
    backoff = Backoff(1, 30)
    for longest in (1, 2, 4, 8, 16, 30, 30):
        assert longest / 2 <= backoff.next_wait() <= longest
    backoff.tries = 10_000
    assert backoff.next_wait() <= 30
    backoff.reset()
    assert backoff.next_wait() <= 1
    assert len({Backoff().next_wait() for _ in range(20)}) > 10


def test_rate() -> None:
    rate = RateLimit(5)
    passed = []
    for time_s in np.arange(0, 2, 0.04):
        if not rate.remaining(time_s):
            rate.passed(time_s)
            passed.append(time_s)
    assert passed == pytest.approx(np.arange(0, 2, 0.2))
    assert RateLimit().remaining(5) == 0
    rate.passed(100.0)  # long after it was due
    assert rate.remaining(100.0) == 0
    rate.passed(100.0)
    assert rate.remaining(100.0) == pytest.approx(0.2)
    for fps in (0, -1, float("inf"), float("nan")):
        with pytest.raises(OptionError, match="frames per second"):
            RateLimit(fps)


def test_pace_holds_frames_back_and_knows_jumps() -> None:
    pace, never = Pacer(), threading.Event()
    began = time.monotonic()
    for pts_s in (1000.0, 1000.3, 5000.0, 5000.2):  # the third is a jump: a new schedule
        pace.hold(pts_s, never)
    assert 0.5 <= time.monotonic() - began < 8
    never.set()
    began = time.monotonic()
    pace.hold(5009.0, never)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("slip", [True, False])
def test_pace_after_a_stall(slip: bool) -> None:
    pace, never = Pacer(slip), threading.Event()
    pace.hold(0.0, never)
    time.sleep(1.5)
    began = time.monotonic()
    pace.hold(0.1, never)  # late
    pace.hold(1.1, never)
    assert (time.monotonic() - began >= 1.0) == slip


def test_stamps() -> None:
    stamps = FrameClock(of_file=True)
    (first, began), (later, when) = (stamps.stamp(0.0, place_s) for place_s in (0.8, 61.3))
    assert (first, later) == (0.8, 61.3)
    assert abs(datetime.now().astimezone() - began) < timedelta(seconds=PATIENCE_S)
    assert when - began == timedelta(seconds=60.5)
    stamps = FrameClock(of_file=False)
    now = time.monotonic()
    assert [stamps.stamp(now + later, None)[0] for later in (5, 3, 6)] == pytest.approx([5, 5, 6], abs=0.1)
