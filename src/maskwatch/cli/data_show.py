"""`maskwatch data show`: pictures of a data set with their boxes, on one sheet."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from maskwatch.cli.datasets import ClassesOption, DataPaths, FormatOption, read_all
from maskwatch.errors import DataError, OptionError
from maskwatch.labels import find_class


def show(
    paths: DataPaths,
    out: Annotated[Path, typer.Option("--out", "-o", help="The sheet, a .png or .jpg file.")] = Path(
        "sheet.png"
    ),
    count: Annotated[int, typer.Option(min=1, max=400, help="How many pictures.")] = 24,
    columns: Annotated[int, typer.Option(min=1, max=20, help="Pictures in a row.")] = 6,
    only: Annotated[str | None, typer.Option(help="Only pictures that hold this class.")] = None,
    seed: Annotated[int, typer.Option(help="Other numbers choose other pictures.")] = 1,
    format: FormatOption = None,
    classes: ClassesOption = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the sheet.")] = False,
) -> None:
    """Draw a contact sheet of pictures chosen by chance, with their boxes.

    Example: maskwatch data show my_photos --only mask_incorrect -o incorrect.png
    """
    from maskwatch.outputs import check_targets

    if out.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise OptionError(f"--out {out}: write a .png or .jpg file")
    check_targets([out], [], force=force)
    sets, _ = read_all(paths, format, classes)
    from maskwatch.data import merge
    from maskwatch.data.contact_sheet import choose, contact_sheet
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
    shown = choose(samples, count, seed)
    sheet = contact_sheet(shown, whole.class_names, columns)
    save_picture(sheet, out)
    ignored = sum(int(sample.ignore.sum()) for sample in shown)
    dashed = f", {ignored} ignored boxes in grey dashes" if ignored else ""
    typer.echo(f"{out}: {len(shown)} of {len(samples)} pictures{dashed}")
