"""`maskwatch data stats`: classes, sizes and shapes of a data set."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from maskwatch.cli.datasets import ClassesOption, DataPaths, FormatOption, count_table, read_all
from maskwatch.cli.json_file import is_stdout, write_json

if TYPE_CHECKING:
    from maskwatch.data.stats import Stats


def stats(
    paths: DataPaths,
    format: FormatOption = None,
    classes: ClassesOption = None,
    size: Annotated[
        int, typer.Option(min=32, metavar="PIXELS", help="Network size that boxes are measured at.")
    ] = 640,
    figure: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also draw them into this PNG or SVG file.")
    ] = None,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", help="Also write them to this file; '-' prints only them."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", "-f", help="Overwrite the files of --figure and --json.")
    ] = False,
) -> None:
    """Count boxes by class and split; compare them with the anchors.

    Example: maskwatch data stats my_photos --figure stats.png
    """
    from maskwatch.outputs import check_targets

    to_stdout = is_stdout(json_file)
    targets = (figure, None if to_stdout else json_file)
    check_targets([path for path in targets if path is not None], [], force=force)
    sets, _ = read_all(paths, format, classes)
    from maskwatch.data.stats import collect_stats

    found = collect_stats(sets, size)
    if not to_stdout:
        typer.echo("\n".join(_lines(found)))
    if json_file is not None:
        write_json(found.as_dict(), json_file)
    if figure is not None:
        _draw(found, figure)


def _lines(found: Stats) -> Iterator[str]:
    from maskwatch.data.stats import RATIO_EDGES, SIDE_EDGES, histogram_lines

    names = list(next(iter(found.boxes.values()), {}))
    yield from count_table("split", names, found.pictures, found.boxes, found.ignored)
    sides, ratios = _anchors()
    yield f"\nSide of the boxes (root of the area) in pixels at network size {found.network_size};"
    yield f"anchors: {', '.join(f'{side:.0f}' for side in sides)}"
    yield from histogram_lines(found.sides, SIDE_EDGES)
    yield f"\nWidth over height; anchors: {', '.join(f'{ratio:g}' for ratio in ratios)}"
    yield from histogram_lines(found.ratios, RATIO_EDGES)


def _anchors() -> tuple[list[float], list[float]]:
    """Sides and aspect ratios of the anchors of the `default` recipe."""
    from maskwatch.training.checkpoint import anchors_of
    from maskwatch.training.recipe import Recipe

    spec = anchors_of(Recipe())
    scales = sorted({scale for _, scale in spec.shapes()})
    sides = [spec.anchor_scale * 2**level * scale for level in spec.levels for scale in scales]
    return sides, list(spec.aspect_ratios)


def _draw(found: Stats, path: Path) -> None:
    from maskwatch.data.stats import draw_histograms
    from maskwatch.errors import OptionError
    from maskwatch.html.figures import png, style
    from maskwatch.outputs import new_file

    drawn = draw_histograms(found, *_anchors())
    if path.suffix.lower() not in (".png", ".svg"):
        raise OptionError(f"--figure {path}: write a .png or .svg file")
    with new_file(path) as part:
        if path.suffix.lower() == ".png":
            part.write_bytes(png(drawn))
        else:
            with style():
                drawn.savefig(part, format="svg")
    typer.echo(f"figure: {path}", err=True)
