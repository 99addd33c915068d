"""`maskwatch data split`: training, validation and test pictures of one data set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from maskwatch.cli.progress import progress_bar
from maskwatch.cli.splits import (
    ClassesOption,
    DataPaths,
    FormatOption,
    class_map,
    counts_line,
    parts_of,
    read_splits,
)
from maskwatch.errors import OptionError

if TYPE_CHECKING:
    from maskwatch.data import DetectionSet

NAMES = ("train", "val", "test")


def split(
    paths: DataPaths,
    out: Annotated[Path, typer.Option("--out", "-o", help="New folder for the splits.")],
    shares: Annotated[
        str, typer.Option(help="Percentages of train, val and test; two numbers leave out test.")
    ] = "80,10,10",
    seed: Annotated[int, typer.Option(help="Other numbers give other splits.")] = 1,
    to: Annotated[str | None, typer.Option(help="Format of the copy; that of the data if not given.")] = None,
    format: FormatOption = None,
    classes: ClassesOption = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the folder.")] = False,
) -> None:
    """Split a data set by chance, alike in classes, near-duplicates together; pictures are copied.

    Splits that the data has already are put together first.

    Example: maskwatch data split my_photos -o my_split --shares 70,15,15
    """
    from maskwatch.outputs import check_new_folder

    wanted = _shares(shares)
    check_new_folder(out, force=force, sources=paths)
    parts = parts_of(paths, format)
    from maskwatch.cli.data_convert import output_format
    from maskwatch.data import merge
    from maskwatch.data.formats.write import write_data
    from maskwatch.data.split import split_groups

    whole = merge(list(read_splits(parts, class_map(parts, classes)).values()))
    groups = _groups(whole)
    dealt = split_groups(whole, groups, wanted, seed)
    sets = {name: whole.subset(indices) for name, indices in dealt.items()}
    lost = write_data(sets, out, output_format(to or parts[0].format), force=force)
    for line in lost:
        typer.echo(f"lost: {line}", err=True)
    alike = sum(len(group) for group in groups if len(group) > 1)
    typer.echo(f"{alike} of {len(whole)} pictures have near-duplicates, which stay together")
    for name, a_set in sets.items():
        typer.echo(f"{name}: {counts_line(a_set)}")
    typer.echo(f"next: maskwatch train {out} --start maskwatch-640")


def _shares(text: str) -> Mapping[str, float]:
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) not in (2, 3) or min(values) <= 0:
        raise OptionError(f"--shares {text!r} are not two or three positive numbers; write 80,10,10")
    return dict(zip(NAMES, values, strict=False))


def _groups(whole: DetectionSet) -> list[list[int]]:
    """Indices of pictures that are one picture, more or less."""
    from maskwatch.data.quality.duplicates import find_duplicates, groups
    from maskwatch.data.quality.probe import scan_pictures
    from maskwatch.errors import DataError

    with progress_bar("looking for near-duplicates") as advance:
        scans = scan_pictures([sample.image_path for sample in whole.samples], None, advance)
    broken = [f"{scan.path}: {scan.reason}" for scan in scans if scan.reason is not None]
    if broken:
        raise DataError(broken)
    pairs = find_duplicates([scan.fingerprint for scan in scans])
    return groups(len(whole), [(pair.first, pair.second) for pair in pairs])
