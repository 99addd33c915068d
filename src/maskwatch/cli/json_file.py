"""`--json FILE`: a record written to a file, or printed for "-"."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import typer


def is_stdout(path: Path | None) -> bool:
    """Whether the record goes to standard output, and nothing else does."""
    return path is not None and str(path) == "-"


def write_json(record: dict[str, Any], path: Path) -> None:
    """Writes the whole record or nothing.

    Raises:
        OutputError: the file cannot be written.
    """
    text = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False)
    if is_stdout(path):
        typer.echo(text)
        return
    from maskwatch.outputs import new_file

    with new_file(path) as part:
        part.write_text(text + "\n", encoding="utf-8")
