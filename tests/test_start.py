"""Starting weights from models and checkpoints of ours: what is kept, what is made anew."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from maskwatch import Detector, read_image
from maskwatch.errors import CheckpointError, ModelFileError
from maskwatch.labels import MASK_CLASSES
from maskwatch.models import load_model_file
from maskwatch.training.recipe import Recipe

EXAMPLE = Path(__file__).parents[1] / "examples" / "astronaut_masked.jpg"


def test_the_embedded_model_starts_as_what_it_is() -> None:
    from maskwatch.training.start import start_network
    from maskwatch.training.torch_detector import TorchDetector

    network = start_network("maskwatch-640", Recipe(), MASK_CLASSES)
    image = read_image(EXAMPLE)
    ours = TorchDetector(network, MASK_CLASSES, (640, 640), score_threshold=0.3)([image])[0]
    theirs = Detector("maskwatch-640", threshold=0.3)(image)
    assert len(ours) == len(theirs) == 1
    assert ours.class_id.tolist() == theirs.class_id.tolist()
    # Without voting against with it, so only about the same.
    np.testing.assert_allclose(ours.xyxy, theirs.xyxy, atol=25)


def test_other_classes_keep_those_of_the_same_name() -> None:
    import torch

    from maskwatch.training.start import start_network

    whole = start_network("maskwatch-640", Recipe(), MASK_CLASSES)
    other = start_network("maskwatch-640", Recipe(), ("visor", "no_mask"))
    per_cell = other.anchor_spec.per_cell
    kept = whole.head.classes.pointwise.weight.reshape(per_cell, 4, -1)
    made = other.head.classes.pointwise.weight.reshape(per_cell, 3, -1)
    assert torch.equal(made[:, 0], kept[:, 0])
    assert torch.equal(made[:, 2], kept[:, 2])
    assert not torch.isclose(made[:, 1], kept[:, 1]).all()
    assert torch.equal(other.head.boxes.pointwise.weight, whole.head.boxes.pointwise.weight)
    assert torch.equal(other.backbone.stem[0].weight, whole.backbone.stem[0].weight)


def test_other_anchors_keep_the_shapes_they_share() -> None:
    import torch

    from maskwatch.training.start import start_network

    whole = start_network("maskwatch-640", Recipe(), MASK_CLASSES)
    more = start_network("maskwatch-640", Recipe(aspect_ratios=(2.0, 1.0)), MASK_CLASSES)
    boxes = more.head.boxes.pointwise.weight.reshape(4, 4, -1)
    assert torch.equal(boxes[2:], whole.head.boxes.pointwise.weight.reshape(2, 4, -1))


def test_the_mean_with_a_model_file_counts_each_as_often_as_it_is_named(tmp_path: Path) -> None:
    import torch

    from maskwatch.training.checkpoint import FORMAT_KEY, describe
    from maskwatch.training.start import load_mean, start_network

    before = start_network("maskwatch-640", Recipe(), MASK_CLASSES).state_dict()
    name = "head.classes.pointwise.bias"
    content = {
        FORMAT_KEY: describe(Recipe(size=320), MASK_CLASSES, "noise"),
        "state_dict": {f"network.{key}": value for key, value in (before | {name: before[name] + 3}).items()},
        "global_step": 9,
    }
    torch.save(content, tmp_path / "a.ckpt")
    for again, moved in ((1, 1.5), (2, 2.0)):
        mean = load_mean([tmp_path / "a.ckpt"] * again + [Path("maskwatch-640")])
        after = mean.network.state_dict()
        torch.testing.assert_close(after[name], before[name] + moved)
        for key in before:
            if key != name and before[key].is_floating_point():
                torch.testing.assert_close(after[key], before[key])
        assert (mean.recipe.size, mean.step, mean.mean_of) == (320, 9, again + 1)
        assert mean.trained_on.startswith("noise; ")
    content[FORMAT_KEY] = describe(Recipe(size=320, resize="squash"), MASK_CLASSES, "noise")
    torch.save(content, tmp_path / "b.ckpt")
    with pytest.raises(
        CheckpointError, match=r"maskwatch-640: has other classes, anchors or resizing than .*b"
    ):
        load_mean([tmp_path / "b.ckpt", Path("maskwatch-640")])


def test_files_without_weights_to_train_say_what_to_do(tiny_model: Path, tmp_path: Path) -> None:
    import onnx

    from maskwatch.training.start import start_network

    with pytest.raises(CheckpointError, match="start from maskwatch-640"):
        start_network(tiny_model, Recipe(), MASK_CLASSES)
    model = onnx.load(load_model_file("maskwatch-320").path)
    (norm,) = (w for w in model.graph.initializer if w.name.endswith("blocks.3.expand.1.running_mean"))
    norm.name = "merged"
    onnx.save(model, tmp_path / "older.onnx")
    with pytest.raises(CheckpointError, match="BatchNorms are merged"):
        start_network(tmp_path / "older.onnx", Recipe(), MASK_CLASSES)
    with pytest.raises(ModelFileError):
        start_network("nowhere.onnx", Recipe(), MASK_CLASSES)


def test_class_sources_must_fit() -> None:
    from maskwatch.network import SSD
    from maskwatch.network.anchors import AnchorSpec
    from maskwatch.training.start import fit_head

    spec = AnchorSpec()
    for sources, message in (([0], "names 1 classes for 2"), ([0, 7], "are not in the checkpoint")):
        with pytest.raises(CheckpointError, match=message):
            fit_head(dict(SSD(3, spec).state_dict()), spec, SSD(2, spec), sources)
