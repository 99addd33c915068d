"""The backend that `maskwatch bench --write` found best on this machine, for "auto" to take."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import platformdirs

from maskwatch.outputs import new_file, output_errors
from maskwatch.runtimes.base import Backend
from maskwatch.system import cpu_name

SCHEMA = "maskwatch.backend/1"

_log = logging.getLogger("maskwatch")


def stored_path() -> Path:
    """The file; it need not exist."""
    return platformdirs.user_config_path("maskwatch") / "backend.json"


def store_backend(backend: Backend, versions: Mapping[str, str]) -> Path:
    """Stores a backend for this CPU and these versions of the runtimes. Raises `OutputError`."""
    record = {"schema": SCHEMA, **asdict(backend), "cpu": cpu_name(), "versions": dict(versions)}
    with new_file(stored_path()) as part:
        part.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return stored_path()


def forget_backend() -> bool:
    """Deletes the stored backend; returns whether there was one. Raises `OutputError`."""
    path = stored_path()
    with output_errors(path):
        there = path.exists()
        path.unlink(missing_ok=True)
    return there


def stored_backend(versions: Mapping[str, str]) -> Backend | None:
    """The stored backend; None where there is none, or it was stored on another CPU or with other versions.

    A file that cannot be read is ignored, with a line in the log "maskwatch".
    """
    path = stored_path()
    try:
        record = json.loads(path.read_text("utf-8"))
        if record["schema"] != SCHEMA:
            raise ValueError(f"schema {record['schema']!r}")
        if (record["cpu"], record["versions"]) != (cpu_name(), dict(versions)):
            return None
        return Backend(record["runtime"], record["device"], record["precision"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        _log.warning("%s is ignored (%r); write it again with: maskwatch bench --write", path, error)
        return None
