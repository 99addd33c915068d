"""`maskwatch data convert`: the same data set in another format."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from maskwatch.cli.datasets import (
    ClassesOption,
    DataPaths,
    FormatOption,
    check_format,
    counts_line,
    open_splits,
    write_copy,
)
from maskwatch.labels import ClassMap


def convert(
    paths: DataPaths,
    to: Annotated[str, typer.Option(help="voc, coco, yolo or tfrecord.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="New folder for the copy.")],
    classes: ClassesOption = None,
    format: FormatOption = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the folder.")] = False,
) -> None:
    """Write a data set in another format; pictures are copied, splits kept.

    Class names stay as they are written, unless --classes renames or merges them: 'mask=with_mask,bare=no
    mask|face'.

    Example: maskwatch data convert my_photos --to yolo -o my_photos_yolo
    """
    from maskwatch.outputs import check_new_folder

    check_format("--to", to)
    check_new_folder(out, force=force, sources=paths)
    splits = open_splits(paths, format)
    from maskwatch.data.read import read_splits, written_classes

    sets = read_splits(splits, written_classes(splits) if classes is None else ClassMap.parse(classes))
    write_copy(sets, out, to, force)
    for name, a_set in sets.items():
        typer.echo(f"{name or 'all'}: {counts_line(a_set)}")
