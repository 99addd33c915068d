"""Where a user wants events to go. Imports no sink, so that the command line starts quickly."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from maskwatch.errors import OptionError
from maskwatch.live.sinks import ALL_KINDS
from maskwatch.net.addresses import is_address, shown_argument
from maskwatch.text import read_text, reading

SINK_NAMES = ("jsonl", "sqlite", "postgresql", "webhook", "mqtt", "notify", "sound", "apprise", "shell")


@dataclass(frozen=True)
class SinkSettings:
    """Where events go; None and False leave a sink out.

    Attributes:
        events: JSON Lines file.
        db: SQLite file, or address of a PostgreSQL database, see `parse_database`.
        webhook: address; its secret comes from the environment, see `read_secret`.
        mqtt: broker, `mqtt[s]://[user@]host[:port][/prefix]`; its password comes from the environment.
        outboxes: folder for the events that a webhook's receiver, a broker or PostgreSQL has not taken yet;
            None for `outbox.outbox_folder()`.
        notify: desktop notifications.
        sound: a sound.
        apprise: address of a service, or a file of such addresses, as Apprise reads them.
        shell: a command.
        kinds: by name of a sink, the kinds of events it gets instead of its default; see `parse_kinds`.
    """

    events: Path | None = None
    db: Path | str | None = None
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


def parse_database(text: str) -> Path | str:
    """What `--db` names: a path, or the address of a PostgreSQL database as `postgresql://…`.

    Raises:
        OptionError: it is the address of something else.
    """
    if not is_address(text):
        return Path(text)
    scheme, _, rest = text.partition("://")
    if scheme.lower() not in ("postgresql", "postgresql+psycopg", "postgres"):
        raise OptionError(
            f"{shown_argument(text)}: events go to SQLite or PostgreSQL; write a path, or "
            "postgresql://user@host/name"
        )
    return f"postgresql://{rest}"


def read_secret(name: str) -> str | None:
    """A secret from the environment: from the variable, or from the file that the variable `NAME_FILE` names.

    Raises:
        OptionError: it is empty, or the file cannot be read.
    """
    file = os.environ.get(f"{name}_FILE")
    text = os.environ.get(name)
    if text is None and file is not None:
        with reading(f"{name}_FILE={file}", OptionError, "check the path"):
            text = read_text(file).strip()
    if text is not None and not text:
        raise OptionError(f"{name} is empty; set it, or unset it to do without")
    return text
