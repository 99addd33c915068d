"""The extras `train` and `tf` in one process."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

START = "weights/ssd_mobilenet_v2_fpnlite_320x320_coco17_tpu-8"


@pytest.mark.skipif(importlib.util.find_spec("tensorflow") is None, reason="TensorFlow is not installed")
def test_training_starts_after_reading_a_zoo_checkpoint(shared: Path, tmp_path: Path) -> None:
    """TensorFlow and Triton (which PyTorch loads late) both bring an LLVM.

    The process dies of a segmentation fault when TensorFlow's is loaded first.
    """
    code = f"""
from maskwatch.training.start import load_zoo
load_zoo({str(shared / START)!r}, num_classes=3)
import torchvision, lightning
print("alive")
"""
    environment = {**os.environ, "MASKWATCH_CACHE": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout.strip() == "alive", f"exit status {done.returncode}: {done.stderr[-2000:]}"


@pytest.mark.skipif(importlib.util.find_spec("tensorflow") is None, reason="TensorFlow is not installed")
def test_a_training_writes_for_tensorboard_without_tensorflow(tmp_path: Path) -> None:
    """TensorFlow would take seconds to load and print notes about the CPU."""
    code = f"""
import sys
from maskwatch.tf_compat.tensorflow import keep_out_of_tensorboard
keep_out_of_tensorboard()
from torch.utils.tensorboard import SummaryWriter
with SummaryWriter({str(tmp_path)!r}) as writer:
    writer.add_scalar("loss", 1.0, 1)
print("tensorflow" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == ("False", "")
    assert list(tmp_path.glob("events.out.tfevents.*"))
