"""Notifications and sounds on this desktop, by the programs that each system has for them."""

from __future__ import annotations

import html
import os
import shutil
import subprocess
import sys
import tempfile
import wave
from pathlib import Path

import numpy as np

from maskwatch.errors import EventError, OptionError
from maskwatch.live.events import Event
from maskwatch.live.sinks import Sink
from maskwatch.live.sinks.event_text import event_line

PLAYERS = (("afplay",), ("pw-play",), ("paplay",), ("aplay", "-q"))
"""Programs that play a WAV file, with their options; the first installed one is used."""

_RATE_HZ = 22050
_TONES = ((880.0, 0.18), (660.0, 0.25))
"""Frequency in Hz and length in seconds, one after the other."""

_FADE_S = 0.01
_TIMEOUT_S = 10.0
_TITLE = "Maskwatch"

# Texts are arguments or variables, never part of a script.
_OSASCRIPT = """on run {title, body}
display notification body with title title
end run"""
_POWERSHELL = """
$ErrorActionPreference = 'Stop'
[void][Windows.UI.Notifications.ToastNotificationManager, Windows.UI.Notifications, ContentType=WindowsRuntime]
$kind = [Windows.UI.Notifications.ToastTemplateType]::ToastText02
$toast = [Windows.UI.Notifications.ToastNotificationManager]::GetTemplateContent($kind)
$texts = $toast.GetElementsByTagName('text')
[void]$texts.Item(0).AppendChild($toast.CreateTextNode($env:MASKWATCH_TITLE))
[void]$texts.Item(1).AppendChild($toast.CreateTextNode($env:MASKWATCH_BODY))
$shown = New-Object Windows.UI.Notifications.ToastNotification $toast
$app = '{1AC14E77-02E7-4E5D-B744-2EB1AE5198B7}\\WindowsPowerShell\\v1.0\\powershell.exe'
[Windows.UI.Notifications.ToastNotificationManager]::CreateToastNotifier($app).Show($shown)
"""  # noqa: E501


class NotifySink(Sink):
    """Shows each event as a notification.

    Raises:
        OptionError: this system has no notifications.
    """

    name = "notify"
    kinds = frozenset(["alert"])

    def __init__(self) -> None:
        self._tool = find_notifier()

    def send(self, event: Event) -> None:
        body = event_line(event)
        texts = {"MASKWATCH_TITLE": _TITLE, "MASKWATCH_BODY": body}
        _run(notify_command(self._tool, body), "try --sound or --shell", {**os.environ, **texts})


class SoundSink(Sink):
    """Plays a sound for each event, or rings the bell of the terminal where there is no player.

    Raises:
        OptionError: there is no program for sounds, and no terminal.
    """

    name = "sound"
    kinds = frozenset(["alert"])

    def __init__(self) -> None:
        self._player = find_player()
        self._folder = tempfile.TemporaryDirectory(prefix="maskwatch-")
        self._file = Path(self._folder.name, "alert.wav")
        write_tones(self._file)

    def send(self, event: Event) -> None:
        if self._player is not None:
            _run([*self._player, str(self._file)], "check the loudspeaker")
        elif sys.platform == "win32":
            import winsound

            winsound.PlaySound(str(self._file), winsound.SND_FILENAME)
        else:
            print("\a", end="", file=sys.stderr, flush=True)

    def close(self, timeout_s: float) -> None:
        self._folder.cleanup()


def find_notifier(platform: str = sys.platform) -> str:
    """Path of the program that shows notifications; raises as `NotifySink`."""
    names = {"darwin": ("terminal-notifier", "osascript"), "win32": ("powershell",)}.get(platform)
    desktop = map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY", "DBUS_SESSION_BUS_ADDRESS"))
    if names is None and not any(desktop):
        raise OptionError("--notify: there is no desktop here; use --webhook, --mqtt or --shell instead")
    names = names or ("notify-send",)
    for path in filter(None, map(shutil.which, names)):
        return path
    raise OptionError(
        f"--notify needs {' or '.join(names)}, which is not installed; install it (Debian: libnotify-bin), "
        "or use --sound or --shell"
    )


def notify_command(tool: str, body: str) -> list[str]:
    """The command that shows `body` with a tool."""
    name = os.path.basename(tool).removesuffix(".exe").lower()  # noqa: PTH119 - the path may be of another system
    if name == "terminal-notifier":
        return [tool, "-title", _TITLE, "-message", body]
    if name == "osascript":
        return [tool, "-e", _OSASCRIPT, _TITLE, body]
    if name == "powershell":
        return [tool, "-NoProfile", "-NonInteractive", "-Command", _POWERSHELL]
    return [tool, "--app-name", _TITLE, "--urgency", "critical", "--", _TITLE, html.escape(body, quote=False)]


def _run(words: list[str], next_step: str, env: dict[str, str] | None = None) -> None:
    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, timeout=_TIMEOUT_S, check=False, env=env
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EventError(f"{words[0]} does not work ({error}); {next_step}") from None
    if done.returncode:
        reason = " ".join(done.stderr.decode("utf-8", "replace").split())[:200]
        raise EventError(f"{words[0]} says {reason or done.returncode}; {next_step}")


def find_player() -> tuple[str, ...] | None:
    """Program and options that play a file; None for Windows' own player or the bell of the terminal."""
    for name, *options in PLAYERS:
        path = shutil.which(name)
        if path is not None:
            return path, *options
    if sys.platform == "win32" or sys.stderr.isatty():
        return None
    raise OptionError(
        f"--sound needs one of {', '.join(name for name, *_ in PLAYERS)}, or a terminal with a bell; install "
        "one (Debian: alsa-utils), or use --shell"
    )


def write_tones(path: Path) -> None:
    """Writes the sound as 16-bit mono WAV."""
    tones = []
    for frequency, seconds in _TONES:
        times_s = np.arange(round(seconds * _RATE_HZ)) / _RATE_HZ
        # Faded in and out, so that it does not click.
        volume = np.minimum(1.0, np.minimum(times_s, seconds - times_s) / _FADE_S)
        tones.append(12000 * volume * np.sin(2 * np.pi * frequency * times_s))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(_RATE_HZ)
        file.writeframes(np.concatenate(tones).round().astype("<i2").tobytes())
