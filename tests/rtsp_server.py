"""An RTSP server of numbered frames, or of a film, by GStreamer. Runs in the system's Python, which has its
bindings:

/usr/bin/python3 rtsp_server.py PORT [FPS [FILM]]

A film holds the frames of an H.264 stream without B-frames, the length of each before it (4 bytes,
big-endian). It is repeated without end and never decoded, so that many cameras cost little: /0, /1 … up to
/63 are cameras that began it at different times.

Prints "ready" when it listens, and ends when its standard input does.
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

import barcode  # noqa: E402

# What a camera sends: no B-frames, one key frame a second.
PIPELINE = (
    "( appsrc name=frames is-live=true do-timestamp=true format=time block=false max-buffers=2 "
    "caps=video/x-raw,format=GRAY8,width={width},height={height},framerate={fps}/1 "
    "! videoconvert ! video/x-raw,format=I420 "
    "! x264enc tune=zerolatency speed-preset=ultrafast bitrate=2000 key-int-max={fps} "
    "! rtph264pay name=pay0 pt=96 config-interval=1 )"
)


FILM_PIPELINE = (
    "( appsrc name=frames is-live=true do-timestamp=true format=time block=false max-buffers=50 "
    "caps=video/x-h264,stream-format=byte-stream,alignment=au,framerate={fps}/1 "
    "! h264parse ! rtph264pay name=pay0 pt=96 config-interval=-1 )"
)
CAMERAS = 64


class Camera(GstRtspServer.RTSPMediaFactory):
    """Makes one pipeline, which all clients share."""

    def __init__(self, fps: int, film: list[bytes] | None = None, first: int = 0) -> None:
        super().__init__()
        self.fps = fps
        self.number = first
        self.frames = film
        self.set_shared(True)
        launch = PIPELINE if film is None else FILM_PIPELINE
        self.set_launch(launch.format(width=barcode.WIDTH, height=barcode.HEIGHT, fps=fps))

    def begin(self, media: GstRtspServer.RTSPMedia) -> None:
        source = media.get_element().get_child_by_name("frames")
        running = threading.Event()
        media.connect("unprepared", lambda _: running.set())
        threading.Thread(target=self.film, args=(source, running), daemon=True).start()

    def film(self, source: Gst.Element, ended: threading.Event) -> None:
        due = time.monotonic()
        while not ended.wait(max(0.0, due - time.monotonic())):
            if self.frames is None:
                frame = barcode.draw(self.number, time.monotonic())
            else:
                frame = self.frames[self.number % len(self.frames)]
            if source.emit("push-buffer", Gst.Buffer.new_wrapped(frame)) != Gst.FlowReturn.OK:
                return
            self.number += 1
            due += 1 / self.fps


def read_film(path: Path) -> list[bytes]:
    frames = []
    with path.open("rb") as file:
        while length := file.read(4):
            frames.append(file.read(int.from_bytes(length, "big")))
    return frames


def main() -> None:
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(sys.argv[1])
    fps = int(sys.argv[2]) if len(sys.argv) > 2 else 25
    if len(sys.argv) > 3:
        film = read_film(Path(sys.argv[3]))
        # Prime to the length of any film, so that no two cameras send the same frame at once.
        cameras = {f"/{index}": Camera(fps, film, 37 * index) for index in range(CAMERAS)}
    else:
        cameras = {"/door": Camera(fps)}
    for path, camera in cameras.items():
        camera.connect("media-configure", lambda factory, media: factory.begin(media))
        server.get_mount_points().add_factory(path, camera)
    if not server.attach(None):
        raise SystemExit(f"cannot listen on port {sys.argv[1]}")
    loop = GLib.MainLoop()
    threading.Thread(target=lambda: (sys.stdin.read(), loop.quit()), daemon=True).start()
    print("ready", flush=True)
    loop.run()


if __name__ == "__main__":
    main()
