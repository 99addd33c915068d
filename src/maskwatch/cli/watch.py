"""`maskwatch watch`: cameras, streams and videos in; people and events out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from maskwatch.cli.event_options import EventOptions, Retain, Thumbnails, with_event_options
from maskwatch.cli.options import (
    SizeOption,
    ThreadsOption,
    ThresholdOption,
    parse_names,
    parse_threshold,
    pick_model,
)
from maskwatch.errors import MissingExtraError

if TYPE_CHECKING:
    from maskwatch.live.run import WatchPlan

LIVE_MODEL = "maskwatch-320"
"""A camera shows large faces, where it is as good as the other, and it is several times as fast."""

Sources = Annotated[
    list[str],
    typer.Argument(
        metavar="SOURCE",
        help="Webcam number, /dev/video*, rtsp:// or http(s):// stream or snapshot, video file, - for a "
        "pipe; NAME=SOURCE names it.",
    ),
]
Fps = Annotated[
    float | None, typer.Option(metavar="N", help="At most so many frames a second of each source.")
]
Pace = Annotated[bool, typer.Option("--pace", help="Play a video file at its own pace, as a camera would.")]
Transport = Annotated[str, typer.Option(metavar="tcp|udp", help="How RTSP carries its pictures.")]
Zones = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Zones and lines, see `maskwatch zones`."),
]
Dwell = Annotated[
    float | None, typer.Option(metavar="SECONDS", help="How long a state lasts before it is an alert.")
]
Cooldown = Annotated[
    float | None, typer.Option(metavar="SECONDS", help="How long after an alert no other comes for a person.")
]
Alert = Annotated[
    str | None,
    typer.Option(metavar="CLASSES", help="States that are alerts. Default: no_mask,mask_incorrect."),
]
Json = Annotated[bool, typer.Option("--json", help="Print events as JSON Lines, nothing else.")]
Show = Annotated[bool, typer.Option("--show", help="Open a window; q closes it.")]
SaveVideo = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Write what was seen as MP4, faces blurred."),
]
Force = Annotated[bool, typer.Option("--force", "-f", help="Let --save-video replace a file that exists.")]
KeepFaces = Annotated[bool, typer.Option("--keep-faces", help="Do not blur faces in what is stored.")]
Model = Annotated[
    str | None,
    typer.Option(metavar="MODEL", help="Name of an embedded model, or a file. Default: maskwatch-320."),
]


@with_event_options
def watch(
    sources: Sources,
    fps: Fps = None,
    pace: Pace = False,
    transport: Transport = "tcp",
    zones: Zones = None,
    dwell: Dwell = None,
    cooldown: Cooldown = None,
    alert: Alert = None,
    *,
    sinks: EventOptions,
    json_lines: Json = False,
    show: Show = False,
    save_video: SaveVideo = None,
    thumbnails: Thumbnails = None,
    keep_faces: KeepFaces = False,
    force: Force = False,
    retain: Retain = None,
    model: Model = None,
    size: SizeOption = None,
    threshold: ThresholdOption = None,
    threads: ThreadsOption = None,
) -> None:
    """Watch cameras, streams and videos: who wears no mask, and for how long.

    One event for one person, not one for each frame. Nothing is stored unless asked for. Ctrl-C and SIGTERM
    end it well: exit status 0, or 1 when a source had to be given up.

    Example: maskwatch watch door=rtsp://camera.local/stream --db events.sqlite --notify
    """
    plan = _plan(
        model=pick_model(model, size, default=LIVE_MODEL),
        sources=tuple(sources),
        threshold=parse_threshold(threshold),
        threads=threads,
        fps=fps,
        capture={"pace": pace, "rtsp_transport": transport},
        alerts={"dwell_s": dwell, "cooldown_s": cooldown},
        alert_classes=parse_names(alert),
        zones=zones,
        sinks=sinks,
        save_video=save_video,
        thumbnails=thumbnails,
        keep_faces=keep_faces,
        force=force,
        retain_days=retain,
        json_lines=json_lines,
        show=show,
    )
    from maskwatch.live.run import run_watch

    if not run_watch(plan):
        raise typer.Exit(1)


def _plan(
    *,
    capture: dict[str, Any],
    alerts: dict[str, float | None],
    alert_classes: tuple[str, ...] | None,
    sinks: EventOptions,
    **rest: Any,
) -> WatchPlan:
    try:
        from maskwatch.live.capture.capture import CaptureSettings
        from maskwatch.live.run import WatchPlan
        from maskwatch.live.tracking.alerts import AlertSettings
        from maskwatch.live.tracking.settings import PeopleSettings

        sink_settings = sinks.settings()
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"maskwatch watch (module {error.name})", "live") from None
    given = {name: value for name, value in alerts.items() if value is not None}
    return WatchPlan(
        capture=CaptureSettings(**capture),
        people=PeopleSettings(alerts=AlertSettings(**given), alert_classes=alert_classes),
        sinks=sink_settings,
        **rest,
    )
