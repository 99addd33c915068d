"""The parts of a run: captures, face finder and people trackers, opened from a configuration."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from maskwatch.detector import Detector
from maskwatch.live.capture.core import Capture, open_captures
from maskwatch.live.config import WatchConfig
from maskwatch.live.tracking.faces import FaceFinder
from maskwatch.live.tracking.people_tracker import PeopleTracker
from maskwatch.live.tracking.zones import Zones
from maskwatch.live.tracking.zones_file import check_sources, read_zones


@dataclass(frozen=True)
class Pipeline:
    """What turns sources into events, opened and not started.

    Attributes:
        finder: one model for all sources.
        trackers, zones: by source.
        run: name of this run of the program.
        fps: limit on the frames per second of each source; None for none.
    """

    captures: Sequence[Capture]
    finder: FaceFinder
    trackers: Mapping[str, PeopleTracker]
    zones: Mapping[str, Zones]
    run: str
    fps: float | None = None


def open_pipeline(config: WatchConfig, detector: Detector | None = None) -> Pipeline:
    """Opens what a configuration names.

    Args:
        detector: has loaded the model already; None loads it.

    Raises:
        MaskwatchError: something in the configuration is not possible.
    """
    captures = open_captures(config.sources, config.capture)
    names = [capture.name for capture in captures]
    zones = _zones(config, names)
    finder = FaceFinder(detector or config.model, threshold=config.threshold, threads=config.threads)
    run = uuid.uuid4().hex[:12]
    trackers = {name: PeopleTracker(name, run, finder.metadata, config.people, zones[name]) for name in names}
    return Pipeline(captures, finder, trackers, zones, run, config.fps)


def _zones(config: WatchConfig, names: Sequence[str]) -> dict[str, Zones]:
    if config.zones is None:
        return {name: Zones() for name in names}
    zones = read_zones(config.zones)
    check_sources(zones, names, config.zones)
    return {name: zones.for_source(name) for name in names}
