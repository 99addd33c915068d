"""A webhook receiver for tests: answers as it is told, and keeps what it got."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()
HANG_UP = 0

Answer = Callable[[int], int]
"""Number of the request, from 0 → status, or HANG_UP."""


@dataclass(frozen=True)
class Request:
    """One request."""

    headers: dict[str, str]
    body: bytes
    status: int

    @property
    def record(self) -> dict[str, Any]:
        return json.loads(self.body)  # type: ignore[no-any-return]


class Receiver:
    """Listens on a port of its own; a context manager. `port` starts it where another one was."""

    def __init__(
        self, answer: Answer = lambda number: 204, *, port: int = 0, tls: ssl.SSLContext | None = None
    ) -> None:
        self.requests: list[Request] = []
        self.answer = answer
        self.headers: dict[str, str] = {}
        self.words = b""
        self.coming: dict[str, Any] = {}
        """The event that `answer` is asked about."""
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", port), _handler(self))
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        self.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{self.port}/hook"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Receiver:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def take(self, headers: dict[str, str], body: bytes) -> int:
        with self._lock:
            self.coming = json.loads(body)
            status = self.answer(len(self.requests))
            self.requests.append(Request(headers, body, status))
        return status

    def accepted(self) -> list[int]:
        """Tracks of the events that it said yes to."""
        return [one.record["track"] for one in self.requests if 200 <= one.status < 300]

    def tracks(self) -> list[int]:
        return [one.record["track"] for one in self.requests]


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that do not like us are part of the tests."""


def _handler(receiver: Receiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            body = self.rfile.read(length)
            if len(body) < length:  # the sender died in the middle of it
                self.close_connection = True
                return
            status = receiver.take({name.lower(): value for name, value in self.headers.items()}, body)
            if status == HANG_UP:
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            self.send_response(status)
            for name, value in receiver.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(0 if status == 204 else len(receiver.words)))
            self.end_headers()
            if status != 204:
                self.wfile.write(receiver.words)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


def signature_is_right(request: Request, key: bytes) -> bool:
    """Worked out on its own, from the text of the specification."""
    head = f"{request.headers['webhook-id']}.{request.headers['webhook-timestamp']}.".encode()
    digest = hmac.new(key, head + request.body, hashlib.sha256).digest()
    return request.headers["webhook-signature"] == "v1," + base64.b64encode(digest).decode()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
