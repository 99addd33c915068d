"""`maskwatch serve`: the detector over HTTP, and its page."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from maskwatch.cli.event_options import (
    ClipsOption,
    KeepHardOption,
    RetainOption,
    ThumbnailsOption,
    given_options,
    with_event_options,
)
from maskwatch.cli.options import (
    DeviceOption,
    PrecisionOption,
    RuntimeOption,
    SizeOption,
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
    from maskwatch.live.config import WatchConfig
    from maskwatch.serve.settings import ServeSettings

TOKEN_VARIABLE = "MASKWATCH_TOKEN"


def _option(*names: str, metavar: str | None = "N", help: str) -> Any:
    return typer.Option(*names, metavar=metavar, help=help)


def _watch_option(*names: str, metavar: str | None, help: str) -> Any:
    return typer.Option(*names, metavar=metavar, help=help, rich_help_panel="Watching")


@dataclass(frozen=True)
class ServeOptions:
    """The options of the command, named as in `ServeSettings` and `ServiceLimits`; None: its default."""

    host: Annotated[
        str | None,
        _option(
            metavar="ADDRESS", help="Where to listen; all but localhost need a token. Default: 127.0.0.1."
        ),
    ] = None
    port: Annotated[int | None, _option(help="Port; 0 takes a free one. Default: 8765.")] = None
    model: Annotated[
        list[str] | None,
        _option(metavar="MODEL", help="Name or file; repeatable, the default first. Default: all embedded."),
    ] = None
    size: SizeOption = None
    threshold: ThresholdOption = None
    workers: Annotated[int | None, _option(help="Worker processes. Default: 1.")] = None
    threads: Annotated[
        int | None, _option(help="Threads of the network in a call. Default: cores / inference workers.")
    ] = None
    runtime: RuntimeOption = None
    device: DeviceOption = None
    precision: PrecisionOption = None
    inference_workers: Annotated[
        int | None, _option(help="Parallel calls of the network, in each worker. Default: 2.")
    ] = None
    lanes: Annotated[int | None, typer.Option(hidden=True)] = None
    batch: Annotated[int | None, _option(help="Waiting pictures in one call, at most. Default: 1.")] = None
    token_file: Annotated[
        Path | None,
        _option(metavar="FILE", help="Tokens, one a line, read again on changes. Default: MASKWATCH_TOKEN."),
    ] = None
    cors: Annotated[
        list[str] | None, _option(metavar="ORIGIN", help="Pages of this origin may use the service.")
    ] = None
    allow_urls: Annotated[
        bool, _option("--allow-urls", metavar=None, help="Fetch pictures from public addresses.")
    ] = False
    url_networks: Annotated[
        list[str] | None,
        _option("--url-network", metavar="NETWORK", help="And from this network, e.g. 192.168.1.0/24."),
    ] = None
    max_bytes: Annotated[int | None, _option(help="Bytes of a body. Default: 32 MiB.")] = None
    max_pixels: Annotated[int | None, _option(help="Pixels of a picture. Default: 50 million.")] = None
    max_images: Annotated[int | None, _option(help="Pictures in a request. Default: 16.")] = None
    waiting: Annotated[
        int | None, _option(help="Pictures that may wait when a request arrives; beyond it 503. Default: 1.")
    ] = None
    queue: Annotated[int | None, _option(help="Pictures in work or waiting; beyond it 503. Default: 32.")] = (
        None
    )
    timeout_s: Annotated[
        float | None, _option("--timeout", metavar="SECONDS", help="For a request. Default: 30.")
    ] = None
    max_uploads: Annotated[int | None, _option(help="Uploads at the same time. Default: 64.")] = None
    upload_bytes: Annotated[
        int | None, _option(help="Bytes of all uploads in memory. Default: eight bodies.")
    ] = None
    max_streams: Annotated[int | None, _option(help="Open streams. Default: 16.")] = None
    rate: Annotated[float | None, _option(help="Requests a second of one client. Default: no limit.")] = None
    drain_s: Annotated[
        float | None,
        _option(
            "--drain",
            metavar="SECONDS",
            help="Before it ends: unready for so long, while it still answers. Default: 0.",
        ),
    ] = None
    watch: Annotated[
        list[str] | None,
        _watch_option(
            "--watch", metavar="SOURCE", help="Also watch this, as `maskwatch watch` does; repeatable."
        ),
    ] = None
    watch_fps: Annotated[
        float | None,
        _watch_option("--watch-fps", metavar="N", help="At most so many frames a second of each source."),
    ] = None
    zones: Annotated[
        Path | None,
        _watch_option("--zones", metavar="FILE", help="Zones and lines, see `maskwatch zones`."),
    ] = None
    alert: Annotated[
        str | None,
        _watch_option(
            "--alert", metavar="CLASSES", help="States that cause alerts. Default: no_mask,mask_incorrect."
        ),
    ] = None
    keep_faces: Annotated[
        bool,
        _watch_option("--keep-faces", metavar=None, help="Do not blur faces in what is shown and stored."),
    ] = False
    sinks: SinkSettings = field(kw_only=True)
    thumbnails: ThumbnailsOption = None
    clips: ClipsOption = None
    keep_hard: KeepHardOption = None
    retain: RetainOption = None


@with_event_options
@with_options(ServeOptions)
def serve(options: ServeOptions) -> None:
    """Serve the detector over HTTP, with a page to try it.

    Listens on this machine only; another --host needs a token. Ctrl-C and SIGTERM end it gracefully:
    requests in work get their answer, exit status 0.

    Example: MASKWATCH_TOKEN=... maskwatch serve --host 0.0.0.0 --workers 2
    """
    settings = _settings(options)
    if settings.keep_hard is not None:
        from maskwatch.hard_cases import notice

        print(f"keep-hard: {notice(settings.keep_hard)}", file=sys.stderr, flush=True)
    if settings.workers == 1:
        from maskwatch.serve.server import run_server as run
    else:
        from maskwatch.serve.supervisor import run_workers as run
    run(settings, _announce)


def _settings(options: ServeOptions) -> ServeSettings:
    try:
        import maskwatch.serve.app
        import maskwatch.serve.server  # noqa: F401, so that a missing extra shows here
        from maskwatch.serve.settings import ServeSettings, ServiceLimits
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"maskwatch serve (module {error.name})", "serve") from None
    models = _models(options.model, options.size)
    values = _given(options, ServeSettings) | {
        "models": models,
        "threshold": parse_threshold(options.threshold),
        "token": _token(options.token_file),
        "cors": tuple(options.cors or ()),
        "url_networks": tuple(options.url_networks or ()),
        "runtime": replace(pick_runtime(options), threads=None),
        "limits": ServiceLimits(**_given(options, ServiceLimits)),
        "retain_days": options.retain,
        "watch": _watch_config(options, models[0] if options.model or options.size else None),
    }
    if options.lanes is not None:
        values["inference_workers"] = _lanes(options.lanes, options.inference_workers)
    return ServeSettings(**values)


def _given(options: ServeOptions, settings: type[Any]) -> dict[str, Any]:
    """The given options that have the name of a field of the settings."""
    values = {one.name: getattr(options, one.name, None) for one in fields(settings)}
    return {name: value for name, value in values.items() if value is not None}


def _lanes(lanes: int, inference_workers: int | None) -> int:
    if inference_workers is not None:
        raise OptionError("--lanes is the old name of --inference-workers; give only the new one")
    print("--lanes is deprecated; use --inference-workers", file=sys.stderr)
    return lanes


def _watch_config(options: ServeOptions, model: str | None) -> WatchConfig | None:
    if not options.watch:
        _check_nothing_watched(options)
        return None
    try:
        from maskwatch.live.capture.settings import CaptureSettings
        from maskwatch.live.config import WatchConfig
        from maskwatch.live.tracking.settings import PeopleSettings
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"--watch (module {error.name})", "live") from None
    return WatchConfig(
        sources=tuple(options.watch),
        model=model,
        threshold=parse_threshold(options.threshold),
        runtime=pick_runtime(options),
        fps=options.watch_fps,
        people=PeopleSettings(alert_classes=parse_names(options.alert)),
        zones=options.zones,
        capture=CaptureSettings(pace=True),  # a file plays in real time: people watch the page
        sinks=options.sinks,
        thumbnails=options.thumbnails,
        clips=options.clips,
        keep_hard=options.keep_hard,
        retain_days=options.retain,
    )


def _check_nothing_watched(options: ServeOptions) -> None:
    names = ["zones", "watch_fps", "alert", "thumbnails", "clips"]
    names += ["retain"] if options.keep_hard is None else []
    values = [(name.replace("_", "-"), getattr(options, name)) for name in names]
    given = [f"--{name} {value}" for name, value in values if value is not None] + given_options(
        options.sinks
    )
    if given:
        raise OptionError(f"{given[0]} is about what is watched; add --watch SOURCE")


def _models(names: list[str] | None, size: int | None) -> tuple[str, ...]:
    from maskwatch.models import embedded_models

    if names and size is None:
        return tuple(names)
    if size is not None:
        return (pick_model(names[0] if names else None, size),)
    return embedded_models()


def _token(file: Path | None) -> str | None:
    given = os.environ.get(TOKEN_VARIABLE) or None
    if file is not None and given is not None:
        raise OptionError(f"--token-file {file} and {TOKEN_VARIABLE} both give a token; give only one")
    return given


def _announce(address: str) -> None:
    print(f"maskwatch serves at {address} (Ctrl-C ends it)", flush=True)
