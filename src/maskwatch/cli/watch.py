"""`maskwatch watch`: cameras, streams and videos in; people and events out."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from maskwatch.cli.event_options import (
    ClipsOption,
    KeepHardOption,
    RetainOption,
    ThumbnailsOption,
    with_event_options,
)
from maskwatch.cli.options import (
    DeviceOption,
    PrecisionOption,
    RuntimeOption,
    SizeOption,
    ThreadsOption,
    ThresholdOption,
    parse_names,
    parse_threshold,
    pick_model,
    pick_runtime,
    with_options,
)
from maskwatch.errors import MissingExtraError, OptionError
from maskwatch.live.sinks.settings import SinkSettings

if TYPE_CHECKING:
    from maskwatch.live.capture.settings import Transport
    from maskwatch.live.config import WatchConfig


@dataclass(frozen=True)
class WatchOptions:
    """The options of the command; None takes the default of the settings."""

    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE",
            help="Webcam number, /dev/video*, rtsp:// or http(s):// stream or snapshot, video file, - for a "
            "pipe; NAME=SOURCE names it.",
        ),
    ]
    fps: Annotated[
        float | None,
        typer.Option(
            metavar="N", help="Most frames per second of a source. Default for files without --model: 6."
        ),
    ] = None
    tiles: Annotated[
        str,
        typer.Option(
            metavar="auto|off|N",
            help="For small faces, also look at parts of the frame, enlarged: N along its longer side or "
            "that of the zones.",
        ),
    ] = "auto"
    pace: Annotated[bool, typer.Option("--pace", help="Play a video file in real time, as a camera.")] = False
    transport: Annotated[str, typer.Option(metavar="tcp|udp", help="Transport of RTSP.")] = "tcp"
    hwaccel: Annotated[
        str, typer.Option(metavar="auto|none|NAME", help="Device to decode videos on, such as cuda or vaapi.")
    ] = "none"
    zones: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Zones and lines, see `maskwatch zones`.")
    ] = None
    dwell: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="How long a state lasts before an alert."),
    ] = None
    cooldown: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Time after an alert until the person's next one.")
    ] = None
    alert: Annotated[
        str | None,
        typer.Option(metavar="CLASSES", help="States that cause alerts. Default: no_mask,mask_incorrect."),
    ] = None
    no_static: Annotated[
        bool, typer.Option("--no-static", help="Do not leave out faces that never move, as on posters.")
    ] = False
    sinks: SinkSettings = field(default_factory=SinkSettings)
    json_lines: Annotated[bool, typer.Option("--json", help="Print events as JSON Lines only.")] = False
    show: Annotated[bool, typer.Option("--show", help="Open a window; q closes it.")] = False
    save_video: Annotated[Path | None, typer.Option(metavar="FILE", help="Record MP4, faces blurred.")] = None
    thumbnails: ThumbnailsOption = None
    clips: ClipsOption = None
    keep_hard: KeepHardOption = None
    keep_faces: Annotated[bool, typer.Option("--keep-faces", help="Do not blur stored faces.")] = False
    force: Annotated[bool, typer.Option("--force", "-f", help="Let --save-video replace a file.")] = False
    retain: RetainOption = None
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Name of an embedded model, or a file. Default: maskwatch-640, for cameras maskwatch-320 if "
            "the other is too slow.",
        ),
    ] = None
    size: SizeOption = None
    threshold: ThresholdOption = None
    runtime: RuntimeOption = None
    device: DeviceOption = None
    precision: PrecisionOption = None
    threads: ThreadsOption = None


@with_event_options
@with_options(WatchOptions)
def watch(options: WatchOptions) -> None:
    """Watch cameras, streams and videos for faces without a mask.

    Reports one event for each person, not for each frame. Stores nothing by default. Ctrl-C and SIGTERM end
    it gracefully: exit status 0, or 1 if a source was given up.

    Example: maskwatch watch door=rtsp://camera.local/stream --db events.sqlite --notify
    """
    config = _config(options)
    from maskwatch.live.run import run_watch

    if not run_watch(config):
        raise typer.Exit(1)


def _config(options: WatchOptions) -> WatchConfig:
    try:
        from maskwatch.live.capture.settings import CaptureSettings
        from maskwatch.live.config import WatchConfig
        from maskwatch.live.tracking.alerts import AlertSettings
        from maskwatch.live.tracking.settings import PeopleSettings
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"maskwatch watch (module {error.name})", "live") from None
    alerts = {"dwell_s": options.dwell, "cooldown_s": options.cooldown}
    return WatchConfig(
        sources=tuple(options.sources),
        model=_model(options),
        threshold=parse_threshold(options.threshold),
        runtime=pick_runtime(options),
        fps=options.fps,
        tiles=_tiles(options.tiles),
        capture=CaptureSettings(
            pace=options.pace,
            rtsp_transport=cast("Transport", options.transport),
            hwaccel=options.hwaccel,
        ),
        people=PeopleSettings(
            alerts=AlertSettings(**{name: value for name, value in alerts.items() if value is not None}),
            alert_classes=parse_names(options.alert),
            static_s=0.0 if options.no_static else PeopleSettings.static_s,
        ),
        zones=options.zones,
        sinks=options.sinks,
        save_video=options.save_video,
        thumbnails=options.thumbnails,
        clips=options.clips,
        keep_hard=options.keep_hard,
        keep_faces=options.keep_faces,
        retain_days=options.retain,
        json_lines=options.json_lines,
        show=options.show,
        force=options.force,
    )


def _model(options: WatchOptions) -> str | None:
    given = options.model is not None or options.size is not None
    return pick_model(options.model, options.size) if given else None


def _tiles(text: str) -> int | None:
    if text in ("auto", "off"):
        return None if text == "auto" else 0
    if not (text.isascii() and text.isdigit() and int(text)):
        raise OptionError(f"--tiles {text}: write auto, off, or a number of tiles, such as 2")
    return int(text)
