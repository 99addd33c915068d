"""The example pictures: drawn by the script beside them, and told apart by the models inside."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from maskwatch import Detector, read_image
from maskwatch.media.videos import video_writer

EXAMPLES = Path(__file__).parents[1] / "examples"
LANDMARKS = ["203", "101", "248", "103.5", "223.5", "178"]


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # A dataclass looks up its own module by name.
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def draw_mask() -> ModuleType:
    return load("draw_mask")


def test_script_gives_the_masked_portrait(draw_mask: ModuleType, tmp_path: Path) -> None:
    assert " ".join(LANDMARKS) in (EXAMPLES / "README.md").read_text("utf-8")
    target = tmp_path / "masked.jpg"
    assert draw_mask.main([str(EXAMPLES / "astronaut.jpg"), str(target), "--landmarks", *LANDMARKS]) == 0
    kept = read_image(EXAMPLES / "astronaut_masked.jpg").astype(np.int16)
    difference = np.abs(read_image(target).astype(np.int16) - kept)
    assert difference.mean() < 0.5  # JPEG encoders differ a little


def test_mask_stays_on_the_lower_face(draw_mask: ModuleType) -> None:
    picture = np.full((200, 200, 3), 180, np.uint8)
    face = draw_mask.Face.from_box((50, 40, 150, 170))
    changed = np.abs(draw_mask.draw_mask(picture, face).astype(np.int16) - 180).max(axis=-1) > 8
    assert changed[130, 100]  # the mouth
    assert not changed[:100].any()  # eyes and above: 40 + 130 * 0.4 = 92
    assert not changed[:, :38].any()
    assert not changed[185:].any()


def test_tilt_turns_the_mask_with_the_head(draw_mask: ModuleType) -> None:
    upright = draw_mask.Face.from_box((0, 0, 100, 100))
    assert upright.left_eye == pytest.approx((25, 40))
    assert upright.right_eye == pytest.approx((75, 40))
    assert upright.chin == pytest.approx((50, 100))
    leaning = draw_mask.Face.from_box((0, 0, 100, 100), tilt=90)
    assert leaning.chin == pytest.approx((0, 50))


def test_unreadable_and_unwritable_files_are_named(
    draw_mask: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_text("no picture")
    assert draw_mask.main([str(broken), str(tmp_path / "out.jpg"), "--box", "1", "2", "30", "40"]) == 2
    assert "broken.jpg" in capsys.readouterr().err
    source = str(EXAMPLES / "astronaut.jpg")
    assert draw_mask.main([source, str(tmp_path / "out.what"), "--box", "1", "2", "30", "40"]) == 2
    assert "out.what" in capsys.readouterr().err


@pytest.mark.parametrize("model", ["maskwatch-640", "maskwatch-320"])
@pytest.mark.parametrize(("name", "wanted"), [("astronaut.jpg", "no_mask"), ("astronaut_masked.jpg", "mask")])
def test_models_tell_the_portraits_apart(model: str, name: str, wanted: str) -> None:
    detections = Detector(model)(EXAMPLES / name)
    assert list(detections.data["class_name"]) == [wanted]
    x0, y0, x1, y1 = detections.xyxy[0]
    assert x0 < 203 < 248 < x1
    assert y0 < 101 < 160 < y1
    assert x1 - x0 < 170


def test_opening_picture_shows_events_when_they_happen(tmp_path: Path) -> None:
    """Six frames a second, each with a strip below it; the strip changes with the event at half a second."""
    clip = tmp_path / "clip.mp4"
    with video_writer(clip, 12) as write:
        for _ in range(12):
            write(np.full((180, 320, 3), 128, np.uint8))
    opening = load("make_opening")
    pictures = list(opening.frames(clip, [(0.5, "person 1: no mask - ALERT")]))
    assert len(pictures) == 6
    width, height = pictures[0].size
    assert (width, height) == (opening.WIDTH, 315 + opening.STRIP)
    events = [picture.crop((120, 315, width, height)) for picture in pictures]
    assert [len(event.getcolors(10_000)) > 1 for event in events] == [False] * 3 + [True] * 3


@pytest.mark.slow
def test_the_clip_is_one_alert(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The short moment without a mask is none; what docs/camera.md shows is what comes out."""
    from maskwatch.cli.app import main

    clip = tmp_path / "clip.mp4"
    subprocess.run([sys.executable, EXAMPLES / "make_clip.py", clip], check=True)
    with pytest.raises(SystemExit) as stopped:
        main(["watch", str(clip)])
    assert stopped.value.code in (0, None)
    page = (EXAMPLES.parent / "docs" / "camera.md").read_text("utf-8")
    promised = page.partition("$ maskwatch watch clip.mp4 --save-video out.mp4\n")[2].partition("```")[0]
    shown, told = (
        [re.sub(r"\(\d+%\)", "", line).rstrip() for line in text.splitlines()]
        for text in (capsys.readouterr().out, promised)
    )
    assert shown == told


@pytest.mark.parametrize("model", ["maskwatch-640", "maskwatch-320"])
def test_a_program_without_maskwatch_finds_the_same(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    source = (EXAMPLES / "detect_onnx.py").read_text("utf-8")
    assert {*re.findall(r"^(?:import|from) (\w+)", source, re.MULTILINE)} == {
        *("json", "sys", "numpy", "onnxruntime", "PIL")
    }
    example, detector = load("detect_onnx"), Detector(model)
    for name in ("astronaut.jpg", "astronaut_masked.jpg"):
        example.main(str(detector.path), str(EXAMPLES / name))
        (line,) = capsys.readouterr().out.splitlines()
        label, score, *corners = line.split()
        expected = detector(EXAMPLES / name)
        assert [label] == list(expected.data["class_name"])
        assert float(score) == pytest.approx(expected.confidence[0], abs=0.01)
        np.testing.assert_allclose(np.array(corners, float), expected.xyxy[0], atol=1)


@pytest.mark.parametrize("model", ["maskwatch-640", "maskwatch-320"])
def test_the_decoder_in_numpy_is_that_of_the_model_file(model: str) -> None:
    """At a low threshold, with the calibration and the voting of each."""
    from dataclasses import asdict, replace

    from maskwatch.export.formats.base import RAW_OUTPUTS, ConvertOptions
    from maskwatch.export.formats.onnx_raw import raw_graph
    from maskwatch.models import load_model_file
    from maskwatch.runtimes.onnx_runtime import OnnxRuntime, open_tensors

    file = load_model_file(model)
    images, _ = Detector(model).prepare([EXAMPLES / "astronaut.jpg"])
    boxes, scores = open_tensors(raw_graph(file, ConvertOptions()).SerializeToString(), RAW_OUTPUTS)(images)
    thresholds = (2e-4, 1e-4, 1.5e-4)
    about = asdict(replace(file.metadata, thresholds=thresholds))
    found = load("decode_raw").decode(boxes[0], scores[0], about)
    raw = OnnxRuntime(file.path)(images, np.array(thresholds, np.float32))
    count = int(raw.num_detections[0])
    assert count > 10
    for ours, theirs in zip(found, (raw.boxes, raw.scores, raw.classes), strict=True):
        np.testing.assert_allclose(ours, theirs[0, :count], atol=1e-3)


def test_the_decoder_runs_on_an_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from maskwatch.cli.app import main

    with pytest.raises(SystemExit):
        main(["export", "maskwatch-640", "--to", "onnx-raw", "-o", str(tmp_path / "raw")])
    capsys.readouterr()
    monkeypatch.syspath_prepend(str(EXAMPLES))
    load("decode_raw").main(str(tmp_path / "raw"), str(EXAMPLES / "astronaut.jpg"))
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("no_mask 0.97")


# ---- C++ --------------------------------------------------------------------------------------------------


def build(source: str, target: Path, flags: list[str]) -> None:
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("g++ is not installed")
    command = [compiler, "-std=c++17", "-Wall", "-Wextra", "-Werror", EXAMPLES / source, "-o", target, *flags]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def check_program(program: Path, model: Path, detector: Detector, folder: Path) -> None:
    """It gives the detections of the masked portrait, in pixels of the network's input."""
    (image,), (placement,) = detector.prepare([EXAMPLES / "astronaut_masked.jpg"])
    picture = folder / "picture.ppm"
    height, width, _ = image.shape
    picture.write_bytes(f"P6\n{width} {height}\n255\n".encode() + image.tobytes())
    done = subprocess.run([program, model, picture], capture_output=True, text=True, check=True)
    (line,) = done.stdout.splitlines()
    class_id, score, *corners = map(float, line.split())
    expected = detector(EXAMPLES / "astronaut_masked.jpg")
    assert [class_id] == expected.class_id.tolist()
    assert score == pytest.approx(expected.confidence[0], abs=1e-3)
    boxes_xyxy = placement.to_original(np.array([corners], np.float32))
    np.testing.assert_allclose(boxes_xyxy, expected.xyxy, atol=0.5)
    (folder / "none.ppm").write_bytes(b"P6\n640 640\n255\nshort")
    assert subprocess.run([program, model, folder / "none.ppm"], capture_output=True).returncode == 2


def test_the_example_in_cpp_runs_a_model_file(tmp_path: Path) -> None:
    folders = [Path("/usr/include"), *Path("/usr/include").glob("onnxruntime*/**/")]
    found = [folder for folder in folders if (folder / "onnxruntime_cxx_api.h").is_file()]
    if not found:
        pytest.skip("the headers of ONNX Runtime are not installed; Debian 13 has them: libonnxruntime-dev")
    build("detect_onnx.cpp", tmp_path / "detect", [f"-isystem{found[0]}", "-lonnxruntime"])
    detector = Detector("maskwatch-640", runtime="onnxruntime", device="cpu")
    check_program(tmp_path / "detect", detector.path, detector, tmp_path)


def test_the_example_in_cpp_runs_openvino_ir(tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino", reason="OpenVINO is not installed")
    from maskwatch.export.formats.base import ConvertOptions
    from maskwatch.export.formats.openvino import write_ir
    from maskwatch.models import load_model_file

    package = Path(openvino.__file__).parent
    library = next((package / "libs").glob("libopenvino.so*"), None)
    if library is None or not (package / "include" / "openvino").is_dir():
        pytest.skip("this package of OpenVINO holds no headers")
    flags = [f"-isystem{package / 'include'}", library, f"-Wl,-rpath,{library.parent}"]
    build("detect_openvino.cpp", tmp_path / "detect", list(map(str, flags)))
    write_ir(load_model_file("maskwatch-640"), tmp_path, ConvertOptions())
    detector = Detector("maskwatch-640", runtime="onnxruntime", device="cpu")
    check_program(tmp_path / "detect", tmp_path / "maskwatch-640.xml", detector, tmp_path)
