"""Data sets named on the command line → their splits, and the sets in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.cells import cell_len

from maskwatch.errors import DataError, MissingExtraError, OptionError
from maskwatch.labels import MASK_CLASSES, ClassMap

if TYPE_CHECKING:
    from maskwatch.data import DetectionSet, Part

DataPaths = Annotated[
    list[Path],
    typer.Argument(
        help="Folders of Pascal VOC, COCO, YOLO or TFRecord, a COCO .json or a data.yaml.", show_default=False
    ),
]
FormatOption = Annotated[
    str | None, typer.Option("--format", help="voc, coco, yolo or tfrecord, where it is not recognised.")
]
ClassesOption = Annotated[
    str | None, typer.Option(help="Classes in order, with other spellings: 'helmet=hat|Helm,head'.")
]


def parts_of(paths: Sequence[Path], format: str | None) -> list[Part]:
    """The splits of all data sets; a folder named train, val or test, given by itself, is that split.

    Raises:
        DataError: holds what is wrong with each path.
        OptionError: no such format.
    """
    try:
        from maskwatch.data.formats.layout import find_parts
        from maskwatch.data.formats.splits import FORMATS
        from maskwatch.data.formats.tree import split_of
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"reading data sets (module {error.name})", "train") from None
    if format is not None and format not in FORMATS:
        raise OptionError(f"--format {format!r} is not one of {', '.join(FORMATS)}; choose one")
    from dataclasses import replace

    parts: list[Part] = []
    problems: list[str] = []
    for path in paths:
        try:
            found = find_parts(path, format)
        except DataError as error:
            problems += error.problems
            continue
        named = split_of(path.resolve().name)
        parts += [replace(part, split=part.split or named) for part in found]
    if problems:
        raise DataError(problems)
    return parts


def class_map(parts: Sequence[Part], text: str | None) -> ClassMap:
    """The classes of `--classes`; without it those of the data, said aloud where they are not of masks."""
    if text is not None:
        return ClassMap.parse(text)
    from maskwatch.data.quality.check import found_classes

    classes = found_classes(parts, [raw for part in parts for raw in part.raw([])])
    announce(classes)
    return classes


def announce(classes: ClassMap) -> None:
    """Says which classes were taken from the data, where they are not the mask classes."""
    if classes.names != MASK_CLASSES:
        typer.echo(f"classes taken from the data: --classes '{classes}'", err=True)


def read_splits(parts: Sequence[Part], classes: ClassMap) -> dict[str, DetectionSet]:
    """Split → samples; parts of one split are merged.

    Raises:
        DataError: holds every fault of every part; `maskwatch data check` explains and mends them.
    """
    from maskwatch.data import merge, read_part

    sets: dict[str, list[DetectionSet]] = {}
    problems: list[str] = []
    for part in parts:
        try:
            sets.setdefault(part.split, []).append(read_part(part, classes))
        except DataError as error:
            problems += error.problems
    if problems:
        raise DataError(problems)
    return {split: merge(mine) for split, mine in sets.items()}


def count_table(
    title: str,
    names: Sequence[str],
    pictures: Mapping[str, int],
    boxes: Mapping[str, Mapping[str, int]],
    ignored: Mapping[str, int],
) -> Iterator[str]:
    """A line for each split: pictures, boxes of each class, and ignore regions where there are any."""
    heads = [*names, *(["ignored"] if any(ignored.values()) else [])]
    widths = [max(7, cell_len(head)) for head in heads]  # a letter of East Asia takes two columns
    first = max(6, *map(len, boxes))
    cells = "".join(
        f"  {' ' * (width - cell_len(head))}{head}" for head, width in zip(heads, widths, strict=True)
    )
    yield f"{title:<{first}}  {'pictures':>8}{cells}"
    for split, counts in boxes.items():
        numbers = [*(counts[name] for name in names), ignored[split]]
        cells = "".join(f"  {number:>{width}}" for number, width in zip(numbers, widths, strict=False))
        yield f"{split or 'all':<{first}}  {pictures[split]:>8}{cells}"


def counts_line(detection_set: DetectionSet) -> str:
    """ "12 pictures (30 mask, 4 no_mask, 2 ignored)"."""
    counts = [f"{count} {name}" for name, count in detection_set.class_counts().items()]
    if ignored := detection_set.ignored():
        counts.append(f"{ignored} ignored")
    return f"{len(detection_set)} pictures ({', '.join(counts)})"
