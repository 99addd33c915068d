"""`maskwatch serve`: the detector over HTTP, and its page."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from maskwatch.cli.event_options import Retain, Thumbnails, given_options, with_event_options
from maskwatch.cli.options import parse_threshold, pick_model
from maskwatch.cli.watch import LIVE_MODEL
from maskwatch.errors import MissingExtraError, OptionError
from maskwatch.live.sinks.settings import SinkSettings
from maskwatch.text import read_lines, reading

if TYPE_CHECKING:
    from maskwatch.live.config import WatchConfig
    from maskwatch.serve.settings import ServeSettings

TOKEN_VARIABLE = "MASKWATCH_TOKEN"

_WATCHING = "Watching"

Host = Annotated[
    str, typer.Option(metavar="ADDRESS", help="Where to listen; all but this machine needs a token.")
]
Port = Annotated[int, typer.Option(metavar="N", help="Port; 0 takes a free one.")]
Model = Annotated[
    list[str] | None,
    typer.Option(metavar="MODEL", help="An embedded model or a file; several times, the default one first. "
                 "Default: all embedded ones."),
]  # fmt: skip
Size = Annotated[int | None, typer.Option(metavar="PIXELS", help="Take the embedded model of this size.")]
Threshold = Annotated[
    str | None,
    typer.Option(metavar="SCORE", help="Scores above it count, unless a request says otherwise."),
]
Workers = Annotated[int, typer.Option(metavar="N", help="Processes side by side.")]
Threads = Annotated[
    int | None, typer.Option(metavar="N", help="Threads of the network in a call. Default: cores by lanes.")
]
Lanes = Annotated[int, typer.Option(metavar="N", help="Calls of the network side by side, in each worker.")]
Batch = Annotated[int, typer.Option(metavar="N", help="Pictures in a call, of those that wait.")]
TokenFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Its first line is the token; else that of MASKWATCH_TOKEN."),
]
Cors = Annotated[
    list[str] | None, typer.Option(metavar="ORIGIN", help="Pages of this origin may use the service.")
]
AllowUrls = Annotated[bool, typer.Option("--allow-urls", help="Fetch pictures from public addresses.")]
UrlNetwork = Annotated[
    list[str] | None, typer.Option(metavar="NETWORK", help="And from this network, e.g. 192.168.1.0/24.")
]
MaxBytes = Annotated[int | None, typer.Option(metavar="N", help="Bytes of a body. Default: 32 MiB.")]
MaxPixels = Annotated[int | None, typer.Option(metavar="N", help="Pixels of a picture. Default: 50 million.")]
MaxImages = Annotated[int | None, typer.Option(metavar="N", help="Pictures in a request. Default: 16.")]
Waiting = Annotated[
    int | None,
    typer.Option(metavar="N", help="Pictures that may wait when a request comes; else 503. Default: 1."),
]
Queue = Annotated[
    int | None, typer.Option(metavar="N", help="Pictures in work or waiting; then 503. Default: 32.")
]
Timeout = Annotated[float | None, typer.Option(metavar="SECONDS", help="For a request. Default: 30.")]
MaxUploads = Annotated[
    int | None, typer.Option(metavar="N", help="Bodies that come in at the same time. Default: 64.")
]
UploadBytes = Annotated[
    int | None, typer.Option(metavar="N", help="Bytes of all bodies in memory. Default: eight bodies.")
]
MaxStreams = Annotated[int | None, typer.Option(metavar="N", help="Open streams. Default: 16.")]
Rate = Annotated[
    float | None, typer.Option(metavar="N", help="Requests a second of one client. Default: any number.")
]
Drain = Annotated[
    float, typer.Option(metavar="SECONDS", help="When told to stop, answer 503 for so long, then end.")
]
WatchSources = Annotated[
    list[str] | None,
    typer.Option(
        "--watch",
        metavar="SOURCE",
        rich_help_panel=_WATCHING,
        help="Watch this beside, as `maskwatch watch`; several times.",
    ),
]
WatchFps = Annotated[
    float | None,
    typer.Option(
        metavar="N", rich_help_panel=_WATCHING, help="At most so many frames a second of each source."
    ),
]
Zones = Annotated[
    Path | None,
    typer.Option(metavar="FILE", rich_help_panel=_WATCHING, help="Zones and lines, see `maskwatch zones`."),
]
KeepFaces = Annotated[
    bool,
    typer.Option(
        "--keep-faces", rich_help_panel=_WATCHING, help="Do not blur faces in what is shown and stored."
    ),
]


@with_event_options
def serve(
    host: Host = "127.0.0.1",
    port: Port = 8765,
    model: Model = None,
    size: Size = None,
    threshold: Threshold = None,
    workers: Workers = 1,
    threads: Threads = None,
    lanes: Lanes = 2,
    batch: Batch = 1,
    token_file: TokenFile = None,
    cors: Cors = None,
    allow_urls: AllowUrls = False,
    url_network: UrlNetwork = None,
    max_bytes: MaxBytes = None,
    max_pixels: MaxPixels = None,
    max_images: MaxImages = None,
    waiting: Waiting = None,
    queue: Queue = None,
    timeout: Timeout = None,
    max_uploads: MaxUploads = None,
    upload_bytes: UploadBytes = None,
    max_streams: MaxStreams = None,
    rate: Rate = None,
    drain: Drain = 0.0,
    watch: WatchSources = None,
    watch_fps: WatchFps = None,
    zones: Zones = None,
    keep_faces: KeepFaces = False,
    *,
    sinks: SinkSettings,
    thumbnails: Thumbnails = None,
    retain: Retain = None,
) -> None:
    """Serve the detector over HTTP, with a page to try it.

    Listens on this machine only unless told otherwise, and then asks for a token. Ctrl-C and SIGTERM end it
    well: requests in work get their answer, exit status 0.

    Example: MASKWATCH_TOKEN=... maskwatch serve --host 0.0.0.0 --workers 2
    """
    limits = {
        "max_bytes": max_bytes,
        "max_pixels": max_pixels,
        "max_images": max_images,
        "waiting": waiting,
        "queue": queue,
        "timeout_s": timeout,
        "max_uploads": max_uploads,
        "upload_bytes": upload_bytes,
        "max_streams": max_streams,
        "rate": rate,
    }
    models, thresholds = _models(model, size), parse_threshold(threshold)
    settings = _settings(
        limits,
        models=models,
        threshold=thresholds,
        host=host,
        port=port,
        workers=workers,
        threads=threads,
        lanes=lanes,
        batch=batch,
        token=_token(token_file),
        cors=tuple(cors or ()),
        allow_urls=allow_urls,
        url_networks=tuple(url_network or ()),
        drain_s=drain,
        watch=_plan(
            watch or [],
            model=models[0] if model or size else LIVE_MODEL,
            threshold=thresholds,
            threads=threads,
            fps=watch_fps,
            zones=zones,
            sinks=sinks,
            thumbnails=thumbnails,
            retain_days=retain,
        ),
        keep_faces=keep_faces,
    )
    if settings.workers == 1:
        from maskwatch.serve.server import run_alone as run
    else:
        from maskwatch.serve.workers import run_workers as run
    run(settings, _announce)


def _settings(limits: dict[str, Any], **rest: Any) -> ServeSettings:
    try:
        import maskwatch.serve.server  # noqa: F401, so that a missing extra shows here
        from maskwatch.serve.settings import Limits, ServeSettings
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"maskwatch serve (module {error.name})", "serve") from None
    given = {name: value for name, value in limits.items() if value is not None}
    return ServeSettings(limits=Limits(**given), **rest)


def _plan(sources: list[str], *, sinks: SinkSettings, **rest: Any) -> WatchConfig | None:
    if not sources:
        options = {"zones": "zones", "watch-fps": "fps", "thumbnails": "thumbnails", "retain": "retain_days"}
        given = [f"--{name} {rest[key]}" for name, key in options.items() if rest[key] is not None]
        given += given_options(sinks)
        if given:
            raise OptionError(f"{given[0]} is about what is watched; add --watch SOURCE")
        return None
    try:
        from maskwatch.live.capture.settings import CaptureSettings
        from maskwatch.live.config import WatchConfig
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"--watch (module {error.name})", "live") from None
    # A file plays at its own pace: somebody looks.
    capture = CaptureSettings(pace=True)
    return WatchConfig(sources=tuple(sources), capture=capture, sinks=sinks, **rest)


def _models(names: list[str] | None, size: int | None) -> tuple[str, ...]:
    from maskwatch.models import embedded_models

    if names and size is None:
        return tuple(names)
    if size is not None:
        return (pick_model(names[0] if names else None, size),)
    return embedded_models()


def _token(file: Path | None) -> str | None:
    given = os.environ.get(TOKEN_VARIABLE) or None
    if file is None:
        return given
    if given is not None:
        raise OptionError(f"--token-file {file} and {TOKEN_VARIABLE} both give a token; give only one")
    with reading(f"--token-file {file}", OptionError, "check the path"):
        lines = read_lines(file)
    if not lines[0].strip():
        raise OptionError(f"--token-file {file}: its first line is empty; write the token there")
    return lines[0].strip()


def _announce(address: str) -> None:
    print(f"maskwatch serves at {address} (Ctrl-C ends it)", flush=True)
