"""How long one picture takes, from the file to the detections, and where the time goes.

    python benchmarks/latency.py
    python benchmarks/latency.py --image photo.jpg --runs 200 --threads 1 --json latency.json
    python benchmarks/latency.py --model maskwatch-640 --model maskwatch-640-int8.onnx

The stages are the functions that `Detector` itself calls, one picture at a time. All models on all backends
of this machine take turns in every round, so that whatever else the machine is doing falls on all of them
alike. The ratio is that of the network to ONNX Runtime in float32, with the first model of the same size.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from time import perf_counter, sleep
from typing import Any, TypeVar

from command import head, parser_of, row, run

from maskwatch import Detector, MaskwatchError, __version__, embedded_models, read_image
from maskwatch.bench import open_detector, percentile
from maskwatch.media.images import fit
from maskwatch.runtimes.base import Backend
from maskwatch.runtimes.choice import installed_backends, runtime_versions

ROOT = Path(__file__).resolve().parents[1]
WARM_UP_ROUNDS = 3
# The threads of the model that had its turn before spin on for a while, waiting for work.
SETTLE_S = 0.1
REFERENCE = Backend("onnxruntime", "cpu", "float32")
NOTHING_PASSES = 1.0  # no score is above it, so that the file's NMS has no box to look at

STAGES = {
    "decode": "file to RGB picture (read_image)",
    "resize": "picture to network size (fit)",
    "network": "the model file with thresholds of 1, where no box is left for NMS",
    "nms": "what the model file takes longer with its own thresholds; about zero is normal",
    "post": "model output to supervision.Detections in pixels of the picture",
    "total": "Detector()(path), timed on its own, not added up",
}

T = TypeVar("T")


def timed(call: Callable[[], T]) -> tuple[float, T]:
    """Milliseconds that a call takes, and its result."""
    start = perf_counter()
    result = call()
    return (perf_counter() - start) * 1000, result


def measure_once(detector: Detector, image: Path) -> dict[str, float]:
    """Milliseconds by stage, for one pass of one picture."""
    rule = detector.metadata.resize
    decode, picture = timed(lambda: read_image(image))
    resize, (canvas, placement) = timed(lambda: fit(picture, detector.input_size, rule))
    batch = canvas[None]
    sleep(SETTLE_S)
    detector.run(batch)  # not timed: brings this model's weights back into the caches
    network, _ = timed(lambda: detector.run(batch, threshold=NOTHING_PASSES))
    whole_file, raw = timed(lambda: detector.run(batch))
    post, _ = timed(lambda: detector.collect(raw, [placement]))
    total, _ = timed(lambda: detector(image))
    return {
        "decode": decode,
        "resize": resize,
        "network": network,
        "nms": whole_file - network,
        "post": post,
        "total": total,
    }


def open_all(models: Sequence[str], threads: int | None) -> tuple[list[Detector], list[str]]:
    """Each model on each backend, the reference first, and why others do not run."""
    detectors, problems = [], []
    for model in models:
        detectors.append(open_detector(model, REFERENCE, threads))
        for backend in installed_backends():
            try:
                if backend != REFERENCE:
                    detectors.append(open_detector(model, backend, threads))
            except MaskwatchError as error:
                problems.append(f"{model} on {backend}: {error}")
    return detectors, problems


def medians(detectors: Sequence[Detector], image: Path, runs: int) -> list[dict[str, Any]]:
    """Medians by stage, in milliseconds, and the ratio of the network to the first of the same input size."""
    passes: list[list[dict[str, float]]] = [[] for _ in detectors]
    for number in range(WARM_UP_ROUNDS + runs):
        for detector, mine in zip(detectors, passes, strict=True):
            once = measure_once(detector, image)
            if number >= WARM_UP_ROUNDS:
                mine.append(once)
    by_size: dict[tuple[int, int], list[dict[str, float]]] = {}
    return [
        {
            "model": detector.name,
            "input_size": list(detector.input_size),
            **asdict(detector.backend),
            "int8": detector.metadata.is_int8,
            "median_ms": {
                stage: round(statistics.median(once[stage] for once in mine), 3) for stage in STAGES
            },
            "total_p90_ms": round(percentile([once["total"] for once in mine], 0.9), 3),
            "network_ratio": round(ratio(mine, by_size.setdefault(detector.input_size, mine)), 3),
        }
        for detector, mine in zip(detectors, passes, strict=True)
    ]


def ratio(passes: Sequence[dict[str, float]], reference: Sequence[dict[str, float]]) -> float:
    """Median over the rounds: load that comes and goes falls on both parts of a round."""
    pairs = zip(passes, reference, strict=True)
    return statistics.median(one["network"] / other["network"] for one, other in pairs)


def report(image: Path, runs: int, threads: int | None, models: Sequence[str]) -> dict[str, Any]:
    """The measurement with what one needs to know to compare it."""
    height, width = read_image(image).shape[:2]
    detectors, problems = open_all(models, threads)
    return {
        "maskwatch": __version__,
        "runtimes": runtime_versions(),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "threads": threads or "one a core",
        "image": image.name,
        "image_size": [height, width],
        "runs": runs,
        "stages": STAGES,
        "models": medians(detectors, image, runs),
        "not_run": problems,
    }


def lines(result: dict[str, Any]) -> Iterator[str]:
    """The report as a table for a person."""
    height, width = result["image_size"]
    yield f"Median milliseconds for one picture ({result['image']}, {width}x{height})"
    yield ""
    yield from head(row("model", "input", "runs on", *STAGES, "total, p90", "network, ratio"), left=3)
    for one in result["models"]:
        times = [*one["median_ms"].values(), one["total_p90_ms"]]
        size = "x".join(map(str, one["input_size"]))
        backend = Backend(one["runtime"], one["device"], one["precision"])
        runs_on = f"{backend}{', network in int8' if one['int8'] else ''}"
        ratio = f"{one['network_ratio']:.2f}"
        yield row(one["model"], size, runs_on, *(f"{time:.1f}" for time in times), ratio)
    yield ""
    yield from (f"not measured: {problem}" for problem in result["not_run"])
    yield from (f"{stage:8} {meaning}" for stage, meaning in STAGES.items())
    yield (
        f"{result['runs']} rounds, threads: {result['threads']}, cores: {result['cores']}, "
        f"{', '.join(map(' '.join, result['runtimes'].items()))}, {result['machine']}"
    )


def positive(text: str) -> int:
    """A whole number above zero, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def measure(options: argparse.Namespace) -> Iterator[str]:
    """Measures, prints, and writes the file of --json."""
    result = report(options.image, options.runs, options.threads, options.model or embedded_models())
    text = json.dumps(result, indent=2)
    if str(options.json) == "-":
        yield text
        return
    yield from lines(result)
    if options.json:
        options.json.write_text(text + "\n", "utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = parser_of(__doc__)
    parser.add_argument(
        "--model", action="append", help="model name or file; may be repeated; default: all embedded"
    )
    parser.add_argument(
        "--image", type=Path, default=ROOT / "examples" / "astronaut.jpg", help="picture file"
    )
    parser.add_argument("--runs", type=positive, default=50, help="measured rounds (default 50)")
    parser.add_argument("--threads", type=positive, help="threads of one call; default: one a core")
    parser.add_argument("--json", type=Path, help="also write the numbers to this file; - prints only them")
    return run(measure, parser, arguments)


if __name__ == "__main__":
    sys.exit(main())
