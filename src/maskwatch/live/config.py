"""All settings of watching in one dataclass, for the command line and the service."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from maskwatch.detector import Threshold
from maskwatch.errors import OptionError
from maskwatch.live.capture.settings import CaptureSettings
from maskwatch.live.output.window import check_display
from maskwatch.live.sinks.settings import SinkSettings
from maskwatch.live.timing import RateLimit
from maskwatch.live.tracking.settings import PeopleSettings
from maskwatch.live.tracking.tiles import MAX_TILES_ACROSS
from maskwatch.runtimes.choice import RuntimeSettings


@dataclass(frozen=True)
class WatchConfig:
    """The settings of a run, checked.

    Attributes:
        sources: as `open_captures` takes them.
        model: name of an embedded model, or path of a model file; None for `choose_model`.
        threshold: as `FaceFinder` takes it.
        runtime: what computes; several sources share out its threads.
        fps: limit on the frames per second of each source; None for `choose_model`.
        tiles: along the longer side of the frame or of the zones' area, see `TilePlan`; 0 for none, None for
            as many as there is time for.
        zones: a file of zones and lines.
        save_video: MP4 file; with several sources the name of each is added.
        thumbnails: folder for pictures of alerts.
        clips: folder for recordings of alerts.
        keep_hard: folder for hard cases, see `HardCases`; their faces are never blurred.
        keep_faces: do not blur faces in stored pictures.
        retain_days: delete stored data after so many days; None for never.
        json_lines: print events as JSON Lines.
        show: open a window.
        force: replace a video that exists.

    Raises:
        OptionError: settings that do not fit together.
    """

    sources: tuple[str, ...]
    model: str | None = None
    threshold: Threshold | None = None
    runtime: RuntimeSettings = field(default_factory=RuntimeSettings)
    fps: float | None = None
    tiles: int | None = None
    capture: CaptureSettings = field(default_factory=CaptureSettings)
    people: PeopleSettings = field(default_factory=PeopleSettings)
    zones: Path | None = None
    sinks: SinkSettings = field(default_factory=SinkSettings)
    save_video: Path | None = None
    thumbnails: Path | None = None
    clips: Path | None = None
    keep_hard: Path | None = None
    keep_faces: bool = False
    retain_days: float | None = None
    json_lines: bool = False
    show: bool = False
    force: bool = False

    def __post_init__(self) -> None:
        RateLimit(self.fps)  # checks it, before a model is loaded
        if self.tiles is not None and not 0 <= self.tiles <= MAX_TILES_ACROSS:
            raise OptionError(
                f"{self.tiles} tiles along the frame; choose 1 to {MAX_TILES_ACROSS}, or off for none"
            )
        if self.save_video is not None and self.save_video.suffix.lower() != ".mp4":
            raise OptionError(
                f"--save-video {self.save_video}: only MP4 is written; name a file ending in .mp4"
            )
        pictures = (self.save_video, self.thumbnails, self.clips)
        if self.keep_faces and not any(pictures):
            raise OptionError(
                "--keep-faces changes what is stored; add --save-video, --thumbnails or --clips"
            )
        sinks = (self.sinks.db, self.sinks.events, self.sinks.webhook, self.sinks.mqtt)
        if self.retain_days is not None and not any((*pictures, self.keep_hard, *sinks)):
            raise OptionError(
                "--retain deletes what this command stored; add something that stores, as --db, --events "
                "or --thumbnails"
            )
        if self.show:
            check_display()

    def video_paths(self, names: Sequence[str]) -> dict[str, Path]:
        """The video file of each source, by name; empty without `save_video`."""
        path = self.save_video
        if path is None:
            return {}
        if len(names) == 1:
            return {names[0]: path}
        return {name: path.with_name(f"{path.stem}_{name}{path.suffix}") for name in names}
