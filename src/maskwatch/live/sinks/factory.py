"""`SinkSettings` → open sinks and the delivery that feeds them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from maskwatch.errors import MissingExtraError, OptionError
from maskwatch.labels import MASK_CLASSES
from maskwatch.live.sinks import Sink
from maskwatch.live.sinks.delivery import Delivery, OnError, ignore
from maskwatch.live.sinks.desktop import NotifySink, SoundSink
from maskwatch.live.sinks.jsonl import JsonlSink
from maskwatch.live.sinks.outbox import outbox_folder, outbox_path
from maskwatch.live.sinks.settings import SinkSettings, parse_database, read_secret
from maskwatch.live.sinks.shell import ShellSink

WEBHOOK_SECRET = "MASKWATCH_WEBHOOK_SECRET"
MQTT_PASSWORD = "MASKWATCH_MQTT_PASSWORD"


def open_delivery(
    settings: SinkSettings, class_names: Sequence[str] = MASK_CLASSES, *, on_error: OnError = ignore
) -> Delivery:
    """Opens the sinks and starts to deliver; takes and raises as `open_sinks`."""
    return Delivery(open_sinks(settings, class_names), on_error=on_error)


def open_sinks(settings: SinkSettings, class_names: Sequence[str] = MASK_CLASSES) -> list[Sink]:
    """Opens all sinks of the settings, or none.

    Args:
        class_names: of the model; they decide which sensors Home Assistant gets.

    Raises:
        OptionError: a value that cannot be used.
        EventError, OutputError: a file that cannot be used.
        MissingExtraError: the extra `live` or `notify` is not installed.
    """
    sinks: list[Sink] = []
    try:
        for sink in _opened(settings, class_names):
            sinks.append(sink)
            sink.kinds = settings.kinds.get(sink.name, sink.kinds)
    except BaseException:
        for sink in sinks:
            sink.close(0)
        raise
    return sinks


def _opened(settings: SinkSettings, class_names: Sequence[str]) -> Iterator[Sink]:
    """The sinks that create no files come first, so that an error leaves none behind."""
    if settings.notify:
        yield NotifySink()
    if settings.sound:
        yield SoundSink()
    if settings.apprise is not None:
        with _needs("--apprise", "notify"):
            from maskwatch.live.sinks.apprise import AppriseSink
        yield AppriseSink(settings.apprise)
    if settings.shell is not None:
        yield ShellSink(settings.shell)
    if settings.events is not None and settings.events == settings.db:
        raise OptionError(f"--events and --db both name {settings.db}; name two files")
    if settings.events is not None:
        yield JsonlSink(settings.events)
    if settings.db is not None:
        yield _database_sink(settings.db, settings.outboxes)
    if settings.webhook is not None:
        with _needs("--webhook", "live"):
            from maskwatch.live.sinks.webhook import WebhookSink
        path = outbox_path(settings.outboxes or outbox_folder(), settings.webhook)
        yield WebhookSink(settings.webhook, path, read_secret(WEBHOOK_SECRET))
    if settings.mqtt is not None:
        with _needs("--mqtt", "live"):
            from maskwatch.live.sinks.mqtt import Broker, MqttSink
        broker = Broker.parse(settings.mqtt, read_secret(MQTT_PASSWORD))
        path = outbox_path(settings.outboxes or outbox_folder(), f"{broker}/{broker.prefix}")
        yield MqttSink(broker, path, class_names)


def _database_sink(db: Path | str, outboxes: Path | None) -> Sink:
    target = parse_database(str(db))
    with _needs("--db", "live"):
        from maskwatch.live.sinks.postgresql import PostgresqlSink
        from maskwatch.live.sinks.sqlite import SqliteSink
    if isinstance(target, Path):
        return SqliteSink(target)
    return PostgresqlSink(target, outboxes or outbox_folder())


@contextlib.contextmanager
def _needs(option: str, extra: str) -> Iterator[None]:
    """Names the extra when a module that an option needs is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"{option} (module {error.name})", extra) from None
