"""`maskwatch events dead-letters`: events that a receiver refused permanently."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from maskwatch.errors import OptionError

if TYPE_CHECKING:
    from maskwatch.live.sinks.outbox import Outbox

Folder = Annotated[
    Path | None,
    typer.Option("--outboxes", metavar="DIR", help="Folder of the outboxes, if not the default one."),
]
Retry = Annotated[bool, typer.Option("--retry", help="Send them again.")]
Drop = Annotated[bool, typer.Option("--drop", help="Delete them.")]
Json = Annotated[bool, typer.Option("--json", help="Print the events as JSON Lines.")]


def dead_letters(
    folder: Folder = None, retry: Retry = False, drop: Drop = False, json_lines: Json = False
) -> None:
    """List how many events wait for webhooks and brokers, and those that receivers refused permanently.

    Example: maskwatch events dead-letters --retry
    """
    from maskwatch.live.sinks.outbox import OUTBOX_SUFFIX, Outbox, outbox_folder

    if retry and drop:
        raise OptionError("--retry and --drop exclude each other; give one of them")
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
                number = box.retry_dead_letters() if retry else box.delete_dead_letters()
                typer.echo(f"{path.name}: {number} {'wait again' if retry else 'deleted'}", err=json_lines)
        finally:
            box.close()


def parked(folder: Folder = None, retry: Retry = False, drop: Drop = False, json_lines: Json = False) -> None:
    """The old name of `maskwatch events dead-letters`."""
    typer.echo("warning: `events parked` is now `events dead-letters`; use the new name", err=True)
    dead_letters(folder, retry, drop, json_lines)


def _show(box: Outbox, json_lines: bool) -> None:
    letters = box.dead_letters()
    if json_lines:
        for letter in letters:
            print(letter.body)
        return
    waiting, dead = box.counts()
    typer.echo(f"{box.path.name}: {waiting} waiting, {dead} dead letter{'' if dead == 1 else 's'}")
    for letter in letters:
        typer.echo(f"  {letter.kind} {letter.id}: {letter.reason}")
