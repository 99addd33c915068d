"""MQTT messages for Home Assistant: sensors for each source, and their states.

Discovery messages as in https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from maskwatch._version import __version__
from maskwatch.labels import MASK_CLASSES
from maskwatch.live.events import Event
from maskwatch.live.tracking.counts import MASKED_STATE, PeopleCounts

DISCOVERY_PREFIX = "homeassistant"
ONLINE, OFFLINE = "online", "offline"


class Message(NamedTuple):
    """A retained message."""

    topic: str
    payload: str


@dataclass
class _Source:
    """The state of a source."""

    name: str
    topic: str
    available: bool = True
    minute: datetime | None = None
    counts: PeopleCounts | None = None
    last_alert: Event | None = None
    open_alerts: set[str] = field(default_factory=set)

    def update(self, event: Event) -> bool:
        """Applies an event; returns whether anything has changed."""
        if event.kind == "alert":
            self.open_alerts.add(event.id)
            self.last_alert = event
        elif event.kind == "alert_end":
            self.open_alerts.discard(event.alert or "")
        elif event.kind == "source":
            self.available = event.state == "live"
        elif event.kind == "minute" and event.counts is not None:
            counts = PeopleCounts.from_record(event.counts["all"])
            if self.counts is not None and self.minute == event.time:
                counts.add(self.counts)  # a minute comes in parts when the source was lost in it
            self.minute, self.counts = event.time, counts
        else:
            return False
        return True

    def record(self) -> dict[str, Any]:
        last, counts = self.last_alert, self.counts
        share = None if counts is None else counts.masked_share
        return {
            "source": self.name,
            "available": ONLINE if self.available else OFFLINE,
            "people": None if counts is None else sum(counts.people.values()),
            "undecided": None if counts is None else counts.undecided,
            "masked_share": None if share is None else round(100 * share, 1),
            "without_mask": "ON" if self.open_alerts else "OFF",
            "open_alert": "ON" if self.open_alerts else "OFF",
            "open_alerts": len(self.open_alerts),
            "last_alert": None if last is None else last.time.isoformat(timespec="milliseconds"),
            "last_alert_time_s": None if last is None or last.time_s is None else round(last.time_s, 4),
            "last_alert_state": None if last is None else last.state,
            "last_alert_zone": None if last is None else last.zone,
        }


_MEASUREMENT = {"state_class": "measurement"}
_SENSORS: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("sensor", "people", {"name": "People in the last minute", "icon": "mdi:account-group"} | _MEASUREMENT),
    (
        "sensor",
        "masked_share",
        {"name": "Masked share", "icon": "mdi:face-mask", "unit_of_measurement": "%"} | _MEASUREMENT,
    ),
    ("sensor", "last_alert", {"name": "Last alert", "device_class": "timestamp"}),
    ("binary_sensor", "without_mask", {"name": "Somebody without mask", "device_class": "problem"}),
    ("binary_sensor", "open_alert", {"name": "Open alert", "device_class": "problem"}),
)
_OF_MASKS = frozenset(["masked_share", "without_mask"])
_OF_OTHER_CLASSES = frozenset(["open_alert"])


class HomeAssistantState:
    """The states of all known sources, and the messages that announce them.

    Args:
        prefix: of the topics.
        discovery: prefix that Home Assistant listens to; None announces nothing.
        class_names: of the model. Without the class `mask` there is nothing to tell about masks.
    """

    def __init__(
        self,
        prefix: str,
        discovery: str | None = DISCOVERY_PREFIX,
        class_names: Sequence[str] = MASK_CLASSES,
    ) -> None:
        self._prefix, self._discovery = prefix, discovery
        self._left_out = _OF_OTHER_CLASSES if MASKED_STATE in class_names else _OF_MASKS
        self.status_topic = f"{prefix}/status"
        """The topic of "online" and "offline"."""
        self._sources: dict[str, _Source] = {}

    def update(self, event: Event) -> list[Message]:
        """Applies an event; returns the messages to publish."""
        new = event.source not in self._sources
        topic = f"{self._prefix}/{slug(event.source)}/state"
        source = self._sources.setdefault(event.source, _Source(event.source, topic))
        changed = source.update(event)
        return self._messages(source) if new else [self._state(source)] if changed else []

    def all_messages(self) -> list[Message]:
        """All messages, for a broker that has lost its retained ones."""
        return [message for source in self._sources.values() for message in self._messages(source)]

    def _messages(self, source: _Source) -> list[Message]:
        sensors = () if self._discovery is None else _SENSORS
        found = [self._config(source, *sensor) for sensor in sensors if sensor[1] not in self._left_out]
        return [*found, self._state(source)]

    def _state(self, source: _Source) -> Message:
        record = {key: value for key, value in source.record().items() if key not in self._left_out}
        return Message(source.topic, json.dumps(record))

    def _config(self, source: _Source, component: str, key: str, more: dict[str, str]) -> Message:
        device = f"maskwatch_{slug(self._prefix)}_{slug(source.name)}"
        config = {
            **more,
            "unique_id": f"{device}_{key}",
            "state_topic": source.topic,
            "value_template": f"{{{{ value_json.{key} }}}}",
            "json_attributes_topic": source.topic,
            "availability": [
                {"topic": self.status_topic},
                {"topic": source.topic, "value_template": "{{ value_json.available }}"},
            ],
            "availability_mode": "all",
            "device": {
                "identifiers": [device],
                "name": f"Maskwatch {source.name}",
                "manufacturer": "Maskwatch",
                "sw_version": __version__,
            },
            "origin": {"name": "maskwatch", "sw_version": __version__},
        }
        return Message(f"{self._discovery}/{component}/{device}/{key}/config", json.dumps(config))


def slug(name: str) -> str:
    """A name for a topic; different names stay different."""
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", name)
    if plain == name and name:
        return plain
    return f"{plain}_{hashlib.sha256(name.encode('utf-8', 'backslashreplace')).hexdigest()[:6]}"
