"""`maskwatch data convert`: the same data set in another format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from maskwatch.cli.splits import ClassesOption, DataPaths, FormatOption, counts_line, parts_of, read_splits
from maskwatch.errors import OptionError
from maskwatch.labels import ClassMap, normalize

if TYPE_CHECKING:
    from maskwatch.data import Part
    from maskwatch.data.formats.write import OutputFormat


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

    target = output_format(to)
    check_new_folder(out, force=force, sources=paths)
    parts = parts_of(paths, format)
    sets = read_splits(parts, _as_written(parts) if classes is None else ClassMap.parse(classes))
    from maskwatch.data.formats.write import write_data

    lost = write_data(sets, out, target, force=force)
    for line in lost:
        typer.echo(f"lost: {line}", err=True)
    for name, a_set in sets.items():
        typer.echo(f"{name or 'all'}: {counts_line(a_set)}")


def output_format(text: str) -> OutputFormat:
    """A format that can be written.

    Raises:
        OptionError: there is none of this name.
    """
    from maskwatch.data.formats.write import OUTPUT_FORMATS

    if text not in OUTPUT_FORMATS:
        raise OptionError(f"--to {text!r} is not one of {', '.join(OUTPUT_FORMATS)}; choose one")
    return text


def _as_written(parts: Sequence[Part]) -> ClassMap:
    """Every name that the data has, in the order of the format's own list, else of the alphabet."""
    written = [item.name for part in parts for raw in part.raw([]) for item in raw.objects if item.name]
    listed = [name for part in parts for name in part.class_names()]
    names: dict[str, str] = {}
    for name in (*listed, *sorted(set(written))):
        names.setdefault(normalize(name), name)
    return ClassMap(list(names.values()) or ["object"])
