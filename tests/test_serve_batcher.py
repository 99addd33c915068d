"""The queue before the network: order, batches, and cancelled requests."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="needs the extra 'serve'")

import supervision as sv

from maskwatch.detector import Detector
from maskwatch.serve.core.inference import Batcher
from maskwatch.serve.core.limits import Capacity
from maskwatch.serve.core.metrics import Metrics
from maskwatch.serve.core.problem import Problem

LOW, HIGH = ({"mask": score, "no_mask": score, "mask_incorrect": score} for score in (0.3, 0.9))


def run(workers: int, batch: int, work: Callable[[Batcher], Awaitable[Any]]) -> Any:
    async def inside() -> Any:
        metrics = Metrics()
        batcher = Batcher(workers, batch, metrics, Capacity(32, 32, metrics.queued))
        try:
            return await work(batcher)
        finally:
            await batcher.close()

    return asyncio.run(inside())


class Slow(Detector):
    """Waits before each call until it is let go, and notes how many pictures the call has."""

    def __init__(self, model: Path) -> None:
        super().__init__(model, threads=1)
        self.began, self.may_go, self.calls = threading.Event(), threading.Event(), []

    def run(self, batch_nhwc: np.ndarray, *, threshold: Any = None) -> Any:
        self.calls.append((len(batch_nhwc), threshold["mask"]))
        self.began.set()
        assert self.may_go.wait(60)
        return super().run(batch_nhwc, threshold=threshold)


def pictures() -> list[np.ndarray]:
    """One with a green cell, one with a red one, and so on."""
    images = []
    for place in range(4):
        image = np.full((64, 64, 3), 90, np.uint8)
        image[0:16, 16 * place : 16 * place + 16] = (90, 200, 90)
        images.append(image)
    return images


async def ask(batcher: Batcher, detector: Detector, image: np.ndarray, threshold: Any) -> sv.Detections:
    canvas, (placement,) = detector.prepare([image])
    return await batcher(detector, canvas, placement, threshold)


def test_each_gets_its_own(tiny_model: Path) -> None:
    detector = Detector(tiny_model, threads=1)

    async def work(batcher: Batcher) -> list[sv.Detections]:
        return await asyncio.gather(*(ask(batcher, detector, image, LOW) for image in pictures() * 5))

    for workers, batch in ((1, 1), (1, 8), (3, 2)):
        found = run(workers, batch, work)
        assert [one.xyxy[0].tolist() for one in found] == [
            [16.0 * place, 0, 16.0 * place + 16, 16] for place in range(4)
        ] * 5


@pytest.mark.parametrize(
    ("batch", "calls"),
    [
        (1, [(1, 0.3), (1, 0.3), (1, 0.9), (1, 0.3), (1, 0.9)]),
        (2, [(1, 0.3), (2, 0.3), (2, 0.9)]),
        (8, [(1, 0.3), (2, 0.3), (2, 0.9)]),
    ],
)
def test_waiting_jobs_of_one_kind_share_a_batch(tiny_model: Path, batch: int, calls: list[Any]) -> None:
    detector = Slow(tiny_model)

    async def work(batcher: Batcher) -> list[int]:
        images = pictures()
        first = asyncio.create_task(ask(batcher, detector, images[0], LOW))
        await asyncio.to_thread(detector.began.wait, 60)
        rest = [
            asyncio.create_task(ask(batcher, detector, image, threshold))
            for image, threshold in zip(images, (LOW, HIGH, LOW, HIGH), strict=True)
        ]
        await asyncio.sleep(0)  # they are in the queue now
        detector.may_go.set()
        return [len(one) for one in await asyncio.gather(first, *rest)]

    assert run(1, batch, work) == [1, 1, 0, 1, 0]
    assert detector.calls == calls


def test_a_cancelled_job_costs_nothing(tiny_model: Path) -> None:
    detector = Slow(tiny_model)

    async def work(batcher: Batcher) -> None:
        image = pictures()[0]
        first = asyncio.create_task(ask(batcher, detector, image, LOW))
        await asyncio.to_thread(detector.began.wait, 60)
        gone = asyncio.create_task(ask(batcher, detector, image, LOW))
        last = asyncio.create_task(ask(batcher, detector, image, HIGH))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        detector.may_go.set()
        await asyncio.gather(first, last)

    run(1, 1, work)
    assert detector.calls == [(1, 0.3), (1, 0.9)]


def test_a_failure_is_raised_and_the_worker_goes_on(tiny_model: Path) -> None:
    detector = Detector(tiny_model, threads=1)

    async def work(batcher: Batcher) -> int:
        image = pictures()[0]
        with pytest.raises(Exception, match="hat"):
            await ask(batcher, detector, image, {"hat": 0.5})
        return len(await ask(batcher, detector, image, LOW))

    assert run(1, 1, work) == 1


def test_capacity() -> None:
    capacity = Capacity(3, 3, Metrics().queued)
    with capacity.reserve(2):
        full = refused(capacity, 2)
        assert "2 pictures are in work or waiting and 3 is the limit" in full.detail
        assert full.headers == {"Retry-After": "1"}
        with capacity.reserve(1):
            capacity.observe(100.0, 1)
            assert int(refused(capacity, 1).headers["Retry-After"]) == 60
    with capacity.reserve(3):
        pass


def refused(capacity: Capacity, pictures: int) -> Problem:
    with pytest.raises(Problem) as caught, capacity.reserve(pictures):
        pass
    assert caught.value.status == 503
    return caught.value


def test_a_request_that_would_wait_for_long_is_rejected_at_once() -> None:
    """An admitted request may bring many pictures; frames of streams keep no request out."""
    capacity = Capacity(8, 2, Metrics().queued)
    with capacity.reserve_frame(), capacity.reserve_frame(), capacity.reserve(1):
        assert capacity.check_admission() is None
        assert "8 is the limit" in refused(capacity, 6).detail
        with capacity.reserve(5):
            assert "pictures before yours: 6; come back later" in refused(capacity, 1).detail
    assert capacity.check_admission() is None
