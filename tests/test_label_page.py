"""The labelling page in a real browser, on the real command with a folder of its own."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="the labelling server needs the extra 'serve'")

from browser import Tab, chromium, clip_of, installed_chromium, tab_of

if TYPE_CHECKING:
    from playwright.sync_api import Browser

EXAMPLES = Path(__file__).parents[1] / "examples"
DESKTOP = {"viewport": {"width": 1280, "height": 800}}
PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True}
TOKEN = "a-token-of-the-tests"
FACE, MASKED = "astronaut.jpg", "astronaut_masked.jpg"
FINGER_PX = 44
LONG_S = 60


@contextlib.contextmanager
def labelling(folder: Path, port: int = 0) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Starts `maskwatch label` with the small model; gives the process and the address of its page."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", "MASKWATCH_TOKEN": TOKEN}
    line = [sys.executable, "-m", "maskwatch", "label", str(folder), "--port", str(port)]
    line += ["--model", "maskwatch-320", "--no-open"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            line_printed = process.stdout.readline()
            found = re.search(r"(http://[\d.:]+)/\?token=", line_printed)
            assert found, f"{line_printed!r} is not the address of the page"
            yield process, found[1]
        finally:
            process.kill()


class LabelTab(Tab):
    """A window of the labelling page; coordinates are pixels of the picture."""

    def open(self, query: str = f"?token={TOKEN}") -> LabelTab:
        self.page.goto(f"{self.address}/{query}")
        self.page.wait_for_selector("#pictures [role=option]")
        self.wait_for_name("")
        return self

    def wait_for_name(self, name: str) -> None:
        """Until a picture is open: this one, or any for ""."""
        script = """name => {
            const now = document.querySelector('#name').textContent;
            return name ? now === name : now;
        }"""
        self.page.wait_for_function(script, arg=name)

    def wait_for_another(self, name: str) -> None:
        """Until another picture than this one is open."""
        self.page.wait_for_function("name => document.querySelector('#name').textContent !== name", arg=name)

    def show(self, image_id: str) -> LabelTab:
        self.page.click(f"#pictures [data-image='{image_id}']")
        self.wait_for_name(image_id)
        self.page.focus("#stage")
        return self

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Where a point of the picture is in the window."""
        script = """([x, y]) => {
            const image = document.querySelector('#image'), shown = image.getBoundingClientRect();
            return [shown.left + x * shown.width / image.width, shown.top + y * shown.height / image.height];
        }"""
        found: list[float] = self.page.evaluate(script, [x, y])
        return found[0], found[1]

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        mouse = self.page.mouse
        mouse.move(*self.at(*start))
        mouse.down()
        mouse.move(*self.at(*end), steps=4)
        mouse.up()

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def wait_for_state(self, state: str) -> None:
        """Until the page reports "saved", "saving" or "unsaved"."""
        self.page.wait_for_selector(f"#save-state[data-state={state}]")

    def saved(self, image_id: str) -> dict[str, Any]:  # type: ignore[override]
        """What the server has, once the page reports that all is saved."""
        self.wait_for_state("saved")
        script = "id => fetch(`api/label/pictures/${id}`).then(answer => answer.json())"
        record: dict[str, Any] = self.page.evaluate(script, image_id)
        return record

    def boxes(self, image_id: str) -> list[tuple[str, list[float]]]:
        return [(box["class"], box["box_xyxy"]) for box in self.saved(image_id)["boxes"]]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    clip = clip_of(EXAMPLES / FACE, tmp_path_factory.mktemp("camera") / "clip.mjpeg")
    with chromium(clip) as running:
        yield running


def folder_of(folder: Path, *names: str) -> Path:
    """Two faces, and pictures of one colour."""
    installed_chromium()
    folder.mkdir()
    for name in (FACE, MASKED):
        shutil.copy(EXAMPLES / name, folder)
    for name in names:
        Image.new("RGB", (400, 300), (120, 130, 140)).save(folder / name)
    return folder


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of a server with a picture for each test."""
    folder = tmp_path_factory.mktemp("label") / "pictures"
    names = ("copy.png", "keys.png", "mouse.png", "windows.png")
    with labelling(folder_of(folder, *names)) as (_, found):
        yield found


@contextlib.contextmanager
def window_of(browser: Browser, address: str, **options: Any) -> Iterator[LabelTab]:
    with tab_of(browser, address, **{**DESKTOP, **options}) as opened:
        tab = LabelTab(opened.page, address).open()
        yield tab
        assert tab.foreign_requests() == []
        assert [text for text in tab.complaints if "Content Security Policy" in text] == []


@pytest.fixture
def tab(browser: Browser, address: str) -> Iterator[LabelTab]:
    with window_of(browser, address) as opened:
        yield opened


def test_boxes_by_mouse(tab: LabelTab) -> None:
    name = "mouse.png"
    tab.show(name)
    tab.drag((100, 50), (180, 150))
    tab.drag((140, 100), (150, 90))  # moves it
    tab.drag((190, 140), (200, 160))  # its lower right corner
    tab.drag((300, 200), (350, 260))
    tab.press("2")
    assert tab.boxes(name) == [("mask", [110, 40, 200, 160]), ("no_mask", [300, 200, 350, 260])]
    tab.page.mouse.click(*tab.at(150, 100))
    tab.press("d", "Delete")
    assert tab.boxes(name) == [("no_mask", [300, 200, 350, 260])]
    tab.press("Control+z")
    assert {box["class"]: box["difficult"] for box in tab.saved(name)["boxes"]} == {
        "mask": True,
        "no_mask": False,
    }
    below_pointer = tab.at(300, 100)
    tab.page.mouse.move(*below_pointer)
    tab.page.mouse.wheel(0, -500)
    tab.page.wait_for_function("() => parseInt(document.querySelector('#zoom').textContent) > 200")
    assert tab.at(300, 100) == pytest.approx(below_pointer, abs=1)
    while tab.at(200, 0)[0] > tab.page.locator("#stage").bounding_box()["x"]:  # type: ignore[index]
        tab.page.mouse.wheel(0, -500)
        tab.page.evaluate("() => new Promise(requestAnimationFrame)")
    assert tab.page.locator("#stage .plate:not([hidden])").count() == 1  # of the box in sight
    tab.show("keys.png")
    assert tab.page.text_content("#point") == ""


def test_boxes_by_keyboard_alone(tab: LabelTab) -> None:
    name = "keys.png"
    tab.show(name).press("b")
    ((_, (left, top, right, bottom)),) = tab.boxes(name)
    tab.press("ArrowRight", "Shift+ArrowDown", "Alt+ArrowLeft", "Alt+Shift+ArrowDown", "3")
    assert tab.boxes(name) == [("mask_incorrect", [left + 1, top + 10, right, bottom + 20])]
    tab.press("b", "Shift+ArrowLeft", "Tab")  # from the last box on to the buttons
    assert tab.page.evaluate("!document.activeElement.closest('#stage')")
    tab.press("Shift+Tab", "Shift+Tab", "Delete")
    assert [one for one, _ in tab.boxes(name)] == ["mask"]
    tab.press("e")
    assert tab.saved(name)["state"] == "empty"
    tab.press("Control+z", "Control+Shift+z", "?")
    assert tab.page.is_visible("#help")
    assert tab.axe_violations() == []
    tab.press("Escape", "Control+z", "Control+z")
    assert len(tab.boxes(name)) == 2
    tab.press(",")
    tab.wait_for_another(name)


def test_proposals_are_accepted_by_one_key(tab: LabelTab) -> None:
    tab.show(FACE)
    tab.page.wait_for_selector("#stage .proposal")
    assert tab.saved(FACE)["state"] == "unlabelled"
    assert tab.axe_violations() == []
    tab.press("a")
    assert [name for name, _ in tab.boxes(FACE)] == ["no_mask"]
    tab.show("copy.png").press("c", "Enter")  # the boxes of the picture before, and on
    tab.wait_for_another("copy.png")
    assert [name for name, _ in tab.boxes("copy.png")] == ["no_mask"]
    tab.page.wait_for_selector(f"#pictures [data-image='{FACE}'][data-state=labelled]")


def test_two_windows_overwrite_nothing(browser: Browser, address: str) -> None:
    name = "windows.png"
    with window_of(browser, address) as one, window_of(browser, address) as other:
        other.page.route("**/api/label/changes", lambda route: route.abort())
        other.open("")
        for tab in (one, other):
            tab.show(name)
        one.drag((20, 20), (80, 80))
        assert len(one.boxes(name)) == 1
        other.drag((200, 100), (260, 180))
        other.page.wait_for_selector("#conflict[open]")
        assert other.axe_violations() == []
        assert len(one.boxes(name)) == 1
        other.page.click("#conflict [value=both]")
        assert [box for _, box in other.boxes(name)] == [[20, 20, 80, 80], [200, 100, 260, 180]]
        # The first window hears of it.
        one.page.wait_for_function("() => document.querySelectorAll('#stage [role=button]').length === 2")


def test_edits_outlive_a_killed_server(browser: Browser, tmp_path: Path) -> None:
    name = "plain.png"
    folder = folder_of(tmp_path / "pictures", name)
    with contextlib.ExitStack() as stack:
        process, address = stack.enter_context(labelling(folder))
        tab = stack.enter_context(window_of(browser, address)).show(name)
        tab.drag((20, 20), (80, 80))
        process.kill()  # as kill -9 does
        tab.drag((200, 100), (260, 180))
        tab.wait_for_state("unsaved")
        assert "kept in this browser" in (tab.page.text_content("#unsaved") or "")
        process.wait(LONG_S)
        stack.enter_context(labelling(folder, port=int(address.rpartition(":")[2])))
        assert [box for _, box in tab.boxes(name)] == [[20, 20, 80, 80], [200, 100, 260, 180]]
        assert not tab.page.is_visible("#conflict")
    assert (folder / "plain.xml").read_text("utf-8").count("<object>") == 2


def test_a_phone_corrects_classes(browser: Browser, address: str) -> None:
    with window_of(browser, address, **PHONE) as tab:
        tab.page.locator(f"#pictures [data-image='{MASKED}']").tap()
        tab.wait_for_name(MASKED)
        tab.page.wait_for_selector("#stage .proposal")
        assert tab.page.evaluate("document.documentElement.scrollWidth") <= 360
        tab.page.wait_for_function("() => document.querySelector('#stage').getBoundingClientRect().top >= 0")
        box = tab.saved(MASKED)["proposals"][0]["box_xyxy"]
        tab.page.touchscreen.tap(*tab.at(box[2] + 10, (box[1] + box[3]) / 2))  # fingers are not exact
        tab.page.wait_for_selector("#stage .proposal.selected")
        tab.page.locator("#classes [data-class=no_mask]").tap()
        ((name, saved_box),) = tab.boxes(MASKED)
        assert name == "no_mask"
        assert saved_box == pytest.approx(box, abs=1)
        heights = """[...document.querySelectorAll('main button, main select')]
            .filter(one => one.checkVisibility()).map(one => one.offsetHeight)"""
        assert min(tab.page.evaluate(heights)) >= FINGER_PX
        assert tab.axe_violations() == []
