"""`maskwatch data check`: what is wrong with a data set, before any training."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from maskwatch.cli.cluster_options import RayOption, cluster_options
from maskwatch.cli.datasets import (
    ClassesOption,
    DataPaths,
    FormatOption,
    announce,
    count_table,
    open_splits,
)
from maskwatch.cli.json_file import is_stdout, write_json
from maskwatch.cli.options import with_options
from maskwatch.cli.progress import progress_bar
from maskwatch.labels import ClassMap
from maskwatch.text import plural

if TYPE_CHECKING:
    from maskwatch.data.quality.check import DataCheck
    from maskwatch.data.quality.probe import ProbeImages

_SHOWN = 10


@dataclass(frozen=True)
class CheckOptions:
    """As on the command line."""

    paths: DataPaths
    format: FormatOption = None
    classes: ClassesOption = None
    size: Annotated[
        int, typer.Option(min=32, metavar="PIXELS", help="Network size that boxes are compared with.")
    ] = 640
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write a page that shows each issue.")
    ] = None
    json_file: Annotated[
        Path | None,
        typer.Option(
            "--json", metavar="FILE", help="Also write all issues to this file; '-' prints only them."
        ),
    ] = None
    fix: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Write a fixed copy to this new folder; the original stays as it is."
        ),
    ] = None
    all_issues: Annotated[bool, typer.Option("--all", help="Print every issue, not ten a kind.")] = False
    workers: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Processes; one a core if not given.")
    ] = None
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace what these options name.")] = False
    ray: RayOption = None


@with_options(CheckOptions)
def check(options: CheckOptions) -> None:
    """Check pictures, boxes, classes and splits of a data set.

    Finds unreadable pictures, bad boxes, unknown classes, leaks between splits, and more.

    Exit status 1 when errors remain. Paths with train, val and test in them, or folders of these names, are
    compared with each other.

    Example: maskwatch data check my_photos --html check.html --fix my_photos_fixed
    """
    from maskwatch.outputs import check_new_folder, check_targets

    to_stdout = is_stdout(options.json_file)
    files = (options.html, None if to_stdout else options.json_file)
    check_targets([path for path in files if path is not None], [], force=options.force)
    if options.fix is not None:
        check_new_folder(options.fix, force=options.force, sources=options.paths)
    found = _run(options)
    if options.classes is None:
        announce(found.classes)
    if not to_stdout:
        typer.echo("\n".join(_lines(found, options.all_issues)))
    if options.json_file is not None:
        write_json(found.as_dict(), options.json_file)
    if options.html is not None:
        _write_page(found, options.paths, options.html)
    if options.fix is not None:
        _write_fixed(found, options.fix, options.force, quiet=to_stdout)
    if found.errors:
        raise typer.Exit(1)


def _run(options: CheckOptions) -> DataCheck:
    splits = open_splits(options.paths, options.format)
    from maskwatch.data.quality.check import check_splits

    classes = None if options.classes is None else ClassMap.parse(options.classes)
    with _probe(options) as probe, progress_bar("checking") as advance:
        return check_splits(splits, classes, options.size, options.workers, advance, probe)


@contextlib.contextmanager
def _probe(options: CheckOptions) -> Iterator[ProbeImages]:
    """What decodes the pictures: this machine, or the cluster of `--ray`, connected during the block."""
    from maskwatch.data.quality.probe import probe_images

    if options.ray is None:
        yield probe_images
        return
    cluster = cluster_options(options.ray)
    from maskwatch.cluster import connection
    from maskwatch.cluster.probing import probe_images as probe_on_cluster

    with connection(options.ray):
        yield partial(probe_on_cluster, options=cluster)


def _lines(found: DataCheck, all_issues: bool) -> Iterator[str]:
    yield f"format: {', '.join(dict.fromkeys(split.format for split in found.splits))}"
    if len({split.name for split in found.splits}) < len(found.splits):  # several data sets: where each is
        yield from (f"  {split.format} {split.title}" for split in found.splits[:_SHOWN])
        if len(found.splits) > _SHOWN:
            yield f"  … and {len(found.splits) - _SHOWN} more"
    yield from count_table("", found.class_names, found.num_images(), found.counts(), found.ignored())
    for kind, issues in found.by_kind().items():
        yield f"\n{issues[0].severity} {kind}: {len(issues)}"
        shown = issues if all_issues else issues[:_SHOWN]
        yield from (f"  {issue}" for issue in shown)
        if len(issues) > len(shown):
            yield f"  … and {len(issues) - len(shown)} more; --all prints them"
    counts = f"{plural(found.errors, 'error')}, {plural(found.warnings, 'warning')}"
    yield f"\n{counts} in {len(found.images)} pictures"
    if found.errors:
        yield "next: fix them, or let maskwatch data check … --fix NEW_FOLDER write a fixed copy"


def _write_page(found: DataCheck, paths: list[Path], html: Path) -> None:
    from maskwatch.data.quality.check import check_page
    from maskwatch.outputs import new_file

    name = ", ".join(path.resolve().name for path in paths)
    with new_file(html) as part:
        part.write_text(check_page(found, name, html.parent), encoding="utf-8")
    typer.echo(f"page: {html}", err=True)


def _write_fixed(found: DataCheck, target: Path, force: bool, quiet: bool) -> None:
    from maskwatch.data.formats import write_data
    from maskwatch.data.quality.repair import repair

    sets, changes = repair(found)
    lost = write_data(sets, target, found.splits[0].format, force=force)
    for line in (*changes, *lost):
        typer.echo(f"fixed: {line}", err=quiet)
    number = sum(len(a_set) for a_set in sets.values())
    typer.echo(
        f"fixed copy: {target}, {number} pictures, {len(changes)} changes, classes "
        f"{', '.join(found.class_names)}",
        err=quiet,
    )
