"""`maskwatch zones`: a frame of a source with a grid, for placing zones and lines."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from maskwatch.errors import MissingExtraError, OptionError, SourceError

if TYPE_CHECKING:
    from maskwatch.live.tracking.zones import Zones
    from maskwatch.media.images import UInt8Array

_WAIT_S = 20.0  # for the first frame of a camera or stream

_STARTER = """\
# Zones and lines for `maskwatch watch --zones`. See docs/people.md.
# Coordinates are shares of the frame: [0, 0] is top left, [1, 1] bottom right.
format = "maskwatch.zones/1"

# true: people in no zone neither count nor alert.
only_zones = false

[[zone]]
name = "entrance"
# source = "{source}"   # leave this out for all sources
points = [[0.1, 0.2], [0.9, 0.2], [0.9, 0.95], [0.1, 0.95]]
# alert = false         # a zone that only counts

# Seen from the first point to the second, crossing from left to right is "in".
[[line]]
name = "threshold"
points = [[0.2, 0.6], [0.8, 0.6]]
"""


def zones(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE", help="A picture, a video, or a camera as in `maskwatch watch`; NAME=SOURCE too."
        ),
    ],
    zones_file: Annotated[
        Path | None, typer.Option("--zones", metavar="FILE", help="Zones and lines to check and to draw.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="PNG", help="The picture to write.")] = Path(
        "zones.png"
    ),
    init: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a file of zones and lines to start from.")
    ] = None,
    at: Annotated[float, typer.Option("--at", min=0, metavar="SECONDS", help="Position in a video.")] = 0.0,
    force: Annotated[bool, typer.Option("--force", "-f", help="Overwrite the files.")] = False,
) -> None:
    """Draw and check zones and lines on a frame of a source.

    The frame has a grid to read coordinates from.

    Example: maskwatch zones 0 --init zones.toml
    """
    try:
        from maskwatch.live.capture.source_spec import parse_source
        from maskwatch.live.tracking.zones import Zones
        from maskwatch.live.tracking.zones_file import read_zones
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"zones (module {error.name})", "live") from None
    from maskwatch.net.addresses import without_credentials
    from maskwatch.outputs import check_targets, new_file

    if init is not None and zones_file is not None:
        raise OptionError(f"--init {init} writes a file, --zones {zones_file} reads one; give only one")
    if out.suffix.lower() != ".png":
        raise OptionError(f"--out {out}: only PNG is written; name a file ending in .png")
    name = parse_source(source).name
    check_targets([out] if init is None else [out, init], [], force=force)
    zones = Zones() if zones_file is None else read_zones(zones_file)
    image_rgb = _grab_frame(source, at)
    if init is not None:
        with new_file(init) as part:
            part.write_text(_STARTER.format(source=name), encoding="utf-8")
        zones = read_zones(init)
        shown = without_credentials(source)
        typer.echo(f"wrote {init}; change its points, then: maskwatch zones {shown} --zones {init}")
    _write_sheet(image_rgb, name, zones, out)


def _write_sheet(image_rgb: UInt8Array, name: str, zones: Zones, out: Path) -> None:
    """Draws the zones and lines of this source and lists them."""
    from maskwatch.drawing.annotate import save_picture
    from maskwatch.live.output.drawing import draw_zones_sheet

    own = zones.for_source(name)
    save_picture(draw_zones_sheet(image_rgb, own), out)
    height, width = image_rgb.shape[:2]
    typer.echo(f"wrote {out}: {name}, {width}x{height}, grid in shares of width and height")
    for zone in own.zones:
        typer.echo(f"  zone {zone.name}{'' if zone.alert else ', counts only'}")
    for line in own.lines:
        typer.echo(f"  line {line.name}")
    sources = {shape.source for shape in zones.shapes}
    others = sorted(source for source in sources if source not in (None, name))
    if others:
        typer.echo(f"  not drawn: those of {', '.join(others)}; draw one with {others[0]}=SOURCE")


def _grab_frame(source: str, at_s: float) -> UInt8Array:
    """A picture file, the frame of a video at `at_s`, or the first of a camera; uint8 (H, W, 3)."""
    from maskwatch.live.capture.core import open_capture
    from maskwatch.live.capture.source_spec import parse_source
    from maskwatch.media.sources import find_sources

    spec = parse_source(source)
    if spec.kind == "file":
        (found,) = find_sources([spec.address])
        if found.kind == "picture":
            return found.load_picture()
    capture = open_capture(source)
    capture.start()
    with contextlib.closing(capture):
        give_up_s = time.monotonic() + _WAIT_S
        while time.monotonic() < give_up_s and not capture.finished:
            frame = capture.take(0.2)
            if frame is not None and (capture.live or frame.clock_s >= at_s):
                return frame.image_rgb
            if frame is not None:
                give_up_s = time.monotonic() + _WAIT_S  # the video approaches `at_s`
        error = capture.status().error
    if error or not at_s:
        raise SourceError(f"{spec.shown}: no picture ({error or 'no data arrived'}); check that it runs")
    raise SourceError(f"{spec.shown}: the video ends before {at_s:g} s; give an earlier --at")
