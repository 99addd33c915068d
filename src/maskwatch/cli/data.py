"""`maskwatch data …`: prepare a data set before training."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from maskwatch.cli.data_check import check
from maskwatch.cli.data_stats import stats
from maskwatch.cli.datasets import (
    ClassesOption,
    DataPaths,
    FormatOption,
    check_format,
    counts_line,
    open_splits,
    read_all,
    write_copy,
)
from maskwatch.cli.label import prelabel
from maskwatch.cli.options import PanelCommand
from maskwatch.cli.progress import progress_bar
from maskwatch.errors import DataError, OptionError
from maskwatch.labels import ClassMap, find_class
from maskwatch.text import plural

if TYPE_CHECKING:
    from maskwatch.data.download import FetchedDataset

_Force = Annotated[bool, typer.Option("--force", "-f", help="Replace the folder.")]


def show(
    paths: DataPaths,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="The sheet, a .png or .jpg file.")
    ] = Path("sheet.png"),
    count: Annotated[int, typer.Option(min=1, max=400, metavar="N", help="How many pictures.")] = 24,
    columns: Annotated[int, typer.Option(min=1, max=20, metavar="N", help="Pictures in a row.")] = 6,
    only: Annotated[
        str | None, typer.Option(metavar="CLASS", help="Only pictures that hold this class.")
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Other numbers choose other pictures.")] = 1,
    format: FormatOption = None,
    classes: ClassesOption = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Overwrite the sheet.")] = False,
) -> None:
    """Draw a contact sheet of random pictures with their boxes.

    Example: maskwatch data show my_photos --only mask_incorrect -o incorrect.png
    """
    from maskwatch.outputs import check_targets

    if out.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise OptionError(f"--out {out}: write a .png or .jpg file")
    check_targets([out], [], force=force)
    sets, _ = read_all(paths, format, classes)
    from maskwatch.data import merge
    from maskwatch.data.contact_sheet import contact_sheet, sample_images
    from maskwatch.drawing.annotate import save_picture

    whole = merge(list(sets.values()))
    samples = list(whole.samples)
    if only is not None:
        wanted = find_class(whole.class_names, only)
        if wanted is None:
            raise OptionError(f"--only {only!r} is none of {', '.join(whole.class_names)}; name one of them")
        samples = [s for s in samples if wanted in s.class_ids]
    if not samples:
        raise DataError(["no picture to show; check the path and --only"])
    shown = sample_images(samples, count, seed)
    save_picture(contact_sheet(shown, whole.class_names, columns), out)
    ignored = sum(int(sample.ignore.sum()) for sample in shown)
    dashed = f", {ignored} ignored boxes in grey dashes" if ignored else ""
    typer.echo(f"{out}: {len(shown)} of {len(samples)} pictures{dashed}")


def split(
    paths: DataPaths,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="New folder for the splits.")],
    shares: Annotated[
        str,
        typer.Option(
            metavar="SHARES", help="Percentages of train, val and test; two numbers leave out test."
        ),
    ] = "80,10,10",
    seed: Annotated[int, typer.Option(metavar="N", help="Other numbers give other splits.")] = 1,
    to: Annotated[
        str | None, typer.Option(metavar="FORMAT", help="Format of the copy; that of the data if not given.")
    ] = None,
    format: FormatOption = None,
    classes: ClassesOption = None,
    force: _Force = False,
) -> None:
    """Split a data set randomly into train, val and test.

    Each part has its share of every class; near-duplicates stay together. Pictures
    are copied. Existing splits are merged first.

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
    return dict(zip(("train", "val", "test"), values, strict=False))


def convert(
    paths: DataPaths,
    to: Annotated[
        str, typer.Option(metavar="FORMAT", help="voc, coco, yolo, tfrecord, label-studio or cvat.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="New folder for the copy.")],
    classes: ClassesOption = None,
    format: FormatOption = None,
    force: _Force = False,
) -> None:
    """Write a data set in another format.

    Pictures are copied, splits kept.

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


def fetch(
    source: Annotated[
        str,
        typer.Argument(
            metavar="NAME|URL", help="'face_mask_dataset', or the address of a zip or tar archive."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="DIR", help="New folder; named after the archive if not given."),
    ] = None,
    sha256: Annotated[
        str | None, typer.Option(metavar="HEX", help="What the archive's SHA-256 must be.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", "-f", help="Replace a folder that maskwatch made.")
    ] = False,
) -> None:
    """Download the archive of a data set and unpack it safely.

    To resume an interrupted download, run the same command again.

    Example: maskwatch data fetch face_mask_dataset
    """
    from maskwatch.data.download import fetch_data

    with progress_bar("fetching", in_bytes=True) as progress:
        fetched = fetch_data(source, out, sha256=sha256, force=force, progress=progress)
    _report(fetched)


def _report(fetched: FetchedDataset) -> None:
    typer.echo(f"sha256: {fetched.sha256}{' (as expected)' if fetched.pinned else ''}")
    if not fetched.pinned:
        typer.echo("no checksum was known to compare it with; pin this one with --sha256 next time")
    kinds = ", ".join(plural(count, f"{suffix} file") for suffix, count in fetched.annotations.items())
    typer.echo(f"{fetched.folder}: {plural(fetched.pictures, 'picture')}, {kinds or 'no annotation files'}")
    if fetched.pictures:
        typer.echo(f"next: maskwatch data check {shlex.quote(str(fetched.folder))}")
    else:
        typer.echo("no pictures are in it; check whether this is the archive you want")


data_app = typer.Typer(
    name="data",
    help="Check, count, show, split, convert and fetch data sets.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
for verb in (check, stats, show, split, convert, fetch, prelabel):
    data_app.command(cls=PanelCommand)(verb)
