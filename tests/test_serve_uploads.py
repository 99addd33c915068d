"""Slow uploads: they reserve nothing, they do not block the room for others, and they get an error."""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="needs the extra 'serve'")

from maskwatch.errors import OptionError
from maskwatch.serve.core.metrics import Metrics
from maskwatch.serve.core.problem import Problem
from maskwatch.serve.core.upload_limits import UploadLimiter
from maskwatch.serve.middleware import HEADERS_LENGTH
from maskwatch.serve.settings import ServiceLimits
from serving import LONG_S, Command, command, picture_file, server_in_thread, settings

MIB = 1 << 20


@pytest.fixture(scope="module")
def picture() -> bytes:
    return picture_file(np.full((64, 64, 3), (0, 255, 0), np.uint8))


def limiter(max_uploads: int, max_bytes: int) -> UploadLimiter:
    return UploadLimiter(max_uploads, max_bytes, Metrics().uploads)


class Clock:
    """Of the running event loop, moved on by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        loop = asyncio.get_running_loop()
        self.more_s, real = 0.0, loop.time
        monkeypatch.setattr(loop, "time", lambda: real() + self.more_s)


async def reads(
    limits: UploadLimiter, size: int, more: asyncio.Event, seconds: float = LONG_S
) -> Problem | int:
    """Sends a part of a body, and the rest after the event; returns what came of it."""
    try:
        with limits.body() as body:
            async with body.reading(seconds):
                body.grow(size)
                await more.wait()
                body.grow(size)
            return body.size
    except Problem as problem:
        return problem


def test_a_body_has_its_time() -> None:
    async def run() -> Any:
        return await reads(limiter(1, 1000), 100, asyncio.Event(), 0.05)

    problem = asyncio.run(run())
    assert (problem.status, problem.headers) == (408, {"Connection": "close"})
    assert problem.detail.startswith("100 bytes came in 0.05 s and then no end")


@pytest.mark.parametrize(("max_uploads", "max_bytes"), [(3, 1 << 30), (99, 3500)])
def test_the_slowest_is_evicted_when_there_is_no_room(
    max_uploads: int, max_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the number or the bytes are too many. Uploads that keep up stay."""

    async def run() -> list[Any]:
        clock, limits, more = Clock(monkeypatch), limiter(max_uploads, max_bytes), asyncio.Event()
        early = [asyncio.create_task(reads(limits, 1000, more)) for _ in range(2)]
        await asyncio.sleep(0)
        clock.more_s += 1
        later = asyncio.create_task(reads(limits, 1000, more))
        await asyncio.sleep(0)
        refused = await reads(limits, 2000, more)  # all have come a moment ago
        clock.more_s += 1.5
        newest = [asyncio.create_task(reads(limits, 1000, asyncio.Event(), 0.3)) for _ in range(2)]
        await asyncio.sleep(0)
        gone = await asyncio.gather(*early)
        late = await asyncio.gather(*newest)
        more.set()
        return [refused, *gone, await later, *late]

    refused, first, second, later, *newest = asyncio.run(run())
    assert (refused.status, "limit" in refused.detail, refused.headers) == (503, True, {"Retry-After": "5"})
    for slow in (first, second):
        assert (slow.status, "too slowly while others waited" in slow.detail) == (408, True)
    assert later == 2000
    assert [one.status for one in newest] == [408, 408]  # their own time was up


def test_bytes_are_released() -> None:
    async def run() -> list[Any]:
        limits, more = limiter(2, 2000), asyncio.Event()
        more.set()
        results = [await reads(limits, 1000, more) for _ in range(3)]
        results.append(await reads(limits, 1001, more))
        return [*results, await reads(limits, 1000, more)]

    *good, too_much, last = asyncio.run(run())
    assert (*good, last) == (2000,) * 4
    assert "1001 bytes and 2000 is the limit" in too_much.detail


def test_a_fast_start_gives_no_credit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A megabyte at once and then nothing is as slow as nothing; a little all the time is not."""

    async def run() -> tuple[float, float]:
        clock, limits = Clock(monkeypatch), limiter(2, 1 << 30)
        with limits.body() as burst, limits.body() as steady:
            burst.grow(MIB)
            for _ in range(20):
                clock.more_s += 0.5
                steady.grow(10 << 10)
            return burst.behind_s, steady.behind_s

    burst_s, steady_s = asyncio.run(run())
    assert burst_s == pytest.approx(8, abs=0.2)
    assert steady_s < 0


@pytest.mark.parametrize(
    ("limits", "text"),
    [({"max_uploads": 0}, "--max-uploads 0"), ({"upload_bytes": 5}, "5 is less than --max-bytes 33554432")],
)
def test_invalid_limits(limits: dict[str, Any], text: str) -> None:
    with pytest.raises(OptionError, match=text):
        ServiceLimits(**limits)


class SlowBody:
    """A request that sends half of its body, with a length or in chunks, and then waits."""

    def __init__(self, service: Command, body: bytes, *, chunked: bool = False) -> None:
        self._socket = socket.create_connection(("127.0.0.1", service.port), LONG_S)
        self._chunked, half = chunked, len(body) // 2
        kind = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body)}"
        self._socket.sendall(f"POST /v1/detect HTTP/1.1\r\nHost: localhost\r\n{kind}\r\n\r\n".encode())
        self.send(body[:half])
        self._rest = body[half:]

    def send(self, data: bytes) -> None:
        self._socket.sendall(b"%x\r\n%s\r\n" % (len(data), data) if self._chunked else data)

    def finish(self) -> tuple[int, dict[str, Any]]:
        self.send(self._rest)
        if self._chunked:
            self._socket.sendall(b"0\r\n\r\n")
        return self.answer()

    def answer(self) -> tuple[int, dict[str, Any]]:
        response = http.client.HTTPResponse(self._socket)
        response.begin()
        assert "json" in response.headers["content-type"]
        return response.status, json.loads(response.read())

    def close(self) -> None:
        self._socket.close()


def ask(service: Command, body: bytes, kind: str = "image/png") -> tuple[int, dict[str, Any]]:
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=LONG_S)
    try:
        connection.request("POST", "/v1/detect", body, {"Content-Type": kind})
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def gauge(service: Command, name: str) -> float:
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=LONG_S)
    try:
        connection.request("GET", "/metrics")
        lines = connection.getresponse().read().decode().splitlines()
        return float(next(line.split()[1] for line in lines if line.startswith(f"{name} ")))
    finally:
        connection.close()


def coming_in(service: Command, count: int) -> None:
    """Waits until so many bodies come in."""
    end = time.monotonic() + LONG_S
    while gauge(service, "maskwatch_uploads") != count:
        assert time.monotonic() < end, "they did not come"
        time.sleep(0.02)


def test_slow_bodies_beside_others(tiny_model: Path, picture: bytes) -> None:
    """Twenty of them, while the service has room for one picture, delay no other request."""
    with command(tiny_model, "--inference-workers", "1", "--waiting", "0") as service, ExitStack() as stack:
        slow = [SlowBody(service, picture, chunked=index % 2 == 1) for index in range(20)]
        for one in slow:
            stack.callback(one.close)
        coming_in(service, 20)
        assert gauge(service, "maskwatch_queue_pictures") == 0
        for _ in range(10):
            status, answer = ask(service, picture)
            assert (status, answer["results"][0]["width"]) == (200, 64)
        for one in slow[:2]:  # and they are answered when they have come
            assert one.finish()[0] == 200
        slow[2].close()
        coming_in(service, 17)


def test_slow_bodies_get_an_error(tiny_model: Path, picture: bytes) -> None:
    """At their timeout, and before it when there are too many uploads."""
    with command(tiny_model, "--timeout", "6", "--max-uploads", "3") as service, ExitStack() as stack:
        slow = [SlowBody(service, picture, chunked=index == 1) for index in range(3)]
        for one in slow:
            stack.callback(one.close)
        coming_in(service, 3)
        time.sleep(2.2)  # until they count as slow
        for _ in range(5):
            assert ask(service, picture)[0] == 200
        coming_in(service, 2)
        answers = [one.answer() for one in slow]
        assert [status for status, _ in answers] == [408] * 3
        reasons = sorted(problem["detail"].partition(";")[0] for _, problem in answers)
        assert reasons[0].endswith("bytes came in 6 s and then no end")
        assert reasons[2] == "the body came too slowly while others waited"
        assert service.stop() == 0
        assert service.process.stderr.read() == ""


def until_closed(connection: socket.socket, data: bytes, times: int) -> bytes:
    """What is answered to data that is sent again and again."""
    with connection:
        try:
            for _ in range(times):
                connection.sendall(data)
        except OSError:
            pass
        answer = bytearray()
        try:
            while more := connection.recv(65536):
                answer += more
        except ConnectionResetError:  # what it was still sending was not read
            pass
        return bytes(answer)


def test_heads_that_do_not_end(tiny_model: Path, picture: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one header, in many, in the path; after a request too; and those that come byte by byte."""
    monkeypatch.setattr("maskwatch.serve.server.HEAD_S", 1.5)
    with server_in_thread(settings(tiny_model, port=0)) as address:
        service = Command(None, address)  # type: ignore[arg-type]
        endpoint = ("127.0.0.1", service.port)
        first = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"
        for begin, more in ((first + b"X: ", b"a"), (first, b"a: b\r\n"), (b"GET /", b"a")):
            connection = socket.create_connection(endpoint, LONG_S)
            head = (begin + more * HEADERS_LENGTH)[: HEADERS_LENGTH + 1]
            assert until_closed(connection, head, 1).startswith(b"HTTP/1.1 431")
            connection = socket.create_connection(endpoint, LONG_S)
            assert len(until_closed(connection, head, 200)) < 1000
        connection = socket.create_connection(endpoint, LONG_S)
        connection.sendall(first + b"\r\n" + first + b"X: ")
        assert until_closed(connection, b"a" * 1000, 70).count(b"HTTP/1.1 200") == 1
        unfinished = [socket.create_connection(endpoint, LONG_S) for _ in range(3)]
        for connection, begin in zip(unfinished, (b"", b"GET", first), strict=True):
            connection.sendall(begin)
        assert [until_closed(connection, b"", 0) for connection in unfinished] == [b""] * 3
        with socket.create_connection(endpoint, LONG_S) as patient:  # in time for each of its requests
            for _ in range(3):
                patient.sendall(first + b"\r\n")
                response = http.client.HTTPResponse(patient)
                response.begin()
                assert json.loads(response.read()) == {"status": "ok"}
                time.sleep(0.8)
        assert ask(service, picture)[0] == 200


@contextmanager
def slow_site(picture: bytes) -> Iterator[tuple[str, threading.Event]]:
    """A server that answers after the event; its address."""
    may, listener = threading.Event(), socket.create_server(("127.0.0.1", 0))

    def answer(connection: socket.socket) -> None:
        with connection:
            connection.recv(4096)
            may.wait(LONG_S)
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(picture)}\r\n\r\n"
            connection.sendall(head.encode() + picture)

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/a.png", may
    finally:
        may.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def test_a_slow_server_elsewhere_reserves_nothing(tiny_model: Path, picture: bytes) -> None:
    options = (
        "--inference-workers",
        "1",
        "--waiting",
        "0",
        "--allow-urls",
        "--url-network",
        "127.0.0.0/8",
        "--queue",
        "16",
    )
    with slow_site(picture) as (url, may), command(tiny_model, *options) as service:
        body = json.dumps({"images": [{"url": url}] * 12}).encode()
        answers: list[Any] = []
        asks = [
            threading.Thread(target=lambda: answers.append(ask(service, body, "application/json")))
            for _ in range(2)
        ]
        for one in asks:
            one.start()
        end = time.monotonic() + LONG_S
        while not answers:  # two times twelve are more than sixteen
            assert time.monotonic() < end
            time.sleep(0.02)
        (status, problem), *_ = answers
        assert (status, "addresses are being fetched" in problem["detail"]) == (503, True)
        for _ in range(5):
            assert ask(service, picture)[0] == 200
        data = base64.b64encode(picture).decode()
        assert ask(service, json.dumps({"images": [{"data": data}]}).encode(), "application/json")[0] == 200
        may.set()
        for one in asks:
            one.join(LONG_S)
        status, answer = answers[1]
        assert status == 200
        assert [one["index"] for one in answer["results"]] == list(range(12))
