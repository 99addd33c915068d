"""A small network of random weights, exported and compared with itself in torch."""

from __future__ import annotations

import copy
import json
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper

from maskwatch import Detector, load_model_file
from maskwatch.errors import ExportError, ImageError, OptionError, OutputError, SourceError
from maskwatch.labels import MASK_CLASSES
from maskwatch.models import IOU_THRESHOLD, ModelMetadata
from maskwatch.runtimes.onnx_runtime import OnnxRuntime
from maskwatch.training.recipe import Recipe

if TYPE_CHECKING:
    from maskwatch.export.photographs import Photograph
    from maskwatch.export.verify import Verification
    from maskwatch.network import Network
    from maskwatch.network.postprocess import TensorDetections

SIZE = 64
THRESHOLDS = (0.5, 0.4, 0.3)
CALIBRATION = ((1.5, 0.5), (0.8, -0.25), (1.0, 0.75))


@pytest.fixture(scope="module", autouse=True)
def single_thread() -> Iterator[None]:
    from tiny_network import one_thread

    with one_thread():
        yield


@pytest.fixture(scope="module", params=["as the API", "two scales, voting and calibration"])
def network(request: pytest.FixtureRequest) -> Network:
    from maskwatch.network import TwoScales
    from tiny_network import tiny_network

    network = tiny_network(size=SIZE)
    return network if request.param == "as the API" else TwoScales(network).eval()


@pytest.fixture(scope="module")
def metadata(network: Network) -> ModelMetadata:
    from maskwatch.export.onnx import describe_model
    from maskwatch.network import TwoScales
    from maskwatch.training.checkpoint import Checkpoint

    single = network.network if isinstance(network, TwoScales) else network
    recipe = Recipe(size=SIZE, box_voting=single is not network)
    checkpoint = Checkpoint(single, recipe, MASK_CLASSES, 7, "noise")
    about = describe_model(checkpoint, "tiny", (SIZE, SIZE), THRESHOLDS)
    return replace(about, calibration=CALIBRATION, calibrated_on=5) if single is not network else about


@pytest.fixture(scope="module")
def photos() -> list[Photograph]:
    from maskwatch.export.photographs import Photograph
    from tiny_network import noisy_pictures

    return [Photograph(f"noise {i}", image) for i, image in enumerate(noisy_pictures(4, 80, seed=1))]


@pytest.fixture(scope="module")
def written(
    network: Network,
    metadata: ModelMetadata,
    photos: list[Photograph],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, Verification]:
    from maskwatch.export.onnx import export_network

    target = tmp_path_factory.mktemp("export") / "new folder" / "tiny.onnx"
    return target, export_network(network, metadata, target, photos)


@pytest.fixture(scope="module")
def path(written: tuple[Path, Verification]) -> Path:
    return written[0]


def in_torch(
    network: Network,
    images: np.ndarray,
    thresholds: tuple[float, ...],
    class_agnostic: bool,
    iou: float,
) -> list[TensorDetections]:
    import torch

    from maskwatch.network import TwoScales, preprocess
    from maskwatch.network.boxes import decode
    from maskwatch.network.postprocess import select

    with torch.inference_mode():
        encodings, logits = network(preprocess(torch.from_numpy(images)))
    boxes = decode(encodings, network.anchors_xyxy((SIZE, SIZE)))
    scores = logits[..., 1:].sigmoid()
    double = isinstance(network, TwoScales)
    calibration = CALIBRATION if double else ()
    return [
        select(*pair, (SIZE, SIZE), torch.tensor(thresholds), iou, class_agnostic, double, calibration)
        for pair in zip(boxes, scores, strict=True)
    ]


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("class_agnostic", [True, False])
@pytest.mark.parametrize(
    ("thresholds", "iou"), [(THRESHOLDS, 0.6), ((0.05,) * 3, 0.6), ((0.2, 0.9, 0.1), 0.3), ((1.0,) * 3, 0.6)]
)
def test_finds_what_torch_finds(
    network: Network,
    path: Path,
    count: int,
    class_agnostic: bool,
    thresholds: tuple[float, ...],
    iou: float,
) -> None:
    from maskwatch.network import TwoScales
    from tiny_network import noisy_pictures

    images = noisy_pictures(count, SIZE, seed=count)
    raw = OnnxRuntime(path, 1)(images, np.array(thresholds, np.float32), iou, class_agnostic)
    for row, expected in enumerate(in_torch(network, images, thresholds, class_agnostic, iou)):
        used = slice(int(raw.num_detections[row]))
        assert len(raw.scores[row, used]) == len(expected.scores)
        file = own = np.arange(len(expected.scores))
        if isinstance(network, TwoScales):  # two of its scores are all but equal and come in either order
            file = np.lexsort((raw.scores[row, used], raw.classes[row, used]))
            own = np.lexsort((expected.scores, expected.class_ids))
        np.testing.assert_allclose(raw.scores[row, used][file], expected.scores[own], atol=5e-4)
        np.testing.assert_array_equal(raw.classes[row, used][file], expected.class_ids[own])
        np.testing.assert_allclose(raw.boxes[row, used][file], expected.boxes_xyxy[own], atol=0.01)
    assert (raw.num_detections > 0).all() == (thresholds[0] < 1)


def test_pictures_alone_are_enough(network: Network, path: Path) -> None:
    from maskwatch.export.nms_graph import CLASS_AGNOSTIC
    from tiny_network import noisy_pictures

    images = noisy_pictures(2, SIZE, seed=8)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    assert names == ["boxes", "scores", "classes", "num_detections"]
    *_, counts = session.run(None, {"images": images})
    expected = in_torch(network, images, THRESHOLDS, CLASS_AGNOSTIC, IOU_THRESHOLD)
    assert counts.tolist() == [len(found.scores) for found in expected]


def test_says_what_was_compared(written: tuple[Path, Verification]) -> None:
    result = written[1]
    assert result.photographs == ("noise 0", "noise 1", "noise 2", "noise 3")
    assert result.detections > 4 * 2 * 2 * 50
    assert result.ties < 0.02 * result.detections
    assert 0 < result.box_difference < 0.05
    assert 0 < result.score_difference < 1e-4
    assert "noise 3" in str(result)
    assert f"{result.detections} detections" in str(result)


def test_metadata_come_back(path: Path, metadata: ModelMetadata) -> None:
    assert load_model_file(path).metadata == metadata
    assert metadata.trained_on == "noise"
    assert json.loads(metadata.recipe)["step"] == 7
    assert Recipe(size=SIZE).learning_rate == json.loads(metadata.recipe)["learning_rate"]


def test_the_detector_finds_what_the_checkpoint_finds(network: Network, path: Path) -> None:
    from maskwatch.network import TwoScales
    from maskwatch.training.torch_detector import TorchDetector
    from tiny_network import noisy_pictures

    wide = np.concatenate(noisy_pictures(2, 90, seed=4), axis=1)
    found = Detector(path, threshold=0.4)(wide)
    voting = isinstance(network, TwoScales)
    torch_detector = TorchDetector(network, MASK_CLASSES, (SIZE, SIZE), score_threshold=0.4, voting=voting)
    (expected,) = torch_detector.calibrated(CALIBRATION if voting else ())([wide])
    real = (expected.xyxy[:, 2] > expected.xyxy[:, 0]) & (expected.xyxy[:, 3] > expected.xyxy[:, 1])
    assert len(found) > 5
    assert found.data["class_name"].tolist() == expected.data["class_name"][real].tolist()
    np.testing.assert_allclose(found.xyxy, expected.xyxy[real], atol=0.05)
    np.testing.assert_allclose(found.confidence, expected.confidence[real], atol=1e-4)


def test_the_file_is_whole_small_and_tells_nothing_of_its_maker(network: Network, path: Path) -> None:
    data = path.read_bytes()
    model = onnx.load_from_string(data)
    onnx.checker.check_model(model, full_check=True)
    assert model.ir_version <= 10
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 18)]
    assert not [tensor.name for tensor in model.graph.initializer if tensor.external_data]
    # BatchNorms included: each has two weights and two statistics.
    weights = sum(tensor.nbytes for tensor in network.state_dict().values())
    assert weights * 0.99 < len(data) < weights * 1.05
    for trace in (b".py", b"site-packages", b"File ", b"pkg.torch", bytes(Path.home()), bytes(Path.cwd())):
        assert trace not in data
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.slow
@pytest.mark.parametrize("network", ["two scales, voting and calibration"], indirect=True)
def test_the_same_network_gives_the_same_bytes(network: Network, metadata: ModelMetadata, path: Path) -> None:
    from maskwatch.export.onnx import build_model

    assert build_model(network, metadata).SerializeToString(deterministic=True) == path.read_bytes()


def change(name: str, function: Callable[[np.ndarray], np.ndarray]) -> Callable[[onnx.ModelProto], None]:
    def damage(model: onnx.ModelProto) -> None:
        (tensor,) = (tensor for tensor in model.graph.initializer if tensor.name.endswith(name))
        old = numpy_helper.to_array(tensor)
        new = np.asarray(function(old), old.dtype)
        assert (new != old).any()
        tensor.CopyFrom(numpy_helper.from_array(new, tensor.name))

    return damage


def drop_node(kind: str) -> Callable[[onnx.ModelProto], None]:
    def damage(model: onnx.ModelProto) -> None:
        (node,) = (node for node in model.graph.node if node.op_type == kind)
        node.op_type = "Identity"
        del node.input[1:]
        del node.attribute[:]

    return damage


DAMAGES = {
    "a weight": change("stem.0.weight", lambda old: old * 1.05),
    "boxes a little to the side": change("boxes.pointwise.bias", lambda old: old + 0.2),
    "scores a little higher": change("classes.pointwise.bias", lambda old: old + 0.02),
    "another default of IoU": change("iou_threshold", lambda old: old - 0.2),
    "another default of NMS": change("class_agnostic", np.logical_not),
    "other default thresholds": change("score_thresholds", lambda old: old[::-1]),
    "another calibration": change("calibration_slopes", lambda old: old * 1.05),
    "a row for the wrong class": change("class_of_row", lambda old: np.where(old == 2, 1, old)),
    "fewer detections": change("limit", lambda old: old // 2),
    "not clipped": change("border_high", lambda old: old + 1),
    "scores without sigmoid": drop_node("Sigmoid"),
}


DIFFERENCE = (
    r"does not find on noise {first} what torch finds: "
    r"(torch|the file) has \w+ with score \d\.\d+ at \[.*\], "
    r"(the nearest \w+ of (torch|the file) is off by .* pixels and .* in score|(torch|the file) has no )"
)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_does_not_count_as_written(
    damage: str,
    network: Network,
    metadata: ModelMetadata,
    photos: list[Photograph],
    path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from maskwatch.export.onnx import export_network
    from maskwatch.network import TwoScales

    model = onnx.load(str(path))
    DAMAGES[damage](model)
    # With two looks the first picture has too few detections of a class for a lower limit to show.
    first = int(isinstance(network, TwoScales) and damage == "fewer detections")
    monkeypatch.setattr("maskwatch.export.onnx.build_model", lambda *_: model)
    with pytest.raises(ExportError, match=DIFFERENCE.format(first=first)):
        export_network(network, metadata, tmp_path / "tiny.onnx", photos)
    assert list(tmp_path.iterdir()) == []


def test_other_padding_is_refused(
    network: Network, metadata: ModelMetadata, photos: list[Photograph], path: Path, tmp_path: Path
) -> None:
    from maskwatch.export.verify import verify

    model = onnx.load(str(path))
    change("no_class", lambda old: old + 1)(model)
    onnx.save(model, str(tmp_path / "damaged.onnx"))
    with pytest.raises(ExportError, match="pads"):
        verify(tmp_path / "damaged.onnx", network, metadata, photos)


def test_a_network_that_finds_nothing_is_not_verified(
    network: Network, metadata: ModelMetadata, photos: list[Photograph], path: Path, tmp_path: Path
) -> None:
    """Its weights went to NaN; the file agrees that there is nothing, but that proves nothing."""
    import torch

    from maskwatch.export.verify import verify
    from maskwatch.network import TwoScales

    broken = copy.deepcopy(network)
    single = broken.network if isinstance(broken, TwoScales) else broken
    torch.nn.init.constant_(single.head.classes.pointwise.bias, float("nan"))  # type: ignore[arg-type]
    model = onnx.load(str(path))
    change("classes.pointwise.bias", lambda old: old * np.nan)(model)
    onnx.save(model, str(tmp_path / "nan.onnx"))
    with pytest.raises(ExportError, match="nothing to compare"):
        verify(tmp_path / "nan.onnx", broken, metadata, photos)


def test_an_older_file_survives_a_failure_and_an_unwritable_place_is_named(
    network: Network,
    metadata: ModelMetadata,
    photos: list[Photograph],
    path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from maskwatch.export.onnx import export_network

    model = onnx.load(str(path))
    monkeypatch.setattr("maskwatch.export.onnx.build_model", lambda *_: model)
    (tmp_path / "a file").write_text("in the way")
    with pytest.raises(OutputError, match="a file"):
        export_network(network, metadata, tmp_path / "a file" / "tiny.onnx", photos)
    target = tmp_path / "tiny.onnx"
    target.write_text("older")
    change("stem.0.weight", lambda old: old * 2)(model)
    with pytest.raises(ExportError):
        export_network(network, metadata, target, photos)
    assert target.read_text() == "older"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a file", "tiny.onnx"]


def test_small_inputs_are_padded_to_a_hundred_candidates() -> None:
    import torch

    from maskwatch.export.onnx import CandidateNetwork
    from tiny_network import noisy_pictures, tiny_network

    network = tiny_network(num_classes=1, size=32)
    candidate_network = CandidateNetwork(network, (32, 32))
    images = torch.from_numpy(noisy_pictures(2, 32))
    with torch.inference_mode():
        boxes, scores, classes = candidate_network(images)
    anchors = (16 + 4 + 1 + 1 + 1) * 2
    assert (boxes.shape, scores.shape, classes.shape) == ((2, 100, 4), (2, 100), (2, 100))
    assert candidate_network.candidates == 100
    assert (scores[:, :anchors] > 0).all()
    assert (scores[:, anchors:] == -torch.inf).all()


def test_own_photographs_are_where_the_wheel_puts_them(monkeypatch: pytest.MonkeyPatch) -> None:
    from maskwatch.export import photographs
    from maskwatch.export.photographs import own_photographs

    root = Path(__file__).parents[1]
    project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))
    included = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    installed, checkout = photographs._FOLDERS
    inside = installed.relative_to(Path(photographs.__file__).parents[2])
    for name in photographs._OWN:
        assert included[f"examples/{name}"] == (inside / name).as_posix()
    monkeypatch.setattr(photographs, "_FOLDERS", (installed, root / "examples"))
    assert [photo.name for photo in own_photographs()] == [
        "astronaut.jpg",
        "astronaut_masked.jpg",
        "astronaut.jpg mirrored",
    ]
    monkeypatch.setattr(photographs, "_FOLDERS", (installed / "none", checkout / "none"))
    with pytest.raises(ExportError, match="--verify-on"):
        own_photographs()


def test_photographs_of_a_folder_are_spread_over_it(tmp_path: Path) -> None:
    from PIL import Image

    from maskwatch.export.photographs import photographs_at

    for number in range(30):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / f"{number:02}.png")
    chosen = photographs_at(tmp_path)
    assert [photo.name for photo in chosen] == [f"{number:02}.png" for number in range(0, 30, 3)]
    single = photographs_at(tmp_path / "07.png")
    assert [photo.name for photo in single] == ["07.png", "07.png mirrored", "07.png upside down"]
    (tmp_path / "00.png").write_bytes(b"broken")
    with pytest.raises(ImageError, match=r"00\.png"):
        photographs_at(tmp_path)
    with pytest.raises(SourceError, match="nowhere"):
        photographs_at(tmp_path / "nowhere")
    with pytest.raises(OptionError, match="no picture file"):
        photographs_at("-")
