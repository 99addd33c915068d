"""`maskwatch events parked`: events that a webhook's receiver refused."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from maskwatch.errors import OptionError

if TYPE_CHECKING:
    from maskwatch.live.sinks.outbox import Outbox


def parked(
    folder: Annotated[
        Path | None,
        typer.Option(
            "--outboxes", metavar="DIR", help="Where the outboxes lie, if not at their usual place."
        ),
    ] = None,
    retry: Annotated[bool, typer.Option("--retry", help="Let them be sent again.")] = False,
    drop: Annotated[bool, typer.Option("--drop", help="Delete them.")] = False,
    json_lines: Annotated[bool, typer.Option("--json", help="Print the events as JSON Lines.")] = False,
) -> None:
    """List what waits in the outboxes of webhooks and brokers, and what receivers refused for good.

    Example: maskwatch events parked --retry
    """
    from maskwatch.live.sinks.outbox import OUTBOX_SUFFIX, Outbox, outbox_folder

    if retry and drop:
        raise OptionError("--retry and --drop cannot both be done; give one of them")
    place = folder or outbox_folder()
    paths = sorted(place.glob(f"*{OUTBOX_SUFFIX}"))
    if not paths and folder is not None and not folder.is_dir():
        raise OptionError(f"--outboxes {folder}: there is no such folder; name the one that holds them")
    if not paths and not json_lines:
        typer.echo(f"no outboxes in {place}")
    for path in paths:
        box = Outbox(path, create=False)
        try:
            _show(box, json_lines)
            if retry or drop:
                number = box.retry_parked() if retry else box.drop_parked()
                typer.echo(f"{path.name}: {number} {'wait again' if retry else 'deleted'}", err=json_lines)
        finally:
            box.close()


def _show(box: Outbox, json_lines: bool) -> None:
    letters = box.parked()
    if json_lines:
        for letter in letters:
            print(letter.body)
        return
    waiting, refused = box.counts()
    typer.echo(f"{box.path.name}: {waiting} waiting, {refused} parked")
    for letter in letters:
        typer.echo(f"  {letter.kind} {letter.id}: {letter.reason}")
