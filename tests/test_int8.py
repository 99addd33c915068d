"""Model files in int8: what stays in float, when one is written, and that it computes in int8."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest

from maskwatch import Detector, load_model_file
from maskwatch.boxes import box_iou
from maskwatch.cli.app import main
from maskwatch.errors import ExportError, ModelFileError
from maskwatch.export.photographs import own_photographs
from maskwatch.models import ModelFile
from maskwatch.runtimes.base import OUTPUTS
from maskwatch.runtimes.onnx_runtime import OnnxRuntime

MODEL = "maskwatch-320"


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as end:
        main(["export", *map(str, arguments)])
    return int(end.value.code or 0)


@pytest.fixture(scope="module")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The portraits of the package, with the faces that the float32 model finds as their annotations."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("portraits")
    detector = Detector(MODEL, runtime="onnxruntime", device="cpu", precision="float32")
    for number, photo in enumerate(own_photographs()):
        Image.fromarray(np.ascontiguousarray(photo.image_rgb)).save(folder / f"{number}.png")
        found = detector.detect_boxes(photo.image_rgb)
        objects = ""
        for box, class_id in zip(found.xyxy, found.class_id, strict=True):
            corners = zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
            places = "".join(f"<{key}>{value:.1f}</{key}>" for key, value in corners)
            name = detector.class_names[class_id]
            objects += f"<object><name>{name}</name><bndbox>{places}</bndbox></object>"
        (folder / f"{number}.xml").write_text(f"<annotation>{objects}</annotation>")
    return folder


# ---- Without NNCF ----------------------------------------------------------------------------------------


def test_cutting_folding_and_joining_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from maskwatch.export import int8
    from maskwatch.export.onnx import build_model
    from maskwatch.network import TwoScales
    from tiny_model import metadata
    from tiny_network import noisy_pictures, tiny_network

    about = metadata(64)
    onnx.save(build_model(TwoScales(tiny_network(size=64)).eval(), about), str(tmp_path / "tiny.onnx"))
    fronts = []

    def unchanged(front: onnx.ModelProto, *options: object) -> onnx.ModelProto:
        fronts.append(front)
        return front

    monkeypatch.setattr(int8, "_quantised", unchanged)
    joined = int8.quantise(ModelFile(tmp_path / "tiny.onnx", about), [], ())
    (front,) = fronts
    kinds = Counter(node.op_type for node in front.graph.node)
    assert kinds["BatchNormalization"] == 0
    assert len(front.graph.output) == 20, "boxes and classes of five levels at two scales"
    assert {output.name for output in front.graph.output} == set(int8._last_convolutions(joined.graph))
    assert not {"TopK", "Sigmoid", "NonMaxSuppression", "Concat"} & kinds.keys()
    onnx.save(joined, str(tmp_path / "joined.onnx"))
    images = noisy_pictures(3, 64, seed=2)
    low = np.full(3, 0.05, np.float32)
    before, after = (OnnxRuntime(tmp_path / name, 1)(images, low) for name in ("tiny.onnx", "joined.onnx"))
    assert before.num_detections.min() > 10
    for name in OUTPUTS:
        np.testing.assert_allclose(
            getattr(after, name), getattr(before, name), atol=1e-3, rtol=1e-4, err_msg=name
        )


def script(
    monkeypatch: pytest.MonkeyPatch, tiny_model: Path, averages: Sequence[float]
) -> list[Sequence[str]]:
    """Replaces quantising and measuring; returns the list of what was asked to stay in float."""
    from maskwatch.export import int8

    asked: list[Sequence[str]] = []

    def quantise(file: ModelFile, pictures: object, float_parts: Sequence[str]) -> onnx.ModelProto:
        asked.append(float_parts)
        return onnx.load(str(tiny_model))

    values = iter(averages)
    monkeypatch.setattr(int8, "quantise", quantise)
    monkeypatch.setattr(int8, "average_precision", lambda model, data: next(values))
    return asked


def drawn(folder: Path) -> object:
    from drawn_data import draw_faces
    from maskwatch.data import read_data
    from maskwatch.labels import ClassMap

    draw_faces(folder, 3)
    return read_data([folder], ClassMap.parse("mask=with_mask,no_mask=without_mask,mask_incorrect"))


def test_the_first_that_keeps_average_precision_is_written(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from maskwatch.export.int8 import FLOAT_PARTS, write_int8

    asked = script(monkeypatch, tiny_model, (0.5, 0.494, 0.4951))
    lines: list[str] = []
    data = drawn(tmp_path / "data")
    written = write_int8(tiny_model, tmp_path / "int8.onnx", data, data, "door/val", lines.append)  # type: ignore[arg-type]
    assert asked == list(FLOAT_PARTS[:2])
    assert (written.ap, written.float32_ap, written.float_parts) == (0.4951, 0.5, FLOAT_PARTS[1])
    assert lines[0] == "int8: AP 0.4940, in float32 0.5000"
    about = load_model_file(tmp_path / "int8.onnx").metadata
    assert about.is_int8
    assert about.quantised_on == f"door/val: 3 pictures; {', '.join(FLOAT_PARTS[1])} in float32"
    assert about.thresholds == load_model_file(tiny_model).metadata.thresholds
    with pytest.raises(ModelFileError, match="is in int8 already; give the model file that it came from"):
        write_int8(tmp_path / "int8.onnx", tmp_path / "again.onnx", data, data, "")  # type: ignore[arg-type]


def test_a_fall_of_average_precision_is_refused_with_the_numbers(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from maskwatch.export.int8 import FLOAT_PARTS, write_int8

    script(monkeypatch, tiny_model, (0.5, *[0.4949] * len(FLOAT_PARTS)))
    data = drawn(tmp_path / "data")
    with pytest.raises(
        ExportError, match=r"more than 0\.005 in int8, .*: AP 0\.4949, in float32 0\.5000; AP"
    ):
        write_int8(tiny_model, tmp_path / "int8.onnx", data, data, "val")  # type: ignore[arg-type]
    script(monkeypatch, tiny_model, (-1.0,))
    with pytest.raises(ExportError, match="val: holds no box to measure AP by"):
        write_int8(tiny_model, tmp_path / "int8.onnx", data, data, "val")  # type: ignore[arg-type]
    assert not list(tmp_path.glob("*.onnx"))


def test_the_missing_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from importlib.util import find_spec

    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "nncf" else find_spec(name))
    assert run(MODEL, "--int8", tmp_path, "-o", tmp_path / "x.onnx") == 2
    error = capsys.readouterr().err
    assert "--int8 (module nncf) needs the 'int8' extra; run: pip install 'maskwatch[int8]'" in error
    assert len(error.splitlines()) == 1


def test_formats_that_build_the_network_again_have_no_int8(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("nncf", reason="the extra int8 is not installed")
    assert run(MODEL, "--int8", tmp_path, "--to", "pt2", "-o", tmp_path / "out") == 2
    assert "--to pt2 has no int8, only openvino, onnx-raw, triton" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


# ---- With NNCF -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, tiny_data: Path) -> Path:
    """A file in int8."""
    pytest.importorskip("nncf", reason="the extra int8 is not installed")
    target = tmp_path_factory.mktemp("int8") / "int8.onnx"
    with pytest.MonkeyPatch.context() as patch:
        allow_a_larger_fall(patch)
        assert run(MODEL, "--int8", tiny_data, "-o", target) == 0
    return target


def allow_a_larger_fall(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two portraits with boxes to the pixel are no measure of AP."""
    for module in ("int8", "formats.comparison"):
        monkeypatch.setattr(f"maskwatch.export.{module}.AP_TOLERANCE", 0.2)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_int8_finds_the_same_faces(written: Path, runtime: str) -> None:
    pytest.importorskip(runtime, reason=f"{runtime} is not installed")
    about = load_model_file(written).metadata
    assert about.is_int8
    assert "pictures" in about.quantised_on
    assert written.stat().st_size < 0.5 * load_model_file(MODEL).path.stat().st_size
    kinds = Counter(node.op_type for node in onnx.load(str(written)).graph.node)
    assert kinds["QuantizeLinear"] > 50
    ours = Detector(written, runtime=runtime, device="cpu", precision="float32")
    reference = Detector(MODEL, runtime="onnxruntime", device="cpu", precision="float32")
    for photo in own_photographs():
        found, wanted = ours.detect_boxes(photo.image_rgb), reference.detect_boxes(photo.image_rgb)
        assert found.class_id.tolist() == wanted.class_id.tolist()
        assert (np.diag(box_iou(found.xyxy, wanted.xyxy)) > 0.85).all()
        np.testing.assert_allclose(found.confidence, wanted.confidence, atol=0.15)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_openvino_computes_convolutions_in_int8(written: Path) -> None:
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    from maskwatch.runtimes.openvino import OpenVino

    network = OpenVino(written)._network.get_runtime_model()
    precisions = Counter(
        node.get_rt_info()["runtimePrecision"].astype(str)
        for node in network.get_ops()
        if node.get_rt_info()["layerType"].astype(str) == "Convolution"
    )
    assert precisions["u8"] + precisions["i8"] > 40, precisions


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_openvino_ir_in_int8_is_compared_with_the_float_model(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("nncf", reason="the extra int8 is not installed")
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    allow_a_larger_fall(monkeypatch)
    assert run(MODEL, "--int8", tiny_data, "--to", "openvino", "-o", tmp_path / "ir") == 0
    about = json.loads((tmp_path / "ir" / f"{MODEL}.json").read_text("utf-8"))
    assert (about["status"], about["model"]["precision"]) == ("verified", "int8")
    float32_ap, ap = about["comparison"]["ap"]
    assert float32_ap == pytest.approx(1, abs=0.02), "the annotations are its own detections"
    assert ap > 0.8
    assert about["files"][f"{MODEL}.bin"] < 0.5 * load_model_file(MODEL).path.stat().st_size


@pytest.mark.slow
def test_nncf_reports_nothing_to_its_maker() -> None:
    pytest.importorskip("nncf", reason="the extra int8 is not installed")
    program = (
        "from maskwatch.export import int8; int8._nncf(); from nncf.telemetry.wrapper import telemetry; "
        "print(type(telemetry).__name__)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "MagicMock\n", done.stdout + done.stderr
