"""How old a picture is when the detector has done with it: from being shown to the end of its detection.

    python benchmarks/live_delay.py
    python benchmarks/live_delay.py --seconds 60 --detector-ms 200 --stream mjpeg

A local server streams 25 frames per second, through RTSP (H.264) where GStreamer is installed, else MJPEG
over HTTP. Each frame shows the time at which it was sent. A detector that is slowed on purpose (it sleeps)
takes the frames from three readers, one after the other: Maskwatch's; OpenCV's `read` in a plain loop; and
OpenCV in a thread that queues every frame, the usual first version.
"""

from __future__ import annotations

import argparse
import contextlib
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from command import TESTS, head, parser_of, row, run

sys.path.insert(0, str(TESTS))

import barcode
from camera_servers import FPS, HttpCamera, RtspServer, mjpeg, read_number, why_no_rtsp
from maskwatch.errors import OptionError
from maskwatch.live.capture.core import open_capture
from maskwatch.live.capture.group import CaptureGroup

PATIENCE_S = 20.0

Take = Callable[[], np.ndarray]
"""The next frame, uint8 (H, W, 3)."""


@dataclass(frozen=True)
class Run:
    """What one reader did; delays in seconds, in the order of the frames."""

    reader: str
    detector_ms: float
    delays_s: list[float]
    missed: int

    def row(self) -> str:
        """A line of the table."""
        delays = np.array(self.delays_s) * 1000
        last = delays[-max(1, len(delays) // 10) :]
        times = (np.median(delays), np.percentile(delays, 95), np.median(last))
        cells = (self.reader, f"{self.detector_ms:g}", len(delays), self.missed)
        return row(*cells, *(f"{value:.0f}" for value in times))


@contextlib.contextmanager
def by_maskwatch(url: str) -> Iterator[Take]:
    with CaptureGroup([open_capture(url)]) as group:
        yield lambda: group.next(PATIENCE_S)[0].image_rgb


@contextlib.contextmanager
def by_read(url: str) -> Iterator[Take]:
    capture = cv2.VideoCapture(url, cv2.CAP_FFMPEG)
    try:
        yield lambda: capture.read()[1]
    finally:
        capture.release()


@contextlib.contextmanager
def by_queue(url: str) -> Iterator[Take]:
    capture = cv2.VideoCapture(url, cv2.CAP_FFMPEG)
    frames: queue.Queue[np.ndarray] = queue.Queue()
    ended = threading.Event()

    def read() -> None:
        while not ended.is_set():
            ok, image_bgr = capture.read()
            if not ok:
                return
            frames.put(image_bgr)

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield lambda: frames.get(timeout=PATIENCE_S)
    finally:
        ended.set()
        thread.join()
        capture.release()


READERS = {
    "maskwatch": by_maskwatch,
    "`VideoCapture.read` in a loop": by_read,
    "every frame in a queue": by_queue,
}


@contextlib.contextmanager
def camera(stream: str) -> Iterator[str]:
    """The address of a camera that runs for the length of the block."""
    with RtspServer() if stream == "rtsp" else HttpCamera(mjpeg()) as server:
        yield server.url


def watch(reader: str, url: str, seconds: float, detector_ms: float) -> Run:
    """Watches for some seconds after the first frame."""
    delays, numbers = [], []
    with READERS[reader](url) as take:
        take()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            number, shown_s = read_number(take())
            time.sleep(detector_ms / 1000)
            delays.append(barcode.delay_s(shown_s))
            numbers.append(number)
    return Run(reader, detector_ms, delays, numbers[-1] - numbers[0] + 1 - len(numbers))


def measure(options: argparse.Namespace) -> Iterator[str]:
    stream = options.stream
    if stream == "rtsp" and why_no_rtsp():
        raise OptionError(f"{why_no_rtsp()}; use --stream mjpeg")
    if stream == "auto":
        stream = "mjpeg" if why_no_rtsp() else "rtsp"
    yield (
        f"{stream}, {FPS} frames per second, {barcode.WIDTH}x{barcode.HEIGHT}, {options.seconds:g} s each\n"
    )
    yield from head(
        "| reader | detector, ms | frames | passed over | median delay, ms | p95 | median of the last tenth |"
    )
    for detector_ms in options.detector_ms:
        for reader in READERS:
            with camera(stream) as url:
                yield watch(reader, url, options.seconds, detector_ms).row()


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = parser_of(__doc__)
    parser.add_argument("--seconds", type=float, default=20, help="for each line of the table (default 20)")
    parser.add_argument("--detector-ms", type=float, nargs="+", default=[0, 200], help="default: 0 200")
    parser.add_argument("--stream", choices=["auto", "rtsp", "mjpeg"], default="auto")
    return run(measure, parser, arguments)


if __name__ == "__main__":
    sys.exit(main())
