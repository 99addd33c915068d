"""Model files in other formats: each is loaded in its own runtime and finds what the source finds."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from maskwatch import load_model_file
from maskwatch.cli.app import main
from maskwatch.errors import ExportError, MissingExtraError, ModelFileError, OutputError
from maskwatch.models import ModelFile

if TYPE_CHECKING:
    from maskwatch.export.formats.base import ConvertOptions, Signature

MODEL = "maskwatch-320"


@pytest.fixture(scope="module", autouse=True)
def single_thread() -> Iterator[None]:
    from tiny_network import one_thread

    with one_thread():
        yield


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as end:
        main(["export", *map(str, arguments)])
    return int(end.value.code or 0)


def described(folder: Path, model: str = MODEL) -> dict[str, object]:
    described: dict[str, object] = json.loads((folder / f"{model}.json").read_text("utf-8"))
    return described


def test_command_writes_names_and_describes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "new" / "raw"
    assert run(MODEL, "--to", "onnx-raw", "-o", target) == 0
    out = capsys.readouterr().out
    assert f"{target / 'maskwatch-320.onnx'} (10.6 MB)" in out
    assert "compared with the model file on 3 pictures: " in out
    assert out.endswith(f"wrote maskwatch-320 for onnx-raw to {target} (verified)\n")
    about = described(target)
    assert about["schema"] == "maskwatch.export/1"
    assert about["files"] == {"maskwatch-320.onnx": (target / "maskwatch-320.onnx").stat().st_size}
    assert about["comparison"]["detections"] > 10  # type: ignore[index]
    metadata = load_model_file(MODEL).metadata
    assert about["model"]["classes"] == list(metadata.classes)  # type: ignore[index]
    assert about["model"]["thresholds"] == list(metadata.thresholds)  # type: ignore[index]
    assert about["outputs"] == [
        {"name": "boxes_xyxy", "type": "float32", "shape": ["N", 4268, 4]},
        {"name": "scores", "type": "float32", "shape": ["N", 4268, 3]},
    ]
    assert run(MODEL, "--to", "onnx-raw", "-o", target) == 2
    assert "--force" in capsys.readouterr().err
    assert (
        run(MODEL, "--to", "onnx-raw", "-o", target, "--batch", 2, "--input-type", "float32", "--force") == 0
    )
    session = ort.InferenceSession(target / "maskwatch-320.onnx")
    assert [(value.type, value.shape) for value in session.get_inputs()] == [
        ("tensor(float)", [2, 3, 320, 320])
    ]
    assert described(target)["inputs"] == [{"name": "images", "type": "float32", "shape": [2, 3, 320, 320]}]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--to", "tflite"], "--to 'tflite' is not one of openvino, onnx-raw"),
        (["--to", "openvino", "--batch", "2"], "--batch 2: --to openvino does not have it, only onnx-raw"),
        (["--to", "onnx-raw", "--input-type", "int8"], "'int8' is not one of uint8, float32"),
        (["--to", "onnx-raw", "--tune", "."], "--tune is for checkpoints"),
        (["--to", "onnx-raw", "--size", "320"], "--size is for checkpoints"),
        (["--to", "onnx-raw", "--verify-on", "nowhere"], "'nowhere': no such file"),
        (["--to", "onnx-raw", "--data", "nowhere"], "nowhere"),
    ],
)
def test_mistakes_end_in_one_message_and_no_folder(
    options: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(MODEL, "-o", "out", *options) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_options_of_formats_need_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("best.ckpt", "-o", tmp_path / "x.onnx", "--batch", 1) == 2
    assert "--batch is for other formats; name one with --to" in capsys.readouterr().err


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from maskwatch.export.formats import format_named
    from maskwatch.export.formats.base import ConvertOptions

    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"--to openvino .*maskwatch\[openvino\]"):
        format_named("openvino", ConvertOptions())


# ---- Comparison -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", ["boxes", "scores"])
def test_a_model_that_finds_something_else_leaves_nothing_behind(change: str, tmp_path: Path) -> None:
    from maskwatch.export.formats import write_model
    from maskwatch.export.formats.onnx_raw import ONNX_RAW, write_onnx
    from maskwatch.export.photographs import own_photographs

    def damaged(file: ModelFile, folder: Path, options: ConvertOptions) -> Signature:
        signature = write_onnx(file, folder, options)
        path = next(folder.glob("*.onnx"))
        model = onnx.load(str(path))
        (anchors,) = (item for item in model.graph.initializer if item.name == "all_anchors")
        (bias,) = (i for i in model.graph.initializer if i.name.endswith("head.classes.pointwise.bias"))
        tensor, shift = (anchors, 1.5) if change == "boxes" else (bias, 0.3)
        moved = onnx.numpy_helper.to_array(tensor) + np.float32(shift)
        tensor.CopyFrom(onnx.numpy_helper.from_array(moved, tensor.name))
        onnx.save(model, str(path))
        return signature

    format = replace(ONNX_RAW, convert=damaged)
    with pytest.raises(
        ExportError, match=r"on astronaut\S* only the (model file|copy) finds \w+ with score 0\.\d+"
    ):
        write_model(MODEL, tmp_path / "out", format, own_photographs())
    assert list(tmp_path.iterdir()) == []


def test_pictures_without_faces_prove_nothing(tmp_path: Path) -> None:
    from maskwatch.export.formats import write_model
    from maskwatch.export.formats.onnx_raw import ONNX_RAW
    from maskwatch.export.photographs import Photograph

    grey = [Photograph("grey", np.full((200, 300, 3), 128, np.uint8))]
    with pytest.raises(ExportError, match="on grey, so that there is nothing to compare"):
        write_model(MODEL, tmp_path / "out", ONNX_RAW, grey)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_checkpoint_is_exported_first_and_ap_is_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from drawn_data import draw_faces
    from test_cli_export import write_checkpoint

    checkpoint = write_checkpoint(tmp_path / "best.ckpt", 32)
    draw_faces(tmp_path / "faces", 5)
    options = ["--classes", "face=with_mask|without_mask,back", "--data", tmp_path / "faces"]
    options += ["--verify-on", tmp_path / "faces", "--name", "small/faces"]
    assert run(checkpoint, "--to", "onnx-raw", "-o", tmp_path / "raw", *options) == 0
    out = capsys.readouterr().out
    assert "compared with torch on 5 pictures" in out
    assert "compared with the model file on 5 pictures" in out
    assert re.search(r"AP 0\.\d{3}, of the model file 0\.\d{3}", out)
    assert sorted(path.name for path in (tmp_path / "raw").iterdir()) == [
        *(".maskwatch", "small_faces.json", "small_faces.onnx")
    ]
    ours, copied = described(tmp_path / "raw", "small_faces")["comparison"]["ap"]  # type: ignore[index]
    assert ours == pytest.approx(copied, abs=1e-3)


def test_another_average_precision_is_refused(tmp_path: Path) -> None:
    from drawn_data import draw_faces
    from maskwatch import Detector
    from maskwatch.data import read_data
    from maskwatch.export.formats.comparison import compare_ap
    from maskwatch.labels import ClassMap
    from maskwatch.runtimes.base import RawDetections
    from maskwatch.runtimes.onnx_runtime import OnnxRuntime

    draw_faces(tmp_path, 4)
    data = read_data([tmp_path], ClassMap.parse("mask=with_mask,no_mask=without_mask,mask_incorrect"))
    detector = Detector(MODEL, runtime="onnxruntime", device="cpu")
    exact = OnnxRuntime(detector.path, 1)

    def perfect(images: np.ndarray, *options: object) -> RawDetections:
        """One detection of each true box."""
        raw = exact(images[:1], np.ones(3, np.float32))
        sample = data.samples[perfect.calls]  # type: ignore[attr-defined]
        perfect.calls += 1  # type: ignore[attr-defined]
        count = len(sample.boxes_xyxy)
        _, (placement,) = detector.prepare([sample.image_path])
        scale = 100 / placement.to_original(np.array([[0, 0, 100, 100]], np.float32))[0, 2]
        raw.boxes[0, :count] = sample.boxes_xyxy * scale
        raw.scores[0, :count], raw.classes[0, :count] = 0.9, sample.class_ids
        raw.num_detections[0] = count
        return raw

    perfect.calls = 0  # type: ignore[attr-defined]
    with pytest.raises(
        ExportError, match=r"AP (1\.0000|0\.9\d+), of the model file 0\.\d+: more than 0\.005"
    ):
        compare_ap(detector, perfect, data, batch=1)


# ---- Formats ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [32, 64])
def test_raw_outputs_of_small_and_of_two_scales(size: int, tmp_path: Path) -> None:
    """At 32 pixels a model file pads its candidates to a hundred."""
    from maskwatch.export.formats import write_model
    from maskwatch.export.formats.onnx_raw import ONNX_RAW
    from maskwatch.export.onnx import build_model
    from maskwatch.export.photographs import Photograph
    from maskwatch.network import TwoScales
    from tiny_model import metadata
    from tiny_network import noisy_pictures, tiny_network

    network = tiny_network(size=size)
    about = replace(metadata(size), calibration=((1.5, 0.5), (0.8, -0.25), (1.0, 0.75)), box_voting=True)
    model = build_model(TwoScales(network).eval() if size == 64 else network, about)
    onnx.save(model, str(tmp_path / "tiny.onnx"))
    photos = [Photograph(f"noise {i}", image) for i, image in enumerate(noisy_pictures(4, 80, seed=1))]
    written = write_model(tmp_path / "tiny.onnx", tmp_path / "out", ONNX_RAW, photos)
    assert written.comparison is not None
    assert written.comparison.detections > 200
    assert written.comparison.box_difference < 0.01
    raw = onnx.load(str(tmp_path / "out" / "tiny.onnx"))
    assert {node.domain for node in raw.graph.node} == {""}
    means = [node for node in raw.graph.node if node.op_type == "ReduceMean"]
    # Others are computed wrongly where OpenVINO reads the file itself.
    assert [a.i for node in means for a in node.attribute if a.name == "keepdims"] == [1] * (size == 64)
    assert not {node.op_type for node in raw.graph.node} & {"TopK", "NonMaxSuppression", "GatherND"}
    assert {entry.key: entry.value for entry in raw.metadata_props} == about.to_props()


def test_a_graph_of_another_program_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    from maskwatch.export.formats import write_model
    from maskwatch.export.formats.onnx_raw import ONNX_RAW

    with pytest.raises(ModelFileError, match="not one that maskwatch export writes"):
        write_model(tiny_model, tmp_path / "out", ONNX_RAW, [])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("model", ["maskwatch-320", "maskwatch-640"])
def test_openvino_ir_finds_what_the_model_file_finds(model: str, tmp_path: Path) -> None:
    ov = pytest.importorskip("openvino", reason="OpenVINO is not installed")
    from maskwatch.export.formats import write_model
    from maskwatch.export.formats.openvino import OPENVINO
    from maskwatch.export.photographs import own_photographs

    written = write_model(model, tmp_path / "ir", OPENVINO, own_photographs())
    assert written.status == "verified"
    assert written.files[f"{model}.bin"] < 0.6 * load_model_file(model).path.stat().st_size
    ir = ov.Core().read_model(tmp_path / "ir" / f"{model}.xml")
    about = described(tmp_path / "ir", model)
    for tensors, names in ((ir.inputs, "inputs"), (ir.outputs, "outputs")):
        found = [
            (t.get_any_name(), t.get_element_type().to_dtype().name, str(t.get_partial_shape()))
            for t in tensors
        ]
        wanted = [
            (t["name"], t["type"], "[" + ",".join("?" if s == "N" else str(s) for s in t["shape"]) + "]")
            for t in about[names]  # type: ignore[attr-defined]
        ]
        assert found == wanted
    classes = ir.get_rt_info(["maskwatch", "classes"]).astype(str)
    assert json.loads(classes) == ["mask", "no_mask", "mask_incorrect"]


def test_triton_configuration_fits_the_file(tmp_path: Path) -> None:
    from maskwatch.tf_compat import textproto

    assert run(MODEL, "--to", "triton", "-o", tmp_path / "repository") == 0
    folder = tmp_path / "repository" / MODEL
    config = textproto.parse((folder / "config.pbtxt").read_text("utf-8"))
    assert (config["name"], config["backend"]) == ([MODEL], ["onnxruntime"])
    assert config["max_batch_size"] == [0]
    session = ort.InferenceSession(folder / "1" / "model.onnx")
    optional = session.get_overridable_initializers()
    types = {"uint8": "UINT8", "float": "FP32", "bool": "BOOL", "int64": "INT64"}

    def tensor(value: ort.NodeArg, more: dict[str, list[bool]]) -> dict[str, list[object]]:
        name = types[value.type.removeprefix("tensor(").removesuffix(")")]
        dims = [-1 if isinstance(side, str) else side for side in value.shape]
        return {"name": [value.name], "data_type": [textproto.Word(f"TYPE_{name}")], "dims": dims, **more}

    inputs = [tensor(value, {}) for value in session.get_inputs()]
    assert config["input"] == inputs + [tensor(value, {"optional": [True]}) for value in optional]
    assert config["output"] == [tensor(value, {}) for value in session.get_outputs()]
    assert described(tmp_path / "repository")["status"] == "converted, not verified in Triton itself"


def test_model_server_configuration_names_the_folder(tmp_path: Path) -> None:
    ov = pytest.importorskip("openvino", reason="OpenVINO is not installed")
    assert run(MODEL, "--to", "openvino-model-server", "-o", tmp_path / "models") == 0
    (entry,) = json.loads((tmp_path / "models" / "config.json").read_text("utf-8"))["model_config_list"]
    config = entry["config"]
    assert config["base_path"] == f"/models/{config['name']}"
    assert config["plugin_config"] == {"INFERENCE_PRECISION_HINT": "f32"}
    versions = tmp_path / "models" / config["name"]
    assert [folder.name for folder in versions.iterdir()] == ["1"]
    ir = ov.Core().read_model(versions / "1" / f"{MODEL}.xml")
    assert [value.get_any_name() for value in ir.outputs] == ["boxes", "scores", "classes", "num_detections"]
    assert "not verified in OpenVINO Model Server" in str(described(tmp_path / "models")["status"])


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    from maskwatch.export.formats import write_model
    from maskwatch.export.formats.onnx_raw import ONNX_RAW

    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file"):
        write_model(MODEL, tmp_path / "file" / "out", ONNX_RAW, [])


def test_program_of_torch_export_has_free_batches_and_metadata(tmp_path: Path) -> None:
    """Of a file with merged BatchNorms."""
    import torch

    assert run(MODEL, "--to", "pt2", "-o", tmp_path / "pt2") == 0
    props = {"maskwatch.json": ""}
    program = torch.export.load(tmp_path / "pt2" / f"{MODEL}.pt2", extra_files=props)
    assert json.loads(props["maskwatch.json"]) == load_model_file(MODEL).metadata.to_props()
    assert not [node for node in program.graph.nodes if "stack_trace" in node.meta]
    boxes_xyxy, scores = program.module()(torch.zeros(3, 320, 320, 3, dtype=torch.uint8))
    assert (boxes_xyxy.shape, scores.shape) == ((3, 4268, 4), (3, 4268, 3))
    about = described(tmp_path / "pt2")
    assert about["outputs"][1]["shape"] == ["N", 4268, 3]  # type: ignore[index]
    assert about["status"] == "verified"


@pytest.mark.slow
def test_litert_takes_one_picture(tmp_path: Path) -> None:
    pytest.importorskip("litert_torch", reason="the extra litert is not installed")
    from ai_edge_litert.interpreter import Interpreter

    assert run(MODEL, "--to", "litert", "-o", tmp_path / "lite") == 0
    about = described(tmp_path / "lite")
    path = tmp_path / "lite" / f"{MODEL}.tflite"
    assert path.stat().st_size < 0.6 * load_model_file(MODEL).path.stat().st_size
    runner = Interpreter(model_path=str(path)).get_signature_runner()
    for details, names in ((runner.get_input_details(), "inputs"), (runner.get_output_details(), "outputs")):
        found = [
            {"name": name, "type": np.dtype(tensor["dtype"]).name, "shape": tensor["shape"].tolist()}
            for name, tensor in details.items()
        ]
        assert found == about[names]
