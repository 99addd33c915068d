"""Access: tokens, tickets, hosts, origins, rates; and the validation of settings."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs the extra 'serve'")
pytest.importorskip("httpx2", reason="Starlette's test client needs it")

from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient, WebSocketDenialResponse

from maskwatch.cli.app import main
from maskwatch.errors import OptionError
from maskwatch.net.address_guard import is_loopback
from maskwatch.serve.core.auth import URL_TOKEN_S, Authenticator
from maskwatch.serve.core.limits import RateLimiter
from maskwatch.serve.core.problem import Problem
from maskwatch.serve.settings import ServeSettings, ServiceLimits
from serving import BEARER, STREAM, TOKEN, client_of


@pytest.fixture(scope="module")
def closed(tiny_model: Path) -> Iterator[TestClient]:
    with client_of(tiny_model, token=TOKEN) as client:
        yield client


def test_token(closed: TestClient) -> None:
    assert closed.get("/v1/models", headers=BEARER).status_code == 200
    assert closed.get("/v1/models", headers={"Authorization": f"bearer {TOKEN}"}).status_code == 200
    for wrong in ("", "Bearer", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", f"Basic {TOKEN}", TOKEN):
        answer = closed.get("/v1/models", headers={"Authorization": wrong})
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert TOKEN[:-1] not in answer.text


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/healthz", 200),
        ("GET", "/readyz", 200),
        ("GET", "/openapi.json", 200),
        ("GET", "/", 200),
        ("GET", "/metrics", 401),
        ("POST", "/v1/detect", 401),
        ("POST", "/v1/ticket", 401),
        ("GET", "/v1/models/tiny.onnx", 401),
        ("GET", "/v1/nothing", 401),
    ],
)
def test_paths_that_need_a_token(closed: TestClient, method: str, path: str, status: int) -> None:
    assert closed.request(method, path).status_code == status


def test_a_ticket_opens_streams_only(closed: TestClient) -> None:
    answer = closed.post("/v1/ticket", headers=BEARER).json()
    assert answer["expires_s"] == 60
    ticket = answer["ticket"]
    assert closed.get(f"/v1/models?ticket={ticket}").status_code == 401
    assert closed.get(f"/v1/watch?ticket={ticket}").status_code == 401
    with closed.websocket_connect(f"/v1/stream?ticket={ticket}") as socket:
        socket.send_text("{}")
        assert socket.receive_json()["problem"]["status"] == 422
    for wrong in ("", "?ticket=", "?ticket=v1.99999999999.abc.def", f"?ticket={ticket[:-1]}"):
        with pytest.raises(WebSocketDenialResponse) as denied, closed.websocket_connect(f"/v1/stream{wrong}"):
            pass
        assert denied.value.status_code == 401
    with closed.websocket_connect("/v1/stream", headers=BEARER):
        pass


def test_tickets_expire() -> None:
    now = [1_000_000.0]
    tokens = Authenticator(TOKEN, lambda: now[0])
    ticket = tokens.issue_url_token()
    assert ticket.startswith("v1.1000060.")
    now[0] += URL_TOKEN_S
    assert tokens.accepts_url_token(ticket)
    assert not Authenticator("another-token-of-the-tests", lambda: now[0]).accepts_url_token(ticket)
    now[0] += 1
    assert not tokens.accepts_url_token(ticket)
    late = ticket.replace("1000060", "9000060")
    assert not tokens.accepts_url_token(late)


@given(st.text())
def test_nothing_else_is_a_token_or_ticket(text: str) -> None:
    tokens = Authenticator(TOKEN)
    assert not tokens.accepts_url_token(text)
    assert not tokens.accepts(f"Bearer {text}")


def test_without_a_token_only_names_of_this_machine(tiny_model: Path) -> None:
    with client_of(tiny_model, cors=("https://friend.example",)) as client:

        def status(**headers: str) -> int:
            return client.get("/v1/models", headers=headers).status_code

        assert status() == 200
        for host in ("localhost:8765", "127.0.0.1:80", "127.0.0.2:8765", "[::1]:8765", "0.0.0.0:8765"):
            assert status(Host=host) == 200
        for host in ("evil.example", "evil.example:8765", "127.0.0.1.evil.example", "192.168.1.2", ""):
            assert status(Host=host) == 403
        assert client.get("/", headers={"Host": "evil.example"}).status_code == 403
        assert status(Origin="http://127.0.0.1") == 200
        assert status(Origin="https://friend.example") == 200
        for origin in ("https://evil.example", "null", "http://127.0.0.1:3000"):
            assert status(Origin=origin) == 403
        with (
            pytest.raises(WebSocketDenialResponse) as denied,
            client.websocket_connect(STREAM, headers={"Origin": "https://evil.example"}),
        ):
            pass
        assert denied.value.status_code == 403


OURS = [
    "localhost", "LOCALHOST", "localhost.", "door.localhost", "127.0.0.1", "127.0.0.2", "127.255.255.254",
    "127.1", "2130706433", "0x7f.0.0.1", "::1", "[::1]", "[0:0:0:0:0:0:0:1]", "[::0001]", "::ffff:127.0.0.3",
]  # fmt: skip
OTHERS = [
    "", ".", "localhost.evil.example", "notlocalhost", "127.0.0.1.evil.example", "127.0.0.1.nip.io",
    "0.0.0.0", "::", "[::]", "10.0.0.1", "192.168.1.2", "128.0.0.1", "::ffff:10.0.0.1", "fe80::1",
    "[127.0.0.1", "face", "127.0.0.1 evil.example", "127.0.0.1@evil.example",
    "１２７.0.0.1", "localhost\0.evil.example",
]  # fmt: skip


@pytest.mark.parametrize(("hosts", "expected"), [(OURS, True), (OTHERS, False)])
def test_names_of_this_machine(hosts: list[str], expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a name server, whose answer can be another one the next time."""
    monkeypatch.setattr(socket, "getaddrinfo", None)
    assert {host: is_loopback(host) for host in hosts} == dict.fromkeys(hosts, expected)


def test_a_service_on_a_name(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name of /etc/hosts that means only this machine needs no token, and requests with it are answered."""
    names = {"Camera-Box": ["127.0.1.1", "::1"], "both.example": ["127.0.0.1", "10.0.0.1"]}

    def addresses(host: str, *_: object, **__: object) -> list[Any]:
        if host not in names:
            raise OSError("not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in names[host]]

    monkeypatch.setattr(socket, "getaddrinfo", addresses)
    for host in ("both.example", "unknown.example"):
        with pytest.raises(OptionError, match="needs a token"):
            ServeSettings(models=("tiny",), host=host)
    with client_of(tiny_model, host="Camera-Box") as client:
        for name in ("camera-box:8765", "localhost"):
            assert client.get("/v1/models", headers={"Host": name}).status_code == 200
        other = client.get("/v1/models", headers={"Host": "camera-box.evil.example"})
        assert (other.status_code, "is not this machine" in other.json()["detail"]) == (403, True)


@pytest.mark.parametrize("query", ["&".join(["a=1"] * 15_000), "model=" + "x" * 9000])
def test_long_queries(closed: TestClient, query: str) -> None:
    """Refused before they are parsed, and before any other check."""
    answer = closed.get(f"/v1/models?{query}")
    assert (answer.status_code, "the limit is 8192" in answer.json()["detail"]) == (414, True)
    with pytest.raises(WebSocketDenialResponse) as denied, closed.websocket_connect(f"{STREAM}?{query}"):
        pass
    assert denied.value.status_code == 414


@pytest.mark.parametrize(
    "headers", [{"X": "a" * 70_000}, {f"X-{number}": "a" * 100 for number in range(700)}]
)
def test_long_headers(closed: TestClient, headers: dict[str, str]) -> None:
    answer = closed.get("/v1/models", headers=headers)
    assert (answer.status_code, "the limit is 65536" in answer.json()["detail"]) == (431, True)


def test_cors(tiny_model: Path) -> None:
    with client_of(tiny_model, token=TOKEN, cors=("https://friend.example",)) as client:
        asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
        friend = client.options("/v1/detect", headers={"Origin": "https://friend.example", **asked})
        assert friend.status_code == 200
        assert friend.headers["access-control-allow-origin"] == "https://friend.example"
        other = client.options("/v1/detect", headers={"Origin": "https://evil.example", **asked})
        assert "access-control-allow-origin" not in other.headers
        # Also an error can be read by a page that may use the service.
        denied = client.get("/v1/models", headers={"Origin": "https://friend.example"})
        assert denied.status_code == 401
        assert denied.headers["access-control-allow-origin"] == "https://friend.example"


def test_no_cache_keeps_answers(closed: TestClient) -> None:
    answer = closed.get("/v1/models", headers=BEARER)
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_rate(tiny_model: Path) -> None:
    with client_of(tiny_model, {"rate": 0.01}) as client:
        assert client.get("/v1/models").status_code == 200
        answer = client.get("/v1/models")
        assert answer.status_code == 429
        assert 90 <= int(answer.headers["retry-after"]) <= 100
        assert client.get("/healthz").status_code == 200


def test_rates_refill() -> None:
    now = [0.0]
    rates = RateLimiter(2, lambda: now[0])
    for _ in range(2):
        rates.check("a")
    with pytest.raises(Problem, match="a: more than 2 requests a second"):
        rates.check("a")
    rates.check("b")
    now[0] += 0.5
    rates.check("a")
    with pytest.raises(Problem):
        rates.check("a")


@pytest.mark.parametrize(
    ("options", "texts"),
    [
        ({"host": "0.0.0.0"}, ("--host 0.0.0.0", "MASKWATCH_TOKEN")),
        ({"host": "::"}, ("--host ::", "token")),
        ({"token": "short"}, ("5 characters", "16")),
        ({"token": "with a blank in the middle"}, ("blanks",)),
        ({"models": ()}, ("--model",)),
        ({"port": 70_000}, ("--port 70000",)),
        ({"workers": 0}, ("--workers 0",)),
        ({"threads": 0}, ("--threads 0",)),
        ({"inference_workers": -1}, ("--inference-workers -1",)),
        ({"drain_s": -1.0}, ("--drain -1.0",)),
        ({"cors": ("example.org",)}, ("'example.org'", "https://")),
        ({"cors": ("https://example.org/",)}, ("not an origin",)),
        ({"url_networks": ("10.0.0.0/8",)}, ("--allow-urls",)),
        ({"allow_urls": True, "url_networks": ("10.0.0.1/8",)}, ("'10.0.0.1/8'", "192.168.1.0/24")),
    ],
)
def test_invalid_settings(options: dict[str, Any], texts: tuple[str, ...]) -> None:
    with pytest.raises(OptionError) as error:
        ServeSettings(**{"models": ("tiny",), **options})
    for text in texts:
        assert text in str(error.value)


def test_an_open_address_with_a_token() -> None:
    assert ServeSettings(models=("tiny",), host="0.0.0.0", token=TOKEN).token == TOKEN
    assert TOKEN not in repr(ServeSettings(models=("tiny",), token=TOKEN))


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        ({"max_bytes": 0}, "--max-bytes 0"),
        ({"max_images": 40}, "raise --queue"),
        ({"timeout_s": float("nan")}, "--timeout nan"),
        ({"rate": 0.0}, "--rate 0.0"),
    ],
)
def test_invalid_limits(limits: dict[str, Any], text: str) -> None:
    with pytest.raises(OptionError, match=text):
        ServiceLimits(**limits)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--host", "0.0.0.0"], "needs a token"),
        (["--model", "nothing"], "no model 'nothing'"),
        (["--model", "nothing", "--workers", "2"], "no model 'nothing'"),
        (["--token-file", "nothing"], "cannot be read"),
        (["--host", "192.0.2.1", "--token-file", "token"], "cannot listen"),
    ],
)
def test_command_line_errors(
    arguments: list[str],
    text: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MASKWATCH_TOKEN", raising=False)
    Path("token").write_text(f"{TOKEN}\n")
    with pytest.raises(SystemExit) as ended:
        main(["serve", *arguments])
    assert ended.value.code == 2
    assert text in capsys.readouterr().err


def test_the_old_name_of_inference_workers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MASKWATCH_TOKEN", raising=False)
    for arguments, text in (
        (["--lanes", "0"], "use --inference-workers\nerror: --inference-workers 0: pass 1 or more"),
        (
            ["--lanes", "1", "--inference-workers", "1"],
            "error: --lanes is the old name of --inference-workers",
        ),
    ):
        with pytest.raises(SystemExit) as ended:
            main(["serve", *arguments])
        assert ended.value.code == 2
        assert text in capsys.readouterr().err


def test_a_full_service_is_ready_but_admits_nothing(tiny_model: Path) -> None:
    """Readiness must not flap with the load; balancers that want to know about it ask for it."""
    with client_of(tiny_model, inference_workers=1) as client:
        service = client.app.state.service  # type: ignore[attr-defined]
        assert client.get("/readyz?admits=1").status_code == 200
        with service.capacity.reserve(2):
            answer = client.get("/readyz?admits=1")
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
            assert client.get("/readyz").status_code == 200
        assert client.get("/readyz?admits=1").status_code == 200


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\n \n", "it is empty; write a token into a line of it"),
        (f"{TOKEN}\nshort\n", "token 2: the token has 5 characters; make it 16 or more"),
    ],
)
def test_unusable_token_files(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(text)
    with pytest.raises(OptionError) as error:
        ServeSettings(models=("tiny",), token_file=path)
    assert str(error.value).startswith(f"--token-file {path}")
    assert str(error.value).endswith(message)


def test_a_ticket_of_any_token_counts() -> None:
    """Replicas read a changed file one after the other."""
    old, new = TOKEN, "another-token-of-the-tests"
    first, second = Authenticator(lambda: (new, old)), Authenticator(lambda: (old, new))
    assert second.accepts_url_token(first.issue_url_token())
    assert first.accepts_url_token(second.issue_url_token())
    assert not Authenticator(old).accepts_url_token(first.issue_url_token())
