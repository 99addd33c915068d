"""Inference: prepared pictures → detections, by a few workers side by side."""

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
from maskwatch.serve.core.limits import Capacity
from maskwatch.serve.core.metrics import Metrics


@dataclass(frozen=True, eq=False)
class _Job:
    detector: Detector
    canvas: UInt8Array  # (1, H, W, 3)
    placement: Placement
    threshold: Mapping[str, float]
    result: asyncio.Future[sv.Detections]
    queued_s: float = field(default_factory=perf_counter)

    def fits(self, other: _Job) -> bool:
        """Whether both can go into one batch. Thresholds belong to a call, since NMS runs after them."""
        return self.detector is other.detector and self.threshold == other.threshold


class Batcher:
    """Runs the network on pictures in the order in which they arrive; for one event loop.

    On a CPU a batch is hardly faster for each picture than a single one, while parallel calls with fewer
    threads each are; to measure it, pass options such as --batch 4 to benchmarks/service_load.py. So there
    are several workers, and each takes only what is already waiting: no picture waits for a batch to fill.

    Args:
        workers: calls at the same time.
        batch: pictures in a call at most.
        capacity: learns how long a picture takes.
    """

    def __init__(self, workers: int, batch: int, metrics: Metrics, capacity: Capacity) -> None:
        self._batch, self._metrics, self._capacity = batch, metrics, capacity
        self._jobs: deque[_Job] = deque()
        self._arrived = asyncio.Condition()
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="detect")
        self._workers = [asyncio.create_task(self._work()) for _ in range(workers)]

    async def __call__(
        self, detector: Detector, canvas: UInt8Array, placement: Placement, threshold: Mapping[str, float]
    ) -> sv.Detections:
        """The detections in one picture.

        Args:
            canvas: uint8 (1, H, W, 3), as `Detector.prepare` gives it with its placement.
            threshold: class name → score above which it counts.
        """
        result: asyncio.Future[sv.Detections] = asyncio.get_running_loop().create_future()
        async with self._arrived:
            self._jobs.append(_Job(detector, canvas, placement, threshold, result))
            self._arrived.notify()
        return await result

    async def close(self) -> None:
        """Ends the workers; pictures that are still waiting get no result."""
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        for job in self._jobs:
            job.result.cancel()
        self._pool.shutdown()

    async def _work(self) -> None:
        while True:
            async with self._arrived:
                await self._arrived.wait_for(lambda: self._jobs)
                jobs = self._next_batch()
            if jobs:
                await self._run(jobs)

    def _next_batch(self) -> list[_Job]:
        """The first job that waits, and those that fit to it; cancelled ones are removed."""
        waiting = [job for job in self._jobs if not job.result.done()]
        first = waiting[:1]
        taken = [job for job in waiting if job.fits(first[0])][: self._batch]
        self._jobs = deque(job for job in waiting if job not in taken)
        return taken

    async def _run(self, jobs: list[_Job]) -> None:
        began_s = perf_counter()
        for job in jobs:
            self._metrics.stages["queue"].observe(began_s - job.queued_s)
        try:
            found = await asyncio.get_running_loop().run_in_executor(self._pool, _detect, jobs)
        except Exception as error:  # raised where the results are awaited; the worker goes on
            for job in jobs:
                if not job.result.done():
                    job.result.set_exception(error)
            return
        seconds = perf_counter() - began_s
        self._capacity.observe(seconds, len(jobs))
        for job, detections in zip(jobs, found, strict=True):
            self._metrics.stages["detect"].observe(seconds)
            if not job.result.done():
                job.result.set_result(detections)


def _detect(jobs: list[_Job]) -> list[sv.Detections]:
    detector = jobs[0].detector
    batch_nhwc = jobs[0].canvas if len(jobs) == 1 else np.concatenate([job.canvas for job in jobs])
    raw = detector.run(batch_nhwc, threshold=jobs[0].threshold)
    return detector.collect(raw, [job.placement for job in jobs])
