"""The runtimes behind `Detector`, and which of them it takes."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from maskwatch import Detector, read_image
from maskwatch.boxes import box_iou
from maskwatch.errors import ModelFileError, OptionError
from maskwatch.models import load_model_file
from maskwatch.runtimes import choice
from maskwatch.runtimes.base import TOLERANCES, Backend, BackendUnavailableError
from maskwatch.runtimes.choice import BACKENDS, REFERENCE, RuntimeSettings, open_runtime
from maskwatch.runtimes.onnx_runtime import OnnxRuntime

EXAMPLES = Path(__file__).parents[1] / "examples"
PICTURES = ("astronaut.jpg", "astronaut_masked.jpg")
CPU = Backend("onnxruntime", "cpu", "float32")


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("RUNTIME", "DEVICE", "PRECISION"):
        monkeypatch.delenv(f"MASKWATCH_{name}", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> set[Backend]:
    """What counts as installed; to be filled by the test."""
    backends: set[Backend] = {CPU}
    monkeypatch.setattr(choice, "_is_installed", backends.__contains__)
    return backends


def openvino_precisions() -> Iterator[str]:
    yield "float32"
    try:
        from maskwatch.runtimes.openvino import native_precision
    except ImportError:
        return
    try:
        if native_precision() == "bfloat16":
            yield "bfloat16"
    except ImportError:
        return


# ---- Choosing ---------------------------------------------------------------------------------------------


def test_auto_takes_cuda_then_bfloat16_then_the_cpu(installed: set[Backend]) -> None:
    assert choice.first_installed(RuntimeSettings()) == CPU
    installed.add(Backend("openvino", "cpu", "bfloat16"))
    assert choice.first_installed(RuntimeSettings()) == Backend("openvino", "cpu", "bfloat16")
    installed.add(Backend("onnxruntime", "cuda", "float32"))
    assert choice.first_installed(RuntimeSettings()) == Backend("onnxruntime", "cuda", "float32")
    assert choice.first_installed(RuntimeSettings(device="cpu")) == Backend("openvino", "cpu", "bfloat16")
    assert choice.first_installed(RuntimeSettings(precision="float32", device="cpu")) == CPU


def test_auto_never_takes_what_was_not_asked_for(installed: set[Backend]) -> None:
    installed.update(BACKENDS)
    taken = choice.first_installed(RuntimeSettings())
    assert taken.device not in ("gpu", "npu", "tensorrt", "coreml", "directml", "openvino")
    assert choice.first_installed(REFERENCE) == CPU


def test_openvino_without_bfloat16_computes_in_float32(installed: set[Backend]) -> None:
    installed.add(Backend("openvino", "cpu", "float32"))
    assert choice.first_installed(RuntimeSettings(runtime="openvino")) == Backend(
        "openvino", "cpu", "float32"
    )
    assert choice.first_installed(RuntimeSettings()) == CPU


def test_environment_replaces_auto_only(monkeypatch: pytest.MonkeyPatch, installed: set[Backend]) -> None:
    installed.update(BACKENDS)
    monkeypatch.setenv("MASKWATCH_RUNTIME", "openvino")
    monkeypatch.setenv("MASKWATCH_DEVICE", "gpu")
    assert choice.first_installed(RuntimeSettings()) == Backend("openvino", "gpu", "float16")
    assert choice.first_installed(RuntimeSettings("onnxruntime", "cpu")) == CPU
    monkeypatch.setenv("MASKWATCH_PRECISION", "half")
    with pytest.raises(OptionError, match="precision 'half' is unknown; use auto, float32"):
        RuntimeSettings()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"runtime": "tensorflow"}, "runtime 'tensorflow' is unknown; use auto, onnxruntime, openvino"),
        ({"device": "tpu"}, "device 'tpu' is unknown; use auto, cuda, cpu"),
        ({"runtime": "openvino", "device": "cuda"}, "there is no openvino, cuda, auto; leave out one"),
    ],
)
def test_what_does_not_exist_is_an_error(settings: dict[str, str], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        RuntimeSettings(**settings)


@pytest.mark.parametrize("threads", [None, 1, 2])
def test_threads_wait_busily_only_where_a_call_has_all_cores(tiny_model: Path, threads: int | None) -> None:
    options = OnnxRuntime(tiny_model, threads)._session.get_session_options()
    if threads is None:
        with pytest.raises(RuntimeError, match="does not have configuration"):
            options.get_session_config_entry("session.intra_op.allow_spinning")
    else:
        assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


def test_a_device_that_this_build_lacks_is_named(tiny_model: Path) -> None:
    with pytest.raises(OptionError, match="device 'tensorrt' is not in this build of ONNX Runtime"):
        Detector(tiny_model, device="tensorrt")


def test_a_missing_openvino_is_an_error_only_when_asked_for(
    monkeypatch: pytest.MonkeyPatch, tiny_model: Path
) -> None:
    monkeypatch.setattr(choice, "find_spec", lambda name: None)
    monkeypatch.setitem(__import__("sys").modules, "openvino", None)
    with pytest.raises(ImportError, match=r"pip install 'maskwatch\[openvino\]'"):
        Detector(tiny_model, runtime="openvino")
    assert Detector(tiny_model).backend == CPU


def test_one_line_tells_why_a_better_backend_was_passed_over(
    monkeypatch: pytest.MonkeyPatch,
    tiny_model: Path,
    installed: set[Backend],
    caplog: pytest.LogCaptureFixture,
) -> None:
    installed.add(Backend("onnxruntime", "cuda", "float32"))
    real = choice._open

    def broken(path: str | Path, backend: Backend, threads: int | None) -> object:
        if backend.device == "cuda":
            raise BackendUnavailableError("device 'cuda': no driver; install it")
        return real(path, backend, threads)

    monkeypatch.setattr(choice, "_open", broken)
    with caplog.at_level(logging.WARNING, "maskwatch"):
        runtime = open_runtime(tiny_model, RuntimeSettings())
    assert runtime.backend == CPU
    (line,) = caplog.messages
    assert line == (
        "onnxruntime, cuda, float32 does not work, taking onnxruntime, cpu, float32: device 'cuda': no "
        "driver; install it"
    )


def test_a_broken_file_is_an_error_of_the_last_runtime(tmp_path: Path, installed: set[Backend]) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"\x08\x0a\x3a\x00")
    with pytest.raises(ModelFileError, match="ONNX Runtime cannot load it"):
        open_runtime(path, RuntimeSettings())


def test_the_docs_show_the_order() -> None:
    page = (Path(__file__).parents[1] / "docs" / "speed.md").read_text("utf-8")
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if re.match(r"\| \d+ \|", line)]
    assert [Backend(*cells[1:]) for cells in rows] == list(BACKENDS)


# ---- OpenVINO ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=list(openvino_precisions()))
def openvino_320(request: pytest.FixtureRequest) -> Detector:
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    return Detector("maskwatch-320", runtime="openvino", device="cpu", precision=request.param)


@pytest.mark.parametrize("class_agnostic", [None, False])
def test_openvino_finds_what_onnx_runtime_finds(openvino_320: Detector, class_agnostic: bool | None) -> None:
    share, score = TOLERANCES[openvino_320.backend.precision]
    reference = OnnxRuntime(load_model_file("maskwatch-320").path)
    images, _ = openvino_320.prepare([EXAMPLES / name for name in PICTURES])
    thresholds = np.array([0.3, 0.3, 0.3], np.float32)
    theirs = openvino_320._runtime(images, thresholds, 0.5, class_agnostic)
    ours = reference(images, thresholds, 0.5, class_agnostic)
    assert theirs.num_detections.tolist() == ours.num_detections.tolist()
    for row, count in enumerate(ours.num_detections):
        assert count > 0
        sides = np.repeat(ours.boxes[row, :count, 2:] - ours.boxes[row, :count, :2], 2, 1)
        assert np.abs(theirs.boxes[row, :count] - ours.boxes[row, :count]).max() <= (share * sides).max()
        np.testing.assert_allclose(theirs.scores[row, :count], ours.scores[row, :count], atol=score)
        assert theirs.classes[row].tolist() == ours.classes[row].tolist()
        assert theirs.boxes[row, count:].max() == 0


def test_openvino_keeps_the_defaults_of_the_file(openvino_320: Detector) -> None:
    images, _ = openvino_320.prepare([EXAMPLES / "astronaut.jpg"])
    default = openvino_320._runtime(images)
    given = openvino_320._runtime(images, np.float32([*openvino_320.thresholds.values()]), 0.6, True)
    np.testing.assert_array_equal(default.scores, given.scores)
    nothing = openvino_320._runtime(images, np.ones(3, np.float32))
    assert nothing.num_detections.tolist() == [0]


def test_openvino_in_several_threads(openvino_320: Detector) -> None:
    from concurrent.futures import ThreadPoolExecutor

    pictures = [read_image(EXAMPLES / name) for name in PICTURES]
    alone = [openvino_320(picture) for picture in pictures]
    with ThreadPoolExecutor(4) as pool:
        for index, found in zip([0, 1] * 8, pool.map(openvino_320, pictures * 8), strict=True):
            np.testing.assert_array_equal(found.xyxy, alone[index].xyxy)


def test_openvino_gives_the_same_alone_and_in_a_batch(openvino_320: Detector) -> None:
    pictures = [read_image(EXAMPLES / name) for name in PICTURES]
    together = openvino_320(pictures)
    for picture, found in zip(pictures, together, strict=True):
        alone = openvino_320(picture)
        assert (np.diag(box_iou(alone.xyxy, found.xyxy)) > 0.99).all()


def test_openvino_gives_the_same_in_a_batch_with_two_scales() -> None:
    """Its CPU plugin mixed up the sizes of boxes from the second picture on, see `read_model`."""
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    detector = Detector("maskwatch-640", runtime="openvino", device="cpu", precision="float32")
    batch, _ = detector.prepare([EXAMPLES / name for name in PICTURES])
    together, reference = detector.run(batch), OnnxRuntime(detector.path)(batch)
    assert together.num_detections.tolist() == [1, 1]
    np.testing.assert_allclose(together.boxes, reference.boxes, atol=0.01)
    np.testing.assert_allclose(together.scores, reference.scores, atol=1e-4)


def test_a_file_without_candidates_runs_on_onnx_runtime(
    tiny_model: Path, caplog: pytest.LogCaptureFixture, installed: set[Backend]
) -> None:
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    installed.add(Backend("openvino", "cpu", "float32"))
    with pytest.raises(ModelFileError, match="no tensor candidate_boxes; use runtime 'onnxruntime'"):
        Detector(tiny_model, runtime="openvino")
