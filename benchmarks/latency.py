"""How long one picture takes, from the file to the detections, and where the time goes.

    python benchmarks/latency.py
    python benchmarks/latency.py --image photo.jpg --runs 200 --threads 1 --json latency.json

The stages are the functions that `Detector` itself calls, one picture at a time. All models take turns in
every round, so that whatever else the machine is doing falls on all of them alike.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from time import perf_counter, sleep
from typing import Any, TypeVar

from command import head, parser_of, row, run

from maskwatch import Detector, __version__, embedded_models, load_model_file, read_image
from maskwatch.bench import percentile
from maskwatch.media.images import fit

ROOT = Path(__file__).resolve().parents[1]
WARM_UP_ROUNDS = 3
# The threads of the model that had its turn before spin on for a while, waiting for work.
SETTLE_S = 0.1
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


def measure_once(detector: Detector, rule: Any, image: Path) -> dict[str, float]:
    """Milliseconds by stage, for one pass of one picture."""
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


def medians(models: Sequence[str], image: Path, runs: int, threads: int | None) -> list[dict[str, Any]]:
    """Medians of each model by stage, in milliseconds."""
    detectors = [Detector(name, threads=threads) for name in models]
    rules = [load_model_file(name).metadata.resize for name in models]
    passes: list[list[dict[str, float]]] = [[] for _ in models]
    for number in range(WARM_UP_ROUNDS + runs):
        for detector, rule, mine in zip(detectors, rules, passes, strict=True):
            once = measure_once(detector, rule, image)
            if number >= WARM_UP_ROUNDS:
                mine.append(once)
    return [
        {
            "model": detector.name,
            "input_size": list(detector.input_size),
            "median_ms": {
                stage: round(statistics.median(once[stage] for once in mine), 3) for stage in STAGES
            },
            "total_p90_ms": round(percentile([once["total"] for once in mine], 0.9), 3),
        }
        for detector, mine in zip(detectors, passes, strict=True)
    ]


def report(image: Path, runs: int, threads: int | None, models: Sequence[str]) -> dict[str, Any]:
    """The measurement with what one needs to know to compare it."""
    height, width = read_image(image).shape[:2]
    return {
        "maskwatch": __version__,
        "onnxruntime": version("onnxruntime"),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "threads": threads or "one a core",
        "image": image.name,
        "image_size": [height, width],
        "runs": runs,
        "stages": STAGES,
        "models": medians(models, image, runs, threads),
    }


def lines(result: dict[str, Any]) -> Iterator[str]:
    """The report as a table for a person."""
    height, width = result["image_size"]
    yield f"Median milliseconds for one picture ({result['image']}, {width}x{height})"
    yield ""
    yield from head(row("model", "input", *STAGES, "total, p90"), left=2)
    for one in result["models"]:
        times = [*one["median_ms"].values(), one["total_p90_ms"]]
        size = "x".join(map(str, one["input_size"]))
        yield row(one["model"], size, *(f"{time:.1f}" for time in times))
    yield ""
    yield from (f"{stage:8} {meaning}" for stage, meaning in STAGES.items())
    yield (
        f"{result['runs']} rounds, threads: {result['threads']}, cores: {result['cores']}, "
        f"onnxruntime {result['onnxruntime']}, {result['machine']}"
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
    parser.add_argument("--threads", type=positive, help="threads of ONNX Runtime; default: one a core")
    parser.add_argument("--json", type=Path, help="also write the numbers to this file; - prints only them")
    return run(measure, parser, arguments)


if __name__ == "__main__":
    sys.exit(main())
