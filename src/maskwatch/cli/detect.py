"""`maskwatch detect`: pictures and videos in; lines, drawn pictures and records out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Sources = Annotated[
    list[str],
    typer.Argument(metavar="SOURCE", help="Picture, video, folder, glob, http(s) URL, or - for stdin."),
]
Out = Annotated[
    Path | None, typer.Option("--out", "-o", metavar="DIR", help="Write drawn pictures and videos here.")
]
Blur = Annotated[
    bool, typer.Option("--blur", help="Make every face in what --out writes unrecognisable, unsure ones too.")
]
Json = Annotated[
    str | None, typer.Option("--json", metavar="FILE", help="Write records as JSON; - for stdout.")
]
Csv = Annotated[str | None, typer.Option("--csv", metavar="FILE", help="Write records as CSV; - for stdout.")]
Threshold = Annotated[
    str | None,
    typer.Option(
        metavar="SCORE", help="Scores above it count: 0.5, or mask=0.6,no_mask=0.3. Default: the model's."
    ),
]
Model = Annotated[
    str | None,
    typer.Option(metavar="MODEL", help="Name of an embedded model, or a file. Default: maskwatch-640."),
]
Size = Annotated[
    int | None, typer.Option(metavar="PIXELS", help="Take the embedded model of this size, e.g. 320.")
]
Classes = Annotated[
    str | None, typer.Option(metavar="NAMES", help="Only these classes, e.g. no_mask,mask_incorrect.")
]
PerClass = Annotated[bool, typer.Option("--per-class-nms", help="Let boxes of different classes overlap.")]
Force = Annotated[bool, typer.Option("--force", "-f", help="Overwrite existing results.")]
Threads = Annotated[
    int | None, typer.Option(metavar="N", help="Threads of the network. Default: one a core.")
]


def detect(
    sources: Sources,
    out: Out = None,
    blur: Blur = False,
    json_file: Json = None,
    csv_file: Csv = None,
    threshold: Threshold = None,
    model: Model = None,
    size: Size = None,
    classes: Classes = None,
    per_class_nms: PerClass = False,
    force: Force = False,
    threads: Threads = None,
) -> None:
    """Find the faces in pictures and videos, and say whether they wear masks.

    Prints a line for each and a table of counts. Inputs that cannot be read are named and skipped; the
    exit status is then 1.

    Example: maskwatch detect photos/ --out drawn --json found.json
    """
    from maskwatch.cli.detect_runner import Job

    job = Job.plan(
        sources,
        out=out,
        blur=blur,
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
