"""`maskwatch data check`: what is wrong with a data set, before any training."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from maskwatch.cli.datasets import (
    ClassesOption,
    DataPaths,
    FormatOption,
    announce,
    count_table,
    open_splits,
)
from maskwatch.cli.json_file import is_stdout, write_json
from maskwatch.cli.progress import progress_bar
from maskwatch.labels import ClassMap
from maskwatch.text import plural

if TYPE_CHECKING:
    from maskwatch.data import Split
    from maskwatch.data.quality.check import CheckResult

_SHOWN = 10


def check(
    paths: DataPaths,
    format: FormatOption = None,
    classes: ClassesOption = None,
    size: Annotated[int, typer.Option(min=32, help="Network size that boxes are held against.")] = 640,
    html: Annotated[Path | None, typer.Option(help="Also write a page that shows each issue.")] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Also write all issues to this file; '-' prints only them.")
    ] = None,
    fix: Annotated[
        Path | None, typer.Option(help="Write a fixed copy to this new folder; the original stays as it is.")
    ] = None,
    all_issues: Annotated[bool, typer.Option("--all", help="Print every issue, not ten a kind.")] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; one a core if not given.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what these options name.")] = False,
) -> None:
    """Check a data set: unreadable pictures, bad boxes, unknown classes, leaks between splits, and more.

    Exit status 1 when errors remain. Paths with train, val and test in them, or folders of these names, are
    held against each other.

    Example: maskwatch data check my_photos --html check.html --fix my_photos_fixed
    """
    from maskwatch.outputs import check_new_folder, check_targets

    to_stdout = is_stdout(json_file)
    files = [path for path in (html, None if to_stdout else json_file) if path is not None]
    check_targets(files, [], force=force)
    if fix is not None:
        check_new_folder(fix, force=force, sources=paths)
    splits = open_splits(paths, format)
    found = _run(splits, None if classes is None else ClassMap.parse(classes), size, workers)
    if classes is None:
        announce(found.classes)
    if not to_stdout:
        typer.echo("\n".join(_lines(found, all_issues)))
    if json_file is not None:
        write_json(found.as_dict(), json_file)
    if html is not None:
        _write_page(found, paths, html)
    if fix is not None:
        _write_repaired(found, fix, force, quiet=to_stdout)
    if found.errors:
        raise typer.Exit(1)


def _run(splits: list[Split], classes: ClassMap | None, size: int, workers: int | None) -> CheckResult:
    from maskwatch.data.quality.check import check_splits

    with progress_bar("checking") as advance:
        return check_splits(splits, classes, size, workers, advance)


def _lines(found: CheckResult, all_issues: bool) -> Iterator[str]:
    yield from _formats(found)
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


def _formats(found: CheckResult) -> Iterator[str]:
    """What the data sets are, and where each lies if there are several of a split."""
    splits = {split.name for split in found.splits}
    yield f"format: {', '.join(dict.fromkeys(split.format for split in found.splits))}"
    if len(splits) < len(found.splits):
        yield from (f"  {split.format} {split.title}" for split in found.splits[:_SHOWN])
        if len(found.splits) > _SHOWN:
            yield f"  … and {len(found.splits) - _SHOWN} more"


def _write_page(found: CheckResult, paths: list[Path], html: Path) -> None:
    from maskwatch.data.quality.check_page import check_page
    from maskwatch.outputs import new_file

    name = ", ".join(path.resolve().name for path in paths)
    with new_file(html) as part:
        part.write_text(check_page(found, name, html.parent), encoding="utf-8")
    typer.echo(f"page: {html}", err=True)


def _write_repaired(found: CheckResult, target: Path, force: bool, quiet: bool) -> None:
    from maskwatch.data.formats.write import write_data
    from maskwatch.data.quality.repair import repair

    repaired = repair(found)
    lost = write_data(repaired.sets, target, found.splits[0].format, force=force)
    for line in (*repaired.changes, *lost):
        typer.echo(f"fixed: {line}", err=quiet)
    number = sum(len(a_set) for a_set in repaired.sets.values())
    typer.echo(
        f"fixed copy: {target}, {number} pictures, {len(repaired.changes)} changes, classes "
        f"{', '.join(found.class_names)}",
        err=quiet,
    )
