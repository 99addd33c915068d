"""`maskwatch label` and `maskwatch data prelabel`: label the pictures of a folder, with the model's help."""

from __future__ import annotations

import os
import secrets
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from maskwatch.cli.datasets import ClassesOption
from maskwatch.cli.options import with_options
from maskwatch.cli.progress import progress_bar
from maskwatch.cli.serve import TOKEN_VARIABLE
from maskwatch.errors import MissingExtraError
from maskwatch.labels import ClassMap
from maskwatch.text import plural

_Folder = Annotated[
    Path, typer.Argument(metavar="FOLDER", help="The folder that holds the pictures.", show_default=False)
]
_Model = Annotated[
    str | None,
    typer.Option(
        metavar="MODEL", help="Model that proposes boxes, a name or a file. Default: the embedded one."
    ),
]
_MinScore = Annotated[
    float | None,
    typer.Option(metavar="SCORE", help="Propose boxes above this score. Default: the model's thresholds."),
]


@dataclass(frozen=True)
class LabelOptions:
    """The options of the command."""

    folder: _Folder
    classes: ClassesOption = None
    model: _Model = None
    min_score: _MinScore = None
    suspects: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Labels to look at: a report of maskwatch evaluate --report, or a file of its --suspects.",
        ),
    ] = None
    corrections: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Add decisions to this file instead of changing annotations."),
    ] = None
    by: Annotated[
        str | None, typer.Option(metavar="NAME", help="Who decides; kept with each decision about a suspect.")
    ] = None
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Where to listen.")] = "127.0.0.1"
    port: Annotated[int, typer.Option(metavar="N", help="Port; 0 takes a free one.")] = 8766
    open: Annotated[
        bool, typer.Option("--open/--no-open", help="Open the page in a browser, where there is one.")
    ] = True


@with_options(LabelOptions)
def label(options: LabelOptions) -> None:
    """Label pictures in a browser, with the model's proposals.

    Every change is saved at once in the format that the folder has, Pascal VOC if it has none. Ctrl-C ends
    it.

    Example: maskwatch label my_photos
    """
    # Loading the libraries and reading the folder take seconds.
    print(f"maskwatch label: reading {options.folder} …", file=sys.stderr, flush=True)
    try:
        from maskwatch.label.server import run_label
        from maskwatch.label.settings import LabelSettings
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"maskwatch label (module {error.name})", "serve") from None
    settings = LabelSettings(
        folder=options.folder,
        token=os.environ.get(TOKEN_VARIABLE) or secrets.token_urlsafe(24),
        classes=None if options.classes is None else ClassMap.parse(options.classes),
        model=options.model,
        min_score=options.min_score,
        suspects=options.suspects,
        corrections=options.corrections,
        by=options.by,
        host=options.host,
        port=options.port,
    )

    def announce(address: str) -> None:
        print(f"maskwatch labels {options.folder} at {address} (Ctrl-C ends it)", flush=True)
        if options.open and _has_screen():
            import webbrowser

            threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()

    run_label(settings, announce)


def _has_screen() -> bool:
    """Whether a browser has a window to open in; without one, Python would start one in the terminal."""
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def prelabel(
    folder: _Folder,
    model: _Model = None,
    min_score: _MinScore = None,
    classes: ClassesOption = None,
) -> None:
    """Write the model's proposals for pictures without labels.

    Nothing is overwritten. The boxes are marked as proposed: maskwatch label still asks about them.

    Example: maskwatch data prelabel my_photos --min-score 0.6
    """
    from maskwatch.label.prelabel import prelabel as write_proposals
    from maskwatch.label.project import open_project

    project = open_project(folder, None if classes is None else ClassMap.parse(classes))
    with progress_bar("looking for faces") as advance:
        done = write_proposals(project, model, min_score, advance)
    for line in done.unreadable:
        typer.echo(f"left alone: {line}", err=True)
    typer.echo(
        f"{plural(len(project.pictures), 'picture')}: {done.written} with proposals "
        f"({plural(done.boxes, 'box').replace('boxs', 'boxes')}), {done.nothing} without, {done.kept} left "
        "alone because they have annotations"
    )
    typer.echo(f"next: maskwatch label {folder}")
