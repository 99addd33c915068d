"""The client: what it sends and what it makes of answers, against a stand-in that can give every answer."""

from __future__ import annotations

import asyncio
import base64
import email.utils
import json
import re
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

httpx2 = pytest.importorskip("httpx2", reason="the extra client is not installed")
websockets = pytest.importorskip("websockets", reason="the extra client is not installed")

from PIL import Image  # noqa: E402
from websockets.sync.server import ServerConnection, serve  # noqa: E402

from certificates import make_certificate, server_context  # noqa: E402
from maskwatch.client import AsyncClient, Client, Face, Failure, FrameAnswer, ServiceError  # noqa: E402
from maskwatch.errors import ImageError, OptionError  # noqa: E402
from receiver import free_port  # noqa: E402

MODEL = {
    "name": "tiny",
    "version": "1",
    "classes": ["mask", "no_mask"],
    "thresholds": {"mask": 0.5, "no_mask": 0.4},
}
FOUND = {"class": "no_mask", "class_id": 1, "score": 0.9312, "box": [1.0, 2.0, 3.5, 4.25]}
FACE = Face("no_mask", 1, 0.9312, (1.0, 2.0, 3.5, 4.25))
FOREST = np.full((6, 8, 3), (10, 120, 40), np.uint8)


def document(*sources: str, **more: Any) -> dict[str, Any]:
    place = {"kind": "picture", "frame": None, "time_s": None, "width": 8, "height": 6}
    results = [{"source": source, **place, "detections": [FOUND]} for source in sources]
    head = {"schema": "maskwatch.detections/1", "maskwatch": "9.9", "model": MODEL, "new": 1}
    return {**head, "results": results, "failures": [], **more}


def problem(status: int, detail: str, **headers: str) -> Any:
    body = {"type": "about:blank", "title": "x", "status": status, "detail": detail}
    kind = {"content-type": "application/problem+json"}
    return httpx2.Response(
        status, headers=kind | {name.replace("_", "-"): text for name, text in headers.items()}, json=body
    )


class StandIn:
    """Answers one request after the other as it is told, and keeps them."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.requests: list[Any] = []

    def __call__(self, request: Any) -> Any:
        request.read()
        self.requests.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, httpx2.Response) else httpx2.Response(200, json=answer)

    def client(self, **options: Any) -> Client:
        return Client("http://service.test/mask", transport=httpx2.MockTransport(self), **options)


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that the clients would have waited."""
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr("maskwatch.client.sync.time.sleep", pauses.append)
    monkeypatch.setattr("maskwatch.client.async_client.asyncio.sleep", sleep)
    return pauses


def test_one_picture_goes_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a door.jpg"
    path.write_bytes(b"whatever the file holds")
    stand_in = StandIn(document("a door.jpg"))
    with stand_in.client(token="0123456789abcdef") as client:
        answer = client.detect(path, threshold=0.5, classes=["no_mask", "mask"], model="tiny", blur=True)
    (request,) = stand_in.requests
    assert request.url.path == "/mask/v1/detect"
    assert dict(request.url.params) == {
        "threshold": "0.5",
        "classes": "no_mask,mask",
        "model": "tiny",
        "blur": "1",
        "name": "a door.jpg",
    }
    assert request.content == b"whatever the file holds"
    assert request.headers["content-type"] == "application/octet-stream"
    assert request.headers["authorization"] == "Bearer 0123456789abcdef"
    (picture,) = answer.pictures
    assert (picture.index, picture.source, picture.width, picture.height) == (0, str(path), 8, 6)
    assert picture.faces == (FACE,)
    assert picture.annotated is None
    assert (answer.maskwatch, answer.model.name, answer.failures) == ("9.9", "tiny", ())
    assert answer.model.thresholds == {"mask": 0.5, "no_mask": 0.4}


def test_detections_are_those_of_a_detector() -> None:
    with StandIn(document("picture-0")).client() as client:
        detections = client.detect(FOREST).pictures[0].to_supervision()
    assert detections.xyxy.tolist() == [[1.0, 2.0, 3.5, 4.25]]
    assert detections.xyxy.dtype == detections.confidence.dtype == np.float32
    assert detections.confidence.tolist() == pytest.approx([0.9312])
    assert detections.class_id.tolist() == [1]
    assert detections.data["class_name"].tolist() == ["no_mask"]


def test_no_face_is_an_empty_result() -> None:
    record = document("picture-0")
    record["results"][0]["detections"] = []
    with StandIn(record).client() as client:
        detections = client.detect(FOREST).pictures[0].to_supervision()
    assert len(detections) == 0
    assert detections.xyxy.shape == (0, 4)


def test_pixels_go_without_loss() -> None:
    stand_in = StandIn(*[document("picture-0")] * 2)
    with stand_in.client() as client:
        client.detect(FOREST)
        client.detect(Image.fromarray(FOREST))
    for request in stand_in.requests:
        decoded = cv2.imdecode(np.frombuffer(request.content, np.uint8), cv2.IMREAD_COLOR)
        assert (cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB) == FOREST).all()


def test_several_pictures_keep_their_places(tmp_path: Path) -> None:
    """Two files of one name in two folders, and bytes; the second cannot be read."""
    for name in ("in", "out"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.jpg").write_bytes(name.encode())
    failures = [{"source": "1-a.jpg", "reason": "1-a.jpg: the file is torn"}]
    stand_in = StandIn(document("0-a.jpg", "picture-2", failures=failures))
    with stand_in.client() as client:
        answer = client.detect([tmp_path / "in" / "a.jpg", str(tmp_path / "out" / "a.jpg"), b"raw"])
    body = stand_in.requests[0].content
    assert re.findall(rb'name="images"; filename="([^"]+)"', body) == [b"0-a.jpg", b"1-a.jpg", b"picture-2"]
    assert body.index(b"\r\nin\r\n") < body.index(b"\r\nout\r\n") < body.index(b"\r\nraw\r\n")
    assert [(one.index, one.source) for one in answer.pictures] == [
        (0, str(tmp_path / "in" / "a.jpg")),
        (2, "picture-2"),
    ]
    assert answer.failures == (Failure(1, str(tmp_path / "out" / "a.jpg"), "1-a.jpg: the file is torn"),)


NAMES = [
    "x/a.jpg", "y/a.jpg", "0-a.jpg", "0-0-a.jpg", "1-a.jpg", "z/0-a.jpg", "a.jpg", "picture-4", "ü/tür.jpg",
    "u/tu\u0308r.jpg", "q/a\"b.jpg", "q/a_b.jpg", "n/a\nb.jpg", "n/a%0Ab.jpg", "l/" + "戴" * 80 + ".jpg",
    "m/" + "戴" * 80 + ".jpg", "x\udcff.jpg", "x_.jpg", "....jpg", "_",
]  # fmt: skip


class Places:
    """Answers as a service: each picture's only face has the width of its content, the odd ones fail."""

    def __init__(self, *, gives_index: bool, all_fail: bool = False) -> None:
        self.gives_index, self.all_fail = gives_index, all_fail

    def __call__(self, request: Any) -> Any:
        sent = self.sent(request)
        results, failures = [], []
        for index, (name, content) in enumerate(sent):
            place = {"index": index} if self.gives_index else {}
            if self.all_fail or len(content) % 2:
                failures.append({**place, "source": name, "reason": str(len(content))})
            else:
                results.append({**document(name)["results"][0], **place, "width": len(content)})
        # A service is free to give them in any order.
        record = document(results=results[::-1], failures=failures[::-1])
        if results:
            return httpx2.Response(200, json=record)
        body = {"detail": "none", "failures": failures[::-1]}
        return httpx2.Response(422, headers={"content-type": "application/problem+json"}, json=body)

    @staticmethod
    def sent(request: Any) -> list[tuple[str, bytes]]:
        body = request.read()
        if request.headers["content-type"] == "application/json":
            entries = json.loads(body)["images"]
            return [(one["name"], base64.b64decode(one.get("data", ""))) for one in entries]
        edge = request.headers["content-type"].partition("boundary=")[2].encode()
        parts = [part.partition(b"\r\n\r\n") for part in body.split(b"--" + edge)[1:-1]]
        return [
            (re.search(rb'filename="([^"]*)"', head)[1].decode(), content[:-2])  # type: ignore[index]
            for head, _, content in parts
        ]


def ask_everyone(handler: Any, images: list[Any], calls: int = 1) -> list[Any]:
    """Answers of the client that waits, and of the one that is awaited, several at a time."""
    transport = httpx2.MockTransport(handler)
    with Client("http://service.test", transport=transport) as client:
        answers = [client.detect(images)]

    async def run() -> list[Any]:
        async with AsyncClient("http://service.test", transport=transport) as client:
            turned = [images[turn:] + images[:turn] for turn in range(calls)]
            return await asyncio.gather(*map(client.detect, turned))

    return answers + asyncio.run(run())


@pytest.mark.parametrize("gives_index", [True, False])
@pytest.mark.parametrize("more", [[], ["http://camera.test/0-a.jpg?x#a.jpg", "http://[::1/\n"]])
def test_results_land_on_their_pictures(tmp_path: Path, gives_index: bool, more: list[str]) -> None:
    """Whatever the files are called; with a service that gives no index, by names that are all different."""
    paths = [tmp_path / name for name in NAMES]
    for index, path in enumerate(paths):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x" * (index + 1))
    images: list[Any] = [*paths, b"", *more, b"raw" * 50]
    length = {str(path): path.stat().st_size for path in paths} | dict.fromkeys(more, 0)
    for turn, answer in enumerate(ask_everyone(Places(gives_index=gives_index), images, 5)):
        order = images[turn - 1 :] + images[: turn - 1] if turn else images
        found = {one.index: (one.source, one.width) for one in answer.pictures}
        found |= {one.index: (one.source, int(one.reason)) for one in answer.failures}
        assert len(found) == len(answer.pictures) + len(answer.failures) == len(images)
        for index, image in enumerate(order):
            size = len(image) if isinstance(image, bytes) else length[str(image)]
            name = f"picture-{index}" if isinstance(image, bytes) else str(image)
            assert found[index] == (name, size)


def test_failures_of_an_error_are_named_as_the_caller_knows_them(tmp_path: Path) -> None:
    paths = [tmp_path / name / "a.jpg" for name in "xy"]
    for path in paths:
        path.parent.mkdir()
        path.write_bytes(path.parent.name.encode() * (1 + (path.parent.name == "y")))
    handler = Places(gives_index=True, all_fail=True)
    with (
        Client("http://service.test", transport=httpx2.MockTransport(handler)) as client,
        pytest.raises(ServiceError) as caught,
    ):
        client.detect(paths)
    assert sorted(caught.value.failures) == [(str(paths[0]), "1"), (str(paths[1]), "2")]


@pytest.mark.parametrize("places", [[0], [0, 0], [0, 2], [0, -1], [0, 1, 1]])
def test_an_answer_about_other_pictures_is_none(places: list[int]) -> None:
    record = document(*"a" * len(places))
    for entry, place in zip(record["results"], places, strict=True):
        entry["index"] = place
    with StandIn(record).client() as client, pytest.raises(ServiceError, match="no answer of a Maskwatch"):
        client.detect([b"x", b"y"])


def test_addresses_are_left_to_the_service() -> None:
    url = "https://camera.test/door.jpg?at=1"
    stand_in = StandIn(document("door.jpg", "picture-1"))
    with stand_in.client() as client:
        answer = client.detect([url, b"raw"], threshold={"mask": 0.6, "no_mask": 0.3})
    assert json.loads(stand_in.requests[0].content) == {
        "images": [
            {"name": "door.jpg", "url": url},
            {"name": "picture-1", "data": base64.b64encode(b"raw").decode()},
        ]
    }
    assert stand_in.requests[0].url.params["threshold"] == "mask=0.6,no_mask=0.3"
    assert [one.source for one in answer.pictures] == [url, "picture-1"]


@pytest.mark.parametrize("name", ['a"b.jpg', "tür é.jpg", "a\nb.jpg", "ü" * 120 + ".jpg", "a%22;b.jpg"])
def test_any_file_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"x")

    def echo(request: Any) -> Any:
        return httpx2.Response(200, json=document(request.url.params["name"]))

    with Client("http://service.test", transport=httpx2.MockTransport(echo)) as client:
        assert client.detect(path).pictures[0].source == str(path)


def test_annotated_picture_is_bytes() -> None:
    record = document("picture-0")
    record["results"][0]["annotated"] = (
        "data:image/jpeg;base64," + base64.b64encode(b"\xff\xd8drawn").decode()
    )
    stand_in = StandIn(record)
    with stand_in.client() as client:
        assert client.detect(b"raw", annotate=True).pictures[0].annotated == b"\xff\xd8drawn"
    assert stand_in.requests[0].url.params["annotate"] == "1"


def test_models_and_ticket() -> None:
    entry = {**MODEL, "default": True, "input_size": [64, 32], "resize": "letterbox", "box_voting": True}
    stand_in = StandIn({"models": [{**entry, "later": 1}, MODEL]}, {"ticket": "v1.abc", "expires_s": 60})
    with stand_in.client() as client:
        first, second = client.models()
        assert client.ticket() == "v1.abc"
    assert (first.default, first.input_size, first.box_voting) == (True, (64, 32), True)
    assert (second.default, second.input_size, second.classes) == (False, None, ("mask", "no_mask"))
    assert [request.method for request in stand_in.requests] == ["GET", "POST"]


def test_health() -> None:
    answers = [httpx2.Response(200), httpx2.Response(503), httpx2.ConnectError("refused")]
    stand_in = StandIn(*answers)
    with stand_in.client() as client:
        assert client.is_alive()
        assert not client.is_ready()
        assert not client.is_alive()
    assert [one.url.path for one in stand_in.requests] == ["/mask/healthz", "/mask/readyz", "/mask/healthz"]


def test_problem_is_an_error() -> None:
    answer = problem(422, "threshold is '2'; pass a number from 0 to 1")
    with StandIn(answer).client() as client, pytest.raises(ServiceError) as caught:
        client.detect(b"raw", threshold=2)
    assert str(caught.value) == caught.value.detail == "threshold is '2'; pass a number from 0 to 1"
    assert (caught.value.status, caught.value.retry_after_s, caught.value.failures) == (422, None, ())


def test_no_readable_picture_names_them() -> None:
    body = {"detail": "none of 1 pictures", "failures": [{"source": "a", "reason": "a: torn"}]}
    answer = httpx2.Response(422, headers={"content-type": "application/problem+json"}, json=body)
    with StandIn(answer).client() as client, pytest.raises(ServiceError) as caught:
        client.detect(b"raw")
    assert caught.value.failures == (("a", "a: torn"),)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (httpx2.Response(502, text="<h1>Bad gateway</h1>\nnginx"), "502 <h1>Bad gateway</h1>; look at"),
        (httpx2.Response(500, json={"detail": "no problem document"}), "500 .*; look at its log"),
        (
            httpx2.Response(200, text="<html>Log in</html>"),
            "no answer of a Maskwatch service.*check the address",
        ),
        (httpx2.Response(302, headers={"location": "https://elsewhere.test"}), "answered 302; look at"),
        (document("picture-0", schema="maskwatch.detections/2"), "'maskwatch.detections/2'.*install"),
        (document("of somebody else"), "no answer of a Maskwatch service"),
        (
            httpx2.ConnectError("refused"),
            r"http://service.test/mask/ .*\(refused\); start it with: maskwatch serve",
        ),
        (httpx2.ReadTimeout("slow"), "did not answer in time"),
    ],
)
def test_what_no_service_answers(answer: Any, says: str) -> None:
    with StandIn(answer).client() as client, pytest.raises(ServiceError, match=says):
        client.detect(b"raw")


def test_token_goes_nowhere_else() -> None:
    """A redirect is not followed."""
    stand_in = StandIn(httpx2.Response(307, headers={"location": "https://elsewhere.test/"}))
    with stand_in.client(token="secret-secret-secret") as client, pytest.raises(ServiceError) as caught:
        client.models()
    assert len(stand_in.requests) == 1
    assert "secret" not in str(caught.value)


def test_a_full_service_is_asked_again(no_pauses: list[float]) -> None:
    full = problem(503, "32 pictures wait; come back later", retry_after="2")
    stand_in = StandIn(full, httpx2.Response(429), document("picture-0"))
    with stand_in.client() as client:
        assert len(client.detect(b"raw").pictures) == 1
    assert [request.content for request in stand_in.requests] == [b"raw"] * 3
    assert 2 <= no_pauses[0] <= 2.5
    assert 2 <= no_pauses[1] <= 2.5  # nothing said: 1 s, 2 s, 4 s …


@pytest.mark.parametrize(("retries", "asked"), [(0, 1), (2, 3)])
def test_patience_ends(retries: int, asked: int, no_pauses: list[float]) -> None:
    stand_in = StandIn(*[problem(503, "full", retry_after="7")] * asked)
    with stand_in.client(retries=retries) as client, pytest.raises(ServiceError, match="full") as caught:
        client.detect(b"raw")
    assert (caught.value.status, caught.value.retry_after_s) == (503, 7)
    assert len(stand_in.requests) == asked
    assert len(no_pauses) == retries


def test_a_long_wait_is_the_callers_business(no_pauses: list[float]) -> None:
    date = email.utils.formatdate(time.time() + 3600, usegmt=True)
    with (
        StandIn(problem(503, "closed", retry_after=date)).client() as client,
        pytest.raises(ServiceError) as caught,
    ):
        client.detect(b"raw")
    assert caught.value.retry_after_s == pytest.approx(3600, abs=60)
    assert no_pauses == []


@pytest.mark.parametrize("status", [400, 401, 413, 422, 500])
def test_other_errors_are_not_tried_again(status: int, no_pauses: list[float]) -> None:
    stand_in = StandIn(problem(status, "no"))
    with stand_in.client() as client, pytest.raises(ServiceError):
        client.detect(b"raw")
    assert no_pauses == []


def test_bad_input() -> None:
    with Client() as client:
        with pytest.raises(OptionError, match="empty list; pass"):
            client.detect([])
        with pytest.raises(ImageError, match=r"missing\.jpg: No such file"):
            client.detect("missing.jpg")
        with pytest.raises(ImageError, match="float64"):
            client.detect(np.zeros((4, 4, 3)))
    for url in ("localhost:8765", "ftp://host", "http://"):
        with pytest.raises(OptionError, match=re.escape(repr(url))):
            Client(url)
    with pytest.raises(OptionError, match="token") as caught:
        Client(token="sécret\n")
    assert "cret" not in str(caught.value)


@pytest.mark.parametrize("password", ["geheim", "Ge#heim", "Ge/heim@", "%5Bheim"])
def test_no_password_of_an_address_is_shown(password: str) -> None:
    """It may be one that a proxy in front of the service wants."""
    with Client(f"http://anna:{password}@127.0.0.1:{free_port()}") as client:
        with pytest.raises(
            ServiceError, match=r"http://\*\*\*@127\.0\.0\.1:\d+.* cannot be reached"
        ) as caught:
            client.models()
        assert "heim" not in str(caught.value)
    for url in (f"ftp://anna:{password}@host", f"http://anna:{password}", f"anna:{password}@host"):
        with pytest.raises(OptionError) as refused:
            Client(url)
        assert "heim" not in str(refused.value)


def test_nobody_listens() -> None:
    port = free_port()
    with Client(f"http://127.0.0.1:{port}", timeout_s=5) as client:
        assert not client.is_alive()
        for ask in (client.models, client.stream):
            with pytest.raises(ServiceError, match=rf"127\.0\.0\.1:{port}.*maskwatch serve") as caught:
                ask()
            assert caught.value.status is None


def test_async_client(no_pauses: list[float]) -> None:
    stand_in = StandIn(problem(503, "full", retry_after="1"), document("picture-0"), {"models": [MODEL]})
    failing = StandIn(
        httpx2.ConnectError("refused"), httpx2.ConnectError("refused"), problem(401, "no token")
    )

    async def run() -> None:
        async with AsyncClient("http://service.test", transport=httpx2.MockTransport(stand_in)) as client:
            answer = await client.detect(FOREST, threshold=0.3)
            assert answer.pictures[0].faces == (FACE,)
            assert [one.name for one in await client.models()] == ["tiny"]
        async with AsyncClient("http://service.test", transport=httpx2.MockTransport(failing)) as client:
            with pytest.raises(ServiceError, match="maskwatch serve"):
                await client.ticket()
            assert not await client.is_ready()
            with pytest.raises(ServiceError, match="no token") as caught:
                await client.detect(b"raw")
            assert caught.value.status == 401

    asyncio.run(run())
    assert len(no_pauses) == 1


Talk = Callable[[ServerConnection], None]


@contextmanager
def streaming(talk: Talk, tls: Any = None) -> Iterator[str]:
    """A server on this machine that talks on each WebSocket as it is told; gives its address."""
    errors: list[BaseException] = []

    def handle(connection: ServerConnection) -> None:
        try:
            talk(connection)
        except websockets.ConnectionClosed:
            pass
        except BaseException as error:
            errors.append(error)

    def check(connection: ServerConnection, request: Any) -> Any:
        if request.path == "/mask/healthz":
            return connection.respond(200, "ok")
        if request.headers.get("Authorization") != "Bearer 0123456789abcdef":
            response = connection.respond(
                401, json.dumps({"detail": "the token is wrong; pass the right one"})
            )
            del response.headers["Content-Type"]
            response.headers["Content-Type"] = "application/problem+json"
            return response
        connection.asked = request.path  # type: ignore[attr-defined]
        return None

    with serve(handle, "127.0.0.1", 0, process_request=check, ssl=tls) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"{'http' if tls is None else 'https'}://127.0.0.1:{server.socket.getsockname()[1]}/mask"
        finally:
            server.shutdown()
            thread.join()
    assert not errors


def answer_each(connection: ServerConnection) -> None:
    """Answers every frame; sends back what settings came and where the client connected."""
    for message in connection:
        if isinstance(message, str):
            connection.send(json.dumps({"problem": {"status": 422, "detail": message}}))
            continue
        (seq,) = struct.unpack(">Q", message[:8])
        picture = cv2.imdecode(np.frombuffer(message[8:], np.uint8), cv2.IMREAD_COLOR)
        if picture is None:
            connection.send(json.dumps({"seq": seq, "dropped": 0, "problem": {"detail": "torn"}}))
            continue
        size = {"width": picture.shape[1], "height": picture.shape[0]}
        record = {"seq": seq, "dropped": 0, **size, "detections": [FOUND], "detect_ms": 3.5}
        connection.send(json.dumps(record))


def answer_every_second(connection: ServerConnection) -> None:
    while True:
        connection.recv()
        (seq,) = struct.unpack(">Q", connection.recv()[:8])  # type: ignore[arg-type]
        size = {"width": 8, "height": 6}
        connection.send(json.dumps({"seq": seq, "dropped": 1, **size, "detections": [], "detect_ms": 1.0}))


TOKEN = "0123456789abcdef"


def test_stream_answers_frames() -> None:
    with streaming(answer_each) as url, Client(url, token=TOKEN) as client, client.stream() as stream:
        answers = list(stream.detect([FOREST, b"torn", FOREST]))
    assert answers == [
        FrameAnswer(1, 0, 8, 6, (FACE,), 3.5),
        FrameAnswer(2, 0, problem="torn"),
        FrameAnswer(3, 0, 8, 6, (FACE,), 3.5),
    ]
    assert answers[0].to_supervision().class_id.tolist() == [1]


def test_stream_goes_on_when_frames_are_passed_over() -> None:
    with streaming(answer_every_second) as url, Client(url, token=TOKEN) as client, client.stream() as stream:
        answers = list(stream.detect([FOREST] * 6, ahead=2))
    assert [(answer.seq, answer.dropped) for answer in answers] == [(2, 1), (4, 1), (6, 1)]


def test_stream_settings() -> None:
    with (
        streaming(answer_each) as url,
        Client(url, token=TOKEN) as client,
        client.stream(threshold={"mask": 0.5}, classes="mask", model="tiny") as stream,
    ):
        said = []
        for change in (
            lambda: stream.set_threshold(0.4),
            lambda: stream.set_threshold({"mask": 0.6}),
            lambda: stream.set_threshold(None),
            lambda: stream.set_classes(["no_mask"]),
            lambda: stream.set_classes("mask, no_mask"),
            lambda: stream.set_classes(None),
        ):
            change()
            with pytest.raises(ServiceError) as caught:  # the stand-in refuses each, in the client's words
                stream.receive()
            assert caught.value.status == 422
            said.append(json.loads(caught.value.detail))
        assert stream.send(FOREST) == 1
        assert stream.receive().seq == 1
    assert said == [
        {"threshold": 0.4},
        {"threshold": {"mask": 0.6}},
        {"threshold": None},
        {"classes": ["no_mask"]},
        {"classes": ["mask", "no_mask"]},
        {"classes": None},
    ]


def test_stream_address() -> None:
    def tell(connection: ServerConnection) -> None:
        connection.recv()
        connection.close(1013, f"asked {connection.asked}")  # type: ignore[attr-defined]

    with (
        streaming(tell) as url,
        Client(url, token=TOKEN) as client,
        client.stream(threshold={"mask": 0.5}, model="tiny") as stream,
    ):
        stream.send(b"x")
        with pytest.raises(ServiceError, match=r"1013 asked /mask/v1/stream\?threshold=\S+&model=tiny\)"):
            stream.receive()
        with pytest.raises(ServiceError, match="has ended"):
            stream.send(b"x")


def test_stream_that_is_refused() -> None:
    with (
        streaming(answer_each) as url,
        Client(url, token="wrong") as client,
        pytest.raises(ServiceError, match="the token is wrong") as caught,
    ):
        client.stream()
    assert caught.value.status == 401


def test_stream_waits_for_no_answer_for_ever() -> None:
    with (
        streaming(answer_each) as url,
        Client(url, token=TOKEN) as client,
        client.stream() as stream,
        pytest.raises(ServiceError, match=r"within 0\.05 s; send a frame first"),
    ):
        stream.receive(0.05)


def test_stream_that_speaks_otherwise() -> None:
    def chat(connection: ServerConnection) -> None:
        connection.send("hello")
        connection.recv()

    with (
        streaming(chat) as url,
        Client(url, token=TOKEN) as client,
        client.stream() as stream,
        pytest.raises(ServiceError, match=r"'hello'.*check the address"),
    ):
        stream.receive()


def test_a_certificate_of_ones_own(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    trusted = ssl.create_default_context(cafile=certificate)
    with streaming(answer_each, server_context(certificate, key)) as url:
        with Client(url, token=TOKEN, tls=trusted) as client, client.stream() as stream:
            assert client.is_alive()
            assert [answer.seq for answer in stream.detect([FOREST])] == [1]
        with Client(url, token=TOKEN) as client:
            assert not client.is_alive()
            for ask in (client.models, client.stream):
                with pytest.raises(ServiceError, match=r"not trusted.*pass its issuer as tls"):
                    ask()

        async def test(client: AsyncClient) -> None:
            assert await client.is_alive()
            async with client.stream() as stream:
                assert [answer.seq async for answer in stream.detect([FOREST])] == [1]

        run_async(test, url, tls=trusted)


def run_async(
    test: Callable[[AsyncClient], Awaitable[None]], url: str, token: str = TOKEN, tls: Any = None
) -> None:
    async def run() -> None:
        async with AsyncClient(url, token=token, tls=tls) as client:
            await test(client)

    asyncio.run(run())


def test_async_stream() -> None:
    async def camera() -> Any:
        for _ in range(3):
            yield FOREST

    async def test(client: AsyncClient) -> None:
        async with client.stream() as stream:
            assert [answer.seq async for answer in stream.detect(camera())] == [1, 2, 3]
            assert [answer.seq async for answer in stream.detect([FOREST], ahead=1)] == [4]
            await stream.set_threshold(0.5)
            with pytest.raises(ServiceError, match="threshold"):
                await stream.receive()
            await stream.set_classes("mask")
            with pytest.raises(ServiceError, match="classes"):
                await stream.receive()
            with pytest.raises(ServiceError, match="send a frame first"):
                await stream.receive(0.05)

    with streaming(answer_each) as url:
        run_async(test, url)


def test_async_stream_that_is_refused_or_ends() -> None:
    async def refused(client: AsyncClient) -> None:
        with pytest.raises(ServiceError, match="the token is wrong"):
            async with client.stream():
                pass

    async def ends(client: AsyncClient) -> None:
        async with client.stream() as stream:
            with pytest.raises(ServiceError, match="1001 bye"):
                await stream.receive()
            with pytest.raises(ServiceError, match="1001 bye"):
                await stream.send(b"x")

    with streaming(answer_each) as url:
        run_async(refused, url, token="wrong")
    with streaming(lambda connection: connection.close(1001, "bye")) as url:
        run_async(ends, url)


def test_missing_extra() -> None:
    code = "import sys; sys.modules['httpx2'] = None\nimport maskwatch.client"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "run: pip install 'maskwatch[client]'" in done.stderr.splitlines()[-1]
