"""What docs/events.md says is so."""

from __future__ import annotations

import json
import re
import shlex
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import typer

pytest.importorskip("sqlalchemy", reason="the extra live is not installed")

from drawn_events import COUNTS, event, minute
from maskwatch.live.events import EVENT_KINDS, Event
from maskwatch.live.sinks import factory
from maskwatch.live.sinks.delivery import CLOSE_S, QUEUE_SIZE
from maskwatch.live.sinks.event_databases import DB_PASSWORD
from maskwatch.live.sinks.event_store import EventStore
from maskwatch.live.sinks.home_assistant import HomeAssistantState
from maskwatch.live.sinks.jsonl import KEEP_JSONL_FILES, MAX_JSONL_BYTES
from maskwatch.live.sinks.outbox import MAX_OUTBOX_BYTES
from maskwatch.live.sinks.shell import SHELL_TIMEOUT_S
from maskwatch.live.tracking.counts import Counts
from postgres import Postgres
from receiver import SECRET

PAGE = (Path(__file__).parents[1] / "docs" / "events.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE)


EXAMPLES: list[dict[str, Any]] = [json.loads(block) for block in blocks("json")]


def test_there_is_an_example_of_each_kind() -> None:
    assert [example["kind"] for example in EXAMPLES] == list(EVENT_KINDS)
    headings = re.findall(r"^### `(\w+)`$", PAGE, flags=re.MULTILINE)
    assert headings == list(EVENT_KINDS)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example["kind"])
def test_examples_are_events(example: dict[str, Any]) -> None:
    read = Event.from_record(example)
    assert read.to_record() == example
    assert list(read.to_record()) == list(example), "in the order in which they are written"
    if example["counts"] is not None:
        assert Counts.from_record(example["counts"]).to_record() == example["counts"]


def test_table_names_every_field() -> None:
    table = PAGE.partition("| field |")[2].partition("\n\n")[0]
    named = re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| (`[^|]+`) \|", table, flags=re.MULTILINE)))
    assert sorted(named) == sorted(EXAMPLES[0])


def test_state_example_is_what_home_assistant_gets() -> None:
    (example,) = (json.loads(block) for block in blocks("json state"))
    home = HomeAssistantState("maskwatch", None)
    minute = Event.from_record({**EXAMPLES[3], "counts": COUNTS})
    messages = home.update(Event.from_record(EXAMPLES[0])) + home.update(minute)
    assert messages[-1].topic == "maskwatch/door/state"
    assert json.loads(messages[-1].payload) == example


def test_home_assistant_example() -> None:
    yaml = pytest.importorskip("yaml", reason="pyyaml, which reads the example, is not installed")
    (page,) = blocks("yaml")
    first, second = yaml.safe_load(page)["automation"]
    configs = [
        json.loads(message.payload) for message in HomeAssistantState("maskwatch").update(event(1))[:-1]
    ]
    # Home Assistant makes an entity's id of the names of its device and its own.
    ids = {
        f"{kind}.{re.sub(r'[^a-z0-9]+', '_', (config['device']['name'] + ' ' + config['name']).lower())}"
        for kind, config in zip(["sensor"] * 3 + ["binary_sensor"], configs, strict=True)
    }
    assert ids == {*re.findall(r"^- `(\w+\.maskwatch_door_\w+)`$", PAGE, flags=re.MULTILINE)}
    assert first["triggers"][0]["entity_id"] in ids
    assert first["triggers"][0]["entity_id"] in first["actions"][0]["data"]["message"]
    assert second["triggers"][0]["topic"] == "maskwatch/events"
    assert second["triggers"][0]["payload"] in EVENT_KINDS


def test_receiver_example_verifies() -> None:
    requests = pytest.importorskip("requests", reason="the extra live is not installed")
    assert requests is not None
    from standardwebhooks import Webhook

    code = next(block for block in blocks("python") if "def verify" in block)
    names: dict[str, Any] = {}
    exec(compile(code, "events.md", "exec"), names)
    verify = names["verify"]
    text, now = event(1).to_json(), datetime.now(UTC)
    body, stamp = text.encode(), str(int(now.timestamp()))
    headers = {
        "webhook-id": event(1).id,
        "webhook-timestamp": stamp,
        "webhook-signature": Webhook(SECRET).sign(event(1).id, now, text),
    }
    assert verify(headers, body, SECRET)
    assert verify({**headers, "webhook-signature": "v1,AAAA " + headers["webhook-signature"]}, body, SECRET)
    assert not verify(headers, body + b" ", SECRET)
    assert not verify({**headers, "webhook-id": event(2).id}, body, SECRET)
    assert not verify(headers, body, "whsec_QUFBQUFBQUFBQUFBQUFBQUFBQQ==")
    old = now - timedelta(seconds=301)
    headers["webhook-timestamp"] = str(int(old.timestamp()))
    headers["webhook-signature"] = Webhook(SECRET).sign(event(1).id, old, text)
    assert not verify(headers, body, SECRET)


def test_python_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with EventStore(Path("events.sqlite"), create=True) as store:
        store.add(event(1))
    code = next(block for block in blocks("python") if "EventStore" in block)
    exec(compile(code, "events.md", "exec"), {})
    assert capsys.readouterr().out == "2026-03-01 12:00:01+01:00 door no_mask\n"


def test_commands_exist() -> None:
    from maskwatch.cli.app import app

    group = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    lines = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("maskwatch ")]
    assert len(lines) > 15
    for line in lines:
        words = shlex.split(line.partition(" | ")[0], comments=True)[1:]
        verb = group["events"].commands[words[1]] if words[0] == "events" else group[words[0]]
        known = {text for param in verb.params for text in param.opts}
        assert {word for word in words if word.startswith("--")} <= known, line


def test_queries_run(postgres: Postgres) -> None:
    url, now = postgres.new_schema(), datetime.now().astimezone()
    with EventStore(url, create=True) as store:
        store.add(minute(0))
        store.add(event(1, time=now - timedelta(hours=1), clip="alerts/door-1.mp4"))
    schema = url.rpartition("%3D")[2]
    sums, others = [block for block in blocks("sql") if "SELECT" in block]
    last, silent = others.split(";\n", 1)
    assert postgres.sql(f"SET search_path TO {schema}; {sums}").endswith("|door|4|3")
    assert postgres.sql(f"SET search_path TO {schema}; {last}").endswith("|door||no_mask|alerts/door-1.mp4")
    assert postgres.sql(f"SET search_path TO {schema}; {silent}").startswith("door|")


def test_numbers_of_the_page() -> None:
    assert f"Each queue holds {QUEUE_SIZE} events" in PAGE
    assert f"waits {CLOSE_S:g} s for the queues" in PAGE
    assert MAX_JSONL_BYTES == 64 << 20 == MAX_OUTBOX_BYTES
    assert (KEEP_JSONL_FILES, SHELL_TIMEOUT_S) == (5, 30)
    assert factory.WEBHOOK_SECRET in PAGE
    assert factory.MQTT_PASSWORD in PAGE
    assert DB_PASSWORD in PAGE
