"""Which share of the detector's own rate the service reaches, and what it does with requests when it is full.

    python benchmarks/service_load.py
    python benchmarks/service_load.py --model maskwatch-320 --seconds 2 --rounds 20
    python benchmarks/service_load.py --image photo.jpg -- --waiting 4

Arguments after `--` go to `maskwatch serve`, which the benchmark starts on a free port of this machine. Each
round measures the bare `Detector` on the same files (one call on all cores, and one call a core side by side;
the better one counts) and then the service with more and more connections, each of which sends its next
picture after its answer, or after `Retry-After` when the service refused it. So other load on the machine
affects both alike, and ratios are those of one round. Each round ends with requests at ten times the highest
rate that the service had in it, whether it answers or not.

"CPU" is the processor time of the service per answered picture. Unlike a rate, it hardly changes when other
programs use the machine.

Everything stays on this machine, and every part is limited in time and in requests.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import itertools
import os
import re
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from command import head, parser_of, row, run

from maskwatch import Detector
from maskwatch.models import DEFAULT_MODEL
from maskwatch.system import usable_cores

ROOT = Path(__file__).resolve().parents[1]
PICTURES = (ROOT / "examples" / "astronaut.jpg", ROOT / "examples" / "astronaut_masked.jpg")
CONNECTIONS = (1, 2, 4, 8, 16)
OVERLOAD = 10
OVERLOADED = f"{OVERLOAD} times the highest rate"
MOST_REQUESTS = 20_000
SENDERS = 64
START_S = 120
ANSWER_S = 120


@dataclass
class Load:
    """The results of one load; `sending_s` until the last request, `elapsed_s` until the last answer.

    `cpu_s` is the processor time that the service took for it, not a number where /proc is missing.
    """

    name: str
    sending_s: float = 0.0
    elapsed_s: float = 0.0
    cpu_s: float = 0.0
    latencies_s: list[float] = field(default_factory=list)
    shed: int = 0
    shed_without_time: int = 0
    broken: int = 0

    @property
    def sent(self) -> int:
        return len(self.latencies_s) + self.shed + self.broken

    @property
    def rate(self) -> float:
        """Pictures answered in a second."""
        return len(self.latencies_s) / self.elapsed_s

    def percentile_ms(self, percent: float) -> float:
        """Of the answered; not a number where there is none."""
        return float(np.percentile(self.latencies_s, percent)) * 1000 if self.latencies_s else float("nan")

    def add(self, other: Load) -> None:
        """Takes in another measurement of the same load."""
        for name, value in vars(other).items():
            if name != "name":
                setattr(self, name, getattr(self, name) + value)

    def row(self, ratio: float) -> str:
        """A line of the table."""
        rates = (f"{self.sent / self.sending_s:.1f}", f"{self.rate:.1f}", f"{ratio:.0%}")
        times = (f"{self.percentile_ms(percent):.0f}" for percent in (50, 95, 99))
        cpu_ms = self.cpu_s / max(1, len(self.latencies_s)) * 1000
        return row(self.name, *rates, *times, self.shed, self.broken, f"{cpu_ms:.0f}")


@contextlib.contextmanager
def service(model: str, options: Sequence[str]) -> Iterator[tuple[str, int]]:
    """`maskwatch serve` for the length of the block; yields its host and port, and its process number."""
    command = [sys.executable, "-m", "maskwatch", "serve", "--port", "0", "--model", model, *options]
    environment = {name: value for name, value in os.environ.items() if name != "MASKWATCH_TOKEN"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as process:
        try:
            yield _address(process), process.pid
        finally:
            process.terminate()
            process.communicate()


def _address(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    printed = []
    for line in process.stdout:
        printed.append(line)
        if match := re.search(r"http://(127\.0\.0\.1:\d+)", line):
            # Its further output is read, so that a full pipe never blocks it.
            threading.Thread(target=process.stdout.read, daemon=True).start()
            _wait_until_ready(match[1])
            return match[1]
    raise SystemExit(f"error: the service did not start:\n{''.join(printed)}")


def _wait_until_ready(host: str) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        with contextlib.suppress(OSError), contextlib.closing(http.client.HTTPConnection(host)) as connection:
            connection.request("GET", "/readyz")
            if connection.getresponse().status == 200:
                return
        time.sleep(0.1)
    raise SystemExit(f"error: {host} was not ready within {START_S} s")


def cpu_s(process: int) -> float:
    """Processor seconds of a process and its workers until now; not a number where /proc is missing."""
    if not Path("/proc/self/stat").exists():
        return float("nan")
    ticks = 0
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has just ended
            words = file.read_text().rpartition(")")[2].split()
            if process in (int(file.parent.name), int(words[1])):
                ticks += int(words[11]) + int(words[12])
    return ticks / os.sysconf("SC_CLK_TCK")


class Sender:
    """One connection, kept open, that asks for pictures."""

    def __init__(self, host: str, load: Load, lock: threading.Lock) -> None:
        self._connection = http.client.HTTPConnection(host, timeout=ANSWER_S)
        self._load, self._lock = load, lock

    def send(self, picture: bytes) -> float:
        """Sends one request and counts its end in the load; returns the seconds to wait before the next."""
        begin = time.perf_counter()
        headers = {"Content-Type": "application/octet-stream"}
        try:
            self._connection.request("POST", "/v1/detect", picture, headers)
            response = self._connection.getresponse()
            response.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            with self._lock:
                self._load.broken += 1
            return 0.0
        took_s = time.perf_counter() - begin
        with self._lock:
            if response.status == 200:
                self._load.latencies_s.append(took_s)
            elif response.status == 503:
                self._load.shed += 1
                self._load.shed_without_time += response.getheader("Retry-After") is None
            else:
                self._load.broken += 1
        return float(response.getheader("Retry-After", "0"))

    def close(self) -> None:
        self._connection.close()


def together(count: int, work: Callable[[int], None]) -> float:
    """Runs work(0) … work(count − 1), each in a thread; returns the seconds until the last has ended."""
    begin = time.perf_counter()
    with ThreadPoolExecutor(count) as pool:
        list(pool.map(work, range(count)))
    return time.perf_counter() - begin


def bare(detectors: Sequence[Detector], pictures: Sequence[bytes], seconds: float) -> tuple[float, float]:
    """Pictures a second of detectors that are called side by side, and processor seconds a picture."""
    counts = [0] * len(detectors)
    end = time.perf_counter() + seconds

    def work(number: int) -> None:
        for picture in itertools.cycle(pictures):
            detectors[number](picture)
            counts[number] += 1
            if time.perf_counter() >= end:
                return

    before_s = time.process_time()
    elapsed_s = together(len(detectors), work)
    return sum(counts) / elapsed_s, (time.process_time() - before_s) / sum(counts)


def closed(host: str, connections: int, pictures: Sequence[bytes], seconds: float) -> Load:
    """A load that waits for its answers: each connection sends one picture after the other."""
    load, lock = Load(f"{connections} connection{'s'[: connections > 1]}"), threading.Lock()
    end = time.perf_counter() + seconds

    def work(number: int) -> None:
        with contextlib.closing(Sender(host, load, lock)) as sender:
            for turn in range(MOST_REQUESTS // connections):
                wait_s = sender.send(pictures[(number + turn) % len(pictures)])
                if end - time.perf_counter() <= wait_s:
                    return
                time.sleep(wait_s)

    load.sending_s = load.elapsed_s = together(connections, work)
    return load


def opened(host: str, rate: float, pictures: Sequence[bytes], seconds: float) -> Load:
    """A load that does not wait: `rate` requests a second, each at its own time, while a sender is free."""
    load, lock = Load(OVERLOADED), threading.Lock()
    turns = iter(range(min(MOST_REQUESTS, max(1, round(rate * seconds)))))
    start = time.perf_counter()

    def work(number: int) -> None:
        with contextlib.closing(Sender(host, load, lock)) as sender:
            while True:
                with lock:
                    turn = next(turns, None)
                if turn is None:
                    return
                time.sleep(max(0.0, start + turn / rate - time.perf_counter()))
                with lock:
                    load.sending_s = max(load.sending_s, time.perf_counter() - start)
                sender.send(pictures[turn % len(pictures)])

    load.elapsed_s = together(SENDERS, work)
    load.sending_s = max(load.sending_s, 1 / rate)  # the first one alone is sent at once
    return load


@dataclass(frozen=True)
class Round:
    """One round: the bare detector's pictures a second and processor seconds a picture, loads, overload."""

    bare: float
    bare_cpu_s: float
    loads: list[Load]
    over: Load


def rounds_of(host: str, process: int, options: argparse.Namespace, pictures: Sequence[bytes]) -> list[Round]:
    """All rounds."""

    def counted(load: Callable[[], Load]) -> Load:
        before_s = cpu_s(process)
        result = load()
        result.cpu_s = cpu_s(process) - before_s
        return result

    cores = usable_cores()
    alone = [Detector(options.model, threads=cores)]
    parallel = [Detector(options.model, threads=1) for _ in range(cores)]
    for detector in [*alone, *parallel]:
        detector(pictures[0])
    closed(host, max(options.connections), pictures, min(1.0, options.seconds))  # not counted: warms up
    rounds = []
    for _ in range(options.rounds):
        best = max(bare(way, pictures, options.seconds) for way in (alone, parallel))
        loads = [
            counted(partial(closed, host, count, pictures, options.seconds)) for count in options.connections
        ]
        rate = OVERLOAD * max(load.rate for load in loads)
        over = counted(partial(opened, host, rate, pictures, options.seconds))
        rounds.append(Round(*best, loads, over))
    return rounds


def report(rounds: Sequence[Round]) -> str:
    """The table and its summary."""
    rates = [one.bare for one in rounds]
    bare_cpu_s = statistics.median(one.bare_cpu_s for one in rounds)
    names = "| load | sent/s | answered/s | of the bare one | p50, ms | p95 | p99 | 503 | broken | CPU, ms |"
    lines = [
        *head(names),
        f"| bare `Detector` | | {statistics.median(rates):.1f} | 100% | | | | | | {bare_cpu_s * 1000:.0f} |",
    ]
    columns = [*zip(*(one.loads for one in rounds), strict=True), tuple(one.over for one in rounds)]
    wholes = [whole(column) for column in columns]
    ratios = [
        statistics.median(load.rate / rate for load, rate in zip(column, rates, strict=True))
        for column in columns
    ]
    lines += [load.row(ratio) for load, ratio in zip(wholes, ratios, strict=True)]
    first, over = wholes[0], wholes[-1]
    times = over.percentile_ms(99) / first.percentile_ms(99)
    lines += [
        "",
        f"At saturation {max(ratios[:-1]):.0%} of the bare detector's rate (median of {len(rounds)} rounds, "
        f"in which it was {min(rates):.1f} to {max(rates):.1f} a second).",
        f"At {OVERLOADED} {over.shed / over.sent:.0%} were refused with 503, {over.shed_without_time} of "
        f"them without Retry-After; {over.broken} got another answer or none. "
        f"p99 of the answered is {times:.1f} times that of {first.name} "
        f"({over.percentile_ms(99):.0f} and {first.percentile_ms(99):.0f} ms).",
    ]
    return "\n".join(lines)


def whole(loads: Sequence[Load]) -> Load:
    """The same load of all rounds as one."""
    total = Load(loads[0].name)
    for load in loads:
        total.add(load)
    return total


def measure(options: argparse.Namespace) -> Iterator[str]:
    pictures = [path.read_bytes() for path in options.image or PICTURES]
    with service(options.model, options.serve) as (host, process):
        rounds = rounds_of(host, process, options, pictures)
    cores, names = os.cpu_count(), " ".join(options.serve) or "none"
    yield f"{options.model}, {cores} cores, options of serve: {names}\n\n{report(rounds)}"
    yield f"Load average of the machine: {', '.join(f'{value:.1f}' for value in os.getloadavg())}."


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = parser_of(__doc__)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--image", type=Path, action="append", help="picture file; may be repeated")
    parser.add_argument("--seconds", type=float, default=2, help="for each load of a round (default 2)")
    parser.add_argument("--rounds", type=int, default=10, help="default 10")
    parser.add_argument("--connections", type=int, nargs="+", default=CONNECTIONS, help="default 1 2 4 8 16")
    parser.add_argument("serve", nargs="*", metavar="-- OPTION", help="options of maskwatch serve")
    return run(measure, parser, arguments)


if __name__ == "__main__":
    sys.exit(main())
