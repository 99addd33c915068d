"""`SinkSettings` → open sinks and the delivery that feeds them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from maskwatch.errors import MissingExtraError, OptionError
from maskwatch.live.sinks import Sink
from maskwatch.live.sinks.delivery import QUEUE_SIZE, Delivery, OnError, OnStored, ignore
from maskwatch.live.sinks.desktop import NotifySink, SoundSink
from maskwatch.live.sinks.jsonl import JsonlSink
from maskwatch.live.sinks.outbox import outbox_folder, outbox_path
from maskwatch.live.sinks.settings import SinkSettings
from maskwatch.live.sinks.shell import ShellSink
from maskwatch.live.sinks.sqlite import SqliteSink
from maskwatch.text import read_text, reading

WEBHOOK_SECRET = "MASKWATCH_WEBHOOK_SECRET"
MQTT_PASSWORD = "MASKWATCH_MQTT_PASSWORD"


def open_delivery(
    settings: SinkSettings,
    *,
    on_stored: OnStored = ignore,
    on_error: OnError = ignore,
    queue_size: int = QUEUE_SIZE,
) -> Delivery:
    """Opens the sinks and starts to deliver; see `Delivery` and `open_sinks`."""
    sinks = open_sinks(settings)
    return Delivery(sinks, on_stored=on_stored, on_error=on_error, queue_size=queue_size)


def open_sinks(settings: SinkSettings) -> list[Sink]:
    """Opens all sinks of the settings, or none.

    Raises:
        OptionError: a value that cannot be used.
        EventError, OutputError: a file that cannot be used.
        MissingExtraError: the extra `live` or `notify` is not installed.
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


def _opened(settings: SinkSettings) -> Iterator[Sink]:
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
    with _needs("--webhook", "live"):
        from maskwatch.live.sinks.webhook import WebhookSink
    path = outbox_path(settings.outboxes or outbox_folder(), url)
    return WebhookSink(url, path, read_secret(WEBHOOK_SECRET), max_outbox_bytes=settings.outbox_bytes)


def _mqtt(settings: SinkSettings, url: str) -> Sink:
    with _needs("--mqtt", "live"):
        from maskwatch.live.sinks.mqtt import Broker, MqttSink
    broker = Broker.parse(url, read_secret(MQTT_PASSWORD))
    path = outbox_path(settings.outboxes or outbox_folder(), f"{broker}/{broker.prefix}")
    return MqttSink(broker, path, discovery=settings.discovery, max_outbox_bytes=settings.outbox_bytes)


@contextlib.contextmanager
def _needs(option: str, extra: str) -> Iterator[None]:
    """Names the extra when a module that an option needs is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"{option} (module {error.name})", extra) from None
