"""Cameras for tests and benchmarks: servers of numbered frames (see barcode.py) that can misbehave."""

from __future__ import annotations

import functools
import http.server
import socket
import socketserver
import subprocess
import threading
import time
from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import cv2
import numpy as np

import barcode

SYSTEM_PYTHON = Path("/usr/bin/python3")
FPS = 25


def free_port() -> int:
    """A port without a listener."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def numbered_frame(number: int, shown_s: float) -> np.ndarray:
    """uint8 (H, W), grey."""
    grey = np.frombuffer(barcode.draw(number, shown_s), np.uint8)
    return grey.reshape(barcode.HEIGHT, barcode.WIDTH)


def jpeg(number: int) -> bytes:
    """A numbered frame of this moment as JPEG."""
    return cv2.imencode(".jpg", numbered_frame(number, time.monotonic()))[1].tobytes()


def read_number(image_rgb: np.ndarray) -> tuple[int, float]:
    """Number of a frame, and the moment that it was shown."""
    found = barcode.read(lambda x, y: int(image_rgb[y, x, 1]))
    assert found is not None, "the picture carries no number"
    return found


@functools.cache
def why_no_rtsp() -> str:
    """Empty where GStreamer can serve RTSP; otherwise what is missing."""
    if not SYSTEM_PYTHON.exists():
        return f"no {SYSTEM_PYTHON}, whose GStreamer bindings serve RTSP"
    code = (
        "import gi; gi.require_version('GstRtspServer', '1.0'); "
        "from gi.repository import Gst, GstRtspServer; "
        "Gst.init(None); assert Gst.ElementFactory.find('x264enc')"
    )
    done = subprocess.run([SYSTEM_PYTHON, "-c", code], capture_output=True, check=False)
    return "GStreamer's RTSP server (gir1.2-gst-rtsp-server-1.0) is not installed" if done.returncode else ""


def write_rtsp_film(path: Path, images_rgb: Iterable[np.ndarray], **options: str) -> Path:
    """Encodes images uint8 (H, W, 3) as H.264 without B-frames, for `RtspServer`."""
    with path.open("wb") as file:
        codec: av.VideoCodecContext = av.CodecContext.create("libx264", "w")  # type: ignore[assignment]
        codec.pix_fmt, codec.framerate, codec.time_base = "yuv420p", FPS, Fraction(1, FPS)
        # One slice a frame, as cameras do: GStreamer puts parameters before each slice, which splits frames.
        codec.options = {
            "preset": "veryfast",
            "tune": "zerolatency",
            "x264-params": "sliced-threads=0",
            **options,
        }
        packets: list[Any] = []
        for image_rgb in images_rgb:
            if not codec.is_open:
                codec.height, codec.width = image_rgb.shape[:2]
            packets += codec.encode(av.VideoFrame.from_ndarray(image_rgb, format="rgb24"))
        for packet in [*packets, *codec.encode(None)]:
            file.write(packet.size.to_bytes(4, "big") + bytes(packet))
    return path


class RtspServer:
    """`rtsp_server.py` in a process, which can be killed and started again on the same port.

    With a film (`write_rtsp_film`), the address is that of its first camera; others end in /1, /2 …
    """

    def __init__(self, port: int | None = None, fps: int = FPS, film: Path | None = None) -> None:
        self.port = port or free_port()
        self.url = f"rtsp://127.0.0.1:{self.port}/door"
        command = [SYSTEM_PYTHON, Path(__file__).with_name("rtsp_server.py"), str(self.port), str(fps)]
        if film is not None:
            self.url = f"rtsp://127.0.0.1:{self.port}/0"
            command.append(film)
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline().strip() == "ready"

    def kill(self) -> None:
        """As if the camera had lost its power."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


class _Threads(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = False  # so that closing waits for the answers
    allow_reuse_address = True
    request_queue_size = 32


class HttpCamera:
    """An HTTP server whose answer to any GET is what `answer(handler, ended)` writes.

    Closing it sets `ended` and waits for the answers that still run.
    """

    def __init__(
        self,
        answer: Callable[[http.server.BaseHTTPRequestHandler, threading.Event], None],
        port: int = 0,
    ) -> None:
        self._ended = ended = threading.Event()
        self.requests = 0
        camera = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                camera.requests += 1
                try:
                    answer(self, ended)
                except OSError:  # the client has gone
                    self.close_connection = True

            def log_message(self, *_: object) -> None:
                pass

        self._server = _Threads(("127.0.0.1", port), Handler)
        self.port = int(self._server.server_address[1])
        self.url = f"http://127.0.0.1:{self.port}/door"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def begin_mjpeg(handler: http.server.BaseHTTPRequestHandler) -> None:
    """The header of an endless answer of JPEG pictures."""
    handler.send_response(200)
    handler.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
    handler.end_headers()


def send_picture(handler: http.server.BaseHTTPRequestHandler, picture: bytes) -> None:
    """One part of that answer."""
    head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n".encode()
    handler.wfile.write(head + picture + b"\r\n")


def mjpeg(
    frames: int = 1 << 30, fps: float = FPS
) -> Callable[[http.server.BaseHTTPRequestHandler, threading.Event], None]:
    """An answer of `frames` numbered pictures at a camera's pace; then the connection ends."""

    def answer(handler: http.server.BaseHTTPRequestHandler, ended: threading.Event) -> None:
        begin_mjpeg(handler)
        due = time.monotonic()
        for number in range(frames):
            send_picture(handler, jpeg(number))
            due += 1 / fps
            if ended.wait(max(0.0, due - time.monotonic())):
                return

    return answer
