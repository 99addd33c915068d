"""What is faster for a service on this machine: batches, more threads in a call, or calls side by side.

    python benchmarks/service_lanes.py
    python benchmarks/service_lanes.py --model maskwatch-640 --rounds 20

Each round runs every way once on the same eight pictures, so that whatever else the machine does falls on all
of them. The table gives the median over the rounds of the time for a picture, and its ratio to that of one
call at a time on all cores, of one picture, in the same round. Output is Markdown.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from maskwatch import Detector
from maskwatch.system import usable_cores

PICTURES = 8
BATCHES = (1, 2, 4, 8)


def timed(run: Callable[[int], object], batch: int, lanes: int) -> float:
    """Seconds a picture; `run` takes the index of the first picture of a call."""
    with ThreadPoolExecutor(lanes) as pool:
        began = time.perf_counter()
        list(pool.map(run, range(0, PICTURES, batch)))
        return (time.perf_counter() - began) / PICTURES


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="maskwatch-320")
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    cores = usable_cores()
    few = max(1, cores // 2)
    ways = [(lanes, threads, batch) for lanes, threads in ((1, cores), (2, few)) for batch in BATCHES]
    ways += [(2, cores, 1)] + ([(cores, 1, 1)] if cores > 2 else [])
    detectors = {threads: Detector(options.model, threads=threads) for _, threads, _ in ways}
    height, width = detectors[cores].input_size
    images = np.random.default_rng(0).integers(0, 255, (PICTURES, height, width, 3), np.uint8)
    for detector in detectors.values():
        detector.run(images[:1])
    seconds: dict[tuple[int, int, int], list[float]] = {way: [] for way in ways}
    for _ in range(options.rounds):
        for lanes, threads, batch in ways:

            def run(first: int, threads: int = threads, batch: int = batch) -> None:
                detectors[threads].run(images[first : first + batch])

            seconds[lanes, threads, batch].append(timed(run, batch, lanes))
    print(f"{options.model}, {cores} cores, {options.rounds} rounds\n")
    print("| calls side by side | threads each | pictures in a call | ms a picture | of the first line |")
    print("|---|---|---|---|---|")
    first_line = seconds[ways[0]]
    for way, times in seconds.items():
        ratio = statistics.median(mine / first for mine, first in zip(times, first_line, strict=True))
        lanes, threads, batch = way
        print(f"| {lanes} | {threads} | {batch} | {1000 * statistics.median(times):.0f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
