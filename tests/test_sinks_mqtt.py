"""MQTT with a real broker, which the tests start, kill and start again."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from certificates import make_certificate
from drawn_events import COUNTS, START, event, minute, wait_until

pytest.importorskip("paho.mqtt", reason="the extra live is not installed")

from broker import Listener, Mosquitto, needs_broker
from maskwatch.errors import OptionError
from maskwatch.live.sinks.home_assistant import HomeAssistantState, slug
from maskwatch.live.sinks.mqtt import Broker, MqttSink


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    one = Mosquitto(tmp_path)
    yield one
    one.kill()


@pytest.fixture
def listener(broker: Mosquitto) -> Iterator[Listener]:
    one = Listener(broker.port)
    yield one
    one.close()


def open_sink(port: int, folder: Path) -> MqttSink:
    return MqttSink(Broker.parse(f"mqtt://127.0.0.1:{port}/home/door"), folder / "mqtt.outbox.sqlite")


def delivered(sink: MqttSink) -> bool:
    return sink.backlog().waiting == 0


@needs_broker
def test_events_states_and_status(broker: Mosquitto, listener: Listener, tmp_path: Path) -> None:
    sink = open_sink(broker.port, tmp_path)
    came = event(0, kind="source", state="live", track=None, score=None, duration_s=None)
    alert, end = event(1), event(2, kind="alert_end", alert=event(1).id, reason="left")
    for one in (came, alert, minute(0), end):
        sink.send(one)
    sink.close(20)
    wait_until(lambda: listener.of("home/door/status") == ["online", "offline"], "all has come")
    assert listener.of("home/door/events") == [one.to_record() for one in (came, alert, minute(0), end)]
    states = listener.of("home/door/door/state")
    assert states[-1] == {
        "source": "door",
        "available": "online",
        "people": 4,
        "undecided": 0,
        "masked_share": 75.0,
        "without_mask": "OFF",
        "open_alerts": 0,
        "last_alert": "2026-03-01T12:00:01.000+01:00",
        "last_alert_time_s": None,
        "last_alert_state": "no_mask",
        "last_alert_zone": None,
    }
    late = Listener(broker.port, "late")
    wait_until(lambda: len(late.messages) == 6, "what is retained: status, state, four sensors")
    late.close()
    assert all(retained for _, _, retained in late.messages)
    assert late.of("home/door/status") == ["offline"]
    assert late.of("home/door/events") == []


@needs_broker
def test_last_will(broker: Mosquitto, listener: Listener, tmp_path: Path) -> None:
    sink = open_sink(broker.port, tmp_path)
    wait_until(lambda: listener.of("home/door/status") == ["online"], "we are there")
    # As when the machine dies: the connection breaks without a word.
    wire = sink._client.socket()
    assert wire is not None
    sink._client.reconnect_delay_set(600, 600)
    wire.shutdown(socket.SHUT_RDWR)
    wait_until(lambda: listener.of("home/door/status") == ["online", "offline"], "the last will")
    sink.close(1)


@needs_broker
def test_broker_that_dies_and_comes_again(broker: Mosquitto, listener: Listener, tmp_path: Path) -> None:
    sink = open_sink(broker.port, tmp_path)
    sink.send(event(0))
    wait_until(lambda: delivered(sink) and len(listener.tracks()) == 1, "the first event")
    broker.kill()
    listener.ready.clear()
    for number in range(1, 6):
        sink.send(event(number))
    wait_until(lambda: sink.backlog().problem, "the loss is noticed")
    assert sink.backlog().waiting == 5
    assert f"mqtt://127.0.0.1:{broker.port}" in (sink.backlog().problem or "")
    listener.messages.clear()
    with sink._lock:  # so that the listener is there before us
        broker.start()
        assert listener.ready.wait(30)
    wait_until(lambda: delivered(sink), "all are delivered")
    sink.close(20)
    assert sink.backlog().problem is None
    wait_until(lambda: len(listener.tracks()) >= 5, "the events")
    assert list(dict.fromkeys(listener.tracks())) == [1, 2, 3, 4, 5]
    # The broker had forgotten everything, and was told again.
    state = lambda: listener.of("home/door/door/state")  # noqa: E731
    wait_until(lambda: state() and state()[-1]["open_alerts"] == 6, "the newest state")


@needs_broker
def test_events_wait_for_a_broker_that_is_not_there_yet(broker: Mosquitto, tmp_path: Path) -> None:
    broker.kill()
    sink = open_sink(broker.port, tmp_path)
    for number in range(3):
        sink.send(event(number))
    wait_until(lambda: sink.backlog().problem, "the first attempt")
    assert "cannot be reached (Connection refused); check address and broker" in (
        sink.backlog().problem or ""
    )
    before = time.monotonic()
    sink.close(60)
    assert time.monotonic() - before < 40, "a broker that is away is not waited for"
    assert sink.backlog().waiting == 3
    broker.start()
    listener = Listener(broker.port)
    sink = open_sink(broker.port, tmp_path)
    sink.send(event(3))
    sink.close(20)
    assert sink.backlog().waiting == 0
    wait_until(lambda: len(listener.tracks()) == 4, "all of both runs")
    listener.close()
    assert listener.tracks() == [0, 1, 2, 3]
    # What happened in a run that is over is told, but is no state of now.
    assert listener.of("home/door/door/state")[-1]["open_alerts"] == 1


@needs_broker
def test_password(tmp_path: Path) -> None:
    if shutil.which("mosquitto_passwd") is None:
        pytest.skip("mosquitto_passwd is not installed")
    passwords = tmp_path / "passwords"
    subprocess.run(
        ["mosquitto_passwd", "-c", "-b", str(passwords), "anna", "geheim"], check=True, capture_output=True
    )
    broker = Mosquitto(tmp_path, ("allow_anonymous false", f"password_file {passwords}"))
    try:
        url = f"mqtt://anna@127.0.0.1:{broker.port}"
        sink = MqttSink(Broker.parse(url, "falsch"), tmp_path / "box.sqlite")
        sink.send(event(1))
        wait_until(lambda: "refuses us" in (sink.backlog().problem or ""), "the refusal")
        assert "check the user and MASKWATCH_MQTT_PASSWORD" in (sink.backlog().problem or "")
        sink.close(0.5)
        assert sink.backlog().waiting == 1
        sink = MqttSink(Broker.parse(url, "geheim"), tmp_path / "box.sqlite")
        sink.close(20)
        assert sink.backlog().waiting == 0
    finally:
        broker.kill()


# paho leaves the socket of a failed handshake to be closed by the garbage collector.
@pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <ssl.SSLSocket:pytest.PytestUnraisableExceptionWarning"
)
@needs_broker
def test_certificates_are_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate, key = make_certificate(tmp_path)
    lines = ("allow_anonymous true", f"certfile {certificate}", f"keyfile {key}")
    broker = Mosquitto(tmp_path, lines)
    try:
        target = Broker.parse(f"mqtts://127.0.0.1:{broker.port}")
        sink = MqttSink(target, tmp_path / "box.sqlite")
        sink.send(event(1))
        wait_until(lambda: "certificate" in (sink.backlog().problem or "").lower(), "the refusal")
        sink.close(0.5)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        sink = MqttSink(target, tmp_path / "box.sqlite")
        sink.close(20)
        assert sink.backlog().waiting == 0
    finally:
        broker.kill()


def test_home_assistant_is_told_of_every_source() -> None:
    home = HomeAssistantState("home/door")
    messages = home.update(event(1, source="Tür 1"))
    assert [message.topic.rsplit("/", 2)[-2] for message in messages] == [
        "people",
        "masked_share",
        "last_alert",
        "without_mask",
        slug("Tür 1"),
    ]
    configs = [json.loads(message.payload) for message in messages[:-1]]
    assert [message.topic.split("/")[:2] for message in messages[:-1]] == [
        ["homeassistant", "sensor"],
        ["homeassistant", "sensor"],
        ["homeassistant", "sensor"],
        ["homeassistant", "binary_sensor"],
    ]
    state_topic = f"home/door/{slug('Tür 1')}/state"
    assert messages[-1].topic == state_topic
    state = json.loads(messages[-1].payload)
    for config in configs:
        assert config["state_topic"] == state_topic
        key = config["value_template"].removeprefix("{{ value_json.").removesuffix(" }}")
        assert key in state
        assert config["availability"][0]["topic"] == "home/door/status"
        assert config["device"]["name"] == "Maskwatch Tür 1"
    assert len({config["unique_id"] for config in configs}) == 4
    assert configs[2]["device_class"] == "timestamp"
    assert state["without_mask"] == "ON"
    # Known now: only its state.
    assert [message.topic for message in home.update(event(2, source="Tür 1"))] == [state_topic]
    assert home.update(event(3, kind="crossing", source="Tür 1")) == []
    assert len(home.all_messages()) == 5
    assert len(HomeAssistantState("x", None).update(event(1))) == 1


def test_states_of_a_source() -> None:
    home = HomeAssistantState("x", None)

    def state(**fields: Any) -> dict[str, Any]:
        (message,) = home.update(event(**fields))
        return json.loads(message.payload)  # type: ignore[no-any-return]

    assert state(number=1)["open_alerts"] == 1
    assert state(number=2)["open_alerts"] == 2
    one_over = state(number=3, kind="alert_end", alert=event(1).id)
    assert (one_over["open_alerts"], one_over["without_mask"]) == (1, "ON")
    assert state(number=4, kind="alert_end", alert=event(2).id)["without_mask"] == "OFF"
    assert state(number=5, kind="source", state="waiting")["available"] == "offline"
    assert state(number=6, kind="source", state="live")["available"] == "online"
    assert state(number=7, kind="minute", counts=COUNTS, time=START)["people"] == 4
    assert state(number=10, time_s=83.25)["last_alert_time_s"] == 83.25
    unknown = {**COUNTS, "all": {**COUNTS["all"], "undecided": 2}}
    assert (
        state(number=11, kind="minute", counts=unknown, time=START - timedelta(minutes=1))["undecided"] == 2
    )
    assert state(number=12, kind="minute", counts=COUNTS, time=START)["people"] == 4
    twice = state(number=8, kind="minute", counts=COUNTS, time=START)
    assert (twice["people"], twice["masked_share"]) == (8, 75.0), "a minute in two parts"
    nobody = {**COUNTS, "all": {"people": 0, "by_state": {"mask": 0}, "seconds": {}, "alerts": 0}}
    quiet = state(number=9, kind="minute", counts=nobody, time=START + timedelta(minutes=1))
    assert (quiet["people"], quiet["masked_share"]) == (0, None)


def test_other_classes_have_sensors_that_fit() -> None:
    home = HomeAssistantState("x", class_names=("helmet", "head"))
    came = event(0, kind="source", state="live", track=None, score=None, duration_s=None)
    *configs, state = home.update(came)
    names = [json.loads(message.payload)["name"] for message in configs]
    assert names == ["People in the last minute", "Last alert", "Open alert"]
    assert "mask" not in " ".join(json.loads(state.payload))
    (state,) = home.update(event(1, state="head"))
    assert json.loads(state.payload)["open_alert"] == "ON"
    assert json.loads(configs[-1].payload)["value_template"] == "{{ value_json.open_alert }}"
    assert "open_alert" not in json.loads(HomeAssistantState("x", None).update(event(1))[-1].payload)


def test_names_in_topics() -> None:
    assert slug("door-1_B") == "door-1_B"
    for name in ("a/b", "a+b", "#", "ä", "", "a b", "\udcff"):
        assert not {*slug(name)} - {*"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"}
    assert slug("a/b") != slug("a+b") != slug("a_b")


@pytest.mark.parametrize(
    ("url", "broker"),
    [
        ("mqtt://host", Broker("host", 1883, False, None, "maskwatch")),
        ("mqtt://anna@host:99/a/b/", Broker("host", 99, False, "anna", "a/b")),
        ("mqtts://a%40b@host", Broker("host", 8883, True, "a@b", "maskwatch")),
        ("mqtt://an#na@host/x", Broker("host", 1883, False, "an#na", "x")),
        ("mqtt://[::1]:7/x", Broker("::1", 7, False, None, "x")),
    ],
)
def test_addresses(url: str, broker: Broker) -> None:
    assert Broker.parse(url) == broker


@pytest.mark.parametrize(
    "url",
    [
        "http://host",
        "host",
        "mqtt://",
        "mqtt://host:x",
        "mqtt://h/a#",
        "mqtt://h/a/+",
        "mqtt://h/$SYS",
        "mqtt://[x",
    ],
)
def test_addresses_that_cannot_be_used(url: str) -> None:
    with pytest.raises(OptionError, match="write mqtt://user@host:1883/maskwatch"):
        Broker.parse(url)


def test_password_stays_out_of_sight() -> None:
    with pytest.raises(OptionError, match="MASKWATCH_MQTT_PASSWORD") as caught:
        Broker.parse("mqtt://anna:geheim@host")
    assert "geheim" not in str(caught.value)
    for url in (
        "mqtt://anna:#geheim@host",
        "mqtt://anna:/geheim@host/x",
        "mqtt://anna:geheim/x",
        "mqtt://anna:p@geheim/x@broker.local",
        "ftp://a:?geheim@h",
    ):
        with pytest.raises(OptionError) as caught:
            Broker.parse(url)
        assert "geheim" not in str(caught.value)
    with pytest.raises(OptionError, match="has a password but no user"):
        Broker.parse("mqtt://host", "geheim")
    assert "geheim" not in repr(Broker.parse("mqtt://anna@host", "geheim"))
