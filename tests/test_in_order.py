"""Results of threads in the order of their items."""

from __future__ import annotations

import threading
import time

import pytest

from maskwatch.system import in_order


def test_results_keep_the_order_of_the_items() -> None:
    def slow_first(item: int) -> int:
        time.sleep(0.05 if item % 3 == 0 else 0)
        return item * 10

    assert [(item, call()) for item, call in in_order(slow_first, range(10), 4)] == [
        (item, item * 10) for item in range(10)
    ]


def test_an_error_comes_at_the_turn_of_its_item() -> None:
    seen = []
    for item, call in in_order(lambda item: 12 / item, [1, 0, 3], 3):
        if item:
            seen.append(call())
            continue
        with pytest.raises(ZeroDivisionError):
            call()
    assert seen == [12, 4]


def test_no_more_than_threads_are_ahead_of_the_one_in_use() -> None:
    started: list[int] = []
    for item, call in in_order(started.append, range(20), 3):
        call()
        assert max(started) <= item + 3
    assert sorted(started) == [*range(20)]


def test_what_may_not_start_early_runs_in_its_turn_and_its_thread() -> None:
    threads = {}

    def note(item: int) -> None:
        threads[item] = threading.current_thread()

    for item, call in in_order(note, range(6), 2, lambda item: item != 3):
        assert item != 3 or 3 not in threads
        call()
    assert threads[3] is threading.main_thread()
    assert threading.main_thread() not in [threads[item] for item in (0, 1, 2, 4, 5)]


def test_a_single_item_needs_no_thread() -> None:
    assert [call() for _, call in in_order(lambda _: threading.current_thread(), [1], 4)] == [
        threading.main_thread()
    ]


def test_a_caller_that_stops_leaves_no_thread() -> None:
    before, started = threading.active_count(), []
    calls = in_order(started.append, range(1000), 3)
    next(calls)
    calls.close()
    assert len(started) < 10
    assert threading.active_count() == before
