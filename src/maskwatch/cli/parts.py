"""Data sets named on the command line → their splits, and the sets in them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from maskwatch.errors import DataError, MissingExtraError, OptionError
from maskwatch.labels import MASK_CLASSES, ClassMap

if TYPE_CHECKING:
    from maskwatch.data import DetectionSet, Part

DataPaths = Annotated[
    list[Path],
    typer.Argument(
        help="Folders of Pascal VOC, COCO or YOLO, a COCO .json or a data.yaml.", show_default=False
    ),
]
FormatOption = Annotated[
    str | None, typer.Option("--format", help="voc, coco or yolo, where it is not recognised.")
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
        from maskwatch.data.layout import FORMATS, find_parts, split_of
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
    from maskwatch.data.check import found_classes

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


def say(lines: Sequence[str]) -> None:
    """Prints lines on standard error."""
    print("\n".join(lines), file=sys.stderr)
