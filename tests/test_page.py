"""The page in a real browser, on a real service with the real model."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="the service needs the extra 'serve'")

from browser import FLAGS, SOFTWARE_GPU, Tab, chromium, clip_of, installed_chromium, tab_of
from maskwatch.media.images import read_image
from maskwatch.media.videos import video_writer
from maskwatch.models import load_model_file
from maskwatch.serve.settings import ServeSettings
from serving import server_in_thread

if TYPE_CHECKING:
    from playwright.sync_api import Browser

EXAMPLES = Path(__file__).parents[1] / "examples"
ASTRONAUT, MASKED = EXAMPLES / "astronaut.jpg", EXAMPLES / "astronaut_masked.jpg"
SMALL = 128
PHONE = {"viewport": {"width": 360, "height": 740}}
TOKEN = "a-token-of-the-tests"
ORIENTATION = 0x0112  # EXIF


@contextlib.contextmanager
def serving(*models: str, **rest: Any) -> Iterator[str]:
    settings = ServeSettings(models=models, port=0, threads=1, inference_workers=1, **rest)
    with server_in_thread(settings) as address:
        yield address


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    clip = clip_of(ASTRONAUT, tmp_path_factory.mktemp("camera") / "clip.mjpeg")
    with chromium(clip) as running:
        yield running


@pytest.fixture(scope="module")
def service() -> Iterator[str]:
    installed_chromium()
    with serving("maskwatch-320", "maskwatch-640") as address:
        yield address


@pytest.fixture
def tab(browser: Browser, service: str) -> Iterator[Tab]:
    with tab_of(browser, service) as opened:
        yield opened.open()
        assert opened.foreign_requests() == []
        assert [text for text in opened.complaints if "Content Security Policy" in text] == []


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """As they are, turned by EXIF, see-through, larger and smaller than the network, and one of a crowd."""
    folder = tmp_path_factory.mktemp("pictures")
    with Image.open(ASTRONAUT) as image:
        exif = Image.Exif()
        exif[ORIENTATION] = 6
        turned = image.convert("RGB").transpose(Image.Transpose.ROTATE_90)
        turned.save(folder / "turned.jpg", quality=95, exif=exif)
        see_through = image.convert("RGBA")
        see_through.putalpha(Image.linear_gradient("L").resize(image.size))
        see_through.save(folder / "see-through.png")
        image.resize((240, 240)).save(folder / "small.png")
        image.crop((0, 0, 400, 300)).resize((1600, 1201)).save(folder / "large.jpg", quality=92)
    made = [folder / name for name in ("turned.jpg", "see-through.png", "small.png", "large.jpg")]
    crowds = Path(__file__).parents[2] / "shared" / "data" / "unseen" / "crowds"
    return [ASTRONAUT, MASKED, *made, *sorted(crowds.glob("*.jpg"))[:2]]


def drawn_cells(path: Path) -> Path:
    """A picture for the tiny model: one face with a mask, one without."""
    image = np.full((40, 128, 3), 90, np.uint8)
    image[0:10, 32:64], image[20:30, 0:32] = (0, 255, 0), (255, 0, 0)
    Image.fromarray(image).save(path)
    return path


def assert_same(server: dict[str, Any], browser: dict[str, Any]) -> None:
    """The same faces within one pixel and a hundredth of score."""
    assert server["model"] == browser["model"]
    for ours, theirs in zip(server["results"], browser["results"], strict=True):
        name = ours["source"]
        assert {key: ours[key] for key in ours if key != "detections"} == {
            key: theirs[key] for key in theirs if key != "detections"
        }
        assert len(ours["detections"]) == len(theirs["detections"]), name
        for one, other in zip(ours["detections"], theirs["detections"], strict=True):
            assert (one["class"], one["class_id"]) == (other["class"], other["class_id"]), name
            assert one["score"] == pytest.approx(other["score"], abs=0.01), name
            assert one["box"] == pytest.approx(other["box"], abs=1), name


@pytest.mark.slow
def test_browser_and_service_find_the_same(tab: Tab, pictures: list[Path]) -> None:
    tab.switch_to("server", "maskwatch-320")
    tab.choose(*pictures)
    from_server = tab.document()
    tab.switch_to("browser")
    tab.wait_for_pictures(len(pictures))
    assert from_server["schema"] == "maskwatch.detections/1"
    assert [len(one["detections"]) for one in from_server["results"]][:3] == [1, 1, 1]
    assert_same(from_server, tab.document())


@pytest.mark.slow
def test_the_large_model_does_as_well(tab: Tab) -> None:
    tab.switch_to("server", "maskwatch-640")
    tab.choose(ASTRONAUT, MASKED)
    from_server = tab.document()
    tab.switch_to("browser")
    tab.wait_for_pictures(2)
    assert [one["detections"][0]["class"] for one in from_server["results"]] == ["no_mask", "mask"]
    assert_same(from_server, tab.document())


@pytest.fixture(scope="module")
def gpu_browser(browser: Browser) -> Iterator[Browser]:
    """One with a graphics processor, or the test is skipped."""
    running = browser.browser_type.launch(executable_path=installed_chromium(), args=[*FLAGS, *SOFTWARE_GPU])
    try:
        yield running
    finally:
        running.close()


@pytest.fixture(scope="module")
def small_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The weights and all operations of maskwatch-640 at a fifth of its size: software draws slowly."""
    pytest.importorskip("torch", reason="a model file is made")
    from maskwatch.export.onnx import build_model
    from maskwatch.network.two_scales import TwoScales
    from maskwatch.training.recipe import Recipe
    from maskwatch.training.start import start_network

    about = replace(load_model_file("maskwatch-640").metadata, name="small", input_size=(SMALL, SMALL))
    network = TwoScales(start_network("maskwatch-640", Recipe(), about.classes))
    path = tmp_path_factory.mktemp("small") / "small.onnx"
    path.write_bytes(build_model(network, about).SerializeToString())
    with serving(str(path)) as address:
        yield address


def skip_without_webgpu(tab: Tab) -> None:
    tab.open("?runtime=wasm")
    found = "async () => !!(await navigator.gpu?.requestAdapter()) && 'Suspending' in WebAssembly"
    if not tab.page.evaluate(found):
        pytest.skip("this Chromium has no WebGPU in software, or no JSPI")
    tab.requests.clear()


@pytest.fixture
def gpu_tab(gpu_browser: Browser, small_service: str) -> Iterator[Tab]:
    """Not opened yet; skipped where this Chromium cannot play a graphics processor."""
    with tab_of(gpu_browser, small_service) as tab:
        skip_without_webgpu(tab)
        yield tab
        assert tab.foreign_requests() == []
        assert [text for text in tab.complaints if "Content Security Policy" in text] == []


@pytest.mark.slow
def test_a_graphics_processor_finds_the_same(gpu_tab: Tab) -> None:
    tab = gpu_tab.open("?runtime=webgpu")
    tab.switch_to("server")
    tab.choose(ASTRONAUT, MASKED)
    from_server = tab.document()
    assert [one["detections"][0]["class"] for one in from_server["results"]] == ["no_mask", "mask"]
    tab.switch_to("browser")
    tab.wait_for_pictures(2)
    assert "in this browser (WebGPU)." in tab.text("#about")
    assert_same(from_server, tab.document())


def test_an_imitated_graphics_processor_is_left_alone_unless_asked_for(gpu_tab: Tab) -> None:
    tab = gpu_tab.open()
    tab.switch_to("browser")
    tab.choose(ASTRONAUT)
    assert "(WebAssembly, " in tab.text("#about")
    runtimes = [url for url in tab.requests if url.endswith(".wasm")]
    assert len(runtimes) == 1
    assert "jspi" not in runtimes[0]


COUNT_WORK = """() => {
    const work = GPUComputePassEncoder.prototype, dispatch = work.dispatchWorkgroups;
    self.dispatches = 0;
    work.dispatchWorkgroups = function (...given) { self.dispatches++; return dispatch.apply(this, given); };
}"""
ON_THE_NEXT_PICTURE = """how => {
    const device = GPUDevice.prototype, make = device.createCommandEncoder;
    device.createCommandEncoder = function (...given) {
        if (how === "lost") this.destroy();
        else this.createBuffer({size: 16, usage: 0});  // an error that nobody catches
        return make.apply(this, given);
    };
}"""


@pytest.mark.parametrize("trouble", ["lost", "wrong", "crashed"])
def test_a_graphics_processor_that_fails_costs_no_picture(
    browser: Browser, tmp_path: Path, trouble: str
) -> None:
    pytest.importorskip("onnx", reason="the tests write their own model files with onnx")
    from tiny_model import metadata, write_tiny_model

    model = write_tiny_model(tmp_path / "tiny.onnx", metadata(resize="squash"))
    picture = drawn_cells(tmp_path / "cells.png")
    launch = browser.browser_type.launch
    with (
        serving(str(model)) as address,
        launch(executable_path=installed_chromium(), args=[*FLAGS, *SOFTWARE_GPU]) as own,
        tab_of(own, address) as tab,
    ):
        skip_without_webgpu(tab)
        tab.open("?runtime=webgpu").choose(picture)
        expected = tab.document()["results"][0]["detections"]
        assert {one["class"] for one in expected} == {"mask", "no_mask"}
        tab.switch_to("browser")
        assert "in this browser (WebGPU)." in tab.text("#about")
        worker = next(one for one in tab.page.workers if "detect.worker" in one.url)
        worker.evaluate(COUNT_WORK)
        tab.choose(picture)
        assert worker.evaluate("self.dispatches") > 5, "the graphics processor works"
        if trouble == "crashed":
            own.new_browser_cdp_session().send("Browser.crashGpuProcess")
        else:
            worker.evaluate(ON_THE_NEXT_PICTURE, trouble)
        tab.requests.clear()
        tab.page.context.set_offline(True)
        tab.choose(picture)
        assert "(WebAssembly, " in tab.text("#about")
        assert "WebGPU does not run: " in tab.text("#about")
        tab.choose(picture)
        assert [one["detections"] for one in tab.document()["results"]] == [expected] * 4
        assert tab.text("#trouble") == ""
        assert [url for url in tab.requests if not url.startswith("blob:")] == []


def test_who_asks_for_webgpu_where_there_is_none_is_told(browser: Browser, service: str) -> None:
    with tab_of(browser, service) as tab:
        tab.open("?runtime=webgpu").switch_to("browser", "maskwatch-320")
        assert "(WebAssembly, " in tab.text("#about")
        assert "WebGPU does not run: this browser has no graphics processor for it." in tab.text("#about")
        tab.open("?runtime=quantum").page.check("input[value=browser]")
        tab.page.wait_for_selector("#trouble:visible")
        assert "“quantum” is no runtime" in tab.text("#trouble")
        assert tab.text("#about") == "Nothing looks at pictures now; choose where."


def test_private_means_that_no_picture_is_sent(tab: Tab) -> None:
    tab.switch_to("browser", "maskwatch-320")
    assert "No picture leaves this device" in tab.text("#about")
    assert tab.page.evaluate("crossOriginIsolated"), "threads need the headers COOP and COEP"
    tab.requests.clear()
    tab.page.context.set_offline(True)
    tab.choose(ASTRONAUT)
    assert tab.text("#status") == "1 face: 1 no mask"
    sent = [url for url in tab.requests if not url.startswith("blob:")]
    assert sent == []


def test_the_slider_asks_nobody(tab: Tab) -> None:
    tab.choose(ASTRONAUT)
    assert tab.text("#status") == "1 face: 1 no mask"
    tab.requests.clear()
    tab.page.fill("#threshold", "99")
    assert tab.text("#status") == "No face found"
    assert tab.document()["results"][0]["detections"] == []
    tab.page.fill("#threshold", "20")
    assert tab.text("#status").startswith("1 face")
    assert tab.document()["model"]["thresholds"] == {"mask": 0.2, "no_mask": 0.2, "mask_incorrect": 0.2}
    tab.page.click("#own")
    own = load_model_file("maskwatch-320").metadata.thresholds[1]
    assert tab.document()["model"]["thresholds"]["no_mask"] == pytest.approx(own, abs=1e-4)
    assert [url for url in tab.requests if not url.startswith("blob:")] == []


def test_camera_in_both_modes(tab: Tab) -> None:
    tab.switch_to("server", "maskwatch-320")
    tab.page.click("#camera")
    found = []
    for where, delay in (("server", "round trip"), ("browser", "for a frame")):
        tab.switch_to(where)
        tab.page.wait_for_function(
            """delay => document.querySelector('#pace').textContent.includes(delay)
                && document.querySelector('#status').textContent === '1 face: 1 no mask'""",
            arg=delay,
        )
        found.append(tab.document()["results"][0])
    assert [one["source"] for one in found] == ["camera", "camera"]
    from_server, from_browser = (one["detections"][0] for one in found)
    # The service gets the frame as a JPEG, so they are not quite the same.
    assert from_server["box"] == pytest.approx(from_browser["box"], abs=5)
    assert from_server["score"] == pytest.approx(from_browser["score"], abs=0.1)
    tab.page.click("#stop")
    assert not tab.page.is_visible("#stop")


def test_a_video_file(tab: Tab, tmp_path: Path) -> None:
    playable = "document.createElement('video').canPlayType('video/mp4; codecs=avc1.42E01E')"
    if not tab.page.evaluate(playable):
        pytest.skip("this Chromium plays no H.264")
    with video_writer(tmp_path / "film.mp4", 10) as write:
        for _ in range(15):
            write(read_image(ASTRONAUT))
    tab.switch_to("server", "maskwatch-320")
    tab.page.set_input_files("#files", [tmp_path / "film.mp4"])
    tab.page.wait_for_function("() => document.querySelector('#pause').textContent === 'Play'")  # at its end
    tab.page.wait_for_function("() => document.querySelector('#counts').textContent.includes('no mask1')")
    assert tab.document()["results"][0]["source"] == "film.mp4"
    tab.switch_to("browser")  # processes the frame on which it stands again
    tab.page.wait_for_function("() => document.querySelector('#pace').textContent.includes('for a frame')")
    tab.page.fill("#seek", "200")
    tab.page.wait_for_function(
        "() => Number(document.querySelector('#seek').ariaValueText.split(' ')[0]) < 1"
    )
    assert tab.text("#trouble") == ""


def test_what_is_no_picture_is_said(tab: Tab, tmp_path: Path) -> None:
    torn = tmp_path / "torn.jpg"
    torn.write_bytes(b"no picture at all")
    for where in ("server", "browser"):
        tab.switch_to(where, "maskwatch-320")
        tab.page.set_input_files("#files", [torn])
        tab.page.wait_for_selector("#trouble:visible")
        assert "torn.jpg: " in tab.text("#trouble")
        assert tab.text("#status") == "This picture could not be processed"
    assert {one["source"] for one in tab.document()["failures"]} == {"torn.jpg"}


def test_paste_and_drop(tab: Tab) -> None:
    for event in ("paste", "drop"):
        tab.page.evaluate(
            """async ([event, bytes]) => {
                const data = new DataTransfer();
                data.items.add(new File([new Uint8Array(bytes)], `${event}.jpg`, {type: 'image/jpeg'}));
                const init = {bubbles: true, cancelable: true};
                document.body.dispatchEvent(event === 'paste'
                    ? new ClipboardEvent(event, {...init, clipboardData: data})
                    : new DragEvent(event, {...init, dataTransfer: data}));
            }""",
            [event, list(ASTRONAUT.read_bytes())],
        )
    tab.wait_for_pictures(2)
    assert [one["source"] for one in tab.document()["results"]] == ["paste.jpg", "drop.jpg"]


def test_downloaded_picture_is_drawn_or_blurred(tab: Tab) -> None:
    tab.choose(ASTRONAUT)
    x1, y1, x2, y2 = (round(value) for value in tab.document()["results"][0]["detections"][0]["box"])
    drawn = np.array(Image.open(io.BytesIO(tab.saved("#save-picture"))))
    tab.page.check("#blur")
    blurred = np.array(Image.open(io.BytesIO(tab.saved("#save-picture"))))
    original = np.array(Image.open(ASTRONAUT).convert("RGB"))
    assert drawn.shape == blurred.shape == original.shape
    edge = drawn[(y1 + y2) // 2, x1 - 1 : x1 + 2].astype(int)
    assert (np.abs(edge - (213, 94, 0)).sum(axis=1) < 60).any(), "the box is drawn in the colour of its class"
    inside = np.s_[y1 + 10 : y2 - 10, x1 + 10 : x2 - 10]
    assert np.abs(drawn[inside].astype(int) - original[inside]).mean() < 5
    steps = [np.abs(np.diff(image[inside].astype(int), axis=1)).mean() for image in (original, blurred)]
    assert steps[1] < steps[0] / 2


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_accessible_and_narrow(browser: Browser, service: str, scheme: str) -> None:
    with tab_of(browser, service, color_scheme=scheme, **PHONE) as tab:
        tab.open()
        assert tab.axe_violations() == []
        tab.choose(ASTRONAUT, MASKED)
        assert tab.axe_violations() == []
        assert tab.page.evaluate("document.documentElement.scrollWidth") <= 360
        assert tab.page.get_attribute("#picture", "aria-label") == "astronaut.jpg. 1 face: 1 no mask"


def test_keyboard_alone(tab: Tab) -> None:
    def go_to(element: str) -> None:
        for _ in range(40):
            if tab.page.evaluate("document.activeElement.id") == element:
                return
            tab.page.keyboard.press("Tab")
        pytest.fail(f"Tab does not reach #{element}")

    # Listened to from here on, since the browser hears a little later that it should not open a window.
    tab.page.on("filechooser", lambda chooser: chooser.set_files(ASTRONAUT))
    go_to("files")
    tab.page.keyboard.press("Space")
    tab.wait_for_pictures(1)
    go_to("threshold")
    tab.page.keyboard.press("End")
    assert tab.text("#status") == "No face found"
    tab.page.keyboard.press("Home")
    assert "no mask" in tab.text("#status")
    assert tab.page.get_attribute("#threshold", "aria-valuetext") == "10%"
    go_to("save-picture")
    with tab.page.expect_download() as download:
        tab.page.keyboard.press("Enter")
    assert download.value.suggested_filename == "astronaut-maskwatch.jpg"


def test_a_wrong_answer_is_sent_where_the_service_keeps_it(browser: Browser, tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="the tests write their own model files with onnx")
    from tiny_model import metadata, write_tiny_model

    model, picture = write_tiny_model(tmp_path / "tiny.onnx", metadata()), drawn_cells(tmp_path / "cells.png")
    with serving(str(model), keep_hard=tmp_path / "hard") as address, tab_of(browser, address) as tab:
        tab.open()
        tab.page.wait_for_selector("#wrong:visible")
        assert tab.page.is_disabled("#wrong")
        tab.choose(picture)
        assert tab.axe_violations() == []
        tab.page.click("#wrong")
        tab.page.wait_for_function(
            "() => document.querySelector('#status').textContent.includes('is stored')"
        )
        (xml,) = (tmp_path / "hard").glob("*_cells.png_t-_wrong_*.xml")
        found = {one["class"] for one in tab.document()["results"][0]["detections"]}
        assert {name for name in found if f"<name>{name}</name>" in xml.read_text("utf-8")} == found


def test_without_the_option_there_is_no_button(tab: Tab) -> None:
    tab.choose(ASTRONAUT)
    assert not tab.page.is_visible("#wrong")


def test_token_and_a_squashing_model(browser: Browser, tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="the tests write their own model files with onnx")
    from tiny_model import metadata, write_tiny_model

    model = write_tiny_model(tmp_path / "tiny.onnx", metadata(resize="squash"))
    picture = drawn_cells(tmp_path / "cells.png")
    with serving(str(model), token=TOKEN) as address, tab_of(browser, address) as tab:
        tab.page.goto(address)
        tab.page.wait_for_selector("#login:visible")
        assert not tab.page.is_visible("#work")
        assert tab.axe_violations() == []
        tab.page.fill("#token", "not the right token")
        tab.page.keyboard.press("Enter")
        tab.page.wait_for_selector("#trouble:visible")
        tab.page.fill("#token", TOKEN)
        tab.page.keyboard.press("Enter")
        tab.page.wait_for_selector("#work:visible")
        tab.open()  # the token is still there
        tab.choose(picture)
        from_server = tab.document()
        tab.switch_to("browser")
        tab.wait_for_pictures(1)
        assert {one["class"] for one in from_server["results"][0]["detections"]} == {"mask", "no_mask"}
        assert_same(from_server, tab.document())
        tab.page.click("#camera")  # a stream needs a ticket
        tab.switch_to("server")
        tab.page.wait_for_function("() => document.querySelector('#pace').textContent.includes('round trip')")
