"""`maskwatch export` as a user calls it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from drawn_data import draw_faces
from maskwatch import Detector, load_model_file, read_image
from maskwatch.cli.app import main
from maskwatch.training.recipe import Recipe

CLASSES = ("face", "back")
PORTRAIT = Path(__file__).resolve().parents[1] / "examples" / "astronaut.jpg"


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as end:
        main(["export", *map(str, arguments)])
    return int(end.value.code or 0)


@pytest.fixture(scope="module", autouse=True)
def single_thread() -> Iterator[None]:
    from tiny_network import one_thread

    with one_thread():
        yield


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For pictures so small that there are less than a hundred candidates."""
    return write_checkpoint(tmp_path_factory.mktemp("run") / "best.ckpt", 32)


def write_checkpoint(target: Path, size: int, classes: Sequence[str] = CLASSES, shift: float = 0.0) -> Path:
    """As `maskwatch train` does; `shift` is added to every score before the sigmoid."""
    import torch

    from maskwatch.training.checkpoint import FORMAT_KEY, describe
    from tiny_network import tiny_network

    network = tiny_network(len(classes), size)
    with torch.no_grad():
        bias = network.head.classes.pointwise.bias
        assert bias is not None
        bias += shift
    content = {
        FORMAT_KEY: describe(Recipe(size=size), classes, "noise"),
        "state_dict": {f"network.{key}": value for key, value in network.state_dict().items()},
        "global_step": 9,
    }
    torch.save(content, target)
    return target


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    draw_faces(folder, 5)
    return folder


@pytest.mark.slow
def test_export_then_detect(
    checkpoint: Path, drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "models" / "small.onnx"
    spellings = "face=with_mask|without_mask,back"
    assert run(checkpoint, "-o", target, "--tune", drawn, "--classes", spellings) == 0
    out, err = capsys.readouterr()
    assert "choosing thresholds on 5 pictures" in err
    table = [line.split() for line in out.splitlines() if line.startswith(" ")]
    assert table[0] == ["class", "threshold", "precision", "recall", "F1"]
    assert [row[0] for row in table[1:]] == list(CLASSES)
    assert "calibration, on the 5 pictures it was fitted on" in out
    assert "compared with torch on 5 pictures: 0.png, 1.png, 2.png, 3.png, 4.png" in out
    assert "largest differences" in out
    assert f"wrote {target} (" in out
    assert f"next: maskwatch detect photo.jpg --model {target}" in out
    about = load_model_file(target).metadata
    assert (about.name, about.classes, about.input_size) == ("small", CLASSES, (32, 32))
    assert [f"{value:.3f}" for value in about.thresholds] == [row[1] for row in table[1:]]
    assert about.thresholds[1] == 0.5, "nothing of this class was there to choose on"
    assert (len(about.calibration), about.calibrated_on) == (2, 5)
    assert len(Detector(target, threshold=0.0)(drawn / "0.png")) > 10
    assert run(checkpoint, "-o", target) == 2
    assert "--force" in capsys.readouterr().err
    assert load_model_file(target).metadata == about
    assert (
        run(checkpoint, "-o", target, "--tune", drawn, "--classes", spellings, "--force", "--no-calibrate")
        == 0
    )
    assert "calibration" not in capsys.readouterr().out
    assert load_model_file(target).metadata.calibration == ()


@pytest.mark.slow
def test_a_file_that_looks_twice_finds_the_large_ones_at_half_size(tmp_path: Path) -> None:
    from maskwatch.training.checkpoint import load_checkpoint
    from maskwatch.training.torch_detector import TorchDetector
    from tiny_network import noisy_pictures

    checkpoint, twice = write_checkpoint(tmp_path / "best.ckpt", 64), tmp_path / "twice.onnx"
    assert run(checkpoint, "-o", twice, "--two-scales") == 0
    picture = noisy_pictures(1, 64)[0]
    (one,) = TorchDetector.load(checkpoint, class_agnostic=True)([picture])
    two = Detector(twice, threshold=0.0)(picture)
    sides = np.sqrt(np.prod(two.xyxy[:, 2:] - two.xyxy[:, :2], 1))
    assert len(one) > 10
    assert len(two) > 10
    assert (sides > 40).any(), "the large ones come from the second look"
    assert load_model_file(twice).metadata.box_voting
    weights = sum(value.numel() for value in load_checkpoint(checkpoint).network.parameters())
    assert twice.stat().st_size < 1.08 * 4 * weights, "the weights are stored once"


@pytest.mark.slow
def test_a_model_file_is_written_again_at_another_size(tmp_path: Path) -> None:
    from maskwatch.training.start import load_mean
    from maskwatch.training.torch_detector import TorchDetector

    other = tmp_path / "other.onnx"
    assert run("maskwatch-320", "-o", other, "--size", "192") == 0
    before, after = load_model_file("maskwatch-320").metadata, load_model_file(other).metadata
    assert after == replace(before, name="other", input_size=(192, 192))
    portrait = read_image(PORTRAIT)
    same = TorchDetector.of(load_mean([Path("maskwatch-320")]), (192, 192), class_agnostic=True)
    (wanted,) = same.calibrated(before.calibration).variant(
        threshold=dict(zip(before.classes, before.thresholds, strict=True))
    )([portrait])
    found = Detector(other, runtime="onnxruntime", precision="float32")(portrait)
    assert found.data["class_name"].tolist() == ["no_mask"]
    np.testing.assert_allclose(found.xyxy, wanted.xyxy, atol=0.1)
    np.testing.assert_allclose(found.confidence, wanted.confidence, atol=1e-3)


@pytest.mark.slow
def test_several_checkpoints_become_the_mean_of_their_weights(tmp_path: Path) -> None:
    from maskwatch.training.torch_detector import TorchDetector
    from tiny_network import noisy_pictures

    low, middle, high = (
        write_checkpoint(tmp_path / f"{name}.ckpt", 32, shift=shift)
        for name, shift in (("low", 0.0), ("middle", 1.0), ("high", 2.0))
    )
    mean = tmp_path / "mean.onnx"
    assert run(low, high, "-o", mean) == 0
    picture = noisy_pictures(1, 32)[0]
    found = Detector(mean, threshold=0.1)(picture)
    same = TorchDetector.load(middle, class_agnostic=True)
    (wanted,) = same.variant(threshold=dict.fromkeys(CLASSES, 0.1))([picture])
    assert len(found) > 10
    np.testing.assert_allclose(found.xyxy, wanted.xyxy, atol=1e-2)
    np.testing.assert_allclose(found.confidence, wanted.confidence, atol=1e-4)
    assert json.loads(load_model_file(mean).metadata.recipe)["mean_of"] == 2


def test_checkpoints_that_have_no_mean_are_named(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_checkpoint(tmp_path / "other.ckpt", 32, ("face", "back", "side"))
    assert run(checkpoint, other, "-o", tmp_path / "x.onnx") == 2
    assert f"other.ckpt: has other classes, anchors or resizing than {checkpoint}" in capsys.readouterr().err
    assert not (tmp_path / "x.onnx").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-o", "x.ckpt"], "ends in .onnx"),
        (["-o", "x.onnx", "--size", "100"], "multiples of 32"),
        (["-o", "x.onnx", "--size", "96", "--two-scales"], "multiples of 64"),
        (["-o", "x.onnx", "--size", "large"], "'large' is not a size"),
        (["-o", "x.onnx", "--threshold", "mask=0.5"], "no class 'mask'; use face, back"),
        (["-o", "x.onnx", "--threshold", "1.5"], "from 0 to 1"),
        (["-o", "x.onnx", "--threshold", "high"], "'high' is not a number"),
        (["-o", "x.onnx", "--threshold", "0.5", "--tune", "."], "give only one"),
        (["-o", "x.onnx", "--verify-on", "nowhere"], "'nowhere': no such file"),
        (["-o", "x.onnx", "--tune", "nowhere"], "nowhere"),
        (["-o", "file/x.onnx"], "this is a file, not a folder"),
    ],
)
def test_mistakes_end_in_one_message(
    checkpoint: Path,
    tmp_path: Path,
    options: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    assert run(checkpoint, *options) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert message in err
    assert "Traceback" not in err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_file_that_is_no_checkpoint_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "none.ckpt").write_text("nothing")
    assert run(tmp_path / "none.ckpt", "-o", tmp_path / "x.onnx") == 2
    assert "none.ckpt: not a checkpoint" in capsys.readouterr().err


def test_a_missing_extra_is_named_at_once(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "onnxscript" else name)
    assert run(checkpoint, "-o", tmp_path / "x.onnx") == 2
    err = capsys.readouterr().err
    assert "onnxscript" in err
    assert "maskwatch[train]" in err
