"""Streams from real servers: RTSP by GStreamer, MJPEG and HLS over HTTP, pipes. Each can misbehave."""

from __future__ import annotations

import base64
import functools
import gc
import http.server
import io
import itertools
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote

import av
import numpy as np
import pytest

import barcode
from camera_servers import (
    HttpCamera,
    RtspServer,
    begin_mjpeg,
    free_port,
    jpeg,
    mjpeg,
    numbered_frame,
    read_number,
    send_picture,
    why_no_rtsp,
    write_rtsp_film,
)
from maskwatch.live.capture import interrupt
from maskwatch.live.capture.av_reader import AvReader
from maskwatch.live.capture.core import Capture, open_capture, open_captures
from maskwatch.live.capture.frame import LiveFrame, RawFrame
from maskwatch.live.capture.group import CaptureGroup
from maskwatch.live.capture.settings import CaptureSettings
from maskwatch.media.videos import video_writer

PATIENCE_S = 30.0
QUICK = {"first_wait_s": 0.05, "longest_wait_s": 0.2}


@pytest.fixture
def started() -> Iterator[Callable[..., Capture]]:
    """Starts captures that are closed after the test; `changes` holds their changes of state."""
    captures: list[Capture] = []
    before = threading.active_count()

    def start(spec: str, **settings: object) -> Capture:
        capture = open_capture(spec, **{**QUICK, **settings})
        capture.changes = []  # type: ignore[attr-defined]
        capture.on_state = lambda _, state, reason: capture.changes.append((state, reason))  # type: ignore[attr-defined]
        captures.append(capture)
        capture.start()
        return capture

    yield start
    began = time.monotonic()
    for capture in captures:
        capture.stop()
    for capture in captures:
        capture.close()
    assert time.monotonic() - began < 2
    assert not capture_threads()
    assert threading.active_count() <= before


def capture_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("capture")]


def await_(condition: Callable[[], bool], capture: Capture) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"{capture.status()} {capture.changes}"  # type: ignore[attr-defined]
        time.sleep(0.01)


def await_states(capture: Capture, *states: str) -> list[str]:
    """Waits until the capture has gone through `states`; gives the reasons of these."""
    await_(lambda: [state for state, _ in capture.changes[: len(states)]] == [*states], capture)  # type: ignore[attr-defined]
    return [reason for _, reason in capture.changes]  # type: ignore[attr-defined]


def take(capture: Capture) -> LiveFrame:
    frame = capture.take(PATIENCE_S)
    assert frame is not None, capture.status()
    return frame


@pytest.fixture(scope="module")
def rtsp() -> Iterator[RtspServer]:
    if why_no_rtsp():
        pytest.skip(why_no_rtsp())
    with RtspServer() as server:
        yield server


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_a_slow_consumer_gets_the_newest_frame(
    rtsp: RtspServer, started: Callable[..., Capture], transport: str
) -> None:
    capture = started(rtsp.url, rtsp_transport=transport)
    taken = [take(capture)]
    for _ in range(3):
        seen = capture.status().frames
        await_(lambda seen=seen: capture.status().frames >= seen + 10, capture)
        newest = capture.status().frames - 1
        taken.append(take(capture))
        assert taken[-1].index >= newest - 1  # one may have come that is not in the mailbox yet
        assert sum(type(one) is RawFrame for one in gc.get_objects()) <= 4  # no queue anywhere
    for one, later in itertools.pairwise(taken):
        steps = later.index - one.index
        assert steps >= 9
        assert read_number(later.image_rgb)[0] - read_number(one.image_rgb)[0] == pytest.approx(steps, abs=3)
        assert later.clock_s > one.clock_s
        assert later.when > one.when
    status = capture.status()
    assert status.frames - status.dropped - len(taken) in (0, 1)  # one may wait in the mailbox
    assert status.size == (320, 240)
    assert barcode.delay_s(read_number(take(capture).image_rgb)[1]) < 3
    assert time.monotonic() - take(capture).read_s < 3


def test_a_camera_that_loses_power_comes_back(started: Callable[..., Capture]) -> None:
    if why_no_rtsp():
        pytest.skip(why_no_rtsp())
    server = RtspServer()
    try:
        capture = started(server.url, stall_s=3)
        first = take(capture)
        server.kill()
        assert await_states(capture, "live", "waiting")[1]
        server = RtspServer(server.port)
        await_states(capture, "live", "waiting")
        await_(lambda: capture.status().state == "live", capture)
        capture.take()  # what may have waited since before
        second = take(capture)
    finally:
        server.kill()
    assert capture.status().reconnects == 1
    assert second.index > first.index
    assert second.clock_s > first.clock_s
    assert read_number(second.image_rgb)[1] > read_number(first.image_rgb)[1]


@pytest.mark.parametrize("address", ["rtsp://{}/a", "http://{}/b", "http://{}/c.m3u8"])
def test_a_server_that_hangs_is_left_quickly(started: Callable[..., Capture], address: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        capture = started(address.format(f"127.0.0.1:{deaf.getsockname()[1]}"), stall_s=60)
        with deaf.accept()[0]:
            capture.close()
            assert not capture_threads()


def test_this_pyav_can_be_interrupted() -> None:
    """If it fails: see whether PyAV offers a way now, or still reads the time as `interrupt` says."""
    assert av.__version__.partition(".")[0] in interrupt.TESTED_VERSIONS
    with interrupt.interruptible(threading.Event()):
        assert type(vars(av.container.core)["time"]).__module__ == interrupt.__name__


def test_another_pyav_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(vars(av.container.core), "time", time)
    for version, names in (("19.0.0", {}), ("18.1.0", {"time": "no module"})):
        monkeypatch.setattr(av, "__version__", version)
        for name, value in names.items():
            monkeypatch.setitem(vars(av.container.core), name, value)
        before = vars(av.container.core)["time"]
        with interrupt.interruptible(threading.Event()):
            assert vars(av.container.core)["time"] is before


def test_dead_servers_hold_no_closing_even_if_pyav_cannot_be_interrupted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Their threads are left behind, and end when their time limits have passed."""
    monkeypatch.setattr(interrupt, "TESTED_VERSIONS", frozenset())
    monkeypatch.setitem(vars(av.container.core), "time", time)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        address = f"127.0.0.1:{deaf.getsockname()[1]}"
        specs = [f"rtsp://{address}/a", f"rtsp://{address}/b", f"http://{address}/c"]
        with CaptureGroup(open_captures(specs, CaptureSettings(stall_s=5, max_retries=0))) as group:
            connections = [deaf.accept()[0] for _ in specs]
            began = time.monotonic()
        assert time.monotonic() - began < 2
        assert group.finished
        for thread in capture_threads():
            thread.join(PATIENCE_S)
        assert not capture_threads()
        for connection in connections:
            connection.close()


def test_silence_counts_as_loss(started: Callable[..., Capture]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        capture = started(f"rtsp://127.0.0.1:{deaf.getsockname()[1]}/a", stall_s=0.3)
        assert await_states(capture, "waiting") == ["no answer for 0.3 s"]


def test_a_stream_that_stalls(started: Callable[..., Capture]) -> None:
    def answer(handler: http.server.BaseHTTPRequestHandler, ended: threading.Event) -> None:
        begin_mjpeg(handler)
        for number in range(10):
            send_picture(handler, jpeg(number))
        ended.wait()

    with HttpCamera(answer) as camera:
        capture = started(camera.url, stall_s=0.5)
        assert await_states(capture, "live", "waiting", "live")[1] == "no frame for 0.5 s"
        assert capture.status().reconnects >= 1
        assert camera.requests >= 2
        capture.close()


def test_connections_that_are_cut(started: Callable[..., Capture]) -> None:
    def answer(handler: http.server.BaseHTTPRequestHandler, _: threading.Event) -> None:
        begin_mjpeg(handler)
        for number in range(5):
            send_picture(handler, jpeg(number))
        handler.wfile.write(
            b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: 9999\r\n\r\n" + jpeg(7)[:400]
        )

    with HttpCamera(answer) as camera:
        capture = started(camera.url)
        await_states(capture, "live", "waiting", "live", "waiting", "live")
        assert read_number(take(capture).image_rgb)[0] <= 7
        capture.close()


def test_rubbish(started: Callable[..., Capture]) -> None:
    rubbish = np.random.default_rng(5).integers(0, 256, 20_000, np.uint8).tobytes()

    def answer(handler: http.server.BaseHTTPRequestHandler, ended: threading.Event) -> None:
        begin_mjpeg(handler)
        if camera.requests < 3:
            handler.wfile.write(rubbish)
            return
        for number in range(1 << 20):
            send_picture(handler, rubbish if number % 5 == 3 else jpeg(number))
            if ended.wait(0.02):
                return

    with HttpCamera(answer) as camera:
        capture = started(camera.url, stall_s=5)
        reasons = await_states(capture, "waiting", "live")
        assert reasons[0]
        found = [read_number(take(capture).image_rgb)[0] for _ in range(10)]
        assert found == sorted(found)
        assert not [number for number in found if number % 5 == 3]
        assert capture.status().state == "live"
        capture.close()


def test_rubbish_without_end(started: Callable[..., Capture]) -> None:
    def answer(handler: http.server.BaseHTTPRequestHandler, ended: threading.Event) -> None:
        handler.send_response(200)
        handler.end_headers()
        while not ended.is_set():
            handler.wfile.write(b"no video, only words. " * 1000)

    with HttpCamera(answer) as camera:
        capture = started(camera.url, stall_s=2)
        assert await_states(capture, "waiting")[0]
        capture.close()


@pytest.mark.parametrize(("code", "word"), [(401, "401"), (404, "404"), (503, "5")])
def test_servers_that_refuse(started: Callable[..., Capture], code: int, word: str) -> None:
    with HttpCamera(lambda handler, _: handler.send_error(code)) as camera:
        capture = started(camera.url.replace("//", "//admin:geheim@"), max_retries=1)
        reasons = await_states(capture, "waiting", "failed")
    assert word in reasons[0]
    assert "given up after 2 tries" in reasons[1]
    assert "geheim" not in f"{capture.status()} {capture.changes}"  # type: ignore[attr-defined]
    assert capture.finished


def test_user_and_password_reach_the_server(started: Callable[..., Capture]) -> None:
    wanted = "Basic " + base64.b64encode(b"admin:p@ss/word").decode()

    def answer(handler: http.server.BaseHTTPRequestHandler, ended: threading.Event) -> None:
        if handler.headers["Authorization"] == wanted:
            mjpeg()(handler, ended)
            return
        handler.send_response(401)
        handler.send_header("WWW-Authenticate", 'Basic realm="camera"')
        handler.end_headers()

    with HttpCamera(answer) as camera:
        capture = started(camera.url.replace("//", "//admin:p%40ss%2Fword@"))
        assert take(capture).image_rgb.shape == (240, 320, 3)
        capture.close()


@pytest.mark.parametrize("password", ["Ge#heim", "Ge/he?im", "[p@ss: 100%]", "p%40ss"])
def test_a_password_reaches_an_rtsp_camera(started: Callable[..., Capture], password: str) -> None:
    """As far as the sign-in: the server asks for it and then has nothing to show."""
    wanted = base64.b64encode(f"admin:{unquote(password)}".encode()).decode()
    said: list[str] = []

    def answer(client: socket.socket) -> None:
        with client, client.makefile("rwb") as file:
            request: dict[str, str] = {}
            for raw in file:
                text = raw.decode().strip()
                if text:
                    request |= dict([text.partition(" ")[::2]])
                    continue
                method, given = next(iter(request)), request.get("Authorization:", "")
                said.append(given)
                status = "200 OK" if method == "OPTIONS" else "404 Not Found" if given else "401 Unauthorized"
                head = f"RTSP/1.0 {status}\r\nCSeq: {request['CSeq:']}\r\n"
                file.write(f'{head}WWW-Authenticate: Basic realm="camera"\r\n\r\n'.encode())
                file.flush()
                request = {}

    with socket.create_server(("127.0.0.1", 0)) as server:
        capture = started(f"rtsp://admin:{password}@127.0.0.1:{server.getsockname()[1]}/live", max_retries=0)
        answer(server.accept()[0])
        reasons = await_states(capture, "failed")
    assert f"Basic {wanted}" in said
    assert password not in f"{reasons} {capture.name} {capture.status()}"


def test_nobody_is_there(started: Callable[..., Capture]) -> None:
    capture = started(f"rtsp://admin:geheim@127.0.0.1:{free_port()}/door", max_retries=2)
    assert await_states(capture, "waiting", "failed")[0] == "Connection refused"
    assert "geheim" not in f"{capture.status()}"
    unknown = started("rtsp://camera.invalid/door", max_retries=0)
    assert await_states(unknown, "failed") == ["the host name camera.invalid is not known"]


def test_sound_without_video(started: Callable[..., Capture]) -> None:
    with HttpCamera(lambda handler, _: send(handler, tone())) as camera:
        capture = started(camera.url, max_retries=0)
        assert await_states(capture, "failed") == ["there is no video in it"]


def send(handler: http.server.BaseHTTPRequestHandler, data: bytes, kind: str = "video/mp4") -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", kind)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data)


def tone() -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="mpegts") as container:
        stream = container.add_stream("mp2", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1152 * 2), np.int16), format="s16", layout="stereo")
        frame.sample_rate = 44100
        for _ in range(40):
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def film(path: Path, frames: int) -> Path:
    with video_writer(path, 25) as write:
        for number in range(frames):
            write(np.repeat(numbered_frame(number, 0)[:, :, None], 3, axis=2))
    return path


def test_a_video_on_a_server_is_a_file(tmp_path: Path, started: Callable[..., Capture]) -> None:
    data = film(tmp_path / "a.mp4", 30).read_bytes()
    with HttpCamera(lambda handler, _: send(handler, data)) as camera:
        capture = started(f"{camera.url}.mp4")
        assert not capture.live
        assert [read_number(take(capture).image_rgb)[0] for _ in range(30)] == list(range(30))
        await_states(capture, "live", "ended")


def test_a_video_that_is_not_on_the_server(started: Callable[..., Capture]) -> None:
    with HttpCamera(lambda handler, _: handler.send_error(404)) as camera:
        capture = started(f"{camera.url}.mp4")
        assert "404" in await_states(capture, "failed")[0]


def test_hls(tmp_path: Path, started: Callable[..., Capture]) -> None:
    if shutil.which("ffmpeg") is None:
        pytest.skip("ffmpeg, which makes the HLS stream, is not installed")
    handler = functools.partial(QuietFiles, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            with HlsCamera(tmp_path):
                capture = started(f"http://127.0.0.1:{server.server_address[1]}/door.m3u8", stall_s=5)
                capture.limit(10)
                found = [read_number(take(capture).image_rgb)[0] for _ in range(20)]
                capture.close()
        finally:
            server.shutdown()
            thread.join()
    assert found == sorted(set(found))
    # Held back to the pace at which they were filmed, or else one or two of each 25 would have been seen.
    assert found[-1] - found[0] < 20 * 8


class QuietFiles(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


class HlsCamera:
    """ffmpeg, which is fed numbered frames at a camera's pace and writes HLS segments of a second."""

    def __init__(self, folder: Path) -> None:
        size = f"{barcode.WIDTH}x{barcode.HEIGHT}"
        what = f"-f rawvideo -pix_fmt gray -s {size} -r 25 -i - -c:v mpeg2video -g 25 -b:v 2M"
        how = "-f hls -hls_time 1 -hls_list_size 4 -hls_flags delete_segments"
        command = ["ffmpeg", "-v", "error", *what.split(), *how.split(), str(folder / "door.m3u8")]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE)
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.film)

    def film(self) -> None:
        assert self.process.stdin is not None
        due = time.monotonic()
        for number in range(1 << 16):
            self.process.stdin.write(barcode.draw(number, time.monotonic()))
            due += 1 / 25
            if self.ended.wait(max(0.0, due - time.monotonic())):
                return

    def __enter__(self) -> None:
        self.thread.start()

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.thread.join()
        self.process.communicate()


@pytest.fixture
def piped(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.FileIO]:
    """The end of a pipe that is written to; the other is standard input."""
    read, write = os.pipe()
    with os.fdopen(read, "rb") as stdin, os.fdopen(write, "wb", buffering=0) as file:
        monkeypatch.setattr("sys.stdin", stdin)
        yield file  # type: ignore[misc]


def test_jpegs_from_a_pipe(piped: io.FileIO, started: Callable[..., Capture]) -> None:
    capture = started("-")
    found = []
    for number in range(60):
        piped.write(jpeg(number))
        if frame := capture.take(0.02):
            found.append(read_number(frame.image_rgb)[0])
    piped.close()
    while not capture.finished:
        if frame := capture.take(0.1):
            found.append(read_number(frame.image_rgb)[0])
    assert found == sorted(set(found))
    assert found[-1] == 59
    assert [state for state, _ in capture.changes] == ["live", "ended"]  # type: ignore[attr-defined]
    assert capture.live
    assert capture.name == "stdin"


def test_an_answer_of_a_camera_from_a_pipe(piped: io.FileIO, started: Callable[..., Capture]) -> None:
    """As `curl` passes it on, with parts that say the wrong thing; each at once, not with the next one."""
    capture = started("-")
    for number in range(6):
        piped.write(b"\n--edge\nContent-Type: image/jpg\n\n" + jpeg(number))
        assert read_number(take(capture).image_rgb)[0] == number
    piped.close()
    await_states(capture, "live", "ended")


def test_mpeg_ts_from_a_pipe(piped: io.FileIO, started: Callable[..., Capture]) -> None:
    file = io.BytesIO()
    with av.open(file, "w", format="mpegts") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 320, 240, "yuv420p", 2_000_000
        for number in range(40):
            grey = np.repeat(numbered_frame(number, 0)[:, :, None], 3, axis=2)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        container.mux(stream.encode(None))
    writer = threading.Thread(target=lambda: (piped.write(file.getvalue()), piped.close()))
    capture = started("-")
    writer.start()
    frames = []
    while not capture.finished:
        if frame := capture.take(0.1):
            frames.append(frame)
    writer.join()
    assert read_number(frames[-1].image_rgb)[0] == 39
    assert capture.status().frames == 40


def test_a_silent_pipe(piped: io.FileIO, started: Callable[..., Capture]) -> None:
    capture = started("-", stall_s=0.4)
    assert await_states(capture, "waiting") == ["no data for 0.4 s"]
    for number in range(40):
        piped.write(jpeg(number))
    await_states(capture, "waiting", "live", "waiting")
    assert read_number(take(capture).image_rgb)[0] > 30
    # The fixture closes it while it waits.


def test_rubbish_from_a_pipe(piped: io.FileIO, started: Callable[..., Capture]) -> None:
    capture = started("-")
    piped.write(b"no video, only words. " * 1000)
    piped.close()
    assert await_states(capture, "failed") == ["the data is not a readable video"]


def test_a_pipe_without_anything(piped: io.FileIO, started: Callable[..., Capture]) -> None:
    capture = started("-")
    piped.close()
    assert await_states(capture, "failed") == ["no data arrived"]


# ---- Only the frames in use are decoded --------------------------------------------------------------------


def test_a_camera_of_which_few_frames_are_used(
    tmp_path: Path, started: Callable[..., Capture], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over RTSP, with a key frame each second and one frame in use of each."""
    if why_no_rtsp():
        pytest.skip(why_no_rtsp())
    decoded = []
    decode = AvReader._decode
    monkeypatch.setattr(
        AvReader, "_decode", lambda reader, one: (decoded.append(one.pts), decode(reader, one))[1]
    )
    numbered = (np.repeat(numbered_frame(number, 0)[:, :, None], 3, axis=2) for number in range(100))
    film = write_rtsp_film(tmp_path / "film", numbered, g="25", keyint_min="25", sc_threshold="0")
    with RtspServer(film=film) as server:
        capture = started(server.url)
        capture.limit(1)
        numbers: list[int] = []
        # On a busy machine a key frame may come too late to be the one in use.
        while len(numbers) < 20 and sum(number % 25 == 0 for number in numbers) < 3:
            numbers.append(read_number(take(capture).image_rgb)[0])
        await_(lambda: len(decoded) < capture.status().frames, capture)
    assert sum(number % 25 == 0 for number in numbers) == 3, numbers
