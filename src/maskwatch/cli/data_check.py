"""`maskwatch data check`: what is wrong with a data set, before any training."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from maskwatch.cli.json_file import is_stdout, write_json
from maskwatch.cli.progress import progress_bar
from maskwatch.cli.splits import ClassesOption, DataPaths, FormatOption, announce, count_table, parts_of
from maskwatch.labels import ClassMap
from maskwatch.text import plural

if TYPE_CHECKING:
    from maskwatch.data import Part
    from maskwatch.data.quality.check import Check

CHECK_SCHEMA = "maskwatch.data-check/1"

_SHOWN = 10


def check(
    paths: DataPaths,
    format: FormatOption = None,
    classes: ClassesOption = None,
    size: Annotated[int, typer.Option(min=32, help="Network size that boxes are held against.")] = 640,
    html: Annotated[Path | None, typer.Option(help="Also write a page that shows each fault.")] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Also write all faults to this file; '-' prints only them.")
    ] = None,
    fix: Annotated[
        Path | None, typer.Option(help="Write a mended copy to this new folder; the original stays as it is.")
    ] = None,
    all_faults: Annotated[bool, typer.Option("--all", help="Print every fault, not ten a kind.")] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; one a core if not given.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what these options name.")] = False,
) -> None:
    """Check a data set: unreadable pictures, bad boxes, unknown classes, leaks between splits, and more.

    Exit status 1 when errors remain. Paths with train, val and test in them, or folders of these names, are
    held against each other.

    Example: maskwatch data check my_photos --html check.html --fix my_photos_mended
    """
    from maskwatch.outputs import check_new_folder, check_targets

    to_stdout = is_stdout(json_file)
    files = [path for path in (html, None if to_stdout else json_file) if path is not None]
    check_targets(files, [], force=force)
    if fix is not None:
        check_new_folder(fix, force=force, sources=paths)
    parts = parts_of(paths, format)
    found = _run(parts, None if classes is None else ClassMap.parse(classes), size, workers)
    if classes is None:
        announce(found.classes)
    if not to_stdout:
        typer.echo("\n".join(_lines(found, all_faults)))
    if json_file is not None:
        _write_json(found, json_file)
    if html is not None:
        _write_page(found, paths, html)
    if fix is not None:
        _write_mended(found, fix, force, quiet=to_stdout)
    if found.errors:
        raise typer.Exit(1)


def _run(parts: list[Part], classes: ClassMap | None, size: int, workers: int | None) -> Check:
    from maskwatch.data.quality.check import check_parts

    with progress_bar("checking") as advance:
        return check_parts(parts, classes, size, workers, advance)


def _lines(found: Check, all_faults: bool) -> Iterator[str]:
    from maskwatch.data.quality.check import by_kind

    yield from _formats(found)
    yield from _counts(found)
    for kind, faults in by_kind(found.faults).items():
        yield f"\n{faults[0].severity} {kind}: {len(faults)}"
        shown = faults if all_faults else faults[:_SHOWN]
        yield from (f"  {fault}" for fault in shown)
        if len(faults) > len(shown):
            yield f"  … and {len(faults) - len(shown)} more; --all prints them"
    warnings = len(found.faults) - found.errors
    counts = f"{plural(found.errors, 'error')}, {plural(warnings, 'warning')}"
    yield f"\n{counts} in {len(found.pictures)} pictures"
    if found.errors:
        yield "next: mend them, or let maskwatch data check … --fix NEW_FOLDER write a mended copy"


def _formats(found: Check) -> Iterator[str]:
    """What the data sets are, and where each lies if there are several of a split."""
    splits = {part.split for part in found.parts}
    yield f"format: {', '.join(dict.fromkeys(part.format for part in found.parts))}"
    if len(splits) < len(found.parts):
        yield from (f"  {part.format} {part.title}" for part in found.parts[:_SHOWN])
        if len(found.parts) > _SHOWN:
            yield f"  … and {len(found.parts) - _SHOWN} more"


def _counts(found: Check) -> Iterator[str]:
    counts = found.counts()
    pictures = {split: sum(picture.split == split for picture in found.pictures) for split in counts}
    yield from count_table("", found.class_names, pictures, counts, found.ignored())


def _write_json(found: Check, path: Path) -> None:
    record = {
        "schema": CHECK_SCHEMA,
        "parts": [
            {"split": part.split or None, "format": part.format, "path": str(part.path)}
            for part in found.parts
        ],
        "pictures": len(found.pictures),
        "boxes": {split or "all": dict(count) for split, count in found.counts().items()},
        "ignored": {split or "all": count for split, count in found.ignored().items()},
        "errors": found.errors,
        "warnings": len(found.faults) - found.errors,
        "faults": [fault.as_dict() for fault in found.faults],
    }
    write_json(record, path)


def _write_page(found: Check, paths: list[Path], html: Path) -> None:
    from maskwatch.data.quality.check_page import check_page
    from maskwatch.outputs import new_file

    name = ", ".join(path.resolve().name for path in paths)
    with new_file(html) as part:
        part.write_text(check_page(found, name, html.parent), encoding="utf-8")
    typer.echo(f"page: {html}", err=True)


def _write_mended(found: Check, target: Path, force: bool, quiet: bool) -> None:
    from maskwatch.data.formats.write import write_data
    from maskwatch.data.quality.repair import mend

    mended = mend(found)
    lost = write_data(mended.sets, target, found.parts[0].format, force=force)
    for line in (*mended.changes, *lost):
        typer.echo(f"mended: {line}", err=quiet)
    number = sum(len(a_set) for a_set in mended.sets.values())
    typer.echo(
        f"mended copy: {target}, {number} pictures, {len(mended.changes)} changes, classes "
        f"{', '.join(found.class_names)}",
        err=quiet,
    )
