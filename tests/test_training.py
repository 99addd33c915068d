"""Training for real, on pictures that the tests draw."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from drawn_data import draw_faces
from maskwatch.data import DetectionSet, read_data
from maskwatch.errors import CheckpointError, DataError, OutputError, TrainingError
from maskwatch.evaluation import coco_evaluate, predict
from maskwatch.training.recipe import RENAMED_KEYS, Recipe

if TYPE_CHECKING:
    import torch

    from maskwatch.training.run import TrainOptions

# A kill and a resume, in a process of their own: prints one JSON line a step.
SCRIPT = """
import json, sys
from pathlib import Path
import lightning as L
import maskwatch.training.trainer as trainer
from maskwatch.data import read_data
from maskwatch.training.recipe import RENAMED_KEYS, Recipe
from maskwatch.training.run import TrainOptions, train

trainer.SAVE_EVERY = 2

class Report(L.Callback):
    def on_train_batch_end(self, trainer, module, *_):
        print(json.dumps([trainer.global_step, module.last_losses]), flush=True)

data = read_data(sys.argv[1])
recipe = Recipe(size=64, train_sizes=(64, 96), batch_size=4, steps=9, validate_every=6, warmup_steps=3)
options = TrainOptions(resume=sys.argv[3] == "resume", devices=1, progress=False, callbacks=(Report(),))
train(data, data, recipe, sys.argv[2], options)
"""


def quiet(**changes: Any) -> TrainOptions:
    from maskwatch.training.run import TrainOptions

    return TrainOptions(devices=1, workers=0, progress=False, **changes)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    draw_faces(folder, 8)
    return folder


@pytest.fixture(scope="module")
def drawn_set(drawn: Path) -> DetectionSet:
    return read_data(drawn)


def quick(**changes: object) -> Recipe:
    values = {
        "size": 64, "train_sizes": (64,), "batch_size": 2, "steps": 2, "validate_every": 2,
        "bn_update_fraction": 1.0, "frozen_blocks": 0,
    }  # fmt: skip
    return Recipe(**(values | changes))  # type: ignore[arg-type]


def run_script(data: Path, output: Path, mode: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        # Lightning's advice on how to resume is not about us, and would worry who resumes.
        [sys.executable, "-W", "error:You're resuming", "-c", SCRIPT, str(data), str(output), mode],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def steps_of(process: subprocess.Popen[str]) -> dict[int, dict[str, float]]:
    assert process.stdout is not None
    return dict(json.loads(line) for line in process.stdout if line.startswith("["))


@pytest.mark.slow
def test_killed_and_resumed_gives_the_losses_of_an_unbroken_run(drawn: Path, tmp_path: Path) -> None:
    import torch

    from maskwatch.training.checkpoint import load_checkpoint

    with run_script(drawn, tmp_path / "unbroken", "new") as process:
        unbroken = steps_of(process)
    assert process.returncode == 0
    assert list(unbroken) == list(range(1, 10))

    before = {}
    with run_script(drawn, tmp_path / "broken", "new") as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("["):
                step, losses = json.loads(line)
                before[step] = losses
                if step == 5:
                    process.send_signal(signal.SIGKILL)
                    break
    assert process.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 10
    while not (tmp_path / "broken" / "last.ckpt").is_file() and time.monotonic() < deadline:
        time.sleep(0.1)
    kept = load_checkpoint(tmp_path / "broken" / "last.ckpt").step
    assert 2 <= kept < 9

    with run_script(drawn, tmp_path / "broken", "resume") as process:
        after = steps_of(process)
    assert process.returncode == 0
    assert list(after) == list(range(kept + 1, 10))
    for step, losses in (before | after).items():
        assert losses == unbroken[step], f"step {step}"
    one, two = (load_checkpoint(tmp_path / name / "last.ckpt").network for name in ("unbroken", "broken"))
    for name, value in one.state_dict().items():
        assert torch.equal(value, two.state_dict()[name]), name


@pytest.mark.slow
def test_eight_pictures_are_learnt_by_heart(shared: Path, tmp_path: Path) -> None:
    """From the COCO start, on real photographs, by the default recipe but for its length."""
    from maskwatch.training.run import train
    from maskwatch.training.torch_detector import TorchDetector

    pytest.importorskip("tensorflow", reason="the COCO start is read with TensorFlow ([tf])")
    stems = (shared / "data" / "masks" / "small_train.txt").read_text().split()
    small = read_data(shared / "data" / "masks" / "train", image_ids=stems)
    few = [s.stem for s in small.samples if 0 < len(s) <= 2 and min(s.size_hw) > 200][:8]
    eight = small.subset(few)
    recipe = Recipe(
        size=320, train_sizes=(320,), batch_size=8, steps=80, validate_every=80, warmup_steps=10,
        ema_decay=0.9, bn_momentum=0.1,
    )  # fmt: skip
    start = shared / "weights" / "ssd_mobilenet_v2_fpnlite_320x320_coco17_tpu-8"
    result = train(eight, eight, recipe, tmp_path, quiet(start=start))
    found = predict(TorchDetector.load(result.last, class_agnostic=False), eight)
    assert coco_evaluate(eight, found).stats["AP50"] > 0.9


def test_a_run_leaves_checkpoints_and_curves(drawn_set: DetectionSet, tmp_path: Path) -> None:
    from maskwatch.training.checkpoint import load_checkpoint
    from maskwatch.training.run import train

    result = train(drawn_set, drawn_set, quick(), tmp_path / "run", quiet(trained_on="drawn"))
    assert set(result.losses) == {
        "Loss/classification_loss",
        "Loss/localization_loss",
        "Loss/regularization_loss",
        "Loss/total_loss",
        "learning_rate",
    }
    assert result.validation is not None
    assert len(result.validation.lines()) == 12
    for path in (result.best, result.last):
        checkpoint = load_checkpoint(path)
        assert checkpoint.class_names == ("mask", "no_mask", "mask_incorrect")
        assert (checkpoint.step, checkpoint.trained_on, checkpoint.recipe) == (2, "drawn", quick())
    tags = scalar_tags(tmp_path / "run" / "tensorboard")
    assert {"Loss/total_loss", "Loss/regularization_loss", "learning_rate"} <= tags
    assert {"DetectionBoxes_Precision/mAP", "DetectionBoxes_Precision/mAP@.50IOU"} <= tags
    assert {"DetectionBoxes_Recall/AR@100", "DetectionBoxes_Recall/AR@1"} <= tags


def scalar_tags(folder: Path) -> set[str]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return set(events.Tags()["scalars"])


def test_seed_losses_have_a_regularization(drawn_set: DetectionSet, tmp_path: Path) -> None:
    from maskwatch.training.run import train

    recipe = quick(
        augment="ssd", matcher="iou", loss="ssd", l2=4e-5, optimizer="sgd", ema_decay=0.0,
        clip_norm=0.0, aspect_ratios=(1.0, 2.0, 0.5), resize="squash", precision="32",
    )  # fmt: skip
    result = train(drawn_set, drawn_set, recipe, tmp_path / "run", quiet())
    parts = [v for k, v in result.losses.items() if k.startswith("Loss/") and "total" not in k]
    assert result.losses["Loss/regularization_loss"] > 0
    assert sum(parts) == pytest.approx(result.losses["Loss/total_loss"], rel=1e-5)


def changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> dict[str, bool]:
    import torch

    return {name: not torch.equal(before[name], after[name]) for name in after if "batches" not in name}


def test_blocks_are_frozen_only_while_norms_update(drawn_set: DetectionSet, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    from maskwatch.network import SSD
    from maskwatch.training.checkpoint import load_checkpoint
    from maskwatch.training.run import train

    start = tmp_path / "start.safetensors"
    torch.manual_seed(0)
    first = {k: v.clone() for k, v in SSD(3).state_dict().items()}
    save_file(first, start)
    states = [first]
    for name, steps in (("one", 2), ("two", 4)):
        recipe = quick(bn_update_fraction=2 / steps, frozen_blocks=3, steps=steps, ema_decay=0.0)
        result = train(drawn_set, drawn_set, recipe, tmp_path / name, quiet(start=start))
        states.append(load_checkpoint(result.last).network.state_dict())
    frozen = ("backbone.stem", "backbone.blocks.0.", "backbone.blocks.1.", "backbone.blocks.2.")
    statistics = ("running_mean", "running_var")
    early, late = changed(states[0], states[1]), changed(states[1], states[2])
    assert not any(moved for name, moved in early.items() if name.startswith(frozen))
    learnt = [
        moved for name, moved in early.items() if name.endswith(statistics) and not name.startswith(frozen)
    ]
    assert all(learnt)
    assert not any(moved for name, moved in late.items() if name.endswith(statistics))
    kernels = [moved for name, moved in late.items() if name.startswith(frozen) and name.endswith("0.weight")]
    assert all(kernels)


def test_a_training_resumes_with_frozen_norms(drawn_set: DetectionSet, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    from maskwatch.network import SSD
    from maskwatch.training.checkpoint import load_checkpoint
    from maskwatch.training.run import train

    start = tmp_path / "start.safetensors"
    save_file(SSD(3).state_dict(), start)
    recipe = quick(bn_update_fraction=0.5, frozen_blocks=3, steps=2, ema_decay=0.0)
    first = train(drawn_set, drawn_set, recipe, tmp_path / "run", quiet(start=start))
    before = load_checkpoint(first.last).network.state_dict()
    longer = replace(recipe, steps=4)
    again = train(drawn_set, drawn_set, longer, tmp_path / "run", quiet(resume=True))
    after = load_checkpoint(again.last).network.state_dict()
    moved = changed(before, after)
    assert moved["backbone.stem.0.weight"]
    assert not any(value for name, value in moved.items() if "running" in name)


def test_a_loss_that_is_no_number_says_what_to_change(drawn_set: DetectionSet, tmp_path: Path) -> None:
    from maskwatch.training.run import train

    recipe = quick(
        learning_rate=1e30, steps=20, clip_norm=0.0, warmup_steps=0, precision="32", optimizer="sgd"
    )
    with pytest.raises(TrainingError, match=r"not a number any more at step \d+ .*learning_rate=3.3e\+29"):
        train(drawn_set, drawn_set, recipe, tmp_path / "run", quiet())


def test_training_stops_early(drawn_set: DetectionSet, tmp_path: Path) -> None:
    from maskwatch.training.checkpoint import load_checkpoint
    from maskwatch.training.run import train

    recipe = quick(steps=40, patience=2, validate_every=1, learning_rate=1e-9)
    result = train(drawn_set, drawn_set, recipe, tmp_path / "run", quiet())
    assert load_checkpoint(result.last).step == 3


def test_outputs_are_not_overwritten(drawn_set: DetectionSet, tmp_path: Path) -> None:
    from maskwatch.training.checkpoint import load_checkpoint
    from maskwatch.training.run import train

    def again(recipe: Recipe, resume: bool) -> None:
        train(drawn_set, drawn_set, recipe, tmp_path / "run", quiet(resume=resume))

    with pytest.raises(OutputError, match="no training to resume"):
        again(quick(), resume=True)
    again(quick(), resume=False)
    with pytest.raises(OutputError, match="holds a training already; add --resume to continue it"):
        again(quick(), resume=False)
    with pytest.raises(CheckpointError, match="other settings of batch_size"):
        again(quick(batch_size=3), resume=True)
    again(quick(steps=4), resume=True)
    assert load_checkpoint(tmp_path / "run" / "last.ckpt").step == 4


def test_sets_must_fit(drawn_set: DetectionSet, tmp_path: Path) -> None:
    from maskwatch.training.run import train

    other = DetectionSet(("a", "b", "c"), drawn_set.samples)
    with pytest.raises(DataError, match="other classes"):
        train(drawn_set, other, quick(), tmp_path / "run")
    empty = drawn_set.subset([])
    with pytest.raises(DataError, match="holds no box"):
        train(empty, drawn_set, quick(), tmp_path / "run")


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04"])
def test_files_that_are_no_checkpoint(content: bytes, tmp_path: Path) -> None:
    from maskwatch.training.checkpoint import load_checkpoint

    path = tmp_path / "x.ckpt"
    with pytest.raises(CheckpointError, match="no such file"):
        load_checkpoint(path)
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="not a checkpoint of this version"):
        load_checkpoint(path)


def test_a_checkpoint_cannot_run_code(tmp_path: Path) -> None:
    import torch

    from maskwatch.training.checkpoint import load_checkpoint

    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"state_dict": Evil(), "maskwatch": {}}, tmp_path / "evil.ckpt")
    with pytest.raises(CheckpointError):
        load_checkpoint(tmp_path / "evil.ckpt")
    assert not (tmp_path / "ran").exists()


def test_start_from_a_checkpoint_of_ours(drawn_set: DetectionSet, tmp_path: Path) -> None:
    import torch

    from maskwatch.training.checkpoint import load_checkpoint
    from maskwatch.training.run import train

    first = train(drawn_set, drawn_set, quick(), tmp_path / "one", quiet())
    second = train(
        drawn_set, drawn_set, quick(steps=1, learning_rate=1e-12, ema_decay=0.0), tmp_path / "two",
        quiet(start=first.last),
    )  # fmt: skip
    one, two = (load_checkpoint(r.last).network.state_dict() for r in (first, second))
    weights = [name for name in one if name.endswith("weight")]
    assert all(torch.allclose(one[name], two[name], atol=1e-6) for name in weights)


def test_random_weights_update_norms_to_the_end(drawn_set: DetectionSet, tmp_path: Path) -> None:
    from maskwatch.training.checkpoint import load_checkpoint
    from maskwatch.training.run import train

    recipe = quick(bn_update_fraction=0.5, frozen_blocks=3)
    first = train(drawn_set, drawn_set, recipe, tmp_path / "run", quiet())
    began = load_checkpoint(first.last)
    assert (began.recipe.bn_update_fraction, began.recipe.frozen_blocks) == (1, 0)
    longer = replace(recipe, steps=4)
    train(drawn_set, drawn_set, longer, tmp_path / "run", quiet(resume=True))
    after = load_checkpoint(first.last)
    assert after.recipe.bn_update_fraction == 1
    moved = changed(began.network.state_dict(), after.network.state_dict())
    assert moved["backbone.stem.1.running_mean"]


def test_a_checkpoint_with_earlier_recipe_keys_resumes(drawn_set: DetectionSet, tmp_path: Path) -> None:
    import torch

    from maskwatch.training.checkpoint import FORMAT_KEY, load_checkpoint
    from maskwatch.training.run import train

    first = train(drawn_set, drawn_set, quick(), tmp_path / "run", quiet())
    content = torch.load(first.last, weights_only=False)
    values = content[FORMAT_KEY]["recipe"]
    for old, new in RENAMED_KEYS.items():
        values[old] = values.pop(new)
    values["loss"] = "quality"
    torch.save(content, first.last)
    assert load_checkpoint(first.last).recipe == quick()
    train(drawn_set, drawn_set, quick(steps=3), tmp_path / "run", quiet(resume=True))
    assert load_checkpoint(first.last).step == 3


def test_zoo_start_fits_the_recipe(shared: Path) -> None:
    import torch

    from maskwatch.training.start import load_zoo, start_network

    pytest.importorskip("tensorflow", reason="the COCO start is read with TensorFlow ([tf])")
    start = shared / "weights" / "ssd_mobilenet_v2_fpnlite_320x320_coco17_tpu-8"
    network, full = start_network(start, Recipe(), ("mask", "no_mask", "mask_incorrect")), load_zoo(start)
    assert network.num_classes == 3
    assert torch.equal(network.backbone.top[0].weight, full.backbone.top[0].weight)
    boxes = full.head.boxes.pointwise.weight.reshape(6, 4, 128)[:2]  # the two square anchors
    assert torch.equal(network.head.boxes.pointwise.weight.reshape(2, 4, 128), boxes)


@pytest.mark.parametrize(
    "content",
    [
        lambda zeros: zeros(3),
        lambda zeros: {"maskwatch": zeros(2)},
        lambda _: [1, 2],
        lambda _: {"maskwatch": {"recipe": 3}},
        lambda _: "text",
        lambda _: None,
    ],
)
def test_a_file_of_torch_that_is_no_checkpoint(tmp_path: Path, content: Callable[..., object]) -> None:
    import torch

    from maskwatch.training.checkpoint import load_checkpoint

    torch.save(content(torch.zeros), tmp_path / "a.ckpt")
    with pytest.raises(CheckpointError, match="not a checkpoint of this version"):
        load_checkpoint(tmp_path / "a.ckpt")
