"""What the page shows of a camera that the service watches."""

from __future__ import annotations

import re
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the service needs the extra 'serve'")
pytest.importorskip("trackers", reason="watching needs the extra 'live'")

from browser import chromium, clip_of, installed_chromium, tab_of
from camera_servers import HttpCamera, begin_mjpeg, send_picture
from maskwatch.live.capture.settings import CaptureSettings
from maskwatch.live.config import WatchConfig
from maskwatch.live.sinks.settings import SinkSettings
from maskwatch.live.tracking.alerts import AlertSettings
from maskwatch.live.tracking.settings import PeopleSettings
from maskwatch.serve.server import run_in_thread
from maskwatch.serve.settings import ServeSettings

TOKEN = "a-token-of-the-tests"
PHONE = {"viewport": {"width": 360, "height": 740}}


def red_face(handler: BaseHTTPRequestHandler, ended: threading.Event) -> None:
    """A camera in front of which somebody stands without a mask, as the tiny model sees it."""
    image_bgr = np.full((256, 256, 3), 90, np.uint8)
    image_bgr[64:128, 64:128] = (0, 0, 255)
    picture = cv2.imencode(".jpg", image_bgr)[1].tobytes()
    begin_mjpeg(handler)
    while not ended.wait(1 / 25):
        send_picture(handler, picture)


@pytest.mark.parametrize("told", [True, False], ids=["", "without the stream of events"])
def test_stream_numbers_and_events(tiny_model: Path, tmp_path: Path, told: bool) -> None:
    """What happens before the stream of events begins, or while it is away, is shown as well."""
    installed_chromium()
    examples = Path(__file__).parents[1] / "examples"
    clip = clip_of(examples / "astronaut.jpg", tmp_path / "clip.mjpeg")
    with HttpCamera(red_face) as camera:
        plan = WatchConfig(
            sources=(f"door={camera.url}",),
            model=str(tiny_model),
            capture=CaptureSettings(first_wait_s=0.2, pace=True),
            people=PeopleSettings(alerts=AlertSettings(dwell_s=0.3)),
            sinks=SinkSettings(events=tmp_path / "events.jsonl", shell="echo no bell here >&2; exit 3"),
        )
        settings = ServeSettings(models=(str(tiny_model),), port=0, threads=1, token=TOKEN, watch=plan)
        server, address, thread = run_in_thread(settings)
        try:
            with chromium(clip) as browser, tab_of(browser, address, **PHONE) as tab:
                if not told:
                    tab.page.route("**/v1/watch/events", lambda route: route.abort())
                tab.page.goto(address)
                tab.page.fill("#token", TOKEN)
                tab.page.keyboard.press("Enter")
                tab.page.wait_for_function(
                    """() => document.querySelector('#watch-stream').naturalWidth === 256
                        && document.querySelector('#watch-sources').textContent.includes('1 no mask')
                        && document.querySelector('#watch-events').textContent.includes('alert: person 1')
                        && document.querySelector('#watch-sinks .bad') !== null"""
                )
                assert "door, live" in tab.text("#watch-caption")
                unwell, well = sorted(tab.page.locator("#watch-sinks li").all_inner_texts(), reverse=True)
                assert re.fullmatch(r"jsonl: [1-9]\d* sent", well)
                assert re.fullmatch(r"shell: 0 sent, [1-9]\d* lost, .*: no bell here; .*", unwell)
                assert tab.axe_violations() == []
                assert tab.page.evaluate("document.documentElement.scrollWidth") <= 360
                assert tab.foreign_requests() == []
                assert [text for text in tab.complaints if "Content Security Policy" in text] == []
        finally:
            server.stop()
            thread.join()


def test_a_lost_camera_is_shown_as_lost(tiny_model: Path, tmp_path: Path) -> None:
    """Whoever stood in front of it is out of sight, and the last picture is dark."""
    installed_chromium()
    clip = clip_of(Path(__file__).parents[1] / "examples" / "astronaut.jpg", tmp_path / "clip.mjpeg")
    lost = threading.Event()

    def answer(handler: BaseHTTPRequestHandler, ended: threading.Event) -> None:
        red_face(handler, lost) if not lost.is_set() else handler.send_error(503)

    with HttpCamera(answer) as camera:
        plan = WatchConfig(
            sources=(f"door={camera.url}",),
            model=str(tiny_model),
            capture=CaptureSettings(first_wait_s=0.2),
            people=PeopleSettings(alerts=AlertSettings(dwell_s=0.3)),
        )
        settings = ServeSettings(models=(str(tiny_model),), port=0, threads=1, watch=plan)
        server, address, thread = run_in_thread(settings)
        try:
            with chromium(clip) as browser, tab_of(browser, address, **PHONE) as tab:
                tab.page.goto(address)
                tab.page.wait_for_function(
                    "() => document.querySelector('#watch-sources tr')?.cells[2].textContent === '1 no mask'"
                )
                assert tab.page.locator("#watch-caption.bad").count() == 0
                lost.set()
                tab.page.wait_for_function(
                    """() => {
                        const text = (selector) => document.querySelector(selector)?.textContent ?? '';
                        return document.querySelector('#watch-sources tr')?.cells[2].textContent === '–'
                            && text('#watch-sources .bad').startsWith('waiting')
                            && text('#watch-caption.bad').includes('door, waiting');
                    }"""
                )
                dark = """() => {
                    const image = document.querySelector('#watch-stream');
                    const canvas = new OffscreenCanvas(256, 256).getContext('2d');
                    canvas.drawImage(image, 0, 0);
                    return canvas.getImageData(240, 240, 1, 1).data[0] < 40;
                }"""
                tab.page.wait_for_function(dark, timeout=8_000)  # not only after 10 s, with the repetition
                assert tab.axe_violations() == []
        finally:
            server.stop()
            thread.join()
