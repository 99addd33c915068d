"""Events by MQTT: at least once, in order, on disk while the broker is unreachable."""

from __future__ import annotations

import sys
import threading
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from paho.mqtt.client import Client, MQTTMessageInfo
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

from maskwatch.errors import OptionError
from maskwatch.labels import MASK_CLASSES
from maskwatch.live.events import Event
from maskwatch.live.sinks import Backlog, RetryableError
from maskwatch.live.sinks.home_assistant import OFFLINE, ONLINE, HomeAssistantState, Message
from maskwatch.live.sinks.outbox import OutboxSink, QueuedEvent
from maskwatch.net.addresses import Address, shown_argument, without_credentials

DEFAULT_PREFIX = "maskwatch"

_PORTS = {"mqtt": 1883, "mqtts": 8883}
_KEEPALIVE_S = 30
_LONGEST_RECONNECT_S = 30
_QOS = 1
_STATE_QOS = 0
_WAIT_S = 0.2
_GOODBYE_S = 1.0


@dataclass(frozen=True)
class Broker:
    """Address and credentials of a broker.

    Attributes:
        prefix: of the topics, without slashes around it.
    """

    host: str
    port: int
    tls: bool
    user: str | None
    prefix: str
    password: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, url: str, password: str | None = None) -> Broker:
        """`mqtt[s]://[user@]host[:port][/prefix]`.

        Raises:
            OptionError: a text of another form, or with a password in it.
        """
        try:
            address = Address.parse(url)
        except ValueError:
            raise _no_broker(url) from None
        scheme, host = address.scheme, address.host
        if address.password is not None:
            raise OptionError(
                f"--mqtt {without_credentials(url)} has a password in it, which every user of this machine "
                "could read; put it into MASKWATCH_MQTT_PASSWORD"
            )
        prefix = unquote(address.rest).strip("/") or DEFAULT_PREFIX
        wrong = {*address.rest} & {"?", "#"} or prefix.startswith("$") or {*prefix} & {"+", "#", "\0"}
        if scheme not in _PORTS or wrong:
            raise _no_broker(url)
        if password is not None and address.user is None:
            raise OptionError(
                f"--mqtt {address.bare} has a password but no user; write {scheme}://user@{host}"
            )
        return cls(host, address.port or _PORTS[scheme], scheme == "mqtts", address.user, prefix, password)

    def __str__(self) -> str:
        return f"{'mqtts' if self.tls else 'mqtt'}://{self.host}:{self.port}"


def _no_broker(url: str) -> OptionError:
    return OptionError(
        f"--mqtt {shown_argument(url)!r} is not a valid broker URL; write mqtt://user@host:1883/maskwatch, or mqtts://"
    )


class MqttSink(OutboxSink):
    """Publishes each event, and the states that Home Assistant shows. See docs/events.md for the topics.

    An event leaves the outbox when the broker has confirmed it. Raises as `OutboxSink`.

    Args:
        class_names: of the model, as `HomeAssistantState` takes them.
    """

    name = "mqtt"

    def __init__(self, broker: Broker, outbox: Path, class_names: Sequence[str] = MASK_CLASSES) -> None:
        self._broker = broker
        self._topic = f"{broker.prefix}/events"
        self._lock = threading.Lock()
        self._home_assistant = HomeAssistantState(broker.prefix, class_names=class_names)
        self._connected = threading.Event()
        self._connection_problem: str | None = None
        super().__init__(outbox)
        self._client = self._make_client()
        self._client.connect_async(broker.host, broker.port, _KEEPALIVE_S)
        self._client.loop_start()
        self.start()

    def send(self, event: Event) -> None:
        super().send(event)
        with self._lock:
            messages = self._home_assistant.update(event)
            if self._connected.is_set():
                self._publish_states(messages)

    def backlog(self) -> Backlog:
        state = super().backlog()
        return replace(state, problem=self._connection_problem or state.problem)

    def close(self, timeout_s: float) -> None:
        super().close(timeout_s)
        if self._connected.is_set():
            goodbye = self._client.publish(self._home_assistant.status_topic, OFFLINE, _QOS, retain=True)
            if goodbye.rc == MQTTErrorCode.MQTT_ERR_SUCCESS:
                goodbye.wait_for_publish(_GOODBYE_S)
        self._client.disconnect()
        self._client.loop_stop()

    def deliver(self, event: QueuedEvent) -> None:
        while not self._connected.wait(_WAIT_S):
            # While closing, a first connection may still succeed; one that failed will not in the time left.
            if self._dispatcher.closing and (self._connection_problem or not self._dispatcher.left_s):
                raise RetryableError(
                    self._connection_problem or f"{self._broker}: is not connected yet; check the broker"
                )
        info = self._client.publish(self._topic, event.body.encode(), _QOS)
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise RetryableError(
                f"{self._broker}: the connection was lost; events wait for the broker", _WAIT_S
            )
        self._wait_for_confirmation(info)

    def _wait_for_confirmation(self, info: MQTTMessageInfo) -> None:
        """Also while the connection is lost: paho sends unconfirmed messages again."""
        while not info.is_published():
            info.wait_for_publish(_WAIT_S)
            if self._dispatcher.closing and not (self._connected.is_set() and self._dispatcher.left_s):
                raise RetryableError(f"{self._broker}: has not confirmed an event; check the broker")

    def _make_client(self) -> Client:
        client = Client(CallbackAPIVersion.VERSION2, client_id=f"maskwatch-{uuid.uuid4().hex[:12]}")
        if self._broker.user is not None:
            client.username_pw_set(self._broker.user, self._broker.password)
        if self._broker.tls:
            client.tls_set()
        client.reconnect_delay_set(1, _LONGEST_RECONNECT_S)
        client.will_set(self._home_assistant.status_topic, OFFLINE, _QOS, retain=True)
        client.on_connect = self._on_connect
        client.on_connect_fail = self._on_connect_fail
        client.on_disconnect = self._on_disconnect
        return client

    def _on_connect(self, client: Client, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            self._connection_problem = (
                f"{self._broker} refuses us ({reason}); check the user and MASKWATCH_MQTT_PASSWORD"
            )
            return
        with self._lock:
            # All states: a broker that was restarted may have lost its retained messages.
            client.publish(self._home_assistant.status_topic, ONLINE, _QOS, retain=True)
            self._publish_states(self._home_assistant.all_messages())
            self._connection_problem = None
            self._connected.set()

    def _on_connect_fail(self, client: Client, data: Any) -> None:
        error = sys.exc_info()[1]  # paho calls this in its except block
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        self._connection_problem = f"{self._broker}: cannot be reached ({reason}); check address and broker"

    def _on_disconnect(self, client: Client, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        self._connected.clear()
        if reason.is_failure and self._connection_problem is None:
            self._connection_problem = (
                f"{self._broker}: the connection was lost ({reason}); events wait for the broker"
            )

    def _publish_states(self, messages: list[Message]) -> None:
        # Without confirmation: the next connection publishes every state anyway, and paho would send the
        # unconfirmed ones only after that, an old state over the newest.
        for message in messages:
            self._client.publish(message.topic, message.payload, _STATE_QOS, retain=True)
