"""What a user wants done with events. Imports no sink, so that the command line starts quickly."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from maskwatch.errors import OptionError
from maskwatch.live.sinks import ALL_KINDS

SINK_NAMES = ("jsonl", "sqlite", "webhook", "mqtt", "notify", "sound", "apprise", "shell")

MAX_JSONL_BYTES = 64 << 20
KEEP_JSONL_FILES = 5

MAX_OUTBOX_BYTES = 64 << 20
"""About a hundred thousand events. A full outbox takes no more: it keeps the events it has taken."""

SHELL_TIMEOUT_S = 30.0
DISCOVERY_PREFIX = "homeassistant"


@dataclass(frozen=True)
class SinkSettings:
    """Where events go; whatever is None or False is left out.

    Attributes:
        events: JSON Lines file.
        db: SQLite file.
        webhook: address; its secret is in the environment, see `factory.read_secret`.
        mqtt: broker, `mqtt[s]://[user@]host[:port][/prefix]`; its password is in the environment.
        outboxes: folder for the events that a webhook's receiver or a broker has not taken yet; None for
            `outbox.outbox_folder()`.
        notify: desktop notifications.
        sound: a sound.
        apprise: address of a service, or a file of such addresses, as Apprise reads them.
        shell: a command.
        kinds: by name of a sink, which kinds of events it gets instead of its own; see `parse_kinds`.
        jsonl_bytes, jsonl_keep: size at which the file is rotated, and how many old files are kept.
        outbox_bytes: size of each.
        shell_timeout_s: time that the command may take.
        discovery: prefix of Home Assistant's discovery topics; None announces nothing.
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
    jsonl_bytes: int = MAX_JSONL_BYTES
    jsonl_keep: int = KEEP_JSONL_FILES
    outbox_bytes: int = MAX_OUTBOX_BYTES
    shell_timeout_s: float = SHELL_TIMEOUT_S
    discovery: str | None = DISCOVERY_PREFIX


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
