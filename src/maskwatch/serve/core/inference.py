"""Prepared pictures → detections: a few calls of the network at a time, in threads of their own."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np
import supervision as sv

from maskwatch.detector import Detector
from maskwatch.media.images import Placement, UInt8Array
from maskwatch.serve.core.admission import Capacity
from maskwatch.serve.core.metrics import Metrics


@dataclass(frozen=True, eq=False)
class _Job:
    detector: Detector
    canvas: UInt8Array  # (1, H, W, 3)
    placement: Placement
    threshold: Mapping[str, float]
    answer: asyncio.Future[sv.Detections]
    came_s: float = field(default_factory=perf_counter)

    def goes_with(self, other: _Job) -> bool:
        """Thresholds are those of a whole call: a weak box can win over one that counts."""
        return self.detector is other.detector and self.threshold == other.threshold


class Batcher:
    """Runs the network on pictures in the order in which they came; for one event loop.

    On a CPU a batch is hardly faster for each picture than a single one, while calls side by side with fewer
    threads each are (benchmarks/service_load.py). So there are lanes, and a lane takes only what already
    waits: nobody waits for company.

    Args:
        lanes: calls at the same time.
        batch: pictures in a call at most.
        capacity: learns how long a picture takes.
    """

    def __init__(self, lanes: int, batch: int, metrics: Metrics, capacity: Capacity) -> None:
        self._batch, self._metrics, self._capacity = batch, metrics, capacity
        self._jobs: deque[_Job] = deque()
        self._came = asyncio.Condition()
        self._pool = ThreadPoolExecutor(lanes, thread_name_prefix="detect")
        self._lanes = [asyncio.create_task(self._lane()) for _ in range(lanes)]

    async def __call__(
        self, detector: Detector, canvas: UInt8Array, placement: Placement, threshold: Mapping[str, float]
    ) -> sv.Detections:
        """What is found in one picture.

        Args:
            canvas: uint8 (1, H, W, 3), as `Detector.prepare` gives it with its placement.
            threshold: class name → score above which it counts.
        """
        answer: asyncio.Future[sv.Detections] = asyncio.get_running_loop().create_future()
        async with self._came:
            self._jobs.append(_Job(detector, canvas, placement, threshold, answer))
            self._came.notify()
        return await answer

    async def close(self) -> None:
        """Ends the lanes; pictures that wait get no answer."""
        for lane in self._lanes:
            lane.cancel()
        await asyncio.gather(*self._lanes, return_exceptions=True)
        for job in self._jobs:
            job.answer.cancel()
        self._pool.shutdown()

    async def _lane(self) -> None:
        while True:
            async with self._came:
                await self._came.wait_for(lambda: self._jobs)
                jobs = self._take()
            if jobs:
                await self._answer(jobs)

    def _take(self) -> list[_Job]:
        """The first that waits, and those that can go with it. Whoever has gone away is left out."""
        waiting = [job for job in self._jobs if not job.answer.done()]
        first = waiting[:1]
        taken = [job for job in waiting if job.goes_with(first[0])][: self._batch]
        self._jobs = deque(job for job in waiting if job not in taken)
        return taken

    async def _answer(self, jobs: list[_Job]) -> None:
        began = perf_counter()
        for job in jobs:
            self._metrics.stage("queue", began - job.came_s)
        try:
            found = await asyncio.get_running_loop().run_in_executor(self._pool, _detect, jobs)
        except Exception as error:  # goes to those who wait; the lane lives on
            for job in jobs:
                if not job.answer.done():
                    job.answer.set_exception(error)
            return
        seconds = perf_counter() - began
        self._capacity.took(seconds, len(jobs))
        for job, detections in zip(jobs, found, strict=True):
            self._metrics.stage("detect", seconds)
            if not job.answer.done():
                job.answer.set_result(detections)


def _detect(jobs: list[_Job]) -> list[sv.Detections]:
    detector = jobs[0].detector
    batch_nhwc = jobs[0].canvas if len(jobs) == 1 else np.concatenate([job.canvas for job in jobs])
    raw = detector.run(batch_nhwc, threshold=jobs[0].threshold)
    return detector.collect(raw, [job.placement for job in jobs])
