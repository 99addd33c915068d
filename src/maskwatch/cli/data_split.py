"""`maskwatch data split`: training, validation and test pictures of one data set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from maskwatch.cli.datasets import (
    ClassesOption,
    DataPaths,
    FormatOption,
    check_format,
    counts_line,
    read_all,
    write_copy,
)
from maskwatch.cli.progress import progress_bar
from maskwatch.errors import OptionError

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
    check_format("--to", to)
    check_new_folder(out, force=force, sources=paths)
    sets, found = read_all(paths, format, classes)
    from maskwatch.data import merge
    from maskwatch.data.split import near_duplicates, split_groups

    whole = merge(list(sets.values()))
    with progress_bar("looking for near-duplicates") as advance:
        groups = near_duplicates([sample.image_path for sample in whole.samples], advance)
    dealt = split_groups(whole, groups, wanted, seed)
    new_sets = {name: whole.subset(indices) for name, indices in dealt.items()}
    write_copy(new_sets, out, to or found[0].format, force)
    alike = sum(len(group) for group in groups if len(group) > 1)
    typer.echo(f"{alike} of {len(whole)} pictures have near-duplicates, which stay together")
    for name, a_set in new_sets.items():
        typer.echo(f"{name}: {counts_line(a_set)}")
    typer.echo(f"next: maskwatch train {out} --start maskwatch-640")


def _shares(text: str) -> Mapping[str, float]:
    try:
        values = [float(share) for share in text.split(",")]
    except ValueError:
        values = []
    if len(values) not in (2, 3) or min(values) <= 0:
        raise OptionError(f"--shares {text!r} are not two or three positive numbers; write 80,10,10")
    return dict(zip(NAMES, values, strict=False))
