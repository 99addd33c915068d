"""`maskwatch detect`: pictures and videos in; lines, drawn pictures and records out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def detect(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="SOURCE", help="Picture, video, folder, glob, http(s) URL, or - for stdin."),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="Write drawn pictures and videos here.")
    ] = None,
    json_file: Annotated[
        str | None, typer.Option("--json", metavar="FILE", help="Write records as JSON; - for stdout.")
    ] = None,
    csv_file: Annotated[
        str | None, typer.Option("--csv", metavar="FILE", help="Write records as CSV; - for stdout.")
    ] = None,
    threshold: Annotated[
        str | None,
        typer.Option(
            metavar="SCORE", help="Scores above it count: 0.5, or mask=0.6,no_mask=0.3. Default: the model's."
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL", help="Embedded model by name, or a model file. Default: maskwatch-640."
        ),
    ] = None,
    size: Annotated[
        int | None, typer.Option(metavar="PIXELS", help="Take the embedded model of this size.")
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(metavar="NAMES", help="Keep these classes only, e.g. no_mask,mask_incorrect."),
    ] = None,
    per_class_nms: Annotated[
        bool, typer.Option("--per-class-nms", help="Let boxes of different classes overlap.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", "-f", help="Overwrite existing results.")] = False,
    threads: Annotated[
        int | None, typer.Option(metavar="N", help="Threads of the network. Default: one a core.")
    ] = None,
) -> None:
    """Finds the faces in pictures and videos.

    Prints a line for each and a table of counts. Inputs that cannot be read are named and skipped; the
    exit status is then 1.
    """
    from maskwatch.cli.job import Job

    job = Job.plan(
        sources,
        out=out,
        json_file=json_file,
        csv_file=csv_file,
        threshold=threshold,
        model=model,
        size=size,
        classes=classes,
        per_class_nms=per_class_nms,
        force=force,
        threads=threads,
    )
    if job.run():
        raise typer.Exit(1)
