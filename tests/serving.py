"""Services for tests: an app in this process, or the command in another one."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from PIL import Image
from starlette.testclient import TestClient

from maskwatch.serve.app import create_app
from maskwatch.serve.core.service import Service
from maskwatch.serve.server import address_of, listen, uvicorn_config
from maskwatch.serve.settings import ServeSettings, ServiceLimits

LOCAL = "http://127.0.0.1"
STREAM = "ws://127.0.0.1/v1/stream"
TOKEN = "a-token-of-the-tests"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
LONG_S = 60.0


def settings(model: Path, limits: dict[str, Any] | None = None, **rest: Any) -> ServeSettings:
    rest = {"threads": 1, **rest}
    return ServeSettings(models=(str(model),), limits=ServiceLimits(**(limits or {})), **rest)


@contextlib.contextmanager
def client_of(model: Path, limits: dict[str, Any] | None = None, **rest: Any) -> Iterator[TestClient]:
    app = create_app(settings(model, limits, **rest))
    with TestClient(app, base_url=LOCAL, raise_server_exceptions=False) as client:
        yield client


def picture_file(image_rgb: np.ndarray, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(image_rgb).save(file, kind)
    return file.getvalue()


@contextlib.contextmanager
def server_in_thread(settings: ServeSettings) -> Iterator[str]:
    """A server in a thread of this process; gives its address, and drains it at the end as a signal would."""
    loops = []

    @contextlib.contextmanager
    def keep_loop(_: Service) -> Iterator[None]:
        loops.append(asyncio.get_running_loop())
        yield

    with listen(settings.host, settings.port) as listener:
        app = create_app(settings, keep_loop)
        server = uvicorn.Server(uvicorn_config(settings, app))
        thread = threading.Thread(target=server.run, args=([listener],), name="server")
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive(), "the server did not start"
                time.sleep(0.02)
            yield address_of(listener, settings.host)
        finally:
            if loops:
                asyncio.run_coroutine_threadsafe(app.state.service.drain(), loops[0]).result(LONG_S)
            server.should_exit = True
            thread.join(LONG_S)
    assert not thread.is_alive()


@dataclass
class Command:
    """A running `maskwatch serve`."""

    process: subprocess.Popen[str]
    address: str

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(LONG_S)


@contextlib.contextmanager
def command(model: Path, *options: str, token: str | None = None) -> Iterator[Command]:
    """Starts the command on a free port and waits until it takes requests."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    environment.pop("MASKWATCH_TOKEN", None)
    if token is not None:
        environment["MASKWATCH_TOKEN"] = token
    line = [sys.executable, "-m", "maskwatch", "serve", "--port", "0", "--model", str(model), *options]
    with subprocess.Popen(
        line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            first = process.stdout.readline()
            found = re.search(r"http://\S+", first)
            assert found, f"{first!r} {process.stderr.read() if process.poll() is not None else ''}"
            yield Command(process, found[0])
        finally:
            process.kill()
