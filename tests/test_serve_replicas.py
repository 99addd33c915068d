"""Several replicas behind a balancer: what one gives, another takes; one that stops costs no request."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="needs the extra 'serve'")
pytest.importorskip("websockets", reason="needs the extra 'serve'")

from websockets.sync.client import connect

from serving import LONG_S, TOKEN, Command, command, picture_file

NEW = "another-token-of-the-tests"
POLL_S = 0.1  # how often the balancer asks a replica whether it is ready


class Balancer:
    """Gives each connection to the next replica that was ready when it was last asked."""

    def __init__(self, ports: list[int]) -> None:
        self._ports, self._ready, self._turns = ports, list[int](), itertools.count()
        self._end = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._ask()
        self._threads = [threading.Thread(target=work) for work in (self._accept, self._watch)]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        self._end.set()
        self._listener.shutdown(socket.SHUT_RDWR)  # which ends accept
        for thread in self._threads:
            thread.join(LONG_S)
        self._listener.close()

    def _ask(self) -> None:
        self._ready = [port for port in self._ports if status(port, "GET", "/readyz") == 200]

    def _watch(self) -> None:
        while not self._end.wait(POLL_S):
            self._ask()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                port = self._ready[next(self._turns) % len(self._ready)]
                threading.Thread(target=relay, args=(client, port), daemon=True).start()


def relay(client: socket.socket, port: int) -> None:
    with client, socket.create_connection(("127.0.0.1", port)) as replica:
        sending = threading.Thread(target=pump, args=(client, replica))
        sending.start()
        pump(replica, client)
        sending.join()


def pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


def ask(
    port: int, method: str, path: str, body: bytes | None = None, token: str = TOKEN
) -> tuple[int, bytes]:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=LONG_S)) as connection:
        connection.request(method, path, body, {"Authorization": f"Bearer {token}", "Connection": "close"})
        response = connection.getresponse()
        return response.status, response.read()


def status(port: int, method: str, path: str, body: bytes | None = None, token: str = TOKEN) -> int | None:
    try:
        return ask(port, method, path, body, token)[0]
    except (OSError, http.client.HTTPException):
        return None


def pictures_of(port: int) -> float:
    text = ask(port, "GET", "/metrics")[1].decode()
    found = re.search(r'^maskwatch_pictures_total\{result="found"\} ([\d.]+)$', text, re.M)
    return float(found[1]) if found else 0.0


def eventually(true: Callable[[], bool]) -> None:
    end = time.monotonic() + LONG_S
    while not true():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def picture() -> bytes:
    return picture_file(np.full((64, 64, 3), (0, 255, 0), np.uint8))


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    return path


@pytest.fixture
def replicas(tiny_model: Path, token_file: Path) -> Iterator[tuple[Command, Command]]:
    options = ("--token-file", str(token_file), "--drain", "1.5")
    with command(tiny_model, *options) as first, command(tiny_model, *options) as second:
        yield first, second


def test_behind_a_balancer(replicas: tuple[Command, Command], token_file: Path, picture: bytes) -> None:
    """One test for what would be several: two services take seconds to begin."""
    ports = [one.port for one in replicas]
    _ticket_of_one_opens_the_other(ports, picture)
    _tokens_are_replaced(ports, token_file)
    balancer = Balancer(ports)
    try:
        _a_replica_that_stops_costs_no_request(replicas, balancer, picture)
    finally:
        balancer.close()


def _ticket_of_one_opens_the_other(ports: list[int], picture: bytes) -> None:
    for given, taken in (ports, ports[::-1]):
        ticket = json.loads(ask(given, "POST", "/v1/ticket")[1])["ticket"]
        with connect(f"ws://127.0.0.1:{taken}/v1/stream?ticket={ticket}") as stream:
            stream.send((1).to_bytes(8, "big") + picture)
            assert json.loads(stream.recv(LONG_S))["seq"] == 1


def _tokens_are_replaced(ports: list[int], token_file: Path) -> None:
    """As an orchestrator does it: the file is replaced, the services run on."""

    def all_answer(**wanted: int) -> bool:
        tokens = {"old": TOKEN, "new": NEW}
        return all(
            status(port, "GET", "/v1/models", token=tokens[name]) == code
            for port in ports
            for name, code in wanted.items()
        )

    def write(*tokens: str) -> None:
        part = token_file.with_suffix(".part")
        part.write_text("".join(f"{token}\n" for token in tokens))
        part.replace(token_file)

    assert all_answer(old=200, new=401)
    write(TOKEN, NEW)
    assert all_answer(old=200, new=200)
    write(NEW)
    assert all_answer(old=401, new=200)
    write("short")
    assert all_answer(old=401, new=200)
    write(TOKEN)
    assert all_answer(old=200, new=401)


def _a_replica_that_stops_costs_no_request(
    replicas: tuple[Command, Command], balancer: Balancer, picture: bytes
) -> None:
    first, second = replicas
    answers: list[int | None] = []
    end = threading.Event()

    def send() -> None:
        while not end.is_set():
            answers.append(status(balancer.port, "POST", "/v1/detect", picture))

    before = [pictures_of(one.port) for one in replicas]
    client = threading.Thread(target=send)
    client.start()
    try:
        eventually(
            lambda: all(pictures_of(one.port) > old for one, old in zip(replicas, before, strict=True))
        )
        first.process.send_signal(signal.SIGTERM)
        eventually(lambda: status(first.port, "GET", "/readyz") == 503)
        assert status(first.port, "POST", "/v1/detect", picture) == 200  # the balancer may not know yet
        assert first.process.wait(LONG_S) == 0
        served = pictures_of(second.port)
        eventually(lambda: pictures_of(second.port) > served)
    finally:
        end.set()
        client.join(LONG_S)
    assert len(answers) > 4
    assert set(answers) == {200}
    said = first.process.stderr.read()
    assert "token 1: the token has 5 characters; make it 16 or more; until then" in said
    assert TOKEN not in said
    assert NEW not in said
