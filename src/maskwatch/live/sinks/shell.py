"""A command for each event, with the event on its standard input and its fields in the environment."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Mapping
from typing import IO, Any

from maskwatch.errors import EventError, OptionError
from maskwatch.live.events import Event
from maskwatch.live.sinks import Sink

SHELL_TIMEOUT_S = 30.0
VARIABLE_PREFIX = "MASKWATCH_EVENT_"

_SHOWN_CHARACTERS = 200


class ShellSink(Sink):
    """Runs a command for each event, one at a time.

    No part of an event becomes part of the command. On POSIX /bin/sh runs it; on Windows no shell does,
    because cmd.exe would expand `%NAME%`.

    Raises:
        OptionError: the command is empty.
    """

    name = "shell"
    kinds = frozenset(["alert"])

    def __init__(self, command: str, *, timeout_s: float = SHELL_TIMEOUT_S) -> None:
        if not command.strip():
            step = "write one, for example --shell ./alarm.sh"
            raise OptionError(f"--shell {command!r} is not a valid command; {step}")
        self._command, self._timeout_s = command, timeout_s
        self._lock = threading.Lock()
        self._running: subprocess.Popen[bytes] | None = None
        self._cancelled = False

    def send(self, event: Event) -> None:
        # Files instead of pipes: a process that the command leaves in the background does not block the sink.
        with tempfile.TemporaryFile() as stdin, tempfile.TemporaryFile() as output:
            stdin.write(event.to_json().encode() + b"\n")
            stdin.seek(0)
            process = self._start(event, stdin, output)
            try:
                status = process.wait(self._timeout_s)
            except subprocess.TimeoutExpired:
                _kill(process)
                raise EventError(
                    f"the command took longer than {self._timeout_s:g} s and was ended; start what takes "
                    "long in the background"
                ) from None
            finally:
                with self._lock:
                    self._running = None
            if status:
                ended = f"ended with status {status}" if status > 0 else f"was ended by signal {-status}"
                raise EventError(f"the command {ended}{_last_line(output)}; run it by hand to see why")

    def cancel(self) -> None:
        with self._lock:
            self._cancelled = True
            if self._running is not None:
                _kill(self._running)

    def _start(self, event: Event, stdin: IO[bytes], output: IO[bytes]) -> subprocess.Popen[bytes]:
        words = ["/bin/sh", "-c", self._command] if os.name == "posix" else self._command
        with self._lock:
            if self._cancelled:
                raise EventError("the program ends; the command was not run")
            try:
                self._running = subprocess.Popen(
                    words,
                    stdin=stdin,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, **variables(event.to_record())},
                    start_new_session=True,  # so that it can be ended with all that it started
                )
            except (OSError, ValueError) as error:
                raise EventError(f"the command cannot be started ({error}); check --shell") from None
            return self._running


def variables(record: Mapping[str, Any]) -> dict[str, str]:
    """Fields of an event → environment: `MASKWATCH_EVENT_KIND`, …; empty where a field is None.

    `box` is four numbers separated by blanks; `counts` is only in the JSON.
    """
    named = {}
    for name, value in record.items():
        if name != "counts":
            words = value if isinstance(value, list) else [] if value is None else [value]
            # A variable cannot hold a zero byte.
            named[VARIABLE_PREFIX + name.upper()] = " ".join(map(str, words)).replace("\0", "")
    return named


def _kill(process: subprocess.Popen[bytes]) -> None:
    if os.name == "posix":
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()


def _last_line(output: IO[bytes]) -> str:
    output.seek(0, os.SEEK_END)
    output.seek(max(0, output.tell() - 4096))
    lines = output.read().decode("utf-8", "replace").split("\n")
    words = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return f": {words[:_SHOWN_CHARACTERS]}" if words else ""
