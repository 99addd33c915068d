"""An MQTT broker for tests, which they start, kill and start again, and a client that hears everything."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from drawn_events import wait_until
from receiver import free_port

MOSQUITTO = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/opt/homebrew/sbin") or shutil.which(
    "mosquitto"
)
needs_broker = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")


class Mosquitto:
    """A broker on a port of its own, without memory."""

    def __init__(self, folder: Path, lines: tuple[str, ...] = ("allow_anonymous true",)) -> None:
        self.port = free_port()
        self._config = folder / "mosquitto.conf"
        # Started by root it would become somebody who cannot read our files.
        user = "user root\n" if hasattr(os, "geteuid") and os.geteuid() == 0 else ""
        head = f"listener {self.port} 127.0.0.1\npersistence false\n{user}"
        self._config.write_text(head + "\n".join(lines) + "\n")
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        assert MOSQUITTO is not None
        self._process = subprocess.Popen(
            [MOSQUITTO, "-c", str(self._config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_until(self._listens, "the broker listens")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _listens(self) -> bool:
        with socket.socket() as one:
            return one.connect_ex(("127.0.0.1", self.port)) == 0


class Listener:
    """Subscribes to everything, over restarts of the broker too."""

    def __init__(self, port: int, name: str = "listener") -> None:
        self.messages: list[tuple[str, Any, bool]] = []
        self.ready = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2, client_id=name)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = lambda client, *_: client.subscribe("#", 1)
        self._client.on_subscribe = lambda *_: self.ready.set()
        self._client.on_disconnect = lambda *_: self.ready.clear()
        self._client.on_message = self._take
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert self.ready.wait(30)

    def _take(self, client: Client, data: object, message: MQTTMessage) -> None:
        text = message.payload.decode()
        payload = json.loads(text) if text.startswith("{") else text
        self.messages.append((message.topic, payload, message.retain))

    def of(self, topic: str) -> list[Any]:
        return [payload for name, payload, _ in self.messages if name == topic]

    def tracks(self, topic: str = "home/door/events") -> list[int]:
        return [record["track"] for record in self.of(topic)]

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
