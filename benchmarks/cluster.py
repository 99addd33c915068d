"""Many machines: `maskwatch detect --ray` against plain `detect`, and a run in which a worker and a node die.

    python benchmarks/cluster.py ../shared/data/masks/test
    python benchmarks/cluster.py ../shared/data/masks/test --count 20000 --only kill

The pictures are hard links to those of the folder under different names. One and two workers run on as many
cores, and so does the plain command beside them; all that Ray needs runs on the same cores. Each command runs
with a fifth of the pictures and with all: pictures a second are of the difference, what remains is the start.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep

from command import head, parser_of, row, run

SMALL = 5
ROWS_PER_FILE = 200
REFERENCE = ("--runtime", "onnxruntime", "--device", "cpu", "--precision", "float32")


def make_links(folder: Path, sources: Sequence[Path], count: int) -> Path:
    """A folder of `count` pictures: hard links to copies of the sources, a thousand a subfolder."""
    originals = folder / "originals"
    originals.mkdir()
    pictures = [path for source in sources for path in sorted(source.rglob("*.jpg"))]
    copies = [Path(shutil.copy(path, originals / f"{n}.jpg")) for n, path in enumerate(pictures)]
    for number in range(count):
        target = folder / "pictures" / f"{number // 1000:05}"
        target.mkdir(parents=True, exist_ok=True)
        os.link(copies[number % len(copies)], target / f"{number:08}.jpg")
    return folder / "pictures"


@dataclass
class Timed:
    """One run of a command: seconds, and the resident memory of its process over time, in MB."""

    seconds: float = 0.0
    memory: list[float] = field(default_factory=list)


def timed(arguments: Sequence[str], cores: int, watch: bool = False) -> Timed:
    """Runs the command line on so many cores."""
    done, start = Timed(), monotonic()
    command = [sys.executable, "-m", "maskwatch", "detect", *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, preexec_fn=lambda: os.sched_setaffinity(0, range(cores))
    ) as process:
        while process.poll() is None:
            with contextlib.suppress(OSError, IndexError):
                text = Path(f"/proc/{process.pid}/status").read_text()
                done.memory.append(int(text.split("VmRSS:")[1].split()[0]) / 1000)
            sleep(0.5 if watch else 0.05)
    done.seconds = monotonic() - start
    if process.returncode:
        raise OSError(f"{' '.join(command)} ended with {process.returncode}")
    return done


def compare(options: argparse.Namespace, folder: Path) -> Iterator[str]:
    """Pictures a second of both ways, in turns."""
    large = make_links(folder / "large", options.sources, options.count)
    small = make_links(folder / "small", options.sources, options.count // SMALL)
    yield from head(
        row("way", "cores", "pictures a second", "share of plain", "start, s", "all, s", "driver, MB")
    )
    for cores in options.cores:
        best: dict[tuple[str, Path], Timed] = {}
        for number in range(options.rounds):
            for way in ("plain", "--ray"):
                for pictures in (small, large):
                    found = timed(_arguments(options, way, pictures, folder / f"{way}{number}{cores}"), cores)
                    key = (way, pictures)
                    best[key] = min(best.get(key, found), found, key=lambda one: one.seconds)
        rates = {}
        for way in ("plain", "--ray"):
            few, all_ = best[way, small].seconds, best[way, large].seconds
            rates[way] = (options.count - options.count // SMALL) / (all_ - few)
            start = all_ - options.count / rates[way]
            memory = best[way, large].memory
            middle = memory[len(memory) // 2 :]
            yield row(
                way,
                cores,
                f"{rates[way]:.1f}",
                f"{rates[way] / rates['plain']:.3f}",
                f"{start:.1f}",
                f"{all_:.1f}",
                f"{middle[0]:.0f} in the middle, {max(memory):.0f} at most",
            )


def _arguments(options: argparse.Namespace, way: str, pictures: Path, out: Path) -> list[str]:
    common = [str(pictures), "--model", options.model, *REFERENCE]
    if way == "plain":
        return [*common, "--json", f"{out}-{pictures.parent.name}.json", "--force"]
    target = f"{out}-{pictures.parent.name}"
    return [*common, "--ray", "local", "--parquet", target, "--rows-per-file", str(ROWS_PER_FILE)]


def killed(options: argparse.Namespace, folder: Path) -> Iterator[str]:
    """A job on two nodes: a worker is killed at a third of the rows, a node at two thirds."""
    from ray.cluster_utils import Cluster

    import maskwatch.cluster  # noqa: F401  # before Ray: it turns the telemetry off
    from maskwatch.cluster.sink import read_results

    pictures, out = make_links(folder / "killed", options.sources, options.count), folder / "rows"
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        node = nodes.add_node(num_cpus=1)
        arguments = [str(pictures), "--model", options.model, *REFERENCE, "--ray", nodes.address]
        arguments += ["--parquet", str(out), "--rows-per-file", str(ROWS_PER_FILE)]
        found: list[Timed] = []
        job = threading.Thread(target=lambda: found.append(timed(arguments, os.cpu_count() or 1, True)))
        job.start()
        _wait(out, options.count / ROWS_PER_FILE / 3, job)
        os.kill(_actors()[0], signal.SIGKILL)
        yield f"worker killed after {len(list(out.glob('part-*')))} files"
        _wait(out, options.count / ROWS_PER_FILE * 2 / 3, job)
        nodes.remove_node(node, allow_graceful=False)
        yield f"node killed after {len(list(out.glob('part-*')))} files"
        job.join()
    finally:
        nodes.shutdown()
    rows = read_results(str(out), "parquet")
    different = len(set(rows["source"].to_pylist()))
    errors = len(rows) - rows["error"].null_count
    yield f"{options.count} pictures: {len(rows)} rows, {different} different sources, {errors} errors"
    if found:
        memory = found[0].memory
        tenths = [f"{memory[len(memory) * tenth // 10]:.0f}" for tenth in range(1, 10)]
        yield f"{found[0].seconds:.0f} s; MB of the driver at each tenth of the time: {', '.join(tenths)}"


def _wait(out: Path, files: float, job: threading.Thread) -> None:
    while len(list(out.glob("part-*"))) < files:
        if not job.is_alive():
            raise OSError("the job ended before anything was killed; take more pictures")
        sleep(0.1)


def _actors() -> list[int]:
    """The processes of Ray's actors of this user that are working on these pictures."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            if b"ray::MapWorker" in (entry / "cmdline").read_bytes() and os.getpid() in _ancestors(
                entry.name
            ):
                found.append(int(entry.name))
    return found


def _ancestors(process: str) -> Iterator[int]:
    while int(process) > 1:
        process = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1]
        yield int(process)


def measure(options: argparse.Namespace) -> Iterator[str]:
    """Both parts, or one of them."""
    yield f"{options.count} pictures, {options.model}, {os.cpu_count()} cores, rounds: {options.rounds}"
    with tempfile.TemporaryDirectory() as made:
        for name in ("large", "small", "killed"):
            Path(made, name).mkdir()
        if options.only in (None, "compare"):
            yield ""
            yield from compare(options, Path(made))
        if options.only in (None, "kill"):
            yield ""
            yield from killed(options, Path(made))


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = parser_of(__doc__)
    parser.add_argument("sources", type=Path, nargs="+", help="folders of JPEG files")
    parser.add_argument("--count", type=int, default=2000, help="pictures (default 2000)")
    parser.add_argument("--model", default="maskwatch-640")
    parser.add_argument("--rounds", type=int, default=1, help="rounds of the comparison (default 1)")
    parser.add_argument("--cores", type=int, nargs="+", default=[1, 2], help="(default 1 2)")
    parser.add_argument("--only", choices=["compare", "kill"], help="one part of it")
    return run(measure, parser, arguments)


if __name__ == "__main__":
    sys.exit(main())
