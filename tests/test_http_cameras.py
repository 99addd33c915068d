"""Cameras over HTTP as they are: parts with any header, snapshots, any password. What is inside counts."""

from __future__ import annotations

import base64
import hashlib
import http.server
import io
import itertools
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from camera_servers import HttpCamera, jpeg, numbered_frame, read_number
from drawn_events import wait_until
from maskwatch.live.capture.core import Capture, open_capture
from maskwatch.live.capture.jpeg_stream import JpegSplitter

PATIENCE_S = 30.0
QUICK = {"first_wait_s": 0.05, "longest_wait_s": 0.2}
Answer = Callable[[http.server.BaseHTTPRequestHandler, threading.Event], None]


@pytest.fixture
def watch() -> Iterator[Callable[..., Any]]:
    """Starts a camera that answers so, and a capture of it; gives both and the capture's changes of state."""
    with ExitStack() as stack:

        def start(answer: Answer, user: str = "", fps: float | None = None, **settings: object) -> Any:
            camera = stack.enter_context(HttpCamera(answer))
            capture = open_capture(camera.url.replace("//", f"//{user}"), **{**QUICK, **settings})
            capture.limit(fps)
            changes: list[tuple[str, str]] = []
            capture.on_state = lambda _, state, reason: changes.append((state, reason))
            stack.callback(capture.close)
            capture.start()
            return camera, capture, changes

        yield start


def numbers(capture: Capture, count: int) -> list[int]:
    found = []
    for _ in range(count):
        frame = capture.take(PATIENCE_S)
        assert frame is not None, capture.status()
        found.append(read_number(frame.image_rgb)[0])
    return found


def parts(
    content_type: str | None, before: Callable[[bytes], bytes], after: bytes = b"\r\n", preamble: bytes = b""
) -> Answer:
    """An endless answer, each picture with `before` of it in front and `after` behind it."""

    def answer(handler: http.server.BaseHTTPRequestHandler, ended: threading.Event) -> None:
        handler.send_response(200)
        if content_type is not None:
            handler.send_header("Content-Type", content_type)
        handler.end_headers()
        handler.wfile.write(preamble)
        for number in itertools.count():
            picture = jpeg(number)
            handler.wfile.write(before(picture) + picture + after)
            if ended.wait(0.02):
                return

    return answer


def head(*lines: str, edge: str = "--frame", end: str = "\r\n") -> Callable[[bytes], bytes]:
    return lambda picture: "".join(
        f"{line}{end}" for line in (edge, *(line.format(len(picture)) for line in lines), "")
    ).encode()


MIXED = "multipart/x-mixed-replace;boundary=frame"
LENGTH = "Content-Length: {}"


@pytest.mark.parametrize(
    "answer",
    [
        parts(MIXED, head("Content-Type: image/jpeg", LENGTH)),
        parts(MIXED, head("Content-Type: image/jpg", LENGTH)),
        parts(MIXED, head("Content-Type: application/octet-stream", LENGTH)),
        parts(MIXED, head(LENGTH)),
        parts(MIXED, head()),
        parts(MIXED, head("content-type:IMAGE/JPEG;size=1", LENGTH)),
        parts(MIXED, head("Content-Type: image/jpeg; charset=utf-8")),
        parts(MIXED, head("Content-Type: image/jpeg", "Content-Length: 7")),
        parts(MIXED, head("Content-Type: image/jpeg", "Content-Length: 99999999")),
        parts(MIXED, head("Content-Type: image/jpeg", LENGTH, end="\n"), b"\n"),
        parts(MIXED, head("Content-Type: image/jpeg", "X-Timestamp: 1.5", edge="frame")),
        parts(MIXED, head("Content-Type: image/jpeg", edge="--other")),
        parts("multipart/x-mixed-replace", head("Content-Type: image/jpeg", LENGTH)),
        parts('multipart/x-mixed-replace; boundary="frame"', head("Content-Type: image/jpeg", LENGTH)),
        parts("multipart/x-mixed-replace; boundary=--frame", head("Content-Type: image/jpeg", LENGTH)),
        parts("text/html", head("Content-Type: text/plain")),
        parts(None, head(), b"", preamble=b"Your camera. \xc3\xa9\r\n" + b"x" * 9000 + b"\r\n"),
        parts(MIXED, head(), preamble=head("Content-Type: audio/basic")(b"") + bytes(range(256))),
        parts("image/jpeg", lambda _: b"", b""),
        parts("video/x-motion-jpeg", lambda _: b"\r\n\r\n", b""),
    ],
    ids=["plain", "jpg", "octet", "no type", "no header", "size", "charset", "short", "long",
         "newlines", "no dashes", "other edge", "no edge", "quoted", "dashes", "html",
         "text first", "sound first", "bare", "lines"],
)  # fmt: skip
def test_parts_with_any_header(watch: Callable[..., Any], answer: Answer) -> None:
    _, capture, changes = watch(answer, stall_s=5)
    found = numbers(capture, 8)
    assert found == sorted(set(found))
    assert changes == [("live", "")]


def with_thumbnail(number: int) -> bytes:
    """A picture with another one in its EXIF data, as phones and cameras write them."""
    small, big = io.BytesIO(), io.BytesIO()
    Image.new("RGB", (16, 16), (255, 0, 0)).save(small, "JPEG")
    exif = b"Exif\0\0" + small.getvalue()
    picture = jpeg(number)
    big.write(picture[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2) + exif + picture[2:])
    return big.getvalue()


def test_a_thumbnail_is_not_a_picture(watch: Callable[..., Any]) -> None:
    def answer(handler: http.server.BaseHTTPRequestHandler, ended: threading.Event) -> None:
        handler.send_response(200)
        handler.end_headers()
        for number in range(10_000):
            handler.wfile.write(head()(b"") + with_thumbnail(number) + b"\r\n")
            if ended.wait(0.02):
                return

    _, capture, _ = watch(answer)
    numbers(capture, 6)
    assert capture.status().size == (320, 240)


def test_pictures_without_their_end(watch: Callable[..., Any]) -> None:
    """Some cameras leave the end marker out; their pictures count anyway."""

    def answer(handler: http.server.BaseHTTPRequestHandler, ended: threading.Event) -> None:
        handler.send_response(200)
        handler.end_headers()
        for number in range(10_000):
            handler.wfile.write(head()(b"") + jpeg(number)[:-2] + b"\r\n")
            if ended.wait(0.02):
                return

    _, capture, changes = watch(answer)
    found = numbers(capture, 6)
    assert found == sorted(set(found))
    assert changes == [("live", "")]


@given(
    st.lists(st.sampled_from(["plain", "thumbnail", "progressive", "restarts"]), min_size=1, max_size=4),
    st.lists(st.integers(1, 4000), min_size=1, max_size=20),
    st.binary(max_size=40).filter(lambda junk: b"\xff" not in junk),
)
def test_pictures_are_found_however_the_bytes_come(kinds: list[str], steps: list[int], junk: bytes) -> None:
    made = {"plain": jpeg, "thumbnail": with_thumbnail, "progressive": progressive, "restarts": restarts}
    pictures = [made[kind](number) for number, kind in enumerate(kinds)]
    stream = junk + b"".join(picture + junk for picture in pictures)
    splitter, found, at = JpegSplitter(), [], 0
    for step in itertools.cycle(steps):
        if at >= len(stream):
            break
        found += splitter.feed(stream[at : at + step])
        at += step
    assert found == pictures
    assert not splitter.begun


def progressive(number: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(numbered_frame(number, 0)).save(file, "JPEG", progressive=True)
    return file.getvalue()


def restarts(number: int) -> bytes:
    options = [cv2.IMWRITE_JPEG_RST_INTERVAL, 3]
    return cv2.imencode(".jpg", numbered_frame(number, 0), options)[1].tobytes()


@given(st.binary(max_size=300), st.integers(0, 2000))
def test_damage_costs_a_picture_at_most(rubbish: bytes, cut: int) -> None:
    """Nothing keeps the next whole pictures from being found, but for those that a false length swallows."""
    good = [jpeg(number) for number in range(3)]
    splitter = JpegSplitter()
    found = splitter.feed(good[0][:cut] + rubbish + b"".join(good) * 30)
    assert good[2] in found


def snapshots(counter: Iterator[int], **headers: str) -> Answer:
    """One picture for each request, of a new number."""

    def answer(handler: http.server.BaseHTTPRequestHandler, _: threading.Event) -> None:
        send(handler, jpeg(next(counter)), **headers)

    return answer


def send(
    handler: http.server.BaseHTTPRequestHandler, data: bytes, length: bool = True, **headers: str
) -> None:
    handler.send_response(200)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    if length:
        handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data)


def test_snapshots_are_asked_for_again(watch: Callable[..., Any]) -> None:
    camera, capture, changes = watch(snapshots(itertools.count(), Content_Type="image/jpeg"), fps=8)
    frames = [capture.take(PATIENCE_S) for _ in range(10)]
    assert [read_number(frame.image_rgb)[0] for frame in frames if frame] == list(range(10))
    times = [frame.clock_s for frame in frames if frame]
    assert all(later - one > 0.02 for one, later in itertools.pairwise(times)), "the clock goes on"
    assert times[-1] - times[0] > 9 / 8 - 0.05, "not more often than asked for"
    assert capture.live
    assert changes == [("live", "")]
    assert camera.requests <= 12


def test_snapshots_come_once_a_second_by_default(watch: Callable[..., Any]) -> None:
    _, capture, _ = watch(snapshots(itertools.count()))
    times = [frame.clock_s for _ in range(3) if (frame := capture.take(PATIENCE_S))]
    assert np.diff(times) == pytest.approx([1, 1], abs=0.3)


@pytest.mark.parametrize(
    "kind", ["no length", "one part", "png", "webp", "bmp", "no end", "chunks", "octets"]
)
def test_what_makes_a_snapshot_is_inside(watch: Callable[..., Any], kind: str) -> None:
    counter = itertools.count()

    def answer(handler: http.server.BaseHTTPRequestHandler, _: threading.Event) -> None:
        number = next(counter)
        if kind == "no length":
            send(handler, jpeg(number), length=False)
        elif kind == "one part":
            send(handler, head("Content-Type: image/jpeg")(b"") + jpeg(number) + b"\r\n--frame--\r\n")
        elif kind == "no end":
            send(handler, jpeg(number)[:-2])
        elif kind == "octets":
            send(handler, jpeg(number), Content_Type="application/octet-stream")
        elif kind == "chunks":
            handler.protocol_version = "HTTP/1.1"
            handler.send_response(200)
            handler.send_header("Transfer-Encoding", "chunked")
            handler.end_headers()
            data = jpeg(number)
            for piece in (data[:100], data[100:]):
                handler.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            handler.wfile.write(b"0\r\n\r\n")
        else:
            send(handler, cv2.imencode(f".{kind}", numbered_frame(number, 0))[1].tobytes())

    _, capture, changes = watch(answer, fps=20)
    assert numbers(capture, 4) == list(range(4))
    assert changes == [("live", "")]


def test_a_snapshot_that_fails_now_and_then_is_no_loss(watch: Callable[..., Any]) -> None:
    counter = itertools.count()

    def answer(handler: http.server.BaseHTTPRequestHandler, _: threading.Event) -> None:
        number = next(counter)
        if number % 5 == 1:
            handler.send_error(503)
        elif number % 5 == 2:
            send(handler, b"<html>the camera is busy</html>")
        elif number % 5 == 3:
            handler.send_response(200)
            handler.send_header("Content-Length", "99999")
            handler.end_headers()
            handler.wfile.write(jpeg(number)[:500])
        else:
            send(handler, jpeg(number))

    _, capture, changes = watch(answer, fps=20)
    assert numbers(capture, 5) == [0, 4, 5, 9, 10]
    assert changes == [("live", "")]


def test_a_camera_of_snapshots_that_is_lost_comes_back(watch: Callable[..., Any]) -> None:
    good, counter = threading.Event(), itertools.count()
    good.set()

    def answer(handler: http.server.BaseHTTPRequestHandler, _: threading.Event) -> None:
        if good.is_set():
            send(handler, jpeg(next(counter)))
        else:
            handler.send_error(404)

    camera, capture, changes = watch(answer, fps=20, stall_s=1)
    first = capture.take(PATIENCE_S)
    good.clear()
    wait_until(lambda: [state for state, _ in changes] == ["live", "waiting"], "loss")
    assert "404" in changes[1][1]
    before = camera.requests
    time.sleep(1)
    assert camera.requests - before < 12, "with growing pauses"
    good.set()
    wait_until(lambda: capture.status().state == "live", "return")
    capture.take()  # one may have waited since before
    second = capture.take(PATIENCE_S)
    assert first is not None
    assert second is not None
    assert second.clock_s > first.clock_s + 1
    assert capture.status().reconnects == 1


def test_a_stream_that_broke_after_one_picture_is_a_stream_again(watch: Callable[..., Any]) -> None:
    """It looked like a snapshot; the next answer shows that it is none."""
    endless, counter = parts(MIXED, head()), itertools.count()

    def answer(handler: http.server.BaseHTTPRequestHandler, ended: threading.Event) -> None:
        if next(counter) == 0:
            send(handler, head()(b"") + jpeg(0), length=False)
        else:
            endless(handler, ended)

    camera, capture, changes = watch(answer, fps=20)
    numbers(capture, 12)
    assert camera.requests == 2
    assert changes == [("live", "")]


def test_lost_snapshots_are_told_in_time(watch: Callable[..., Any]) -> None:
    counter = itertools.count()

    def answer(handler: http.server.BaseHTTPRequestHandler, _: threading.Event) -> None:
        send(handler, jpeg(1)) if next(counter) == 0 else handler.send_error(500)

    _, _, changes = watch(answer, fps=20, stall_s=2)
    began = time.monotonic()
    wait_until(lambda: [state for state, _ in changes] == ["live", "waiting"], "loss")
    assert 1.9 < time.monotonic() - began < 3


PASSWORDS = [
    "Ge#heim",
    "Ge?heim",
    "Ge/heim",
    "Ge[heim]",
    "Ge@heim",
    "Ge:heim",
    "100%",
    "Ge heim",
    "p@ss/w?rd#1",
    "é&=+",
]


def ask_to_sign_in(handler: http.server.BaseHTTPRequestHandler, challenge: str) -> None:
    handler.send_response(401)
    handler.send_header("WWW-Authenticate", challenge)
    handler.send_header("Content-Length", "0")
    handler.end_headers()


@pytest.mark.parametrize("password", PASSWORDS)
@pytest.mark.parametrize("encoded", [False, True])
def test_basic_sign_in_with_any_password(watch: Callable[..., Any], password: str, encoded: bool) -> None:
    wanted = "Basic " + base64.b64encode(f"admin:{password}".encode()).decode()

    def answer(handler: http.server.BaseHTTPRequestHandler, _: threading.Event) -> None:
        if handler.headers["Authorization"] == wanted:
            send(handler, jpeg(1))
            return
        ask_to_sign_in(handler, 'Basic realm="camera"')

    written = "".join(f"%{byte:02x}" for byte in password.encode()) if encoded else password
    _, capture, changes = watch(answer, user=f"admin:{written}@", fps=20)
    assert numbers(capture, 2) == [1, 1]
    assert password not in f"{capture.name} {changes} {capture.status()}"


@pytest.mark.parametrize("password", PASSWORDS)
def test_digest_sign_in_with_any_password(watch: Callable[..., Any], password: str) -> None:
    """The server works out the answer of RFC 2617 from the password as it is."""

    def answer(handler: http.server.BaseHTTPRequestHandler, _: threading.Event) -> None:
        said = dict(re.findall(r'(\w+)="?([^",]*)"?', handler.headers["Authorization"] or ""))
        if said:
            one = hashlib.md5(f"admin:camera:{password}".encode()).hexdigest()
            two = hashlib.md5(f"GET:{said['uri']}".encode()).hexdigest()
            middle = f"{said['nonce']}:{said['nc']}:{said['cnonce']}:{said['qop']}"
            if said["response"] == hashlib.md5(f"{one}:{middle}:{two}".encode()).hexdigest():
                send(handler, jpeg(1))
                return
        ask_to_sign_in(handler, 'Digest realm="camera", nonce="abc", qop="auth"')

    _, capture, _ = watch(answer, user=f"admin:{password}@", fps=20)
    assert numbers(capture, 2) == [1, 1]


def test_redirects_are_followed(watch: Callable[..., Any]) -> None:
    def answer(handler: http.server.BaseHTTPRequestHandler, _: threading.Event) -> None:
        if handler.path == "/door":
            handler.send_response(302)
            handler.send_header("Location", "/other")
            handler.end_headers()
        else:
            send(handler, jpeg(7))

    _, capture, _ = watch(answer, fps=20)
    assert numbers(capture, 2) == [7, 7]


def test_a_page_is_no_video(watch: Callable[..., Any]) -> None:
    _, capture, changes = watch(lambda handler, _: send(handler, b"<html>Sign in</html>"), max_retries=0)
    wait_until(lambda: bool(changes), "refusal")
    assert changes == [("failed", "the data is not a readable video")]
    assert capture.finished


def test_a_text_that_trickles_is_left(watch: Callable[..., Any]) -> None:
    def answer(handler: http.server.BaseHTTPRequestHandler, ended: threading.Event) -> None:
        handler.send_response(200)
        handler.end_headers()
        while not ended.wait(0.1):
            handler.wfile.write(b"words ")

    _, _, changes = watch(answer, stall_s=0.5)
    wait_until(lambda: bool(changes), "refusal")
    assert changes[0] == ("waiting", "data, but no picture for 0.5 s")
