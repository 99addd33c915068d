"""What `maskwatch data check` costs beside decoding the same pictures, both on all cores.

    python benchmarks/data_check.py ../shared/data/masks/train

The whole command counts, start-up included. It decodes JPEG at a fraction of the size, so that it can take
less time than decoding in full. Each is run --repeats times in turn, and the medians are compared.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median

from command import parser_of, run

from maskwatch import read_image
from maskwatch.data.formats.search import find_splits
from maskwatch.system import usable_cores

CHUNK = 16


def decode(paths: Sequence[Path]) -> None:
    """Decodes pictures in full and forgets them."""
    for path in paths:
        read_image(path)


def decoding_seconds(paths: Sequence[Path], workers: int | None = None) -> float:
    """Wall time of decoding in processes, by default one a core, their start included."""
    began = time.perf_counter()
    with ProcessPoolExecutor(workers or usable_cores()) as pool:
        list(pool.map(decode, [paths[start : start + CHUNK] for start in range(0, len(paths), CHUNK)]))
    return time.perf_counter() - began


def checking_seconds(folder: Path) -> float:
    """Wall time of the command.

    Raises:
        RuntimeError: it failed.
    """
    command = [sys.executable, "-m", "maskwatch", "data", "check", str(folder)]
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode > 1:  # 1: it found issues
        raise RuntimeError(done.stderr)
    return time.perf_counter() - began


def measure(options: argparse.Namespace) -> Iterator[str]:
    paths = [raw.image_path for split in find_splits(options.folder) for raw in split.read([])]
    times = [(decoding_seconds(paths), checking_seconds(options.folder)) for _ in range(options.repeats)]
    decoding, checking = (median(column) for column in zip(*times, strict=True))
    ratios = sorted(check / decode for decode, check in times)
    yield (
        f"{len(paths)} pictures: decoding {decoding:.1f} s, check {checking:.1f} s, ratio "
        f"{checking / decoding:.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = parser_of(__doc__)
    parser.add_argument("folder", type=Path, help="a data set")
    parser.add_argument("--repeats", type=int, default=3)
    return run(measure, parser, arguments)


if __name__ == "__main__":
    sys.exit(main())
