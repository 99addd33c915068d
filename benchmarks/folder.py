"""Many pictures: a folder from the files to the detections, against the bare network.

    python benchmarks/folder.py
    python benchmarks/folder.py --folder photos/ --model maskwatch-320 --side 4000

All ways take turns in every round, and the best round of each counts. "network" runs prepared input: 1.00
would be a way that reads and decodes at no cost.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter

from command import head, parser_of, row, run
from PIL import Image

from maskwatch import Detector, read_image
from maskwatch.media.sources import find_sources
from maskwatch.runtimes.choice import RuntimeSettings

ROOT = Path(__file__).resolve().parents[1]


def bare_network(detector: Detector, paths: Sequence[Path]) -> Callable[[], object]:
    """The network alone on the prepared pictures, in `detector.workers` threads."""
    batches = [detector.prepare([path])[0] for path in paths]
    pool = ThreadPoolExecutor(detector.workers)
    return lambda: list(pool.map(detector.run, batches))


def ways(model: str, folder: Path, paths: Sequence[Path]) -> dict[str, Callable[[], object]]:
    """What is compared, by name."""
    whole, workers = Detector(model), Detector(model, threads=RuntimeSettings().for_workers().threads)
    return {
        "network, workers": bare_network(workers, paths),
        "network, one call": bare_network(whole, paths),
        "detect_folder, workers": lambda: list(workers.detect_folder(folder)),
        "detect_folder": lambda: list(whole.detect_folder(folder)),
        "one after the other": lambda: [whole(path) for path in paths],
        "decoded whole": lambda: [whole(read_image(path)) for path in paths],
    }


def make_folder(folder: Path, side: int, count: int) -> None:
    """Copies of the portrait with a longer side of `side` pixels."""
    image = Image.open(ROOT / "examples" / "astronaut.jpg").resize((side, side * 3 // 4))
    for number in range(count):
        image.save(folder / f"{number:03}.jpg", quality=90)


def measure(options: argparse.Namespace) -> Iterator[str]:
    """Prints pictures a second of each way, and its share of the bare network's."""
    with tempfile.TemporaryDirectory() as made:
        folder = options.folder or Path(made)
        if options.folder is None:
            make_folder(folder, options.side, options.count)
        sources = find_sources([str(folder)])
        paths = [source.path for source in sources if source.kind == "picture" and source.path]
        compared = ways(options.model, folder, paths)
        best = dict.fromkeys(compared, float("inf"))
        for number in range(options.rounds + 1):
            for name, call in compared.items():
                start = perf_counter()
                call()
                if number:
                    best[name] = min(best[name], perf_counter() - start)
    network = min(best["network, workers"], best["network, one call"])
    yield f"{len(paths)} pictures, {options.model}, {os.cpu_count()} cores, best of {options.rounds} rounds"
    yield ""
    yield from head(row("way", "pictures a second", "share of the network's time"))
    for name, seconds in best.items():
        yield row(name, f"{len(paths) / seconds:.1f}", f"{seconds / network:.2f}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = parser_of(__doc__)
    parser.add_argument("--folder", type=Path, help="pictures; default: copies of the portrait")
    parser.add_argument("--side", type=int, default=1600, help="longer side of the copies (default 1600)")
    parser.add_argument("--count", type=int, default=24, help="number of copies (default 24)")
    parser.add_argument("--model", default="maskwatch-640")
    parser.add_argument("--rounds", type=int, default=5, help="counted rounds (default 5)")
    return run(measure, parser, arguments)


if __name__ == "__main__":
    sys.exit(main())
