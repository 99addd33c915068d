"""What a user wants done with events → the delivery that does it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from maskwatch.errors import MissingExtraError, OptionError
from maskwatch.live.sinks import ALL_KINDS, Sink
from maskwatch.live.sinks.delivery import QUEUE_SIZE, Delivery, Stored, Trouble, ignore
from maskwatch.live.sinks.home_assistant import DISCOVERY_PREFIX
from maskwatch.live.sinks.jsonl import KEEP_FILES, MAX_BYTES, JsonlSink
from maskwatch.live.sinks.notify import NotifySink
from maskwatch.live.sinks.outbox import MAX_OUTBOX_BYTES, outbox_folder, outbox_path
from maskwatch.live.sinks.shell import SHELL_TIMEOUT_S, ShellSink
from maskwatch.live.sinks.sound import SoundSink
from maskwatch.live.sinks.sqlite import SqliteSink
from maskwatch.text import read_text, reading

SINK_NAMES = ("jsonl", "sqlite", "webhook", "mqtt", "notify", "sound", "shell")

WEBHOOK_SECRET = "MASKWATCH_WEBHOOK_SECRET"
MQTT_PASSWORD = "MASKWATCH_MQTT_PASSWORD"


@dataclass(frozen=True)
class SinkSettings:
    """Where events go; whatever is None or False is left out.

    Attributes:
        events: JSON Lines file.
        db: SQLite file.
        webhook: address; its secret is in the environment, see `secret`.
        mqtt: broker, `mqtt[s]://[user@]host[:port][/prefix]`; its password is in the environment.
        notify: desktop notifications.
        sound: a sound.
        shell: a command.
        kinds: by name of a sink, which kinds of events it gets instead of its own; see `parse_kinds`.
        jsonl_bytes, jsonl_keep: size at which the file is rotated, and how many old ones are kept.
        outboxes: folder for what a webhook's receiver or a broker has not got yet; None for
            `outbox_folder()`.
        outbox_bytes: size of each.
        shell_timeout_s: time that the command may take.
        discovery: prefix that Home Assistant listens to; None announces nothing to it.
    """

    events: Path | None = None
    db: Path | None = None
    webhook: str | None = None
    mqtt: str | None = None
    notify: bool = False
    sound: bool = False
    shell: str | None = None
    kinds: Mapping[str, frozenset[str]] = field(default_factory=dict)
    jsonl_bytes: int = MAX_BYTES
    jsonl_keep: int = KEEP_FILES
    outboxes: Path | None = None
    outbox_bytes: int = MAX_OUTBOX_BYTES
    shell_timeout_s: float = SHELL_TIMEOUT_S
    discovery: str | None = DISCOVERY_PREFIX


def open_delivery(
    settings: SinkSettings,
    *,
    on_stored: Stored = ignore,
    on_trouble: Trouble = ignore,
    queue_size: int = QUEUE_SIZE,
) -> Delivery:
    """Opens the sinks and begins to deliver; see `Delivery` and `open_sinks`."""
    sinks = open_sinks(settings)
    return Delivery(sinks, on_stored=on_stored, on_trouble=on_trouble, queue_size=queue_size)


def open_sinks(settings: SinkSettings) -> list[Sink]:
    """Opens all that are asked for, or none.

    Raises:
        OptionError: a value that cannot be used.
        EventError, OutputError: a file that cannot be used.
        MissingExtraError: the extra `live` is not there.
    """
    sinks: list[Sink] = []
    try:
        for sink in _opened(settings):
            sinks.append(sink)
            sink.kinds = settings.kinds.get(sink.name, sink.kinds)
    except BaseException:
        for sink in sinks:
            sink.close(0)
        raise
    return sinks


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
                f"{text!r} says of no sink what it gets; write SINK=KIND,KIND with a sink of "
                f"{', '.join(SINK_NAMES)} and kinds of all, {', '.join(sorted(ALL_KINDS))}"
            )
        chosen[name] = ALL_KINDS if "all" in kinds else kinds
    return chosen


def secret(name: str) -> str | None:
    """A secret from the environment: in the variable itself, or in the file that `NAME_FILE` names.

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


def _opened(settings: SinkSettings) -> Iterator[Sink]:
    """Those first that can refuse without leaving a trace."""
    if settings.notify:
        yield NotifySink()
    if settings.sound:
        yield SoundSink()
    if settings.shell is not None:
        yield ShellSink(settings.shell, timeout_s=settings.shell_timeout_s)
    if settings.events is not None and settings.events == settings.db:
        raise OptionError(f"--events and --db both name {settings.db}; name two files")
    if settings.events is not None:
        yield JsonlSink(settings.events, max_bytes=settings.jsonl_bytes, keep=settings.jsonl_keep)
    if settings.db is not None:
        yield SqliteSink(settings.db)
    if settings.webhook is not None:
        yield _webhook(settings, settings.webhook)
    if settings.mqtt is not None:
        yield _mqtt(settings, settings.mqtt)


def _webhook(settings: SinkSettings, url: str) -> Sink:
    try:
        from maskwatch.live.sinks.webhook import WebhookSink
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"--webhook (module {error.name})", "live") from None
    path = outbox_path(settings.outboxes or outbox_folder(), url)
    return WebhookSink(url, path, secret(WEBHOOK_SECRET), max_outbox_bytes=settings.outbox_bytes)


def _mqtt(settings: SinkSettings, url: str) -> Sink:
    try:
        from maskwatch.live.sinks.mqtt import Broker, MqttSink
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"--mqtt (module {error.name})", "live") from None
    broker = Broker.parse(url, secret(MQTT_PASSWORD))
    path = outbox_path(settings.outboxes or outbox_folder(), f"{broker}/{broker.prefix}")
    return MqttSink(broker, path, discovery=settings.discovery, max_outbox_bytes=settings.outbox_bytes)
