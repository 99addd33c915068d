"""Sinks of this machine: commands, notifications, sounds; and how all sinks are opened."""

from __future__ import annotations

import json
import os
import stat
import sys
import time
import wave
from datetime import timedelta
from pathlib import Path

import pytest

from drawn_events import START, event, minute, wait_until
from maskwatch.errors import EventError, MissingExtraError, OptionError
from maskwatch.live.sinks import ALL_KINDS, RetryableError, desktop, factory
from maskwatch.live.sinks.delivery import Delivery
from maskwatch.live.sinks.desktop import NotifySink, SoundSink, find_notifier
from maskwatch.live.sinks.factory import open_sinks, read_secret
from maskwatch.live.sinks.settings import SinkSettings, parse_kinds
from maskwatch.live.sinks.shell import ShellSink, variables
from receiver import SECRET, Receiver, free_port

posix = pytest.mark.skipif(os.name != "posix", reason="this system has no /bin/sh")

EVIL = "$(touch evil) `touch evil`; touch evil #' \" & | > evil\n"


def program(folder: Path, name: str, script: str) -> Path:
    """A program of the test's own, in the place of one of the system's."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@posix
def test_a_command_gets_the_event(tmp_path: Path) -> None:
    out = tmp_path / "out"
    fields = '"$MASKWATCH_EVENT_STATE|$MASKWATCH_EVENT_ZONE|$MASKWATCH_EVENT_BOX"'
    command = f"cat > '{out}'; echo {fields} >> '{out}'"
    ShellSink(command).send(event(1, box_xyxy=(1, 2, 3.25, 4)))
    record, fields = out.read_text("utf-8").splitlines()
    assert json.loads(record)["track"] == 1
    assert fields == "no_mask||1.0 2.0 3.2 4.0"


@posix
def test_no_event_becomes_a_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sink = ShellSink('printf "%s" "$MASKWATCH_EVENT_SOURCE" > out; echo $MASKWATCH_EVENT_ZONE > /dev/null')
    sink.send(event(1, source=EVIL, zone=EVIL, reason=EVIL, state="a\0b"))
    assert (tmp_path / "out").read_text() == EVIL
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_fields_as_variables() -> None:
    named = variables(minute(1).to_record())
    assert named["MASKWATCH_EVENT_KIND"] == "minute"
    assert named["MASKWATCH_EVENT_TRACK"] == ""
    assert "MASKWATCH_EVENT_COUNTS" not in named
    assert variables(event(1, zone="a\0b").to_record())["MASKWATCH_EVENT_ZONE"] == "ab"


@posix
@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("echo first; echo oh dear >&2; exit 3", "ended with status 3: oh dear; run it by hand"),
        ("kill -9 $$", "ended by signal 9"),
        ("/no/such/program", "status 127"),
    ],
)
def test_a_command_that_fails(command: str, message: str) -> None:
    with pytest.raises(EventError, match=message):
        ShellSink(command).send(event(1))


@posix
def test_a_command_that_hangs_is_ended_with_all_it_started(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    sink = ShellSink(f"sleep 600 & echo $! > '{pid}'; wait", timeout_s=0.5)
    with pytest.raises(EventError, match=r"took longer than 0\.5 s and was ended"):
        sink.send(event(1))
    wait_until(lambda: not running(int(pid.read_text())), "the grandchild is gone")


@posix
def test_what_runs_in_the_background_holds_nothing(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    before = time.monotonic()
    ShellSink(f"sleep 600 & echo $! > '{pid}'").send(event(1))
    assert time.monotonic() - before < 300
    os.kill(int(pid.read_text()), 9)


@posix
def test_closing_ends_a_command(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    delivery = Delivery([ShellSink(f"echo $$ > '{pid}'; sleep 600; true")])
    delivery.put(event(1))
    wait_until(lambda: pid.exists() and pid.read_text(), "it runs")
    delivery.close(0.1)
    assert not running(int(pid.read_text()))
    assert delivery.status()[0].lost == 1


def running(pid: int) -> bool:
    """Whether a process is there and no zombie, which nobody may have buried yet."""
    if Path("/proc/self/stat").exists():
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except OSError:
            return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_empty_command() -> None:
    with pytest.raises(OptionError, match=r"--shell ' ' is not a valid command"):
        ShellSink(" ")


@posix
@pytest.mark.parametrize("name", ["notify-send", "terminal-notifier", "osascript", "powershell"])
def test_notifications(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The programs are the test's own: what they are given is looked at, not what they show."""
    tool = program(
        tmp_path,
        name,
        f"printf '%s\\n' \"$@\" > '{tmp_path}/out'; echo \"$MASKWATCH_BODY\" > '{tmp_path}/body'",
    )
    monkeypatch.setattr(desktop, "find_notifier", lambda: str(tool))
    NotifySink().send(event(7, zone='<shop> & "more"'))
    said = 'person 7 no mask for 2 s in <shop> & "more" (91%)'
    assert (tmp_path / "body").read_text().strip().endswith(said)
    given = (tmp_path / "out").read_text()
    if name == "powershell":
        assert "shop" not in given
    elif name == "notify-send":
        assert 'in &lt;shop&gt; &amp; "more"' in given
    else:
        assert said in given


@posix
def test_notifications_that_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = program(tmp_path, "notify-send", "echo no server >&2; exit 1")
    monkeypatch.setattr(desktop, "find_notifier", lambda: str(tool))
    with pytest.raises(EventError, match=r"notify-send says no server; try --sound or --shell"):
        NotifySink().send(event(1))


@posix
def test_programs_for_notifications(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "DBUS_SESSION_BUS_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(OptionError, match="there is no desktop here"):
        find_notifier("linux")
    monkeypatch.setenv("DISPLAY", ":0")
    with pytest.raises(OptionError, match="needs notify-send, which is not installed"):
        find_notifier("linux")
    with pytest.raises(OptionError, match="needs terminal-notifier or osascript"):
        find_notifier("darwin")
    for name in ("notify-send", "osascript", "powershell"):
        program(tmp_path, name, "")
    assert find_notifier("linux") == str(tmp_path / "notify-send")
    assert find_notifier("darwin") == str(tmp_path / "osascript")
    assert find_notifier("win32") == str(tmp_path / "powershell")


@posix
def test_sound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OptionError, match="needs one of afplay, pw-play, paplay, aplay, or a terminal"):
        SoundSink()
    program(tmp_path, "aplay", f"echo \"$1\" > '{tmp_path}/out'; /bin/cp \"$2\" '{tmp_path}/played.wav'")
    sink = SoundSink()
    sink.send(event(1))
    sink.close(0)
    assert (tmp_path / "out").read_text() == "-q\n"
    with wave.open(str(tmp_path / "played.wav")) as played:
        assert (played.getnchannels(), played.getsampwidth(), played.getframerate()) == (1, 2, 22050)
        assert played.getnframes() == round(0.18 * 22050) + round(0.25 * 22050)
        samples = memoryview(played.readframes(played.getnframes())).cast("h")
    assert max(samples) > 11_000
    assert (samples[0], abs(samples[-1]) < 200) == (0, True)
    program(tmp_path, "aplay", "exit 1")
    sink = SoundSink()
    with pytest.raises(EventError, match="aplay says 1; check the loudspeaker"):
        sink.send(event(1))
    sink.close(0)


@posix
def test_bell_where_there_is_nothing_better(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    sink = SoundSink()
    sink.send(event(1))
    sink.close(0)
    assert capsys.readouterr().err == "\a"


@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated")  # Apprise tries it below Python 3.13
def test_apprise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own JSON service stands for all others; nothing leaves this machine."""
    pytest.importorskip("apprise", reason="the extra notify is not installed")
    from maskwatch.live.sinks import apprise

    file = tmp_path / "services.txt"
    with Receiver(lambda number: 500 if number == 1 else 200) as receiver:
        address = receiver.url.replace("http", "json")
        sink = apprise.AppriseSink(address)
        sink.send(event(7, zone="shop"))
        assert receiver.requests[0].record["title"] == "Maskwatch"
        assert receiver.requests[0].record["message"].endswith("person 7 no mask for 2 s in shop (91%)")
        with pytest.raises(
            RetryableError, match=r"Apprise sends nothing \(.*500.*\); check address"
        ) as caught:
            sink.send(event(8))
        assert caught.value.after_s == apprise.RETRY_S
        file.write_text(f"# a comment\n{address}\n")
        apprise.AppriseSink(str(file)).send(event(9))
        assert receiver.requests[2].record["message"].endswith("person 9 no mask for 2 s (91%)")
    monkeypatch.setattr(apprise, "GIVE_UP_S", 0)
    with pytest.raises(EventError) as late:
        sink.send(event(8))
    assert late.value.__class__ is EventError, "not to be sent again"
    for wrong in ("nowhere", "post://host/", ""):
        with pytest.raises(OptionError, match=r"holds no address that Apprise knows; write one of https://"):
            apprise.AppriseSink(wrong)


def test_nothing_asked_for_is_no_sink() -> None:
    assert open_sinks(SinkSettings()) == []


@posix
def test_all_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("requests", reason="the extra live is not installed")
    monkeypatch.setenv("MASKWATCH_WEBHOOK_SECRET", SECRET)
    asked = SinkSettings(
        events=tmp_path / "events.jsonl",
        db=tmp_path / "events.sqlite",
        webhook=f"http://127.0.0.1:{free_port()}/",
        mqtt=f"mqtt://127.0.0.1:{free_port()}",
        shell="true",
        kinds=parse_kinds(["shell=alert,alert_end", "sqlite=all", "jsonl=minute"]),
        outboxes=tmp_path,
    )
    stored: list[tuple[str, str]] = []
    with Delivery(open_sinks(asked), on_stored=lambda *said: stored.append(said)) as delivery:
        for one in (event(1), minute(0), event(2, kind="alert_end")):
            delivery.put(one)
        wait_until(lambda: len(stored) == 10, "all is stored")
        # Two alerts and a minute in SQLite and both outboxes, a minute in the file.
        assert delivery.delete_before(START - timedelta(days=1)) == 0
        assert delivery.delete_before(START + timedelta(seconds=2)) == 1 + 2 + 2 + 2
        assert delivery.delete_before(START + timedelta(days=1)) == 1 + 1 + 1
    status = {one.name: one for one in delivery.status()}
    assert {name: one.sent for name, one in status.items()} == {
        "shell": 2,
        "jsonl": 1,
        "sqlite": 3,
        "webhook": 3,
        "mqtt": 3,
    }
    assert sorted(name for name, _ in stored) == ["jsonl", *["mqtt"] * 3, *["sqlite"] * 3, *["webhook"] * 3]
    assert len(list(tmp_path.glob("*.outbox.sqlite"))) == 2


def test_when_one_cannot_be_opened_none_stays_open(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="is not a valid URL"):
        open_sinks(SinkSettings(db=tmp_path / "events.sqlite", webhook="nowhere", outboxes=tmp_path))
    with pytest.raises(OptionError, match=r"--events and --db both name .*; name two files"):
        open_sinks(SinkSettings(events=tmp_path / "x", db=tmp_path / "x"))


@pytest.mark.parametrize("option", ["webhook", "mqtt", "apprise"])
def test_the_extra_is_not_there(option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = {"webhook": "requests", "mqtt": "paho.mqtt.client", "apprise": "apprise"}[option]
    monkeypatch.delitem(sys.modules, f"maskwatch.live.sinks.{option}", raising=False)
    monkeypatch.setitem(sys.modules, name, None)
    extra = "notify" if option == "apprise" else "live"
    with pytest.raises(MissingExtraError, match=rf"pip install 'maskwatch\[{extra}\]'"):
        open_sinks(SinkSettings(**{option: "http://host/"}, outboxes=tmp_path))


def test_kinds() -> None:
    assert parse_kinds([]) == {}
    assert parse_kinds(["notify=alert, crossing", "mqtt=all"]) == {
        "notify": frozenset(["alert", "crossing"]),
        "mqtt": ALL_KINDS,
    }
    for text in ("notify", "notify=", "bell=alert", "notify=alarm"):
        with pytest.raises(OptionError, match=f"'{text}' names no sink and kinds; write SINK=KIND"):
            parse_kinds([text])


def test_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = factory.WEBHOOK_SECRET
    monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv(f"{name}_FILE", raising=False)
    assert read_secret(name) is None
    file = tmp_path / "secret"
    monkeypatch.setenv(f"{name}_FILE", str(file))
    with pytest.raises(OptionError, match=r"_FILE=.*secret: cannot be read \(No such file or directory\)"):
        read_secret(name)
    file.write_text("from the file\n")
    assert read_secret(name) == "from the file"
    monkeypatch.setenv(name, "from the variable")
    assert read_secret(name) == "from the variable"
    monkeypatch.setenv(name, "")
    with pytest.raises(OptionError, match="MASKWATCH_WEBHOOK_SECRET is empty"):
        read_secret(name)
