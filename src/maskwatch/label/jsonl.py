"""Files of JSON lines to which several processes append; a line torn by a kill is skipped."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from maskwatch.outputs import durable_append


class JsonLines:
    """A file of JSON objects, one a line. Not for use by several threads at once.

    Args:
        path: of the file, which may not exist.
        keys: that a row must have; others are skipped.
    """

    def __init__(self, path: Path, keys: Sequence[str]) -> None:
        self._path, self._keys, self._read_until = path, keys, 0

    def new_rows(self) -> list[dict[str, Any]]:
        """The rows that this or another process has added since the last call."""
        try:
            with self._path.open("rb") as file:
                if file.seek(0, 2) < self._read_until:  # someone has deleted it, and it is a new one
                    self._read_until = 0
                file.seek(self._read_until)
                data = file.read()
        except OSError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self._read_until += len(whole)
        rows = map(_row, whole.splitlines())
        return [row for row in rows if row is not None and all(key in row for key in self._keys)]

    def append(self, row: dict[str, Any], *, durable: bool = True) -> None:
        """Adds a row.

        Args:
            durable: wait until it is on disk.

        Raises:
            OSError: it cannot be written.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        line = b"\n" * self._is_torn() + json.dumps(row).encode() + b"\n"
        if durable:
            durable_append(self._path, line)
        else:
            with self._path.open("ab") as file:
                file.write(line)

    def _is_torn(self) -> bool:
        """Whether the last line has no end."""
        try:
            with self._path.open("rb") as file:
                file.seek(-1, 2)
                return file.read(1) != b"\n"
        except OSError:  # no file, or an empty one
            return False


def _row(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None
