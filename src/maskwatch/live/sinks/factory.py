"""`SinkSettings` → open sinks and the delivery that feeds them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence

from maskwatch.errors import MissingExtraError, OptionError
from maskwatch.labels import MASK_CLASSES
from maskwatch.live.sinks import Sink
from maskwatch.live.sinks.delivery import Delivery, OnError, ignore
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
        yield SqliteSink(settings.db)
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


@contextlib.contextmanager
def _needs(option: str, extra: str) -> Iterator[None]:
    """Names the extra when a module that an option needs is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"{option} (module {error.name})", extra) from None
