"""How long `maskwatch detect photo.jpg` takes, from the start of the process to its end.

    python benchmarks/first_detection.py
    python benchmarks/first_detection.py --against ../before/src --image photo.jpg --runs 15

The runs of the source trees take turns, and the best of each counts, since other work on the machine only
adds. A first run of each is not counted: it fills the caches. `--cold` adds runs with empty caches.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import perf_counter

from command import head, parser_of, row, run

ROOT = Path(__file__).resolve().parents[1]


def seconds(source: Path, image: Path, cache: str, options: Sequence[str]) -> float:
    """Wall time of one process."""
    command = [sys.executable, "-m", "maskwatch", "detect", str(image), *options]
    environment = {**os.environ, "PYTHONPATH": str(source), "XDG_CACHE_HOME": cache}
    start = perf_counter()
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    return perf_counter() - start


def measure(options: argparse.Namespace) -> Iterator[str]:
    """Prints the best and the median of each source tree."""
    sources = [ROOT / "src", *options.against]
    times: dict[tuple[Path, str], list[float]] = {}
    with tempfile.TemporaryDirectory() as warm:
        for number in range(options.runs + 1):
            for source in sources:
                once = seconds(source, options.image, warm, options.options)
                if number:
                    times.setdefault((source, "warm"), []).append(once)
                if options.cold:
                    with tempfile.TemporaryDirectory() as cold:
                        once = seconds(source, options.image, cold, options.options)
                    times.setdefault((source, "cold"), []).append(once)
    yield from head(row("source", "caches", "best s", "median s"), left=2)
    for (source, caches), values in times.items():
        ordered = sorted(values)
        yield row(source, caches, f"{ordered[0]:.3f}", f"{ordered[len(ordered) // 2]:.3f}")
    for source in options.against:
        share = min(times[sources[0], "warm"]) / min(times[source, "warm"])
        yield f"this tree takes {share:.2f} of the time of {source}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = parser_of(__doc__)
    parser.add_argument("--image", type=Path, default=ROOT / "examples" / "astronaut.jpg")
    parser.add_argument("--runs", type=int, default=9, help="counted runs of each (default 9)")
    parser.add_argument("--against", type=Path, action="append", default=[], help="another tree's src folder")
    parser.add_argument("--cold", action="store_true", help="also with empty caches")
    parser.add_argument("--options", nargs=argparse.REMAINDER, default=[], help="of detect; the last option")
    return run(measure, parser, arguments)


if __name__ == "__main__":
    sys.exit(main())
