"""Two processes on one CPU train like one process with the batches of both (Lightning's DDP over gloo)."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from drawn_data import draw_faces
from maskwatch.labels import MASK_CLASSES
from maskwatch.training.recipe import Recipe

# Frozen BatchNorms: each process would normalise by its own half of the batch. SGD: AdamW turns the rounding
# of a gradient near 0 into a whole step.
SETTINGS = (
    *("steps=4", "validate_every=4", "size=64", "train_sizes=[64, 128]", "warmup_steps=0", "precision=32"),
    *("bn_update_fraction=0", "optimizer=sgd", "learning_rate=0.01", "ema_decay=0"),
)
LOSS_TOLERANCE = 1e-4  # relative
WEIGHT_TOLERANCE = 1e-2  # of the largest change of a weight in the tensor


def train(data: Path, out: Path, devices: int, batch_size: int, loss: str) -> dict[str, float]:
    """The losses of the last step, as the command prints them."""
    settings = (*SETTINGS, f"batch_size={batch_size}", f"loss={loss}")
    options = [word for setting in settings for word in ("--set", setting)]
    command = ["train", str(data), "--val", str(data), "--out", str(out), "--start", "maskwatch-640"]
    done = subprocess.run(
        [sys.executable, "-m", "maskwatch", *command, "--devices", str(devices), "--workers", "0", *options],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stderr.count("training: ") == 1, "the second process repeats messages"
    return dict(ast.literal_eval(done.stdout[: done.stdout.index("}") + 1]))


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["gfl", "ssd"])
def test_two_processes_are_one_with_twice_the_batch(loss: str, tmp_path: Path) -> None:
    from maskwatch.training.checkpoint import load_checkpoint
    from maskwatch.training.start import start_network

    draw_faces(tmp_path / "data", 6)
    losses = train(tmp_path / "data", tmp_path / "two", devices=2, batch_size=4, loss=loss)
    expected = train(tmp_path / "data", tmp_path / "one", devices=1, batch_size=8, loss=loss)
    assert losses == pytest.approx(expected, rel=LOSS_TOLERANCE)

    two, one = (load_checkpoint(tmp_path / name / "last.ckpt").network for name in ("two", "one"))
    before = start_network("maskwatch-640", Recipe(), MASK_CLASSES).state_dict()
    moved = 0
    for name, value in one.state_dict().items():
        step = (value - before[name]).abs().max()
        difference = (value - two.state_dict()[name]).abs().max()
        assert difference <= WEIGHT_TOLERANCE * step + 1e-7, name
        moved += bool(step > 0)
    assert moved > 100
