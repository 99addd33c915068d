"""Measures models on the backends of this machine: time, throughput, memory, and whether they agree."""

from __future__ import annotations

import math
import statistics
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from maskwatch.boxes import BoxDetections
from maskwatch.detector import Detector
from maskwatch.errors import MaskwatchError
from maskwatch.media.images import UInt8Array
from maskwatch.runtimes.base import TOLERANCES, Backend, BackendUnavailableError
from maskwatch.runtimes.choice import MAX_WORKERS
from maskwatch.system import usable_cores

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

MIN_ROUNDS = 5
"""Measured even where the time is over."""

# Shares of the time, counted from the start, at which a part of the measurement ends.
_ROUNDS_END, _WORKERS_END = 0.4, 0.7
_MEMORY_TIMEOUT_S = 60.0
_REFERENCE = Backend("onnxruntime", "cpu", "float32")

OpenDetector = Callable[[str, Backend, int | None], Detector]


@dataclass
class Measurement:
    """One model on one backend.

    Attributes:
        model: name or path.
        times_ms: of one picture in memory, from pixels to boxes, one for each round.
        pictures_per_s: by the number of workers, threads that call at once, each with its share of the cores.
        memory_mb: by how much loading and running raises the peak memory of a new process; None where that
            was not measured.
        agrees: whether the detections are those of ONNX Runtime on the CPU in float32, within `TOLERANCES`.
        ap: COCO's AP on the user's data; None without any.
        error: why it does not run; empty where it does.
        absent: whether this machine lacks its device.
        int8: whether the network of the model computes in int8, and only the rest in the backend's precision.
    """

    model: str
    backend: Backend
    times_ms: list[float] = field(default_factory=list)
    pictures_per_s: dict[int, float] = field(default_factory=dict)
    memory_mb: float | None = None
    agrees: bool = False
    ap: float | None = None
    error: str = ""
    absent: bool = False
    int8: bool = False

    @property
    def median_ms(self) -> float:
        """The median of `times_ms`."""
        return statistics.median(self.times_ms)

    @property
    def p95_ms(self) -> float:
        """The time that 95 % of `times_ms` do not exceed."""
        return percentile(self.times_ms, 0.95)


def open_detector(model: str, backend: Backend, threads: int | None) -> Detector:
    """A detector on exactly this backend. Raises as `Detector`."""
    return Detector(
        model,
        runtime=backend.runtime,
        device=backend.device,
        precision=backend.precision,
        threads=threads,
    )


def peak_growth_mb(model: str, backend: Backend, image_rgb: UInt8Array) -> float | None:
    """See `Measurement.memory_mb`; None where the system does not tell, or the process fails."""
    from multiprocessing import get_context

    context = get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(
        target=_send_peak_growth_mb, args=(sender, model, backend, image_rgb), daemon=True
    )
    process.start()
    sender.close()
    try:
        return receiver.recv() if receiver.poll(_MEMORY_TIMEOUT_S) else None
    except EOFError:  # it ended without an answer
        return None
    finally:
        receiver.close()
        process.kill()
        process.join()


def run_bench(
    models: Sequence[str],
    backends: Sequence[Backend],
    images_rgb: Sequence[UInt8Array],
    seconds: float,
    *,
    open_detector: OpenDetector = open_detector,
    memory_of: Callable[[str, Backend, UInt8Array], float | None] = peak_growth_mb,
    clock: Callable[[], float] = perf_counter,
) -> list[Measurement]:
    """Measures every model on every backend, in about `seconds` in all.

    Loading counts, and `MIN_ROUNDS` are always measured, so that slow machines take longer.

    Args:
        images_rgb: one or more pictures, uint8 (H, W, 3), which take turns.

    Raises:
        ModelFileError: there is no such model, or it does not run on the reference backend.
    """
    start = clock()
    running: list[tuple[Measurement, Detector]] = []
    measurements: list[Measurement] = []
    for model in models:
        reference = open_detector(model, _REFERENCE, None)
        for backend in backends:
            one = Measurement(model, backend, int8=reference.metadata.is_int8)
            measurements.append(one)
            try:
                detector = reference if backend == _REFERENCE else open_detector(model, backend, None)
                one.agrees = all(agree(reference, detector, image) for image in images_rgb)
            except MaskwatchError as error:
                one.error, one.absent = str(error), isinstance(error, BackendUnavailableError)
            else:
                running.append((one, detector))
    _time_rounds(running, images_rgb, start + _ROUNDS_END * seconds, clock)
    _time_workers(running, images_rgb, start + _WORKERS_END * seconds, open_detector, clock)
    for one, _ in running:
        if clock() < start + seconds:
            one.memory_mb = memory_of(one.model, one.backend, images_rgb[0])
    return measurements


def agree(reference: Detector, other: Detector, image_rgb: UInt8Array) -> bool:
    """Whether two detectors of one model find the same in a picture, within the `TOLERANCES` of the second.

    A detection that is closer to its threshold than scores may differ need not be found by both.
    """
    share, gap = TOLERANCES["int8" if other.metadata.is_int8 else other.backend.precision]
    return all(
        _all_in(_find(first, image_rgb, gap), _find(second, image_rgb, -gap), share, gap)
        for first, second in ((reference, other), (other, reference))
    )


def recommend(measurements: Sequence[Measurement]) -> Backend | None:
    """The backend that is fastest over all models, of those that agree and run for each; None without any."""
    by_backend: dict[Backend, list[Measurement]] = {}
    for one in measurements:
        by_backend.setdefault(one.backend, []).append(one)
    means = {
        backend: statistics.geometric_mean([one.median_ms for one in group])
        for backend, group in by_backend.items()
        if all(one.agrees and not one.error for one in group)
    }
    return min(means, key=means.__getitem__, default=None)


def worker_counts(cores: int) -> list[int]:
    """Numbers of workers to measure: 1, 2, and as many as there are cores, up to `MAX_WORKERS`."""
    return sorted({1, min(2, cores), min(cores, MAX_WORKERS)})


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of all do not exceed."""
    ordered = sorted(values)
    return ordered[math.ceil(share * len(ordered)) - 1]


def _time_rounds(
    running: Sequence[tuple[Measurement, Detector]],
    images_rgb: Sequence[UInt8Array],
    end: float,
    clock: Callable[[], float],
) -> None:
    """All take turns in every round, so that whatever else the machine does falls on all of them alike."""
    if not running:
        return
    rounds = 0
    while rounds < MIN_ROUNDS or clock() < end:
        image = images_rgb[rounds % len(images_rgb)]
        for one, detector in running:
            detector.detect_boxes(image)  # not timed: brings this model back into the CPU's caches
            start = clock()
            detector.detect_boxes(image)
            one.times_ms.append((clock() - start) * 1000)
        rounds += 1


def _time_workers(
    running: Sequence[tuple[Measurement, Detector]],
    images_rgb: Sequence[UInt8Array],
    end: float,
    open_detector: OpenDetector,
    clock: Callable[[], float],
) -> None:
    cores = usable_cores()
    left = [(one, detector, workers) for one, detector in running for workers in worker_counts(cores)]
    while left:
        seconds = max(0.0, (end - clock()) / len(left))
        one, detector, workers = left.pop(0)
        if workers > 1:
            detector = open_detector(one.model, one.backend, cores // workers)
        one.pictures_per_s[workers] = throughput(detector, images_rgb, workers, seconds, clock)


def throughput(
    detector: Detector,
    images_rgb: Sequence[UInt8Array],
    workers: int,
    seconds: float,
    clock: Callable[[], float] = perf_counter,
) -> float:
    """Pictures a second in `workers` threads at once; each computes at least one."""

    def work(end: float) -> int:
        done = 0
        while done == 0 or clock() < end:
            detector.detect_boxes(images_rgb[done % len(images_rgb)])
            done += 1
        return done

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(work, [-math.inf] * workers))  # warms up
        start = clock()
        done = sum(pool.map(work, [start + seconds] * workers))
        return done / (clock() - start)


def _find(detector: Detector, image_rgb: UInt8Array, above: float) -> BoxDetections:
    """Detections at the model's thresholds plus `above`."""
    thresholds = {name: min(1.0, max(0.0, score + above)) for name, score in detector.thresholds.items()}
    return detector.variant(threshold=thresholds).detect_boxes(image_rgb)


def _all_in(found: BoxDetections, others: BoxDetections, share: float, gap: float) -> bool:
    """Whether each detection has a partner among the others, see `TOLERANCES`."""
    for box_xyxy, score, class_id in zip(found.xyxy, found.confidence, found.class_id, strict=True):
        side = max(box_xyxy[2:] - box_xyxy[:2])
        close = np.abs(others.xyxy - box_xyxy).max(1, initial=0.0) <= share * side
        close &= (np.abs(others.confidence - score) <= gap) & (others.class_id == class_id)
        if not close.any():
            return False
    return True


def _send_peak_growth_mb(sender: Connection, model: str, backend: Backend, image_rgb: UInt8Array) -> None:
    """Runs in a new process."""
    before = _peak_mb()
    try:
        detector = open_detector(model, backend, None)
        for _ in range(3):
            detector.detect_boxes(image_rgb)
    except MaskwatchError:
        return
    after = _peak_mb()
    sender.send(None if before is None or after is None else after - before)


def _peak_mb() -> float | None:
    """Peak memory of this process in MiB; None where the system does not tell."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux, whose ru_maxrss is also that of the process which started this one
        return int(status.read_text("utf-8").split("VmHWM:")[1].split()[0]) / (1 << 10)
    try:
        import resource
    except ImportError:  # Windows
        return None
    per_mib = 1 << (20 if sys.platform == "darwin" else 10)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / per_mib


def table(measurements: Sequence[Measurement]) -> Iterator[str]:
    """The result in lines of at most 80 columns, a block for each model."""
    absent = dict.fromkeys(_name(one.backend) for one in measurements if one.absent)
    measurements = [one for one in measurements if not one.absent]
    workers = sorted({count for one in measurements for count in one.pictures_per_s})
    width = max(len(_name(one.backend)) for one in measurements)
    heads = [
        "ms",
        "p95",
        *(f"{count}/s" for count in workers),
        "MB",
        *(["AP"] if _with_ap(measurements) else []),
    ]
    for model in dict.fromkeys(one.model for one in measurements):
        rows = [one for one in measurements if one.model == model]
        yield f"{model[-70:]}{' (int8)' if any(one.int8 for one in rows) else ''}:"
        yield "  ".join([" " * width, *(head.rjust(5) for head in heads)])
        for one in sorted(rows, key=lambda one: math.inf if one.error else one.median_ms):
            yield _row(one, workers, width, _with_ap(measurements))
    yield ""
    yield "ms: median of one picture in memory; n/s: pictures a second by n workers;"
    yield "MB: peak memory beyond that of the started program."
    if absent:
        yield from textwrap.wrap(f"not on this machine: {', '.join(absent)}", 80)
    if any(not one.agrees and not one.error for one in measurements):
        yield "*: detections differ from those of ONNX Runtime in float32 on the CPU."


def _row(one: Measurement, workers: Sequence[int], width: int, with_ap: bool) -> str:
    name = _name(one.backend).ljust(width)
    if one.error:
        return f"{name}  {one.error}"[:79]
    cells = [f"{one.median_ms:.1f}", f"{one.p95_ms:.1f}"]
    cells += [f"{one.pictures_per_s[count]:.1f}" if count in one.pictures_per_s else "-" for count in workers]
    cells.append("-" if one.memory_mb is None else f"{one.memory_mb:.0f}")
    if with_ap:
        cells.append("-" if one.ap is None else f"{one.ap:.3f}")
    return "  ".join([name, *(cell.rjust(5) for cell in cells)]) + ("" if one.agrees else " *")


def _name(backend: Backend) -> str:
    return f"{backend.runtime} {backend.device} {backend.precision}"


def _with_ap(measurements: Sequence[Measurement]) -> bool:
    return any(one.ap is not None for one in measurements)
