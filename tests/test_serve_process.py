"""The command: how it starts, what it admits at once, how it ends, and what a killed worker costs."""

from __future__ import annotations

import base64
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="needs the extra 'serve'")

from serving import BEARER, LONG_S, TOKEN, Command, command, picture_file

if not hasattr(os, "kill") or not Path("/proc/self/stat").exists():
    pytest.skip("needs a system with /proc", allow_module_level=True)

JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def picture() -> bytes:
    return picture_file(np.full((64, 64, 3), (0, 255, 0), np.uint8))


class Ask:
    """A request that can stop in the middle of its body."""

    def __init__(self, service: Command, method: str, path: str, body: bytes = b"", **headers: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=LONG_S)
        self._connection.putrequest(method, path)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self._connection.putheader(name, value)
        self._connection.endheaders()
        self._body = body

    def half(self) -> Ask:
        return self.send(len(self._body) // 2)

    def send(self, size: int) -> Ask:
        self._connection.send(self._body[:size])
        self._body = self._body[size:]
        return self

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        try:
            if self._body:
                self._connection.send(self._body)
            response = self._connection.getresponse()
            return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
        finally:
            self._connection.close()

    def close(self) -> None:
        self._connection.close()


def eventually(true: Callable[[], bool]) -> None:
    end = time.monotonic() + LONG_S
    while not true():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)


def status(service: Command, path: str) -> int:
    return Ask(service, "GET", path).answer()[0]


def gauge(service: Command, name: str, **headers: str) -> float:
    text = Ask(service, "GET", "/metrics", **headers).answer()[2].decode()
    return float(re.search(rf"^maskwatch_{name} ([\d.]+)$", text, re.M)[1])


def queued(service: Command) -> float:
    return gauge(service, "queue_pictures")


def uploads(service: Command, **headers: str) -> float:
    return gauge(service, "uploads", **headers)


def work_for_a_while(count: int) -> bytes:
    """A body of small files whose pictures are so large that they take seconds to decode."""
    data = base64.b64encode(picture_file(np.zeros((7000, 7000, 3), np.uint8))).decode()
    return json.dumps({"images": [{"data": data}] * count}).encode()


def test_queue_timeout_and_a_good_end(tiny_model: Path, picture: bytes) -> None:
    """One service for what would be several tests: it takes seconds to begin."""
    with command(tiny_model, "--inference-workers", "1", "--waiting", "0", "--timeout", "120") as service:
        assert service.address == f"http://127.0.0.1:{service.port}"
        assert status(service, "/readyz") == 200
        first = Ask(service, "POST", "/v1/detect", picture).half()
        eventually(lambda: uploads(service) == 1)
        assert queued(service) == 0
        body = work_for_a_while(4)
        long = Ask(service, "POST", "/v1/detect", body, **JSON).send(len(body))
        eventually(lambda: queued(service) == 4)
        code, headers, body = Ask(service, "POST", "/v1/detect", picture).answer()
        assert (code, headers["content-type"]) == (503, "application/problem+json")
        assert int(headers["retry-after"]) >= 1
        assert "pictures before yours: 4" in json.loads(body)["detail"]

        service.process.send_signal(signal.SIGTERM)
        eventually(lambda: status(service, "/readyz") == 503)
        assert status(service, "/healthz") == 200
        code, headers, _ = Ask(service, "POST", "/v1/detect", picture).answer()
        assert (code, headers["retry-after"], headers["connection"]) == (503, "1", "close")
        code, _, body = long.answer()
        assert (code, len(json.loads(body)["results"])) == (200, 4)
        code, _, body = first.answer()
        assert code == 200
        assert json.loads(body)["results"][0]["width"] == 64
        assert service.process.wait(LONG_S) == 0
        assert service.process.stderr.read() == ""


def test_a_slow_body_and_ctrl_c(tiny_model: Path, picture: bytes) -> None:
    with command(tiny_model, "--timeout", "0.5", token=TOKEN) as service:
        slow = Ask(service, "POST", "/v1/detect", picture, **BEARER).half()
        eventually(lambda: uploads(service, **BEARER) == 1)
        eventually(lambda: uploads(service, **BEARER) == 0)
        slow._body = b""
        code, _, body = slow.answer()
        assert code == 408
        assert "0.5 s" in json.loads(body)["detail"]
        gone = Ask(service, "POST", "/v1/detect", picture, **BEARER).half()
        gone.close()
        assert Ask(service, "POST", "/v1/detect", picture, **BEARER).answer()[0] == 200
        assert service.stop(signal.SIGINT) == 0
        assert service.process.stderr.read() == ""


def test_a_second_signal_ends_at_once(tiny_model: Path, picture: bytes) -> None:
    with command(tiny_model) as service:
        half = Ask(service, "POST", "/v1/detect", picture).half()
        eventually(lambda: uploads(service) == 1)
        service.process.send_signal(signal.SIGTERM)
        eventually(lambda: status(service, "/readyz") == 503)
        assert service.stop() == 0
        half.close()


def workers_of(service: Command) -> set[int]:
    """Ids of the worker processes; multiprocessing's own helper is none."""
    pid = service.process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    lines = {int(child): Path(f"/proc/{child}/cmdline") for child in children}
    return {child for child, path in lines.items() if path.exists() and b"spawn_main" in path.read_bytes()}


@pytest.mark.slow
def test_workers(tiny_model: Path, picture: bytes) -> None:
    with command(tiny_model, "--workers", "2") as service:
        before = workers_of(service)
        assert len(before) == 2
        for _ in range(6):
            assert Ask(service, "POST", "/v1/detect", picture).answer()[0] == 200
        counted = b'maskwatch_pictures_total{result="found"} 6.0'
        assert counted in Ask(service, "GET", "/metrics").answer()[2]

        killed = min(before)
        os.kill(killed, signal.SIGKILL)
        for _ in range(20):  # the other one goes on
            assert Ask(service, "POST", "/v1/detect", picture).answer()[0] == 200
        eventually(lambda: len(workers_of(service) - {killed}) == 2)
        other = max(before)
        os.kill(other, signal.SIGKILL)
        assert Ask(service, "POST", "/v1/detect", picture).answer()[0] == 200  # by one that is new
        eventually(lambda: len(workers_of(service) - before) == 2)

        before = workers_of(service)
        service.process.send_signal(signal.SIGHUP)  # replaces all of them, while they answer
        eventually(lambda: len(workers_of(service) - before) == 2)
        eventually(lambda: len(workers_of(service)) == 2)
        assert Ask(service, "POST", "/v1/detect", picture).answer()[0] == 200

        half = Ask(service, "POST", "/v1/detect", picture).half()
        eventually(lambda: uploads(service) == 1)
        service.process.send_signal(signal.SIGTERM)
        assert half.answer()[0] == 200
        assert service.process.wait(LONG_S) == 0
        assert service.process.stderr.read() == "".join(
            f"worker {pid} ended (-9); starting another\n" for pid in (killed, other)
        )


@pytest.mark.slow
def test_workers_that_cannot_start(tiny_model: Path) -> None:
    line = [sys.executable, "-m", "maskwatch", "serve", "--port", "0", "--model", str(tiny_model)]
    line += ["--workers", "2", "--threshold", "hat=0.5"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=LONG_S)
    assert (done.returncode, done.stdout) == (2, "")
    assert "error: threshold names class 'hat'" in done.stderr
    assert done.stderr.endswith("error: a worker could not start, see above; correct it and start again\n")


@pytest.mark.slow
def test_workers_follow_their_supervisor(tiny_model: Path) -> None:
    with command(tiny_model, "--workers", "2") as service:
        workers = workers_of(service)
        os.kill(service.process.pid, signal.SIGKILL)
        eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", service.port))
