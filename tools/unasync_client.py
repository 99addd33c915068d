"""Writes the blocking client, src/maskwatch/client/sync.py, from the asynchronous one.

    python tools/unasync_client.py [TARGET]

TARGET is another file to write, as the test does that compares the two.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import unasync

CLIENT = Path(__file__).parents[1] / "src" / "maskwatch" / "client"
SOURCE, TARGET = CLIENT / "async_client.py", CLIENT / "sync.py"

HEAD = '"""The blocking client. Made from `async_client` by `make sync-client`; do not edit."""'

NAMES = {
    "AsyncBaseTransport": "BaseTransport",
    "AsyncClient": "Client",
    "AsyncConnection": "Connection",
    "AsyncFrames": "Frames",
    "AsyncStream": "Stream",
    "aclose": "close",
    "asyncio": "time",  # of which both have `sleep`
    "each_frame": "each_blocking_frame",
    "in_thread": "in_this_thread",
}


def write(target: Path) -> None:
    """Rewrites the source, then formats it as everything else."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / SOURCE.name
        _, _, code = SOURCE.read_text("utf-8").split('"""', 2)  # without the docstring of the module
        source.write_text(HEAD + code, "utf-8")
        unasync.unasync_files([str(source)], [unasync.Rule(SOURCE.name, TARGET.name, NAMES)])
        target.write_text(source.with_name(TARGET.name).read_text("utf-8"), "utf-8")
    settings = str(CLIENT.parents[2] / "pyproject.toml")
    ruff = [sys.executable, "-m", "ruff"]
    for step in (["check", "--select", "I", "--fix"], ["format"]):
        subprocess.run([*ruff, *step, "--quiet", "--config", settings, str(target)], check=True)


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else TARGET)
