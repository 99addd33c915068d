"""Addresses that a client names: public ones only, whatever names and redirects say."""

from __future__ import annotations

import base64
import contextlib
import ipaddress
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="needs the extra 'serve'")

from certificates import make_certificate, server_context
from maskwatch.errors import SourceError
from maskwatch.net.address_guard import Networks, is_public
from maskwatch.net.fetch import fetch
from serving import client_of, picture_file

HERE = (ipaddress.ip_network("127.0.0.1/32"),)


def guarded(url: str, max_bytes: int, timeout_s: float, networks: Networks = ()) -> bytes:
    return fetch(url, max_bytes=max_bytes, timeout_s=timeout_s, total_s=timeout_s, networks=networks)


class _Pages(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server: Any = self.server
        server.asked.append(self.path)
        status, headers, body, pause = server.pages.get(self.path, (404, {}, b"", None))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(body)
            if pause is not None:
                self.wfile.flush()
                pause.wait(60)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def site(street: np.ndarray) -> Iterator[Any]:
    over = threading.Event()
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), _Pages)
    server.asked = []
    server.root = f"http://127.0.0.1:{server.server_port}"
    port = server.server_port
    server.pages = {
        "/a.png": (200, {"Content-Length": str(len(picture_file(street)))}, picture_file(street), None),
        "/moved": (302, {"Location": "a.png"}, b"", None),
        "/loop": (302, {"Location": "/loop"}, b"", None),
        "/inside": (302, {"Location": f"http://[::1]:{port}/a.png"}, b"", None),
        "/file": (302, {"Location": "file:///etc/passwd"}, b"", None),
        "/large": (200, {}, bytes(5000), None),
        "/says-large": (200, {"Content-Length": "5000"}, bytes(10), over),
        "/short": (200, {"Content-Length": "50"}, bytes(10), None),
        "/slow": (200, {}, bytes(10), over),
    }
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    over.set()
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_named_network_may_be_asked(site: Any, street: np.ndarray) -> None:
    assert guarded(f"{site.root}/a.png", 10_000, 20, HERE) == picture_file(street)
    assert guarded(f"{site.root}/moved", 10_000, 20, HERE) == picture_file(street)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/loop", "more than 3 redirects"),
        ("/inside", "private address ::1"),
        ("/file", "file:///etc/passwd"),
        ("/none", "the server says 404"),
        ("/large", "more than 1000 bytes"),
        ("/says-large", "more than 1000 bytes"),
        ("/short", "10 of 50"),
    ],
)
def test_what_cannot_be_fetched(site: Any, path: str, text: str) -> None:
    with pytest.raises(SourceError, match=text) as error:
        guarded(site.root + path, 1000, 20, HERE)
    assert str(error.value).startswith(site.root + path)


def test_a_slow_server_is_left(site: Any) -> None:
    with pytest.raises(SourceError, match=r"too slow|cannot be fetched"):
        guarded(f"{site.root}/slow", 1000, 0.5, HERE)


def test_an_encrypted_host_is_connected_to_by_its_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, street: np.ndarray
) -> None:
    certificate, key = make_certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), _Pages)
    server.asked, server.pages = [], {"/a.png": (200, {}, picture_file(street), None)}
    server.socket = server_context(certificate, key).wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        url = f"https://127.0.0.1:{server.server_port}/a.png"
        assert guarded(url, 10_000, 20, HERE) == picture_file(street)
        with pytest.raises(SourceError, match=r"private address 127\.0\.0\.1"):
            guarded(url, 10_000, 20)
        assert server.asked == ["/a.png"]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "[::1]", "0.0.0.0", "127.1", "2130706433", "0x7f000001", "[::ffff:127.0.0.1]"],
)
def test_this_machine_is_never_asked(site: Any, host: str) -> None:
    with pytest.raises(SourceError):
        guarded(f"http://{host}:{site.server_port}/a.png", 10_000, 20)
    assert site.asked == []


@pytest.mark.parametrize(
    "url",
    ["ftp://example.org/a", "file:///etc/passwd", "http://", "http://user@example.org/", "http://a:b/", "x"],
)
def test_no_address(url: str) -> None:
    with pytest.raises(SourceError):
        guarded(url, 1000, 5)


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("100.64.0.1", False),
        ("169.254.169.254", False),
        ("127.0.0.53", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::", False),
        ("::1", False),
        ("fe80::1", False),
        ("fd00:ec2::254", False),
        ("ff02::1", False),
        ("::ffff:10.0.0.1", False),
        ("::ffff:8.8.8.8", True),
        ("64:ff9b::a00:1", False),
        ("64:ff9b::808:808", True),
        ("2002:7f00:1::", False),
    ],
)
def test_public_addresses(address: str, public: bool) -> None:
    assert is_public(ipaddress.ip_address(address)) is public


def test_a_name_that_changes_its_address(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """First public, then this machine: what was checked is what is connected to, and it is asked once."""
    asked: list[str] = []
    connected: list[tuple[str, int]] = []

    def answers(host: str, port: int, *_: object, **__: object) -> list[Any]:
        asked.append(host)
        address = "203.0.113.7" if len(asked) > 1 else "8.8.8.8"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    def connect(address: tuple[str, int], **_: object) -> socket.socket:
        connected.append(address)
        raise ConnectionRefusedError("no network in tests")

    monkeypatch.setattr(socket, "getaddrinfo", answers)
    monkeypatch.setattr(socket, "create_connection", connect)
    with pytest.raises(SourceError, match="no network in tests"):
        guarded("http://rebinding.example/a.png", 1000, 5)
    assert asked == ["rebinding.example"]
    assert connected == [("8.8.8.8", 80)]


def test_one_private_address_is_enough_to_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    def answers(host: str, port: int, *_: object, **__: object) -> list[Any]:
        both = ("8.8.8.8", "10.0.0.1")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in both]

    monkeypatch.setattr(socket, "getaddrinfo", answers)
    with pytest.raises(SourceError, match=r"private address 10\.0\.0\.1"):
        guarded("http://two.example/a.png", 1000, 5)


def test_in_a_request(site: Any, tiny_model: Path, street: np.ndarray) -> None:
    data = base64.b64encode(picture_file(street)).decode()
    body = {"images": [{"url": f"{site.root}/a.png"}, {"name": "sent", "data": data}]}
    with client_of(tiny_model, allow_urls=True) as client:
        answer = client.post("/v1/detect", json=body).json()
        assert [one["source"] for one in answer["results"]] == ["sent"]
        (failure,) = answer["failures"]
        assert failure["source"] == f"{site.root}/a.png"
        assert failure["reason"].startswith("host '127.0.0.1' has the private address 127.0.0.1")
    with client_of(tiny_model, allow_urls=True, url_networks=("127.0.0.0/8",)) as client:
        answer = client.post("/v1/detect", json=body).json()
        assert len(answer["results"]) == 2
        assert answer["results"][0]["detections"] == answer["results"][1]["detections"]


@pytest.mark.parametrize("allow_urls", [True, False])
@pytest.mark.parametrize(
    "address", ["http://admin:Ge#heim@127.0.0.1/a.png", "http://127.0.0.1/a?token=Geheim"]
)
def test_an_answer_shows_no_password_of_an_address(tiny_model: Path, address: str, allow_urls: bool) -> None:
    with client_of(tiny_model, allow_urls=allow_urls) as client:
        answer = client.post("/v1/detect", json={"images": [{"url": address}]})
    assert answer.status_code == 422
    assert "***" in answer.json()["detail"]
    assert "heim" not in answer.text
    if allow_urls:
        (failure,) = answer.json()["failures"]
        assert "***" in failure["source"]
        assert "***" not in failure["reason"]
