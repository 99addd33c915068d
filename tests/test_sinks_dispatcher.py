"""The dispatcher: in order, again until it works, and what it does with time that runs out."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from drawn_events import wait_until
from maskwatch.errors import EventError
from maskwatch.live.sinks import RetryableError
from maskwatch.live.sinks.dispatcher import Dispatcher, RetryPolicy

FAST = RetryPolicy(0.01, 0.02, poll_s=0.01)


class Numbers:
    """A queue of numbers; `errors` are raised by `first`, one at each call."""

    def __init__(self, count: int) -> None:
        self.waiting = list(range(count))
        self.taken: list[int] = []
        self.rejected: list[tuple[int, str]] = []
        self.errors: list[Exception] = []

    def first(self) -> int | None:
        if self.errors:
            raise self.errors.pop(0)
        return self.waiting[0] if self.waiting else None

    def remove(self, event: int) -> None:
        self.waiting.remove(event)
        self.taken.append(event)

    def reject(self, event: int, reason: str) -> None:
        self.waiting.remove(event)
        self.rejected.append((event, reason))


def start(queue: Numbers, send: Callable[[int], None], policy: RetryPolicy = FAST) -> Dispatcher[int]:
    dispatcher = Dispatcher("test", queue, send, policy)
    dispatcher.start()
    return dispatcher


def close(dispatcher: Dispatcher[int], timeout_s: float = 20) -> None:
    dispatcher.begin_close(timeout_s)
    assert dispatcher.join(20)


def test_retries_keep_the_order_and_a_refused_event_does_not_stop_the_others() -> None:
    queue, attempts = Numbers(4), list[int]()

    def send(number: int) -> None:
        attempts.append(number)
        if number == 1 and attempts.count(1) < 3:
            raise RetryableError("away; check it")
        if number == 2:
            raise EventError("refused; check it")

    close(start(queue, send))
    assert attempts == [0, 1, 1, 1, 2, 3]
    assert queue.taken == [0, 1, 3]
    assert queue.rejected == [(2, "refused; check it")]


def test_a_defect_of_the_queue_is_a_problem_and_no_end() -> None:
    queue = Numbers(2)
    queue.errors = [OSError("disk"), RetryableError("locked; try again")]
    problems: list[str | None] = []
    dispatcher = Dispatcher(
        "test", queue, lambda number: None, FAST, on_step=lambda: problems.append(dispatcher.problem)
    )
    dispatcher.start()
    wait_until(lambda: queue.taken == [0, 1], "both are sent")
    close(dispatcher)
    assert problems[:3] == ["OSError: disk", "locked; try again", None]


def test_it_waits_while_another_program_sends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maskwatch.live.sinks.dispatcher._LOCKED_S", 0.01)
    queue, ours = Numbers(1), threading.Event()
    dispatcher = Dispatcher("test", queue, lambda number: None, FAST, may_send=ours.is_set)
    dispatcher.start()
    time.sleep(0.1)
    assert queue.taken == []
    ours.set()
    wait_until(lambda: queue.taken == [0], "it is sent")
    close(dispatcher)


def test_events_of_other_programs_are_found_without_a_wake() -> None:
    queue = Numbers(0)
    dispatcher = start(queue, lambda number: None)
    time.sleep(0.05)
    queue.waiting.append(7)
    wait_until(lambda: queue.taken == [7], "it is found")
    close(dispatcher)


@pytest.mark.parametrize(("retries", "timeout_s"), [(2, 600.0), (None, 0.2)])
def test_closing_ends_after_some_failures_or_at_the_deadline(retries: int | None, timeout_s: float) -> None:
    queue, ended = Numbers(1), threading.Event()

    def send(number: int) -> None:
        raise RetryableError("away; check it")

    policy = RetryPolicy(0.01, 0.02, closing_retries=retries)
    dispatcher = Dispatcher("test", queue, send, policy, on_end=ended.set)
    dispatcher.start()
    close(dispatcher, timeout_s)
    assert ended.is_set()
    assert (queue.waiting, dispatcher.problem) == ([0], "away; check it")


def test_pauses_double_up_to_the_longest() -> None:
    policy = RetryPolicy(1.0, 5.0)
    for failures, longest in enumerate([1, 2, 4, 5, 5, 5]):
        assert all(longest / 2 <= policy.pause_s(failures) <= longest for _ in range(20))
    assert policy.pause_s(10_000) <= 5
