"""Memory of watching over a long time, with cameras that break off again and again.

    python benchmarks/live_memory.py --seconds 300
    python benchmarks/live_memory.py --seconds 86400 --cut-every 60

Watches an MJPEG camera whose connection ends every --cut-every seconds and, where GStreamer is installed, an
RTSP camera that is killed and restarted as often. A detector that is slowed on purpose takes the frames.
Memory is the resident set of this process (Linux only), in which the MJPEG server runs too.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from command import TESTS, head, parser_of, row, run

sys.path.insert(0, str(TESTS))

from camera_servers import FPS, HttpCamera, RtspServer, free_port, mjpeg, why_no_rtsp
from maskwatch.errors import OptionError
from maskwatch.live.capture.core import open_captures
from maskwatch.live.capture.group import CaptureGroup
from maskwatch.live.capture.settings import CaptureSettings
from maskwatch.live.capture.status import CaptureStatus

DETECTOR_S = 0.1
WARM_UP = 0.2  # share of the run after which the slope is measured; caches fill before
_STATUS = Path("/proc/self/status")


def resident_mib() -> float:
    """Resident set of this process in MiB."""
    line = next(line for line in _STATUS.read_text("ascii").splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024


@dataclass(frozen=True)
class Memory:
    """Samples of a run: seconds, MiB; and how the sources fared."""

    seconds: list[float]
    mib: list[float]
    sources: list[CaptureStatus]

    def slope(self) -> float:
        """MiB per hour, by least squares over what comes after the warm-up."""
        start = int(len(self.seconds) * WARM_UP)
        return float(np.polyfit(self.seconds[start:], self.mib[start:], 1)[0] * 3600)

    def table(self) -> str:
        """Markdown."""
        start = int(len(self.seconds) * WARM_UP)
        mib = (self.mib[0], self.mib[start], self.mib[-1], max(self.mib), self.slope())
        lines = [
            *head("| seconds | MiB at start | after warm-up | at end | most | slope, MiB/h |", left=0),
            row(f"{self.seconds[-1]:.0f}", *(f"{value:.1f}" for value in mib)),
            "",
            *head("| source | frames | passed over | reconnects |"),
            *(row(one.name, one.frames, one.dropped, one.reconnects) for one in self.sources),
        ]
        return "\n".join(lines)


@contextlib.contextmanager
def failing_rtsp(cut_every_s: float) -> Iterator[str]:
    """An RTSP camera that is killed and started again; gives its address."""
    port, ended = free_port(), threading.Event()

    def run() -> None:
        while not ended.is_set():
            with RtspServer(port):
                ended.wait(cut_every_s)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield f"rtsp=rtsp://127.0.0.1:{port}/door"
    finally:
        ended.set()
        thread.join()


def watch(specs: Sequence[str], seconds: float) -> Memory:
    """Takes frames for some time and looks at the memory every second."""
    times: list[float] = []
    mib: list[float] = []
    settings = CaptureSettings(stall_s=5, longest_wait_s=2)
    with CaptureGroup(open_captures(specs, settings)) as group:
        while not group.next(20):
            pass
        began = time.monotonic()
        while (passed := time.monotonic() - began) < seconds:
            if not times or passed - times[-1] >= 1:
                times.append(passed)
                mib.append(resident_mib())
            if group.next(1):
                time.sleep(DETECTOR_S)
        return Memory([*times, passed], [*mib, resident_mib()], group.status())


def measure(options: argparse.Namespace) -> Iterator[str]:
    if not _STATUS.exists():
        raise OptionError(f"no {_STATUS}, from which the memory is read; run it on Linux")
    with contextlib.ExitStack() as stack:
        answer = mjpeg(frames=max(1, round(options.cut_every * FPS)))
        specs = [f"mjpeg={stack.enter_context(HttpCamera(answer)).url}"]
        if options.stream == "all" and why_no_rtsp():
            print(f"without RTSP: {why_no_rtsp()}", file=sys.stderr)
        elif options.stream == "all":
            specs.append(stack.enter_context(failing_rtsp(options.cut_every)))
        yield watch(specs, options.seconds).table()


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = parser_of(__doc__)
    parser.add_argument("--seconds", type=float, default=120, help="length of the run (default 120)")
    parser.add_argument("--cut-every", type=float, default=5, help="seconds that a camera lasts (default 5)")
    parser.add_argument("--stream", choices=["all", "mjpeg"], default="all")
    return run(measure, parser, arguments)


if __name__ == "__main__":
    sys.exit(main())
