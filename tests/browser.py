"""A real browser for tests: Chromium, where it is installed, looking at a page that was built."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

WEB = Path(__file__).parents[1] / "web"
AXE = WEB / "node_modules" / "axe-core" / "axe.min.js"
NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--no-sandbox",
    "--no-first-run",
    "--disable-background-networking",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
)
NO_GPU = ("--disable-gpu",)
# A graphics processor that the processor plays: slow, but the whole way that a picture goes with WebGPU.
SOFTWARE_GPU = (
    "--enable-unsafe-webgpu",
    "--use-webgpu-adapter=swiftshader",
    "--enable-unsafe-swiftshader",
)
CAMERA_WH = (640, 480)
WAIT_MS = 180_000  # the machine may be busy, and WebGPU in software takes 40 s alone


def installed_chromium() -> str:
    """Path of a Chromium, or the test is skipped and says why."""
    pytest.importorskip("playwright.sync_api", reason="playwright drives the browser")
    from maskwatch.serve.api.page import page_is_built

    if not page_is_built():
        pytest.skip("the page is not built; run: make page")
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(f"none of {', '.join(NAMES)} is installed")
    return found


@contextlib.contextmanager
def chromium(camera: Path) -> Iterator[Browser]:
    """Chromium without a screen; its camera shows a file (JPEG after JPEG) again and again."""
    path = installed_chromium()
    from playwright.sync_api import sync_playwright

    flags = [*FLAGS, *NO_GPU, f"--use-file-for-fake-video-capture={camera}"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=flags)
        try:
            yield browser
        finally:
            browser.close()


class Tab:
    """The page in a browser, with all that it asked for and complained about."""

    def __init__(self, page: Page, address: str) -> None:
        self.page, self.address = page, address
        self.requests: list[str] = []
        self.complaints: list[str] = []
        page.set_default_timeout(WAIT_MS)
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("websocket", lambda socket: self.requests.append(socket.url))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda message: self.complaints.append(message.text))

    def open(self, query: str = "") -> Tab:
        self.page.goto(f"{self.address}/{query}")
        self.page.wait_for_function("() => document.querySelector('#about').textContent !== ''")
        return self

    def choose(self, *files: Path) -> None:
        """Chooses files, beside those that are there, and waits until each is done."""
        before = self.page.locator("#strip button").count()
        self.page.set_input_files("#files", list(files))
        self.wait_for_pictures(before + len(files))

    def wait_for_pictures(self, count: int) -> None:
        self.page.wait_for_function(
            """count => {
                const labels = [...document.querySelectorAll('#strip button')].map(b => b.ariaLabel);
                return labels.length === count && labels.every(label => label.includes('. '));
            }""",
            arg=count,
        )
        self.page.wait_for_selector("#picture:visible")

    def switch_to(self, where: str, model: str | None = None) -> None:
        """Switches to "server" or "browser", and to a model, and waits until that one is there."""
        if model is not None:
            self.page.select_option("#model", model)
        self.page.check(f"input[value={where}]")
        start = {"server": "Pictures are sent", "browser": "Private"}[where]
        self.page.wait_for_function(
            "start => document.querySelector('#about').textContent.startsWith(start)", arg=start
        )

    def text(self, selector: str) -> str:
        return self.page.text_content(selector) or ""

    def saved(self, button: str) -> bytes:
        """What a button hands to the user."""
        with self.page.expect_download() as download:
            self.page.click(button)
        return Path(download.value.path()).read_bytes()

    def document(self) -> dict[str, Any]:
        """The JSON that the page gives."""
        document: dict[str, Any] = json.loads(self.saved("#save-json"))
        return document

    def axe_violations(self) -> list[str]:
        """What axe-core finds wrong, and where."""
        if not AXE.is_file():
            pytest.skip("axe-core is not installed; run: npm --prefix web ci")
        self.page.evaluate(AXE.read_text("utf-8"))
        found = self.page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
        return [f"{one['id']}: {[node['html'] for node in one['nodes']]}" for one in found]

    def foreign_requests(self) -> list[str]:
        ours = (self.address, self.address.replace("http", "ws", 1), f"blob:{self.address}")
        return [url for url in self.requests if not url.startswith(ours)]


@contextlib.contextmanager
def tab_of(browser: Browser, address: str, **options: Any) -> Iterator[Tab]:
    """A tab that has nothing from before: no token, no cache."""
    context = browser.new_context(accept_downloads=True, permissions=["camera"], **options)
    try:
        yield Tab(context.new_page(), address)
    finally:
        context.close()


def clip_of(picture: Path, path: Path) -> Path:
    """A clip for the camera: the same picture ten times, as it comes from a webcam."""
    with Image.open(picture) as image:
        file = io.BytesIO()
        image.convert("RGB").resize(CAMERA_WH).save(file, "JPEG", quality=95)
    path.write_bytes(file.getvalue() * 10)
    return path
