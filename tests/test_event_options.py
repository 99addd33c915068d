"""Where events go: `watch` and `serve --watch` offer the same options, and refuse the same values."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

pytest.importorskip("fastapi", reason="needs the extra 'serve'")
pytest.importorskip("trackers", reason="needs the extra 'live'")
pytest.importorskip("paho.mqtt", reason="needs the extra 'live'")
pytest.importorskip("apprise", reason="needs the extra 'notify'")

from maskwatch.cli.app import app, main

OPTIONS = [
    "--events", "--db", "--webhook", "--mqtt", "--outboxes", "--notify", "--sound", "--apprise", "--shell",
    "--send",
]  # fmt: skip


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without a desktop, players, secrets and a token; files go where the test looks."""
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "DBUS_SESSION_BUS_ADDRESS", "MASKWATCH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name in ("MASKWATCH_WEBHOOK_SECRET", "MASKWATCH_MQTT_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(f"{name}_FILE", raising=False)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line that the command says before it ends with status 2."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    said = capsys.readouterr()
    assert ended.value.code == 2, said.err
    assert said.out == ""
    (line,) = said.err.splitlines()
    return line


def panels(verb: str, capsys: pytest.CaptureFixture[str]) -> dict[str, list[str]]:
    """Option names by the heading of the help under which they stand."""
    with pytest.raises(SystemExit) as ended:
        main([verb, "--help"])
    assert ended.value.code == 0
    found: dict[str, list[str]] = {}
    for line in capsys.readouterr().out.splitlines():
        if line.endswith(":") and not line.startswith(" "):
            found[line[:-1]] = []
        elif found and line.startswith("  --"):  # before the first heading it may be an example
            [*found.values()][-1].append(line.split()[0])
    return found


def test_both_offer_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    listed = [*OPTIONS, "--thumbnails", "--clips", "--keep-hard", "--retain"]
    offered = [
        [
            (param.opts, param.help, param.metavar, param.default)
            for param in commands[verb].params
            if param.opts[0] in listed
        ]
        for verb in ("watch", "serve")
    ]
    assert len(offered[0]) == len(listed)
    assert offered[0] == offered[1]
    for verb in ("watch", "serve"):
        assert panels(verb, capsys)["Events"] == listed


def test_help_has_each_option_once_and_the_rest_apart(capsys: pytest.CaptureFixture[str]) -> None:
    found = panels("serve", capsys)
    assert [*found] == ["Options", "Speed", "Watching", "Events"]
    assert found["Speed"] == ["--runtime", "--device", "--precision"]
    assert found["Watching"] == ["--watch", "--watch-fps", "--zones", "--alert", "--keep-faces"]
    assert found["Options"][0] == "--host"
    assert found["Options"][-1] == "--help"
    names = [name for panel in found.values() for name in panel]
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    shown = [param for param in commands["serve"].params if not param.hidden]
    assert {param.opts[0] for param in commands["serve"].params if param.hidden} == {"--lanes"}
    assert sorted(names) == sorted([param.opts[0] for param in shown] + ["--help"])
    assert [*panels("watch", capsys)] == ["Arguments", "Options", "Events", "Speed"]


@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated")  # Apprise tries it below Python 3.13
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--webhook", "ftp://x"], "--webhook 'ftp://x' is not a valid URL"),
        (["--webhook", ""], "--webhook '' is not a valid URL"),
        (["--webhook", "https://anna:geheim@host/hook"], "--webhook https://host has a user or a password"),
        (["--mqtt", "http://broker"], "--mqtt 'http://broker' is not a valid broker URL"),
        (["--mqtt", "mqtt://anna:geheim@broker"], "put it into MASKWATCH_MQTT_PASSWORD"),
        (["--events", "a.db", "--db", "a.db"], "--events and --db both name a.db"),
        (["--db", "mysql://anna:geheim@host/x"], "events go to SQLite or PostgreSQL; write a path, or"),
        (["--db", "postgresql://anna:geheim@h:x/y"], "is not a valid address; write postgresql://user@host"),
        (["--events", "."], ".: "),
        (["--notify"], "--notify: there is no desktop here"),
        (["--sound"], "--sound needs one of"),
        (["--apprise", "post://geheim/x"], "--apprise 'post://…' holds no address that Apprise knows"),
        (["--shell", " "], "--shell ' ' is not a valid command"),
        (["--send", "post=all"], "'post=all' names no sink"),
        (["--send", "mqtt=alerts"], "'mqtt=alerts' names no sink"),
    ],
)
def test_both_refuse_the_same(
    arguments: list[str], said: str, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "door.mp4").write_bytes(b"is not opened before the sinks are")
    model = ["--model", str(tiny_model)]
    line = refused(capsys, "watch", "door.mp4", *model, *arguments)
    assert line.startswith("error: ")
    assert said in line
    assert "geheim" not in line
    assert refused(capsys, "serve", "--port", "0", *model, "--watch", "door.mp4", *arguments) == line
    assert [path.name for path in tmp_path.iterdir()] == ["door.mp4"]


def test_both_refuse_an_empty_secret(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "door.mp4").touch()
    monkeypatch.setenv("MASKWATCH_WEBHOOK_SECRET", "")
    rest = ["--model", str(tiny_model), "--webhook", "http://127.0.0.1:9/"]
    line = refused(capsys, "watch", "door.mp4", *rest)
    assert "MASKWATCH_WEBHOOK_SECRET is empty" in line
    assert refused(capsys, "serve", "--port", "0", "--watch", "door.mp4", *rest) == line


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--events", "e.jsonl"], "--events e.jsonl"),
        (["--db", "e.sqlite"], "--db e.sqlite"),
        (["--outboxes", "waiting"], "--outboxes waiting"),
        (["--webhook", "https://host/geheim"], "--webhook"),
        (["--webhook", ""], "--webhook"),
        (["--mqtt", "mqtt://broker"], "--mqtt"),
        (["--notify"], "--notify"),
        (["--sound"], "--sound"),
        (["--apprise", "ntfy://geheim"], "--apprise"),
        (["--shell", "./alarm.sh"], "--shell"),
        (["--send", "mqtt=all"], "--send"),
    ],
)
def test_a_service_that_watches_nothing_has_no_events(
    arguments: list[str], said: str, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refused(capsys, "serve", "--port", "0", "--model", str(tiny_model), *arguments)
    assert line == f"error: {said} is about what is watched; add --watch SOURCE"
