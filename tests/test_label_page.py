"""The labelling page in a real browser, on the real command with a folder of its own."""

from __future__ import annotations

import contextlib
import json
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
from label_data import yolo_folder

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
def labelling(
    folder: Path, *options: str, port: int = 0, fault: str = ""
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Starts `maskwatch label` with the small model; gives the process and the address of its page.

    Args:
        fault: Python that is run before the command.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", "MASKWATCH_TOKEN": TOKEN}
    code = f"import sys\n{fault}\nfrom maskwatch.cli.app import main\nmain(sys.argv[1:])"
    line = [sys.executable, "-c", code, "label", str(folder), "--port", str(port)]
    line += ["--model", "maskwatch-320", "--no-open", *options]
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

    def wait_for_text(self, selector: str, text: str) -> None:
        """Until an element holds a text."""
        script = "([at, text]) => document.querySelector(at).textContent.includes(text)"
        self.page.wait_for_function(script, arg=[selector, text])

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
    names = ("copy.png", "keys.png", "mouse.png", "pinch.png", "windows.png")
    both = Image.new("RGB", (640, 320))
    for left, name in ((0, FACE), (320, MASKED)):
        with Image.open(EXAMPLES / name) as portrait:
            both.paste(portrait.crop((80, 0, 400, 320)), (left, 0))
    both.save(folder_of(folder, *names) / "two.png")
    with labelling(folder) as (_, found):
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


def test_a_picture_is_done_when_every_proposal_is_decided(tab: LabelTab) -> None:
    name = "two.png"
    row = f"#pictures [data-image='{name}']"

    def done() -> int:
        return int((tab.page.text_content("#progress-text") or "").split()[0])

    tab.show(name)
    tab.page.wait_for_function("() => document.querySelectorAll('#stage .proposal').length === 2")
    tab.wait_for_text("#say", "two.png, 2 proposals")
    before = done()
    tab.press("Tab", "a")  # the first one alone
    tab.wait_for_text(f"{row} .state", "1 box, 1 proposal left")
    assert (tab.saved(name)["undecided"], done()) == (1, before)
    tab.open("").show(name)
    tab.wait_for_text("#boxes-title", "1 box, 1 proposal")
    assert tab.page.locator(f"{row}[data-state=labelled]").count() == 0
    tab.press("r")
    tab.page.wait_for_selector(f"{row}[data-state=labelled]")
    tab.wait_for_text("#progress-text", f"{before + 1} of ")
    tab.open("").show(name)
    tab.wait_for_text("#boxes-title", "1 box")
    saved = tab.saved(name)
    assert (len(saved["boxes"]), len(saved["refused"]), saved["suspects"]) == (1, 1, [])


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
        port = int(address.rpartition(":")[2])
        tab = stack.enter_context(window_of(browser, address)).show(name)
        tab.drag((20, 20), (80, 80))
        process.kill()  # as kill -9 does
        tab.drag((200, 100), (260, 180))
        tab.wait_for_state("unsaved")
        assert "kept in this browser" in (tab.page.text_content("#unsaved") or "")
        process.wait(LONG_S)
        second, _ = stack.enter_context(labelling(folder, port=port))
        assert [box for _, box in tab.boxes(name)] == [[20, 20, 80, 80], [200, 100, 260, 180]]
        assert not tab.page.is_visible("#conflict")
        second.kill()
        second.wait(LONG_S)
        tab.drag((300, 200), (360, 280))
        tab.wait_for_state("unsaved")
        tab.page.close()
        stack.enter_context(labelling(folder, port=port))
        other = LabelTab(tab.page.context.new_page(), address).open("").show(name)
        assert len(other.boxes(name)) == 3  # of the draft that the closed window left
    assert (folder / "plain.xml").read_text("utf-8").count("<object>") == 3


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


FULL_DISK = """
import errno, os
from pathlib import Path
fsync = os.fsync
def full(number):
    if Path({flag!r}).exists():
        raise OSError(errno.ENOSPC, "No space left on device")
    fsync(number)
os.fsync = full
"""


def test_a_full_disk_and_an_invalid_label_keep_the_edit(browser: Browser, tmp_path: Path) -> None:
    installed_chromium()
    folder, flag = yolo_folder(tmp_path / "pictures"), tmp_path / "full"
    fault, name = FULL_DISK.format(flag=str(flag)), "images/b.jpg"
    options = ("--classes", "mask,no_mask,other")
    with labelling(folder, *options, fault=fault) as (_, address), window_of(browser, address) as tab:
        tab.show(name)
        flag.touch()
        tab.drag((10, 10), (40, 40))
        tab.wait_for_text("#unsaved", "The disk is full: free some space.")
        assert tab.axe_violations() == []
        flag.unlink()
        assert tab.boxes(name) == [("mask", pytest.approx([10, 10, 40, 40]))]
        assert not tab.page.is_visible("#unsaved")
        tab.press("3")
        tab.wait_for_text("#unsaved", f"{name} is not saved: class 'other' has no number")
        tab.press("2")
        assert tab.boxes(name) == [("no_mask", pytest.approx([10, 10, 40, 40]))]
        assert not tab.page.is_visible("#unsaved")
    number, *shares = map(float, (folder / "labels" / "b.txt").read_text().split())
    assert (number, shares) == (1, pytest.approx([25 / 100, 25 / 60, 30 / 100, 30 / 60]))


def test_a_read_only_folder_is_shown_and_stays_as_it_is(browser: Browser, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "pictures")
    # The tests may run as root, whom permissions do not stop.
    fault = "import os\naccess = os.access\nos.access = lambda path, mode, **more: "
    fault += "not mode & os.W_OK and access(path, mode, **more)"
    with labelling(folder, fault=fault) as (_, address), window_of(browser, address) as tab:
        tab.show(FACE)
        tab.page.wait_for_selector("#stage .proposal")
        tab.wait_for_text("#trouble", "no permission to write here; label a copy")
        tab.drag((10, 300), (60, 400))
        tab.press("Enter", "b", "e")
        assert tab.page.locator("#stage .box").count() == 0
        assert tab.page.is_disabled("#classes [data-class=mask]")
        assert tab.axe_violations() == []
    assert {path.name for path in folder.iterdir()} == {FACE, MASKED}


SUSPECTS = """picture,fault,class,xmin,ymin,xmax,ymax
a,class,no_mask,20,20,80,90
a,missing,mask,200,100,260,180
b,no_face,,20,20,80,90
"""


def test_suspects_are_decided_by_one_key(browser: Browser, tmp_path: Path) -> None:
    folder, listed = folder_of(tmp_path / "pictures", "a.png", "b.png"), tmp_path / "suspects.csv"
    listed.write_text(SUSPECTS)
    box = "<bndbox><xmin>20</xmin><ymin>20</ymin><xmax>80</xmax><ymax>90</ymax></bndbox>"
    for name in "ab":
        text = f"<annotation><object><name>mask</name>{box}</object></annotation>"
        (folder / f"{name}.xml").write_text(text)
    options = ("--suspects", str(listed), "--by", "Ann")
    with labelling(folder, *options) as (_, address), window_of(browser, address) as tab:
        tab.show("a.png")
        tab.wait_for_text("#suspect-title", "2 to decide")
        assert tab.axe_violations() == []
        tab.press("m")
        tab.wait_for_text("#suspect-label", "no box here")
        tab.press("w")
        tab.page.keyboard.type("a poster: k, m")
        tab.press("Enter", "k")
        tab.wait_for_name("b.png")  # the next with a suspect
        assert tab.page.input_value("#reason") == ""
        tab.wait_for_text("#suspect-answer", "no face here")
        tab.press("m")
        tab.page.wait_for_selector("#suspect", state="hidden")
        assert tab.boxes("a.png") == [("no_mask", [20, 20, 80, 90])]
        assert tab.saved("b.png")["state"] == "empty"
    rows = map(json.loads, (folder / ".maskwatch-label" / "decisions.jsonl").read_text().splitlines())
    made = [(row["image_id"], row["decision"], row["by"], row.get("reason")) for row in rows]
    assert made == [
        ("a.png", "answer", "Ann", None),
        ("a.png", "label", "Ann", "a poster: k, m"),
        ("b.png", "answer", "Ann", None),
    ]


def test_two_fingers_zoom_and_move(browser: Browser, address: str) -> None:
    name = "pinch.png"
    with window_of(browser, address, **PHONE) as tab:
        tab.page.locator(f"#pictures [data-image='{name}']").tap()
        tab.wait_for_name(name)
        tab.page.wait_for_function("() => document.querySelector('#stage').getBoundingClientRect().top >= 0")
        session = tab.page.context.new_cdp_session(tab.page)
        x, y = tab.at(200, 150)

        def touch(kind: str, *points: tuple[float, float]) -> None:
            fingers = [{"x": at[0], "y": at[1], "id": number} for number, at in enumerate(points)]
            session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": fingers})
            tab.page.evaluate("() => new Promise(requestAnimationFrame)")  # moves come once a frame

        touch("touchStart", (x - 20, y))
        touch("touchStart", (x - 20, y), (x + 20, y))
        for step in (25, 30, 35, 40):
            touch("touchMove", (x - step, y), (x + step, y))
        wide = tab.at(400, 0)[0] - tab.at(0, 0)[0]
        assert tab.at(200, 150) == pytest.approx((x, y), abs=2)  # stays between the fingers
        touch("touchMove", (x - 40, y + 30), (x + 40, y + 30))
        assert tab.at(200, 150) == pytest.approx((x, y + 30), abs=2)
        touch("touchEnd")
        assert tab.page.locator("#stage .box").count() == 0
        assert tab.page.evaluate("window.visualViewport.scale") == 1  # the page itself is not enlarged
        tab.page.click("#zoom-out")
        assert wide > tab.at(400, 0)[0] - tab.at(0, 0)[0]
        assert tab.saved(name)["state"] == "unlabelled"
