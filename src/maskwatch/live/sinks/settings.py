"""Where a user wants events to go. Imports no sink, so that the command line starts quickly."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from maskwatch.errors import OptionError
from maskwatch.live.sinks import ALL_KINDS

SINK_NAMES = ("jsonl", "sqlite", "webhook", "mqtt", "notify", "sound", "apprise", "shell")


@dataclass(frozen=True)
class SinkSettings:
    """Where events go; None and False leave a sink out.

    Attributes:
        events: JSON Lines file.
        db: SQLite file.
        webhook: address; its secret comes from the environment, see `factory.read_secret`.
        mqtt: broker, `mqtt[s]://[user@]host[:port][/prefix]`; its password comes from the environment.
        outboxes: folder for the events that a webhook's receiver or a broker has not taken yet; None for
            `outbox.outbox_folder()`.
        notify: desktop notifications.
        sound: a sound.
        apprise: address of a service, or a file of such addresses, as Apprise reads them.
        shell: a command.
        kinds: by name of a sink, the kinds of events it gets instead of its default; see `parse_kinds`.
    """

    events: Path | None = None
    db: Path | None = None
    webhook: str | None = None
    mqtt: str | None = None
    outboxes: Path | None = None
    notify: bool = False
    sound: bool = False
    apprise: str | None = None
    shell: str | None = None
    kinds: Mapping[str, frozenset[str]] = field(default_factory=dict)


def parse_kinds(texts: Iterable[str]) -> dict[str, frozenset[str]]:
    """`["notify=alert,crossing", "mqtt=all"]` → kinds by name of a sink.

    Raises:
        OptionError: no such sink, or no such kind.
    """
    chosen = {}
    for text in texts:
        name, _, listed = text.partition("=")
        kinds = frozenset(kind.strip() for kind in listed.split(",") if kind.strip())
        if name not in SINK_NAMES or not kinds or not kinds <= ALL_KINDS | {"all"}:
            raise OptionError(
                f"{text!r} names no sink and kinds; write SINK=KIND,KIND with a sink of "
                f"{', '.join(SINK_NAMES)} and kinds of all, {', '.join(sorted(ALL_KINDS))}"
            )
        chosen[name] = ALL_KINDS if "all" in kinds else kinds
    return chosen
