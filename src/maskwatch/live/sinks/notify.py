"""A desktop notification for an event, by what the system has for it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

from maskwatch.errors import EventError, OptionError
from maskwatch.live.events import Event
from maskwatch.live.output.lines import line
from maskwatch.live.sinks import Sink

_TIMEOUT_S = 10.0
_TITLE = "Maskwatch"

# Texts come as arguments or in the environment, never inside a script: they are data there.
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
        OptionError: this system has none.
    """

    name = "notify"
    kinds = frozenset(["alert"])

    def __init__(self) -> None:
        self._tool = find_tool()

    def send(self, event: Event) -> None:
        body = line(event).encode("utf-8", "backslashreplace").decode()
        try:
            done = subprocess.run(
                command(self._tool, body),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_TIMEOUT_S,
                check=False,
                env={**os.environ, "MASKWATCH_TITLE": _TITLE, "MASKWATCH_BODY": body},
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise EventError(f"{self._tool} does not work ({error}); try --sound or --shell") from None
        if done.returncode:
            said = " ".join(done.stderr.decode("utf-8", "replace").split())[:200]
            raise EventError(f"{self._tool} says {said or done.returncode}; try --sound or --shell")


def find_tool(platform: str = sys.platform) -> str:
    """Path of the program that shows notifications here.

    Raises:
        OptionError: there is none, or no desktop.
    """
    names = {"darwin": ("terminal-notifier", "osascript"), "win32": ("powershell",)}.get(
        platform, ("notify-send",)
    )
    if platform not in ("darwin", "win32") and not any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "DBUS_SESSION_BUS_ADDRESS")
    ):
        raise OptionError("--notify: there is no desktop here; use --webhook, --mqtt or --shell instead")
    for name in names:
        path = shutil.which(name)
        if path is not None:
            return path
    raise OptionError(
        f"--notify needs {' or '.join(names)}, which is not installed; install it (Debian: libnotify-bin), "
        "or use --sound or --shell"
    )


def command(tool: str, body: str) -> list[str]:
    """The words that show `body` with a tool."""
    name = os.path.basename(tool).removesuffix(".exe").lower()  # noqa: PTH119 - the path may be of another system
    if name == "terminal-notifier":
        return [tool, "-title", _TITLE, "-message", body]
    if name == "osascript":
        return [tool, "-e", _OSASCRIPT, _TITLE, body]
    if name == "powershell":
        return [tool, "-NoProfile", "-NonInteractive", "-Command", _POWERSHELL]
    return [tool, "--app-name", _TITLE, "--urgency", "critical", "--", _TITLE, _escaped(body)]


def _escaped(body: str) -> str:
    """notify-send reads some HTML in the body."""
    return body.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
