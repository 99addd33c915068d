"""An RTSP server of numbered frames, by GStreamer. Runs in the system's Python, which has its bindings:

/usr/bin/python3 rtsp_server.py PORT [FPS]

Prints "ready" when it listens, and ends when its standard input does.
"""

from __future__ import annotations

import sys
import threading
import time

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


class Camera(GstRtspServer.RTSPMediaFactory):
    """Makes one pipeline, which all clients share."""

    def __init__(self, fps: int) -> None:
        super().__init__()
        self.fps = fps
        self.number = 0
        self.set_shared(True)
        self.set_launch(PIPELINE.format(width=barcode.WIDTH, height=barcode.HEIGHT, fps=fps))

    def begin(self, media: GstRtspServer.RTSPMedia) -> None:
        source = media.get_element().get_child_by_name("frames")
        running = threading.Event()
        media.connect("unprepared", lambda _: running.set())
        threading.Thread(target=self.film, args=(source, running), daemon=True).start()

    def film(self, source: Gst.Element, ended: threading.Event) -> None:
        due = time.monotonic()
        while not ended.wait(max(0.0, due - time.monotonic())):
            frame = barcode.draw(self.number, time.monotonic())
            if source.emit("push-buffer", Gst.Buffer.new_wrapped(frame)) != Gst.FlowReturn.OK:
                return
            self.number += 1
            due += 1 / self.fps


def main() -> None:
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(sys.argv[1])
    camera = Camera(int(sys.argv[2]) if len(sys.argv) > 2 else 25)
    camera.connect("media-configure", lambda factory, media: factory.begin(media))
    server.get_mount_points().add_factory("/door", camera)
    if not server.attach(None):
        raise SystemExit(f"cannot listen on port {sys.argv[1]}")
    loop = GLib.MainLoop()
    threading.Thread(target=lambda: (sys.stdin.read(), loop.quit()), daemon=True).start()
    print("ready", flush=True)
    loop.run()


if __name__ == "__main__":
    main()
