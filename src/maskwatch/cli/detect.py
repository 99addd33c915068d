"""`maskwatch detect`: pictures and videos in; lines, annotated pictures and records out."""

from __future__ import annotations

import typer

from maskwatch.cli.detect_options import DetectOptions
from maskwatch.cli.options import with_options


@with_options(DetectOptions)
def detect(options: DetectOptions) -> None:
    """Find the faces in pictures and videos, and who wears a mask.

    Prints a line for each and a table of counts. Skips inputs that cannot be read, with a message; the exit
    status is then 1.

    Example: maskwatch detect photos/ --out drawn --json found.json
    """
    if options.ray is None:
        from maskwatch.cli.detect_runner import run_detect as run
    else:
        from maskwatch.cli.detect_cluster import run_on_cluster as run
    if run(options):
        raise typer.Exit(1)
