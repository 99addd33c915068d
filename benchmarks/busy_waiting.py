"""What it costs and gains that the threads of ONNX Runtime wait busily for work.

    python benchmarks/busy_waiting.py
    python benchmarks/busy_waiting.py --model maskwatch-320 --pauses 0 0.1 --seconds 30

Without a number of threads they do, with one they do not. Both take turns; pauses between calls are those
between the frames of a camera.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterator, Sequence
from time import perf_counter, process_time, sleep

from command import head, parser_of, row, run

from maskwatch import embedded_models
from maskwatch.detector import Detector
from maskwatch.export.photographs import own_photographs
from maskwatch.media.images import UInt8Array
from maskwatch.system import usable_cores

CALLS = 4
SETTLE_S = 0.1  # the threads of the one that had its turn before spin on for a while


def turn(detector: Detector, batch: UInt8Array, pause_s: float) -> tuple[float, float]:
    """Milliseconds of one call, and of processor time for one call and what follows it."""
    sleep(SETTLE_S)
    detector.run(batch)  # not timed: brings this model's weights back into the caches
    before, elapsed = process_time(), 0.0
    for _ in range(CALLS):
        start = perf_counter()
        detector.run(batch)
        elapsed += perf_counter() - start
        sleep(pause_s)
    sleep(SETTLE_S)
    return 1000 * elapsed / CALLS, 1000 * (process_time() - before) / CALLS


def measure(options: argparse.Namespace) -> Iterator[str]:
    """A line for each model and pause."""
    yield from head(row("model", "pause, s", "ms", "not busy", "ratio", "processor, ms", "not busy", "ratio"))
    for model in options.model or embedded_models():
        pair = [
            Detector(model, runtime="onnxruntime", device="cpu", threads=threads)
            for threads in (None, usable_cores())
        ]
        batch, _ = pair[0].prepare([own_photographs()[0].image_rgb])
        for pause_s in options.pauses:
            turns: list[list[tuple[float, float]]] = []
            end = perf_counter() + options.seconds
            while not turns or perf_counter() < end:
                turns.append([turn(detector, batch, pause_s) for detector in pair])
            yield row(model, pause_s, *(cell for kind in range(2) for cell in cells(turns, kind)))


def cells(turns: Sequence[Sequence[tuple[float, float]]], kind: int) -> Iterator[str]:
    """Medians of both, and the median of their ratios."""
    pairs = [(busy[kind], idle[kind]) for busy, idle in turns]
    for values in zip(*pairs, strict=True):
        yield f"{statistics.median(values):.1f}"
    yield f"{statistics.median(idle / busy for busy, idle in pairs):.2f}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = parser_of(__doc__)
    parser.add_argument("--model", action="append", help="may be repeated; default: all embedded")
    parser.add_argument("--pauses", type=float, nargs="+", default=[0.0, 0.1], help="seconds between calls")
    parser.add_argument("--seconds", type=float, default=20, help="for each line (default 20)")
    return run(measure, parser, arguments)


if __name__ == "__main__":
    sys.exit(main())
