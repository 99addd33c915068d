"""The webhook: signed, in order, at least once, whatever the receiver does."""

from __future__ import annotations

import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import formatdate
from pathlib import Path

import pytest

from certificates import make_certificate, server_context
from drawn_events import START, event, wait_until
from receiver import HANG_UP, SECRET, Receiver, free_port, signature_is_right

pytest.importorskip("requests", reason="the extra live is not installed")

from standardwebhooks import Webhook

from maskwatch.errors import EventError, OptionError
from maskwatch.live.sinks import webhook
from maskwatch.live.sinks.outbox import (
    MAX_DEAD_LETTERS,
    RETRY_POLICY,
    Outbox,
    QueuedEvent,
    SenderLock,
    outbox_folder,
    outbox_path,
)
from maskwatch.live.sinks.webhook import WebhookSink, check_url, key_of, server_of


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first retry comes after 0.02 s."""
    monkeypatch.setattr("maskwatch.live.sinks.outbox.RETRY_POLICY", replace(RETRY_POLICY, first_s=0.02))


@pytest.fixture
def outbox(tmp_path: Path) -> Path:
    return tmp_path / "state" / "hook.outbox.sqlite"


@pytest.fixture
def sinks() -> Iterator[list[WebhookSink]]:
    """Those that are still open at the end of a test are closed."""
    opened: list[WebhookSink] = []
    yield opened
    for sink in opened:
        sink.close(0.1)


def start(url: str, outbox: Path, sinks: list[WebhookSink], secret: str | None = SECRET) -> WebhookSink:
    sink = WebhookSink(url, outbox, secret)
    sinks.append(sink)
    return sink


def test_request(outbox: Path, sinks: list[WebhookSink]) -> None:
    with Receiver() as receiver:
        sink = start(receiver.url, outbox, sinks)
        sink.send(event(1))
        sink.close(20)
    (request,) = receiver.requests
    assert request.record == event(1).to_record()
    assert request.headers["content-type"] == "application/json"
    assert request.headers["idempotency-key"] == request.headers["webhook-id"] == event(1).id
    assert request.headers["user-agent"].startswith("maskwatch/")
    assert abs(int(request.headers["webhook-timestamp"]) - time.time()) < 60
    assert signature_is_right(request, b"0123456789abcdef0123456789abcdef")
    assert Webhook(SECRET).verify(request.body, request.headers) == event(1).to_record()
    assert not signature_is_right(request, b"another key of the same length..")


def test_signature_by_hand() -> None:
    """HMAC-SHA256 of `msg.1700000000.{}`, worked out with `openssl dgst -sha256 -hmac`."""
    signed = Webhook(b"0123456789abcdef").sign("msg", datetime.fromtimestamp(1_700_000_000, UTC), "{}")
    assert signed == "v1,fRm5GeGiVJLpdYAXYpjFrAfXjV1Mjs+2psf60FCTBrw="


def test_without_a_secret_there_is_no_signature(outbox: Path, sinks: list[WebhookSink]) -> None:
    with Receiver() as receiver:
        sink = start(receiver.url, outbox, sinks, secret=None)
        sink.send(event(1))
        sink.close(20)
    assert "webhook-signature" not in receiver.requests[0].headers


def test_receiver_that_is_away(outbox: Path, sinks: list[WebhookSink]) -> None:
    port = free_port()
    sink = start(f"http://127.0.0.1:{port}/hook?key=geheim", outbox, sinks)
    for number in range(5):
        sink.send(event(number))
    wait_until(lambda: sink.backlog().problem, "the first attempt")
    state = sink.backlog()
    assert (state.waiting, state.dead_letters) == (5, 0)
    assert state.problem == f"http://127.0.0.1:{port}: connection refused; check the receiver"
    with Receiver(port=port) as receiver:
        wait_until(lambda: sink.backlog().waiting == 0, "all are delivered")
        assert receiver.tracks() == [0, 1, 2, 3, 4]
        assert sink.backlog().problem is None


def test_what_waits_survives_the_program(outbox: Path, sinks: list[WebhookSink]) -> None:
    sink = start(f"http://127.0.0.1:{free_port()}/", outbox, sinks)
    for number in range(3):
        sink.send(event(number))
    before = time.monotonic()
    sink.close(30)
    assert time.monotonic() - before < 20, "a receiver that is away is not waited for"
    assert sink.backlog().waiting == 3
    with Receiver() as receiver:
        sink = start(receiver.url, outbox, sinks)
        sink.send(event(3))
        sink.send(event(3))
        wait_until(lambda: sink.backlog().waiting == 0, "all are delivered")
        sink.close(20)
    assert receiver.tracks()[:4] == [0, 1, 2, 3]


@pytest.mark.parametrize("trouble", [500, 503, 408, 425, 429, HANG_UP, 302, 308, 401, 403, 404, 409])
def test_trouble_that_passes(outbox: Path, sinks: list[WebhookSink], trouble: int) -> None:
    """Every event is tried until it is taken, and none overtakes it."""
    with Receiver(lambda number: trouble if number % 3 else 200) as receiver:
        sink = start(receiver.url, outbox, sinks)
        for number in range(4):
            sink.send(event(number))
        wait_until(lambda: sink.backlog().waiting == 0, "all are delivered")
        sink.close(20)
    assert receiver.accepted() == [0, 1, 2, 3]
    assert receiver.tracks() == [0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    stamps = [request.headers["webhook-id"] for request in receiver.requests]
    assert stamps[1] == stamps[3], "the same id at each attempt"
    assert all(signature_is_right(one, key_of(SECRET)) for one in receiver.requests)


@pytest.mark.parametrize("status", [400, 410, 413, 422])
def test_refused_events_become_dead_letters_and_the_others_go_on(
    outbox: Path, sinks: list[WebhookSink], status: int
) -> None:
    with Receiver(lambda number: status if number == 1 else 200) as receiver:
        receiver.words = b"I do not\nlike it"
        sink = start(receiver.url, outbox, sinks)
        for number in range(3):
            sink.send(event(number))
        wait_until(lambda: sink.backlog().waiting == 0, "all are delivered")
        assert sink.backlog().dead_letters == 1
        sink.close(20)
        assert receiver.tracks() == [0, 1, 2]
        box = Outbox(outbox)
        (dead,) = box.dead_letters()
        assert dead.id == event(1).id
        assert dead.reason is not None
        assert dead.reason.startswith(f"http://127.0.0.1:{receiver.port}: the receiver says {status} ")
        assert "(I do not like it)" in dead.reason
        assert box.retry_dead_letters() == 1
        box.close()
        sink = start(receiver.url, outbox, sinks)
        wait_until(lambda: sink.backlog() == type(sink.backlog())(), "it is delivered now")
        sink.close(20)
        assert receiver.accepted() == [0, 2, 1]


def test_redirects_are_not_followed(outbox: Path, sinks: list[WebhookSink]) -> None:
    """What is behind them gets nothing; the event waits until the receiver itself takes it."""
    with Receiver() as other, Receiver(lambda number: 302 if number < 3 else 200) as receiver:
        receiver.headers["Location"] = other.url
        sink = start(receiver.url, outbox, sinks)
        sink.send(event(1))
        wait_until(lambda: sink.backlog().problem, "the first attempt")
        assert "give the address that it redirects to" in str(sink.backlog().problem)
        wait_until(lambda: sink.backlog().waiting == 0, "it is delivered")
        sink.close(20)
    assert receiver.accepted() == [1]
    assert other.requests == []


def test_a_receiver_that_is_not_there_during_a_deployment_loses_nothing(
    outbox: Path, sinks: list[WebhookSink]
) -> None:
    there = threading.Event()
    with Receiver(lambda number: 204 if there.is_set() else 404) as receiver:
        sink = start(receiver.url, outbox, sinks)
        for number in range(20):
            sink.send(event(number))
        wait_until(lambda: len(receiver.requests) >= 4, "some attempts")
        state = sink.backlog()
        assert (state.waiting, state.dead_letters) == (20, 0)
        assert "the receiver says 404 Not Found" in str(state.problem)
        sink.close(0.2)  # a restart meanwhile
        there.set()
        sink = start(receiver.url, outbox, sinks)
        wait_until(lambda: sink.backlog().waiting == 0, "all are delivered")
        sink.close(20)
    assert receiver.accepted() == [*range(20)]


def test_an_event_that_is_refused_for_too_long_lets_the_next_ones_go(
    outbox: Path, sinks: list[WebhookSink], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as one that a firewall in front of the receiver does not like; an outage is not counted."""
    assert webhook.REFUSED_S >= 12 * 3600
    answers = {1: 403, 2: 503}
    with Receiver() as receiver:
        waited: dict[int, float] = {}

        def answer(number: int) -> int:
            track = receiver.coming["track"]
            waited.setdefault(track, time.monotonic())
            if track == 2 and time.monotonic() - waited[2] > 1.0:
                return 200
            return answers.get(track, 200)

        receiver.answer = answer
        monkeypatch.setattr(webhook, "REFUSED_S", 0.3)
        sink = start(receiver.url, outbox, sinks)
        for number in range(4):
            sink.send(event(number))
        wait_until(lambda: sink.backlog().waiting == 0, "its turn is over")
        assert sink.backlog().dead_letters == 1
        sink.close(20)
    assert receiver.accepted() == [0, 2, 3]
    assert receiver.tracks().count(1) >= 3


@pytest.mark.parametrize(
    "said", ["Cannot POST /hook/T0%2FgeHeim?token=geheim2", "no T0/geHeim&amp;geheim2", '"/hook/T0/geHeim"']
)
def test_an_address_that_the_receiver_repeats_is_not_shown(
    outbox: Path, sinks: list[WebhookSink], said: str
) -> None:
    with Receiver(lambda number: 404) as receiver:
        receiver.words = said.encode()
        sink = start(f"{receiver.url}/T0%2FgeHeim?token=geheim2", outbox, sinks)
        sink.send(event(1))
        wait_until(lambda: sink.backlog().problem, "the first attempt")
        problem = str(sink.backlog().problem)
    assert "says 404 Not Found" in problem
    assert "***" in problem
    assert "geheim" not in problem.lower()


@pytest.mark.parametrize("status", [429, 404])
@pytest.mark.parametrize("as_date", [False, True])
def test_retry_after_is_heeded(outbox: Path, sinks: list[WebhookSink], status: int, as_date: bool) -> None:
    with Receiver(lambda number: status if number == 0 else 200) as receiver:
        # A date has whole seconds.
        receiver.headers["Retry-After"] = formatdate(time.time() + 2, usegmt=True) if as_date else "1"
        sink = start(receiver.url, outbox, sinks)
        before = time.monotonic()
        sink.send(event(1))
        wait_until(lambda: sink.backlog().waiting == 0, "it is delivered")
        assert time.monotonic() - before >= 0.9
        sink.close(20)


def test_slow_receiver(outbox: Path, sinks: list[WebhookSink], monkeypatch: pytest.MonkeyPatch) -> None:
    """`send` does not wait for it, and an answer that does not come is no answer."""
    monkeypatch.setattr(webhook, "TIMEOUT_S", (5.0, 0.3))
    gate = threading.Event()

    def answer(number: int) -> int:
        if number == 0:
            gate.wait(30)
        return 200

    with Receiver(answer) as receiver:
        sink = start(receiver.url, outbox, sinks)
        for number in range(3):
            sink.send(event(number))
        assert sink.backlog().waiting == 3
        wait_until(lambda: sink.backlog().problem, "the time is over")
        assert "does not answer in time" in (sink.backlog().problem or "")
        gate.set()
        wait_until(lambda: sink.backlog().waiting == 0, "all are delivered")
        sink.close(20)
    assert receiver.accepted()[-3:] == [0, 1, 2]


def test_a_server_that_speaks_no_http(outbox: Path, sinks: list[WebhookSink]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def babble() -> None:
            client, _ = server.accept()
            with client:
                client.recv(100_000)
                client.sendall(b"220 mail.example ESMTP\r\n\r\n")

        thread = threading.Thread(target=babble)
        thread.start()
        sink = start(f"http://127.0.0.1:{port}/", outbox, sinks)
        sink.send(event(1))
        wait_until(lambda: sink.backlog().problem, "the first attempt")
        thread.join()
        sink.close(1)
    assert sink.backlog().waiting == 1


def test_certificates_are_verified(
    tmp_path: Path, outbox: Path, sinks: list[WebhookSink], monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = make_certificate(tmp_path)
    with Receiver(tls=server_context(certificate, key)) as receiver:
        sink = start(receiver.url, outbox, sinks)
        sink.send(event(1))
        wait_until(lambda: sink.backlog().problem, "the first attempt")
        assert "its certificate is not trusted" in (sink.backlog().problem or "")
        assert receiver.requests == []
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        wait_until(lambda: sink.backlog().waiting == 0, "it is delivered")
        sink.close(20)
    assert receiver.tracks() == [1]


def test_the_disk_is_bounded(outbox: Path, sinks: list[WebhookSink], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maskwatch.live.sinks.outbox.MAX_OUTBOX_BYTES", 100_000)
    sink = start(f"http://127.0.0.1:{free_port()}/", outbox, sinks)
    number = 0
    with pytest.raises(EventError, match="repair the receiver") as caught:  # noqa: PT012
        while number < 1000:
            sink.send(event(number))
            number += 1
    assert caught.value.__class__ is EventError, "not to be tried again"
    assert 30 < number < 200
    assert sink.backlog().waiting == number
    assert outbox.stat().st_size < 200_000


def test_two_programs_with_one_receiver_keep_the_order(outbox: Path, sinks: list[WebhookSink]) -> None:
    with Receiver() as receiver:
        one, other = (start(receiver.url, outbox, sinks) for _ in range(2))
        for number in range(10):
            (one, other)[number % 2].send(event(number))
        wait_until(lambda: len(receiver.requests) == 10, "all are delivered")
        one.close(20)
        other.send(event(10))
        other.close(20)
        assert sorted(receiver.tracks()) == list(range(11))
        assert receiver.tracks()[:10] == list(range(10))


def test_one_program_has_the_sender_lock(outbox: Path) -> None:
    outbox.parent.mkdir()
    first, second = SenderLock(outbox), SenderLock(outbox)
    assert first.acquire()
    assert first.acquire()
    assert not second.acquire()
    first.release()
    assert second.acquire()
    second.release()


def test_an_outbox_of_an_older_version(outbox: Path) -> None:
    """Version 0.1.0 wrote this table, and locked this file beside it while it sent."""
    outbox.parent.mkdir()
    written = sqlite3.connect(outbox)
    written.executescript(
        """
        CREATE TABLE outbox (seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE,
            time_ms INTEGER NOT NULL, kind TEXT NOT NULL, record TEXT NOT NULL, parked TEXT,
            parked_ms INTEGER);
        CREATE INDEX outbox_parked ON outbox (parked IS NULL, seq);
        INSERT INTO outbox (id, time_ms, kind, record, parked, parked_ms)
            VALUES ('a', 1, 'alert', '{}', 'refused', 2), ('b', 2, 'minute', '{}', NULL, NULL);
        PRAGMA user_version = 1;
        PRAGMA application_id = 1297567554;
        """
    )
    written.close()
    box = Outbox(outbox, create=False)
    assert box.first() == QueuedEvent(2, "b", "minute", "{}")
    assert box.dead_letters() == [QueuedEvent(1, "a", "alert", "{}", "refused")]
    box.close()
    other = sqlite3.connect(f"{outbox}.turn", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    assert not SenderLock(outbox).acquire()
    other.close()


def test_dead_letters_are_bounded_and_can_be_deleted(outbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_DEAD_LETTERS == 1000
    monkeypatch.setattr("maskwatch.live.sinks.outbox.MAX_DEAD_LETTERS", 3)
    box = Outbox(outbox)
    for number in range(5):
        box.add(event(number))
        first = box.first()
        assert first is not None
        box.reject(first, "no")
    assert [dead.id for dead in box.dead_letters()] == [event(number).id for number in (2, 3, 4)]
    box.add(event(9))
    assert box.delete_dead_letters() == 3
    assert box.counts() == (1, 0)
    assert box.delete_before(START) == 0
    assert box.delete_before(event(10).time) == 1
    box.close()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ftp://host/x", "'ftp://host/x' is not a valid URL; write https://host/path"),
        ("host/x", "is not a valid URL"),
        ("https://", "is not a valid URL"),
        ("https://host:99999/", "is not a valid URL"),
        ("https://[::1/", "is not a valid URL"),
        ("http://anna:geheim@host/", "http://host has a user or a password in it"),
        ("http://anna:#geheim@host/", "http://host has a user or a password in it"),
        ("http://anna:/geheim@host/", "http://host has a user or a password in it"),
        ("http://anna:?[geheim@host/", "http://host has a user or a password in it"),
        ("https://anna:p@geheim/x@host.local/", "https://host.local has a user or a password in it"),
        ("https://anna:geheim/x", "'https://anna:***/x' is not a valid URL"),
        ("ftp://anna:#geheim@host/", "'ftp://***@host/' is not a valid URL"),
    ],
)
def test_addresses_that_cannot_be_used(url: str, message: str, outbox: Path) -> None:
    with pytest.raises(OptionError) as caught:
        WebhookSink(url, outbox, SECRET)
    assert message in str(caught.value)
    assert "geheim" not in str(caught.value)
    assert not outbox.exists()


def test_address_without_its_secrets() -> None:
    check_url("https://host:8443/services/T0/geheim?key=geheim")
    assert server_of("https://host:8443/services/T0/geheim?key=geheim") == "https://host:8443"
    path = outbox_path(Path("state"), "https://host:8443/services/T0/geheim")
    assert path != outbox_path(Path("state"), "https://host:8443/services/T1/geheim")
    assert path.name.startswith("host_8443-")
    assert "geheim" not in str(path)


@pytest.mark.parametrize(
    ("secret", "message"),
    [
        ("short", "has 5 bytes, 16 are the least"),
        ("whsec_not base64!", "not valid Base64"),
        ("whsec_QUFB", "has 3 bytes"),
    ],
)
def test_secrets_that_cannot_be_used(secret: str, message: str) -> None:
    with pytest.raises(OptionError, match=message) as caught:
        key_of(secret)
    assert secret not in str(caught.value)


def test_secrets() -> None:
    assert key_of("whsec_MDEyMzQ1Njc4OWFiY2RlZg==") == b"0123456789abcdef"
    assert key_of("a plain text of its own") == b"a plain text of its own"


def test_place_of_outboxes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", f"{tmp_path}/one:{tmp_path}/two")
    assert outbox_folder() == tmp_path / "one"
    monkeypatch.delenv("STATE_DIRECTORY")
    assert outbox_folder().name == "maskwatch"
