"""How many cameras one process watches: RTSP, H.264, 1920x1080, 25 frames per second, with `--fps 5`.

    python benchmarks/cameras.py
    python benchmarks/cameras.py --models maskwatch-320 --seconds 60 --fps 5 --key-every 2

A GStreamer server in another process sends the frames of one encoded film again and again, for each camera
from another frame on; it neither draws nor encodes. The film shows the portraits of examples/ passing by,
with the noise of a camera. The parts of `maskwatch watch` run in this process, without sinks: 1, 2, 4 …
cameras, until one gets less than 95 % of its frames, and then the numbers in between.

The processor time is that of the threads as the system counts it (/proc/self/task, so Linux only). Threads
named "capture" read and decode. In the thread of the loop, `time.thread_time` around each part separates
converting, detecting and tracking. All other threads are those of the network, and so of detecting.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import math
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from command import TESTS, head, parser_of, row, run

sys.path.insert(0, str(TESTS))

from camera_servers import FPS, RtspServer, why_no_rtsp, write_rtsp_film
from maskwatch import embedded_models, read_image
from maskwatch.errors import OptionError
from maskwatch.live.capture import group
from maskwatch.live.capture.core import Capture
from maskwatch.live.config import WatchConfig
from maskwatch.live.loop import Outputs, WatchLoop, open_pipeline
from maskwatch.runtimes.choice import RuntimeSettings
from maskwatch.system import usable_cores

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
SERVED = 0.95
"""Share of its frames that a camera must get."""

PARTS = ("decode", "convert", "detect", "track", "other")
_NEXT = {
    "decode": "decoding: smaller streams (the sub-stream), a lower rate in the camera, --hwaccel",
    "convert": "converting to RGB: smaller streams (the sub-stream)",
    "detect": "the network: a smaller model, fewer frames per second (--fps), more cores",
    "track": "tracking: another process for some of the cameras",
    "other": "the rest of the loop: another process for some of the cameras",
}
_CONNECT_S = 60.0


@dataclass(frozen=True)
class Step:
    """What some cameras cost.

    Attributes:
        share: frames of the camera that got fewest, of those that it should have had.
        cpu_s: part → seconds of a core, per camera and second.
    """

    model: str
    cameras: int
    share: float
    cpu_s: dict[str, float]

    def row(self) -> str:
        """A line of the table; times in milliseconds."""
        times = [self.cpu_s[part] for part in PARTS]
        cells = (f"{1000 * value:.0f}" for value in [*times, sum(times)])
        return row(self.model, self.cameras, f"{self.share:.0%}", *cells)


def portraits(width: int, height: int, frames: int) -> Iterator[np.ndarray]:
    """Images uint8 (height, width, 3): faces that pass by, before a wall of portraits, in a loop."""
    faces = [read_image(EXAMPLES / name) for name in ("astronaut.jpg", "astronaut_masked.jpg")]
    wall = np.tile(
        cv2.resize(faces[0], (height // 2, height // 2)), (3, 2 * math.ceil(width / height) + 1, 1)
    )
    noise = np.random.default_rng(0).normal(0, 3, (4, height, width, 1)).astype(np.int16)
    side = height // 3
    small = [cv2.resize(face, (side, side)) for face in faces]
    for index in range(frames):
        turn = 2 * math.pi * index / frames
        x, y = (round(height / 54 * (1 + value)) for value in (math.sin(turn), math.cos(turn)))
        image = wall[y : y + height, x : x + width].copy()
        left = round((width - side) / 2 * (1 + math.sin(turn)))
        for line, face in enumerate(small):
            image[line * side : (line + 1) * side, left : left + side] = face
        yield np.clip(image + noise[index % len(noise)], 0, 255).astype(np.uint8)


def write_film(path: Path, options: argparse.Namespace) -> Path:
    """Ten seconds for the server, by an encoder that is set like that of a camera."""
    keys = round(options.key_every * FPS)
    count = keys * max(1, round(10 / options.key_every))
    images = portraits(options.width, options.height, count)
    limits = {"b": f"{options.mbit}M", "maxrate": f"{options.mbit}M", "bufsize": f"{options.mbit}M"}
    return write_rtsp_film(path, images, g=str(keys), keyint_min=str(keys), sc_threshold="0", **limits)


class Clock:
    """Adds up the processor time that the thread of the loop spends in parts of it."""

    def __init__(self) -> None:
        self.spent_s: Counter[str] = Counter()
        self.frames: Counter[str] = Counter()

    def timed(self, part: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """The same call, timed."""

        @functools.wraps(call)
        def timed_call(*args: Any, **kwargs: Any) -> Any:
            began_s = time.thread_time()
            try:
                return call(*args, **kwargs)
            finally:
                self.spent_s[part] += time.thread_time() - began_s

        return timed_call

    def on_frame(self, result: Any) -> None:
        """Counts the frames of each camera, as an observer of the loop."""
        self.frames[result.frame.source] += 1

    def on_event(self, event: Any) -> None:
        """Events do not matter here."""


@dataclass(frozen=True)
class Snapshot:
    """The counters of one moment; processor time is by part and thread, since threads may end."""

    at_s: float
    spent_s: dict[tuple[str, int], float]
    frames: Counter[str]

    @classmethod
    def take(cls, clock: Clock, loop_thread: threading.Thread) -> Snapshot:
        """Adds the processor time of all threads to what the clock has measured in that of the loop."""
        measured_s = dict(clock.spent_s)
        spent_s = {(part, 0): value for part, value in measured_s.items()}
        names = {thread.native_id: thread.name for thread in threading.enumerate()}
        for thread_id, cpu_s in cpu_of_threads().items():
            if thread_id == loop_thread.native_id:
                spent_s["other", thread_id] = cpu_s - sum(measured_s.values())
            elif names.get(thread_id, "detect").startswith("detect"):
                spent_s["detect", thread_id] = cpu_s
            elif names[thread_id].startswith("capture "):
                spent_s["decode", thread_id] = cpu_s
        return cls(time.monotonic(), spent_s, Counter(clock.frames))


def cpu_of_threads() -> dict[int, float]:
    """Thread id → seconds of processor time, of the threads of this process."""
    ticks = os.sysconf("SC_CLK_TCK")
    spent_s = {}
    for folder in Path("/proc/self/task").iterdir():
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # the thread has ended
            continue
        spent_s[int(folder.name)] = (int(fields[11]) + int(fields[12])) / ticks
    return spent_s


def watch(model: str, urls: Sequence[str], options: argparse.Namespace) -> Step:
    """Watches cameras for some seconds, after each has delivered."""
    sources = tuple(f"cam{index}={url}" for index, url in enumerate(urls))
    group.MAX_BATCH = options.batch
    runtime = RuntimeSettings(threads=options.threads)
    config = WatchConfig(sources=sources, model=model, runtime=runtime, fps=options.fps, tiles=0)
    pipeline = open_pipeline(config)
    clock = Clock()
    for tracker in pipeline.trackers.values():
        tracker.update = clock.timed("track", tracker.update)  # type: ignore[method-assign]
    for capture in pipeline.captures:
        capture.take = clock.timed("convert", capture.take)  # type: ignore[method-assign]
    pipeline = replace(pipeline, finder=clock.timed("detect", pipeline.finder))  # type: ignore[arg-type]
    loop = WatchLoop(pipeline, Outputs(put=lambda event: None, observers=[clock]))
    thread = threading.Thread(target=loop.run, name="loop")
    thread.start()
    try:
        await_frames(pipeline.captures)
        time.sleep(options.warm_up)
        before = Snapshot.take(clock, thread)
        time.sleep(options.seconds)
        after = Snapshot.take(clock, thread)
    finally:
        loop.stop()
        thread.join()
    return step_between(before, after, model, [capture.name for capture in pipeline.captures], options.fps)


def await_frames(captures: Sequence[Capture]) -> None:
    """Waits until each camera has delivered."""
    deadline_s = time.monotonic() + _CONNECT_S
    while waiting := [capture.status() for capture in captures if not capture.status().frames]:
        if time.monotonic() > deadline_s:
            status = waiting[0]
            raise OptionError(f"{status.name}: {status.error or 'no frame'}; is the port free?")
        time.sleep(0.1)


def step_between(before: Snapshot, after: Snapshot, model: str, names: Sequence[str], fps: float) -> Step:
    """What passed between two moments."""
    seconds = after.at_s - before.at_s
    fewest = min(after.frames[name] - before.frames[name] for name in names)
    # A frame may fall on either side of both ends.
    share = min(1.0, (fewest + 1) / (seconds * fps))
    spent_s = dict.fromkeys(PARTS, 0.0)
    for (part, thread_id), cpu_s in after.spent_s.items():
        spent_s[part] += cpu_s - before.spent_s.get((part, thread_id), 0.0)
    per_camera = {part: cpu_s / (seconds * len(names)) for part, cpu_s in spent_s.items()}
    return Step(model, len(names), share, per_camera)


def most_served(serve: Callable[[int], Step], most: int) -> Iterator[Step]:
    """Steps of 1, 2, 4 … cameras up to the first that gets too little, then by halves in between."""
    good, bad = 0, most + 1
    for cameras in itertools.chain((2**power for power in range(most.bit_length())), [most]):
        if good < cameras < bad:
            step = serve(cameras)
            yield step
            good, bad = (cameras, bad) if step.share >= SERVED else (good, cameras)
    while bad - good > 1:
        step = serve((good + bad) // 2)
        yield step
        good, bad = (step.cameras, bad) if step.share >= SERVED else (good, step.cameras)


def summary(steps: Sequence[Step]) -> str:
    """The most cameras served, and what to scale first."""
    served = max(
        (step for step in steps if step.share >= SERVED), key=lambda step: step.cameras, default=None
    )
    busiest = served or steps[0]
    part = max(PARTS, key=lambda name: busiest.cpu_s[name])
    share = busiest.cpu_s[part] / max(1e-9, sum(busiest.cpu_s.values()))
    count = served.cameras if served else 0
    return f"{busiest.model}: {count} served; first to scale ({share:.0%} of the time): {_NEXT[part]}"


def measure(options: argparse.Namespace) -> Iterator[str]:
    if reason := why_no_rtsp():
        raise OptionError(f"{reason}; install it, since cameras without it would cost what they measure")
    yield (
        f"{options.width}x{options.height}, {FPS} frames per second, {options.mbit:g} Mbit/s, a key frame "
        f"every {options.key_every:g} s; --fps {options.fps:g}, {usable_cores()} cores, "
        f"{options.seconds:g} s a step; milliseconds of a core per camera and second\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        film = write_film(Path(folder) / "film", options)
        yield from head(f"| model | cameras | frames | {' | '.join(PARTS)} | all |")
        summaries = []
        for model in options.models:
            steps = []
            with RtspServer(film=film) as server:
                urls = [f"{server.url.removesuffix('0')}{index}" for index in range(options.most)]
                serve = functools.partial(_serve, model, urls, options)
                for step in most_served(serve, options.most):
                    steps.append(step)
                    yield step.row()
            summaries.append(summary(steps))
    yield ""
    yield from summaries


def _serve(model: str, urls: Sequence[str], options: argparse.Namespace, cameras: int) -> Step:
    return watch(model, urls[:cameras], options)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = parser_of(__doc__)
    parser.add_argument("--models", nargs="+", default=list(embedded_models()))
    parser.add_argument("--seconds", type=float, default=30, help="length of a step (default 30)")
    parser.add_argument("--warm-up", type=float, default=5, help="seconds before it (default 5)")
    parser.add_argument("--fps", type=float, default=5, help="frames per second in use (default 5)")
    parser.add_argument("--most", type=int, default=64, help="most cameras (default 64, which is the limit)")
    parser.add_argument("--threads", type=int, help="as `watch` takes it")
    parser.add_argument("--batch", type=int, default=group.MAX_BATCH, help="most frames at once (default 8)")
    parser.add_argument("--key-every", type=float, default=2, help="seconds (default 2)")
    parser.add_argument("--mbit", type=float, default=4, help="per second of a camera (default 4)")
    parser.add_argument("--width", type=int, default=1920)
    parser.add_argument("--height", type=int, default=1080)
    return run(measure, parser, arguments)


if __name__ == "__main__":
    sys.exit(main())
