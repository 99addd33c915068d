"""Which model watches, how many frames of a file, how many looks at a frame: by speed, or by a fixed rule.

Cameras go on whatever the detector does, so its measured speed decides. A file waits for it, and should give
the same result again, so a fixed rule decides.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from maskwatch.detector import Detector
from maskwatch.live.config import WatchConfig
from maskwatch.models import DEFAULT_MODEL

FAST_MODEL = "maskwatch-320"
"""Watches cameras for which `DEFAULT_MODEL` is too slow."""

LIVE_FPS = 5.0
"""Frames per second that each camera gets at least, without a limit: enough for people who walk."""

FILE_FPS = 6.0
"""Frames per second of a video file, unless a model or a limit is given; docs/people.md has its results."""

_NETWORK_SHARE = 0.7  # of the time; decoding, tracking and drawing need the rest
_FILE_LOOKS = 2  # at a frame of a file: the whole, and one tile for its zones
_RUNS = 3


@dataclass(frozen=True)
class ModelChoice:
    """The model of a run and what follows from its speed.

    Attributes:
        frame_s: measured seconds of one picture, where they decided on the model; None elsewhere.
        fps: limit on the frames per second that all sources have; None where there is none.
        file_fps: limit for files that do not play at their own pace; None for none.
        live_looks, file_looks: pictures of a frame of a camera and of such a file for which there is time.
    """

    detector: Detector
    frame_s: float | None
    fps: float | None
    file_fps: float | None
    live_looks: int
    file_looks: int = _FILE_LOOKS

    @property
    def title(self) -> str:
        """For people: `maskwatch-640 (640x640), 88 ms a frame`."""
        speed = [] if self.frame_s is None else [f"{1000 * self.frame_s:.0f} ms a frame"]
        rate = [] if self.fps is None else [f"{self.fps:g} frames/s"]
        return ", ".join([self.detector.metadata.title, *rate, *speed])


def seconds_per_picture(detector: Detector) -> float:
    """Seconds in which the network processes one picture, the best of a few runs."""
    picture = np.zeros((1, *detector.input_size, 3), np.uint8)
    detector.run(picture)  # the first run is slower
    times_s = []
    for _ in range(_RUNS):
        began_s = time.perf_counter()
        detector.run(picture)
        times_s.append(time.perf_counter() - began_s)
    return min(times_s)


def choose_model(
    config: WatchConfig,
    cameras: int,
    files: int,
    load: Callable[[str], Detector],
    measure: Callable[[Detector], float] = seconds_per_picture,
) -> ModelChoice:
    """Chooses the model of a run.

    A model of the configuration stays. Otherwise it is `DEFAULT_MODEL`, but `FAST_MODEL` if that one is too
    slow for all cameras at `LIVE_FPS`, or at the limit of the configuration.

    Args:
        cameras, files: number of sources of either kind; a file that plays at its own pace is a camera.
        load: returns the detector of a model.
        measure: returns seconds per picture.

    Raises:
        ModelFileError: as `load`.
    """
    given, auto_tiles = config.model, config.tiles is None
    detector = load(given or DEFAULT_MODEL)
    picture_s = measure(detector) if cameras and (given is None or auto_tiles) else None
    wanted = cameras * (config.fps or LIVE_FPS)  # frames per second
    if given is None and picture_s is not None and _looks(picture_s, wanted) < 1:
        detector = load(FAST_MODEL)
        picture_s = measure(detector)
    file_fps = config.fps if config.fps is not None or given is not None else FILE_FPS
    return ModelChoice(
        detector,
        frame_s=picture_s if given is None else None,
        fps=config.fps if cameras else file_fps,
        file_fps=file_fps if files else None,
        live_looks=1 if picture_s is None else max(1, _looks(picture_s, wanted)),
    )


def _looks(picture_s: float, frames_per_s: float) -> int:
    """How many pictures of each frame the network can process."""
    return int(_NETWORK_SHARE / (max(picture_s, 1e-6) * frames_per_s))
