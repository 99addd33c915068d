"""`WS /v1/stream`: the newest frame, changed settings, and how it ends."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="needs the extra 'serve'")
pytest.importorskip("httpx2", reason="Starlette's test client needs it")

from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocketDisconnect

from maskwatch.detector import Detector
from serving import STREAM, client_of, picture_file


@pytest.fixture(scope="module")
def client(tiny_model: Path) -> Iterator[TestClient]:
    with client_of(tiny_model, {"max_streams": 2, "max_bytes": 100_000}) as client:
        yield client


def message(seq: int, image_rgb: np.ndarray) -> bytes:
    return seq.to_bytes(8, "big") + picture_file(image_rgb)


def classes(answer: dict) -> list[str]:
    return sorted(one["class"] for one in answer["detections"])


def test_frames_are_answered(client: TestClient, street: np.ndarray) -> None:
    with client.websocket_connect(STREAM) as socket:
        for seq in (7, 2**63):
            socket.send_bytes(message(seq, street))
            answer = socket.receive_json()
            assert answer["seq"] == seq
            assert (answer["dropped"], answer["width"], answer["height"]) == (0, 64, 64)
            assert classes(answer) == ["mask", "mask_incorrect", "no_mask"]
            assert answer["detect_ms"] > 0


def test_settings_change_within_a_stream(client: TestClient, street: np.ndarray) -> None:
    with client.websocket_connect(f"{STREAM}?classes=mask,no_mask&threshold=mask=1") as socket:

        def answer_to(*texts: str) -> list[str]:
            for text in texts:
                socket.send_text(text)
            socket.send_bytes(message(1, street))
            return classes(socket.receive_json())

        assert answer_to() == ["no_mask"]
        assert answer_to('{"threshold": {"mask": 0.1}}') == ["mask", "no_mask"]
        assert answer_to('{"classes": ["mask_incorrect"]}') == ["mask_incorrect"]
        assert answer_to('{"classes": null, "threshold": 1}') == []
        assert answer_to('{"threshold": null}') == ["mask", "mask_incorrect", "no_mask"]


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"model": "x"}', '{"threshold": 2}', '{"classes": "mask"}', "[" * 9000, "1" * 10_001],
)
def test_an_invalid_setting(client: TestClient, street: np.ndarray, text: str) -> None:
    with client.websocket_connect(STREAM) as socket:
        socket.send_text(text)
        assert socket.receive_json()["problem"]["status"] == 422
        socket.send_bytes(message(3, street))
        assert socket.receive_json()["seq"] == 3


def test_an_unreadable_frame(client: TestClient, street: np.ndarray) -> None:
    with client.websocket_connect(STREAM) as socket:
        socket.send_bytes((5).to_bytes(8, "big") + b"no picture")
        answer = socket.receive_json()
        assert (answer["seq"], answer["dropped"]) == (5, 0)
        assert "not a picture" in answer["problem"]["detail"]
        socket.send_bytes(message(6, street))
        assert socket.receive_json()["seq"] == 6


def test_only_the_newest(tiny_model: Path, street: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the network works on the first, eight arrive; it gets only the last of them."""
    busy, may_go = threading.Event(), threading.Event()
    run = Detector.run

    def slow(self: Detector, *given: object, **more: object) -> object:
        busy.set()
        assert may_go.wait(60)
        return run(self, *given, **more)  # type: ignore[arg-type]

    with client_of(tiny_model) as client, client.websocket_connect(STREAM) as socket:
        monkeypatch.setattr(Detector, "run", slow)
        socket.send_bytes(message(0, street))
        assert busy.wait(60)
        for seq in range(1, 9):
            socket.send_bytes(message(seq, street))
        socket.send_text("{}")  # its answer comes at once, so the frames before it have been taken
        assert "problem" in socket.receive_json()
        may_go.set()
        answers = [socket.receive_json() for _ in range(2)]
        assert [(one["seq"], one["dropped"]) for one in answers] == [(0, 0), (8, 7)]
        text = client.get("/metrics").text
        assert "maskwatch_stream_frames_dropped_total 7.0" in text
        assert "maskwatch_streams 1.0" in text


def closed_with(socket: object) -> int:
    with pytest.raises(WebSocketDisconnect) as closed:
        socket.receive_json()  # type: ignore[attr-defined]
    return closed.value.code


def test_messages_that_end_it(client: TestClient) -> None:
    for data, code in ((b"", 1003), (b"12345678", 1003), (bytes(100_009), 1009)):
        with client.websocket_connect(STREAM) as socket:
            socket.send_bytes(data)
            assert closed_with(socket) == code


def test_too_many(client: TestClient) -> None:
    with (
        client.websocket_connect(STREAM),
        client.websocket_connect(STREAM),
        client.websocket_connect(STREAM) as third,
    ):
        assert closed_with(third) == 1013
    with client.websocket_connect(STREAM):
        pass


def test_a_wrong_query_is_denied(client: TestClient) -> None:
    with (
        pytest.raises(WebSocketDenialResponse) as denied,
        client.websocket_connect(f"{STREAM}?model=nothing"),
    ):
        pass
    assert denied.value.status_code == 422
    assert "'nothing'" in denied.value.json()["detail"]


def test_it_ends_when_the_service_stops(tiny_model: Path) -> None:
    with client_of(tiny_model) as client, client.websocket_connect(STREAM) as socket:
        assert client.portal is not None
        client.portal.call(client.app.state.service.stop)  # type: ignore[attr-defined]
        assert closed_with(socket) == 1001
        answer = client.get("/v1/models")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert answer.headers["connection"] == "close"
        assert client.get("/readyz").status_code == 503
        assert client.get("/healthz").status_code == 200


def test_an_idle_stream_makes_room(
    tiny_model: Path, street: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that opens streams and sends nothing does not lock out the others; one that sends stays."""
    now_s = [100.0]
    monkeypatch.setattr("maskwatch.serve.core.limits.perf_counter", lambda: now_s[0])
    with client_of(tiny_model, {"max_streams": 2}) as client:
        with client.websocket_connect(STREAM) as idle, client.websocket_connect(STREAM) as busy:
            with client.websocket_connect(STREAM) as early, pytest.raises(WebSocketDisconnect) as full:
                early.receive_json()
            assert (full.value.code, "streams are open" in full.value.reason) == (1013, True)
            now_s[0] += 30.1
            busy.send_bytes(message(1, street))
            assert busy.receive_json()["seq"] == 1
            with client.websocket_connect(STREAM) as late:
                late.send_bytes(message(2, street))
                assert late.receive_json()["seq"] == 2
                with pytest.raises(WebSocketDisconnect) as closed:
                    idle.receive_json()
                assert (closed.value.code, "no frame came" in closed.value.reason) == (1013, True)
                busy.send_bytes(message(3, street))
                assert busy.receive_json()["seq"] == 3
        assert "maskwatch_streams 0.0" in client.get("/metrics").text
