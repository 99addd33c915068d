"""`maskwatch data fetch`: a published data set, downloaded and unpacked."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from maskwatch.cli.progress import progress_bar
from maskwatch.text import plural

if TYPE_CHECKING:
    from maskwatch.data.download import Fetched


def fetch(
    source: Annotated[
        str,
        typer.Argument(
            metavar="NAME|URL", help="'face_mask_dataset', or the address of a zip or tar archive."
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="New folder; named after the archive if not given.")
    ] = None,
    sha256: Annotated[
        str | None, typer.Option(metavar="HEX", help="What the archive's SHA-256 must be.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a folder that maskwatch made.")] = False,
) -> None:
    """Download the archive of a data set and unpack it safely.

    A download that was cut goes on where it stopped when the same command runs again.

    Example: maskwatch data fetch face_mask_dataset
    """
    from maskwatch.data.download import fetch_data

    with progress_bar("fetching", in_bytes=True) as progress:
        fetched = fetch_data(source, out, sha256=sha256, force=force, progress=progress)
    _report(fetched)


def _report(fetched: Fetched) -> None:
    typer.echo(f"sha256: {fetched.sha256}{' (as expected)' if fetched.pinned else ''}")
    if not fetched.pinned:
        typer.echo("no checksum was known to compare it with; pin this one with --sha256 next time")
    kinds = ", ".join(plural(count, f"{suffix} file") for suffix, count in fetched.annotations.items())
    typer.echo(f"{fetched.folder}: {plural(fetched.pictures, 'picture')}, {kinds or 'no annotation files'}")
    if fetched.pictures:
        typer.echo(f"next: maskwatch data check {shlex.quote(str(fetched.folder))}")
    else:
        typer.echo("no pictures are in it; check whether this is the archive you want")
