"""Events in a JSON Lines file, which is rotated by size. A line counts once it is on the disk."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from maskwatch.errors import EventError, OutputError
from maskwatch.live.events import EVENT_SCHEMA, Event
from maskwatch.live.sinks import RetryableError, Sink
from maskwatch.outputs import is_still_at, make_folder, output_errors

MAX_JSONL_BYTES = 64 << 20
KEEP_JSONL_FILES = 5

_BLOCK = 1 << 16
LINE_START = b'{"schema": "' + EVENT_SCHEMA.partition("/")[0].encode()
"""The beginning of every line."""


class JsonlSink(Sink):
    """Appends events to a file; once it has `max_bytes` it becomes `NAME.1`, that one `NAME.2`, and so on.

    The start removes half a line that a crash left, which was never reported as stored. Each running program
    needs its own file.

    Raises:
        OutputError: the file cannot be written.
        EventError: it holds something other than events.
    """

    name = "jsonl"
    durable = True

    def __init__(self, path: Path, *, max_bytes: int = MAX_JSONL_BYTES, keep: int = KEEP_JSONL_FILES) -> None:
        self._path, self._max_bytes, self._keep = path, max_bytes, keep
        self._lock = threading.Lock()
        make_folder(path.parent)
        with output_errors(path):
            self._open()

    def send(self, event: Event) -> None:
        data = event.to_json().encode() + b"\n"
        with self._lock, self._map_errors():
            self._reopen_if_moved()
            if self._size and self._size + len(data) > self._max_bytes:
                self._rotate()
            self._append(data)

    def delete_before(self, when: datetime) -> int:
        """Rewrites the file without the lines before `when`; rotated files stay as they are.

        A damaged line is treated as the readable one before it, at the beginning as the first readable one.
        """
        with self._lock, self._map_errors():
            self._reopen_if_moved()
            with self._path.open("rb") as file:
                first = next((time for line in file if (time := _time_of(line)) is not None), None)
            # Lines are sorted by time, except for seconds.
            return 0 if first is None or first >= when else self._rewrite(when)

    def close(self, timeout_s: float) -> None:
        with self._lock:
            self._close()

    @contextlib.contextmanager
    def _map_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = error.strerror or error
            raise RetryableError(
                f"{self._path}: cannot be written ({reason}); free space, or change the permissions"
            ) from None

    def _rewrite(self, when: datetime) -> int:
        number = 0
        keep = False  # the first readable line is too old, and so are damaged lines before it
        part = self._path.with_name(f".{self._path.name}.part")
        try:
            with self._path.open("rb") as old, part.open("wb") as new:
                for line in old:
                    time = _time_of(line)
                    keep = keep if time is None else time >= when
                    number += not keep
                    if keep:
                        new.write(line)
                new.flush()
                os.fsync(new.fileno())
            part.chmod(stat.S_IMODE(self._path.stat().st_mode))
            self._close()
            part.replace(self._path)
        finally:
            part.unlink(missing_ok=True)
        self._open()
        return number

    def _open(self) -> None:
        # Non-blocking: opening a pipe without a reader would block.
        flags = (
            os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
        )
        self._fd = os.open(self._path, flags, 0o640)
        try:
            if not stat.S_ISREG(os.fstat(self._fd).st_mode):
                raise OutputError(f"{self._path}: is not a regular file; --json prints events instead")
            self._size = self._repair()
            _sync_folder(self._path.parent)
        except BaseException:
            self._close()
            raise

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _repair(self) -> int:
        """Removes a half line; returns the size of the file."""
        size = os.fstat(self._fd).st_size
        head = _read(self._fd, 0, _BLOCK)
        # A power cut may damage the first line of a file of events.
        if not LINE_START.startswith(head[: len(LINE_START)]) and b"\n" + LINE_START not in head:
            raise EventError(f"{self._path}: holds something other than events; name another file")
        end = size
        while end and _read(self._fd, end - 1, 1) != b"\n":
            begin = max(0, end - _BLOCK)
            found = _read(self._fd, begin, end - begin).rfind(b"\n")
            end = begin + found + 1 if found >= 0 else begin
        if end != size:
            os.truncate(self._fd, end)
            os.fsync(self._fd)
        return end

    def _append(self, data: bytes) -> None:
        try:
            written = 0
            while written < len(data):
                written += os.write(self._fd, data[written:])
            os.fsync(self._fd)
        except OSError:
            # The next line must not continue half of this one.
            with contextlib.suppress(OSError):
                os.truncate(self._fd, self._size)
            self._close()
            raise
        self._size += len(data)

    def _reopen_if_moved(self) -> None:
        """Another program may have moved or deleted the file, as logrotate does: the name counts."""
        if self._fd < 0 or not is_still_at(self._path, os.fstat(self._fd)):
            self._close()
            self._open()

    def _rotate(self) -> None:
        self._close()
        for number in range(self._keep, 0, -1):
            older = numbered(self._path, number - 1)
            if older.exists():
                older.replace(numbered(self._path, number))
        if not self._keep:
            self._path.unlink()
        self._open()


def numbered(path: Path, number: int) -> Path:
    """The name of the file that was rotated `number` times."""
    return path.with_name(f"{path.name}.{number}") if number else path


def _time_of(line: bytes) -> datetime | None:
    """The time of an event; None where a line is damaged."""
    try:
        time = datetime.fromisoformat(json.loads(line)["time"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return time if time.tzinfo is not None else None


def _read(fd: int, place: int, length: int) -> bytes:
    os.lseek(fd, place, os.SEEK_SET)
    return os.read(fd, length)


def _sync_folder(folder: Path) -> None:
    """Writes a folder, and so the names in it, to the disk; Windows needs no such call."""
    if os.name == "posix":
        fd = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
