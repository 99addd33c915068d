"""Data sets named on the command line: their options, how they are read, and tables of what is in them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer
from rich.cells import cell_len

from maskwatch.cli.progress import progress_bar
from maskwatch.errors import DataError, MissingExtraError, OptionError
from maskwatch.labels import MASK_CLASSES, ClassMap
from maskwatch.net.addresses import is_address, without_credentials
from maskwatch.text import read_lines, reading

if TYPE_CHECKING:
    from maskwatch.data import DetectionSet, Split


def data_path(text: str) -> Path:
    """Parses DATA: a path, or an address (`s3://bucket/folder`), which is copied to this machine first."""
    if not is_address(text):
        return Path(text)
    check_format("--format", None)  # whether data sets can be read at all
    from maskwatch.data.remote import local_path

    with progress_bar(f"copying {without_credentials(text)}") as progress:
        return local_path(text, progress)


DataPaths = Annotated[
    list[Path],
    typer.Argument(
        parser=data_path,
        metavar="DATA",
        help="Folders of Pascal VOC, COCO, YOLO, TFRecord, Label Studio or CVAT, or their one file.",
        show_default=False,
    ),
]
FormatOption = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="FORMAT",
        help="voc, coco, yolo, tfrecord, label-studio or cvat, if it is not recognised.",
    ),
]
ClassesOption = Annotated[
    str | None,
    typer.Option(metavar="CLASSES", help="Classes in order, with other spellings: 'helmet=hat|Helm,head'."),
]


# ---- maskwatch data … ------------------------------------------------------------------------------------


def open_splits(paths: Sequence[Path], format: str | None) -> list[Split]:
    """See `find_all_splits`."""
    check_format("--format", format)
    from maskwatch.data.read import find_all_splits

    return find_all_splits(paths, format)


def check_format(option: str, name: str | None) -> None:
    """Raises OptionError for an unknown format; None passes."""
    try:
        from maskwatch.data.formats import format_named
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"reading data sets (module {error.name})", "train") from None
    if name is not None:
        format_named(name, option)


def read_all(
    paths: Sequence[Path], format: str | None, classes: str | None
) -> tuple[dict[str, DetectionSet], list[Split]]:
    """Split → samples of all data sets, and their splits; without `--classes`, with the classes of the data.

    Raises:
        DataError: holds every issue of every split; `maskwatch data check` explains and fixes them.
    """
    splits = open_splits(paths, format)
    from maskwatch.data.read import found_classes, read_splits

    class_map = found_classes(splits) if classes is None else ClassMap.parse(classes)
    if classes is None:
        announce(class_map)
    return read_splits(splits, class_map), splits


def announce(classes: ClassMap) -> None:
    """Prints which classes were taken from the data, where they are not the mask classes."""
    if classes.names != MASK_CLASSES:
        typer.echo(f"classes taken from the data: --classes '{classes}'", err=True)


def count_table(
    title: str,
    names: Sequence[str],
    pictures: Mapping[str, int],
    boxes: Mapping[str, Mapping[str, int]],
    ignored: Mapping[str, int],
) -> Iterator[str]:
    """A line for each split: pictures, boxes of each class, and ignore regions where there are any."""
    heads = [*names, *(["ignored"] if any(ignored.values()) else [])]
    widths = [max(7, cell_len(head)) for head in heads]  # an East Asian character takes two columns
    first = max(6, *map(len, boxes))
    cells = "".join(f"  {' ' * (w - cell_len(h))}{h}" for h, w in zip(heads, widths, strict=True))
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


def write_copy(sets: Mapping[str, DetectionSet], target: Path, format: str, force: bool) -> None:
    """Writes a data set and prints, on standard error, what the format cannot hold."""
    from maskwatch.data.formats import write_data

    for line in write_data(sets, target, format, force=force):
        typer.echo(f"lost: {line}", err=True)


# ---- maskwatch train, evaluate, export -------------------------------------------------------------------


class Group(NamedTuple):
    """Data sets to merge: their paths, the images to keep, the split to take."""

    paths: Sequence[Path]
    image_ids: Collection[str] | None = None
    split: str | None = None


def read_sets(groups: Sequence[Group], classes: ClassMap) -> list[DetectionSet]:
    """One set of each group.

    Raises:
        DataError: holds every issue of every group, so that one run shows them all.
    """
    from maskwatch.data.read import collecting, read_data

    sets: list[DetectionSet] = []
    problems: list[str] = []
    for paths, image_ids, split in groups:
        with collecting(problems):
            sets.append(read_data(list(paths), classes, image_ids, split))
    if problems:
        raise DataError(problems)
    return sets


def read_validation(paths: Sequence[Path], classes: ClassMap) -> DetectionSet:
    """The set that `--tune` chooses thresholds on: the `val` of data sets that are split.

    Raises:
        DataError: holds every issue, or there is no box in it to choose by.
    """
    (validation,) = read_sets([Group(paths, None, "val")], classes)
    if not any(validation.class_counts().values()):
        problem = f"{paths[0]}: holds no box of {', '.join(classes.names)} to choose thresholds by"
        raise DataError([f"{problem}; give annotated pictures to --tune"])
    return validation


def splits_in_path(path: Path) -> set[str]:
    """Names of the splits of a data set; empty if it is not split."""
    from maskwatch.data import find_splits

    return {split.name for split in find_splits(path)} - {""}


def correct_sets(sets: Sequence[DetectionSet], path: Path | None, classes: ClassMap) -> list[DetectionSet]:
    """The sets with their labels corrected by a file; None for the file leaves them as they are.

    Raises:
        DataError: the file cannot be read, does not fit the annotations, or is of other pictures.
    """
    if path is None:
        return list(sets)
    from maskwatch.data import correct_all, read_corrections

    return correct_all(sets, read_corrections(path, classes), path)


def read_stems(path: Path | None) -> list[str] | None:
    """Names that a text file lists, one a line (or several with white space between); None stays None.

    Raises:
        OptionError: the file cannot be read.
    """
    if path is None:
        return None
    from maskwatch.data.names import unquoted

    with reading(f"--stems {path}", OptionError, "give a text file of names"):
        return [unquoted(line) for line in read_lines(path) if line.strip()]
