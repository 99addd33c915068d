"""`maskwatch events …`: the events in a database of `--db`, and those that wait in outboxes."""

from __future__ import annotations

import contextlib
import functools
import json
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from maskwatch.cli.options import PanelCommand, parse_moment, with_options
from maskwatch.errors import EventError, MissingExtraError, OptionError
from maskwatch.live.events import EVENT_KINDS, Event
from maskwatch.live.sinks import RetryableError
from maskwatch.live.sinks.event_text import event_line
from maskwatch.text import plural

if TYPE_CHECKING:
    from maskwatch.live.sinks.event_store import EventQuery, EventStore
    from maskwatch.live.sinks.outbox import Outbox

_POLL_S = 0.3

events_app = typer.Typer(
    name="events",
    help="List, follow, sum up, export and delete stored events.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

DatabaseArgument = Annotated[
    str,
    typer.Argument(
        metavar="DATABASE", help="What --db wrote: an SQLite file, or postgresql://….", show_default=False
    ),
]
SinceOption = Annotated[
    str | None, typer.Option(metavar="WHEN", help="From then on: 2h (ago), today, 14:30, 2026-03-01.")
]
UntilOption = Annotated[str | None, typer.Option(metavar="WHEN", help="Before that moment.")]
SourceOption = Annotated[
    list[str] | None, typer.Option(metavar="NAME", help="Of this source; may be given more than once.")
]
ZoneOption = Annotated[list[str] | None, typer.Option(metavar="NAME", help="In this zone.")]
KindOption = Annotated[list[str] | None, typer.Option(metavar="KIND", help="Of this kind, e.g. alert.")]
StateOption = Annotated[
    list[str] | None, typer.Option(metavar="STATE", help="With this state, e.g. no_mask.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON Lines.")]


@dataclass(frozen=True)
class EventFilter:
    """The database of a command, and which of its events it reads."""

    database: DatabaseArgument
    since: SinceOption = None
    until: UntilOption = None
    source: SourceOption = None
    zone: ZoneOption = None
    kind: KindOption = None
    state: StateOption = None

    def query(self) -> EventQuery:
        """The filter as the event store takes it.

        Raises:
            OptionError: there is no such kind, or a text is not a valid time.
        """
        unknown = [name for name in self.kind or () if name not in EVENT_KINDS]
        if unknown:
            raise OptionError(f"--kind {unknown[0]!r} is not one of {', '.join(EVENT_KINDS)}; choose one")
        now = datetime.now().astimezone()
        begin, end = parse_moment("--since", self.since, now), parse_moment("--until", self.until, now)
        names = (tuple(listed or ()) for listed in (self.source, self.zone, self.kind, self.state))
        return _query_type()(begin, end, *names)


@dataclass(frozen=True)
class ListOptions(EventFilter):
    """The options of `maskwatch events list`."""

    limit: Annotated[int, typer.Option(min=1, metavar="N", help="List the newest N.")] = 50
    json_lines: JsonOption = False


@dataclass(frozen=True)
class ExportOptions(EventFilter):
    """The options of `maskwatch events export`."""

    csv_file: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="Write a table; - for stdout.")
    ] = None
    jsonl_file: Annotated[
        Path | None, typer.Option("--jsonl", metavar="FILE", help="Write JSON Lines; - for stdout.")
    ] = None
    force: Annotated[bool, typer.Option("--force", "-f", help="Overwrite existing files.")] = False


@events_app.command("list", cls=PanelCommand)
@with_options(ListOptions)
def list_events(options: ListOptions) -> None:
    """List events, the newest last.

    Example: maskwatch events list events.sqlite --since today --kind alert
    """
    query = options.query()
    with _open(options.database) as store:
        records = store.records(query, limit=options.limit)
    if options.json_lines:
        _print_json(records)
    else:
        from maskwatch.cli.events_output import print_events

        print_events(records)


@events_app.command(cls=PanelCommand)
def tail(
    database: DatabaseArgument,
    source: SourceOption = None,
    zone: ZoneOption = None,
    kind: KindOption = None,
    state: StateOption = None,
    limit: Annotated[
        int, typer.Option("--lines", "-n", min=0, metavar="N", help="Begin with the newest N.")
    ] = 10,
    json_lines: JsonOption = False,
) -> None:
    """Print events as they are stored, until Ctrl-C.

    Example: maskwatch events tail events.sqlite --kind alert
    """
    query = EventFilter(database, source=source, zone=zone, kind=kind, state=state).query()
    to_text = _json if json_lines else _line
    with _open(database) as store:
        seq = store.last_seq()
        for seq, record in store.newest(query, limit=limit):  # noqa: B007 - where _follow continues
            print(to_text(record), flush=True)
        with _interrupt_between() as check:
            for record in _follow(store, seq, query, check):
                print(to_text(record), flush=True)


@events_app.command(cls=PanelCommand)
def hours(
    database: DatabaseArgument,
    since: SinceOption = None,
    until: UntilOption = None,
    source: SourceOption = None,
    zone: Annotated[str | None, typer.Option(metavar="NAME", help="Numbers of this zone alone.")] = None,
    json_lines: JsonOption = False,
) -> None:
    """Sum up people, states, alerts and crossings by hour.

    Example: maskwatch events hours events.sqlite --since 7d
    """
    query = EventFilter(database, since, until, source, kind=["minute"]).query()
    from maskwatch.cli.events_output import hour_rows, print_hours

    with _open(database) as store:
        rows = hour_rows(store.every_record(query), zone)
    if json_lines:
        _print_json(rows)
    else:
        print_hours(rows)


@events_app.command("export", cls=PanelCommand)
@with_options(ExportOptions)
def export(options: ExportOptions) -> None:
    """Write events to a file, in the order of storing.

    Example: maskwatch events export events.sqlite --csv march.csv --since 2026-03-01 --until 2026-04-01
    """
    query = options.query()
    from maskwatch.cli.events_output import export_events

    with _open(options.database) as store:
        export_events(store, query, options.csv_file, options.jsonl_file, force=options.force)


@events_app.command(cls=PanelCommand)
def prune(
    database: DatabaseArgument,
    days: Annotated[
        float, typer.Option(min=0, metavar="N", help="Delete events older than this.", show_default=False)
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count them.")] = False,
) -> None:
    """Delete old events permanently.

    Other programs may write meanwhile.

    Example: maskwatch events prune events.sqlite --days 30
    """
    try:
        before = datetime.now().astimezone() - timedelta(days=days)
    except OverflowError:
        raise OptionError(f"--days {days:g} reaches back before all calendars; write fewer") from None
    with _open(database) as store:
        number = store.count(_query_type()(until=before)) if dry_run else store.delete_before(before)
        if number and not dry_run:
            store.compact()
    verb = "would be deleted" if dry_run else "deleted"
    typer.echo(f"{verb}: {number} events before {before:%Y-%m-%d %H:%M}")


@events_app.command("dead-letters", cls=PanelCommand)
def dead_letters(
    folder: Annotated[
        Path | None,
        typer.Option("--outboxes", metavar="DIR", help="Folder of the outboxes, if not the default one."),
    ] = None,
    retry: Annotated[bool, typer.Option("--retry", help="Send them again.")] = False,
    drop: Annotated[bool, typer.Option("--drop", help="Delete them.")] = False,
    json_lines: JsonOption = False,
) -> None:
    """List events that wait for a receiver or that one refused.

    Example: maskwatch events dead-letters --retry
    """
    from maskwatch.live.sinks.outbox import OUTBOX_SUFFIX, Outbox, outbox_folder

    if retry and drop:
        raise OptionError("--retry and --drop exclude each other; give one of them")
    if folder is not None and not folder.is_dir():
        raise OptionError(f"--outboxes {folder}: there is no such folder; name the one that holds them")
    folder = folder or outbox_folder()
    paths = sorted(folder.glob(f"*{OUTBOX_SUFFIX}"))
    if not paths and not json_lines:
        typer.echo(f"no outboxes in {folder}")
    for path in paths:
        with Outbox(path, create=False) as outbox:
            _print_dead_letters(outbox, json_lines)
            if retry or drop:
                number = outbox.retry_dead_letters() if retry else outbox.delete_dead_letters()
                typer.echo(f"{path.name}: {number} {'wait again' if retry else 'deleted'}", err=json_lines)


@events_app.command("parked", hidden=True, cls=PanelCommand)
@functools.wraps(dead_letters)
def _parked(**options: Any) -> None:
    typer.echo("warning: `events parked` is now `events dead-letters`; use the new name", err=True)
    dead_letters(**options)


def _open(database: str) -> EventStore:
    with _needs_live():
        from maskwatch.live.sinks.event_store import EventStore
    return EventStore(database)


def _query_type() -> type[EventQuery]:
    with _needs_live():
        from maskwatch.live.sinks.event_store import EventQuery
    return EventQuery


@contextlib.contextmanager
def _needs_live() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"maskwatch events (module {error.name})", "live") from None


@contextlib.contextmanager
def _interrupt_between() -> Iterator[Callable[[], None]]:
    """Ctrl-C takes effect where the block calls what this gives: a database driver may swallow it.

    A second one takes effect at once.
    """
    pressed = False

    def note(*_: object) -> None:
        nonlocal pressed
        pressed = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def check() -> None:
        if pressed:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, note)
    try:
        yield check
    finally:
        signal.signal(signal.SIGINT, before)


def _follow(
    store: EventStore, seq: int, query: EventQuery, check: Callable[[], None]
) -> Iterator[dict[str, Any]]:
    """Events that are stored from now on; ends only by what `check` raises."""
    while True:
        check()
        try:
            page = store.after(seq, query)
        except RetryableError:
            page = []
        for seq, record in page:  # noqa: B007 - where the next page begins
            yield record
        if not page:
            if not store.exists():
                raise EventError(f"{store.name}: was deleted; start again once there is a new one")
            time.sleep(_POLL_S)


def _line(record: dict[str, Any]) -> str:
    event = Event.from_record(record)
    date = f"{event.time:%Y-%m-%d}" if event.time_s is None else f"{event.time:%Y-%m-%d %H:%M:%S} at"
    return f"{date} {event_line(event)}"


def _json(record: dict[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False)


def _print_json(records: list[dict[str, Any]]) -> None:
    for record in records:
        print(_json(record))


def _print_dead_letters(outbox: Outbox, json_lines: bool) -> None:
    events = outbox.dead_letters()
    if json_lines:
        for event in events:
            print(event.body)
        return
    waiting, dead = outbox.counts()
    typer.echo(f"{outbox.path.name}: {waiting} waiting, {plural(dead, 'dead letter')}")
    for event in events:
        typer.echo(f"  {event.kind} {event.id}: {event.reason}")
