"""The second look at half the size: whose answers count, and where they lie."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from torch import Tensor


SIZE = (128, 128)


def looks(box_xyxy: tuple[float, ...]) -> tuple[Tensor, Tensor]:
    """Whether the answers of the look at full size count, and those of the one at half."""
    import torch

    from maskwatch.network import TwoScales
    from maskwatch.network.boxes import decode
    from tiny_network import ConstantNetwork

    single = ConstantNetwork(box_xyxy)
    network = TwoScales(single)
    encodings, logits = network(torch.zeros(1, 3, *SIZE))
    boxes = decode(encodings, network.anchors_xyxy(SIZE))[0]
    torch.testing.assert_close(boxes, (torch.tensor(box_xyxy) * 128).expand(len(boxes), 4), atol=1e-3, rtol=0)
    counts = logits[0, :, 1] == 1
    assert (logits[0, ~counts].sigmoid() < 1e-20).all()
    full = sum(single.anchor_spec.counts(SIZE))
    return counts[:full], counts[full:]


@pytest.mark.parametrize(
    ("box_xyxy", "at_full", "at_half"),
    [
        ((0.1, 0.1, 0.2, 0.2), True, False),
        ((0.1, 0.1, 0.3, 0.3), True, True),
        ((0.0, 0.0, 0.8, 0.4), False, True),  # geometric mean 0.57
        ((0.2, 0.1, 0.9, 0.9), False, True),
    ],
    ids=["small", "between", "wide", "large"],
)
def test_each_look_answers_for_its_sizes(box_xyxy: tuple[float, ...], at_full: bool, at_half: bool) -> None:
    full, half = looks(box_xyxy)
    assert full.all() if at_full else not full.any()
    assert half.all() if at_half else not half.any()


def test_the_second_look_sees_the_mean_of_four_pixels() -> None:
    import torch

    from maskwatch.network import TwoScales, preprocess
    from tiny_network import ConstantNetwork, noisy_pictures

    network = TwoScales(ConstantNetwork((0, 0, 1, 1)))
    images = preprocess(torch.from_numpy(noisy_pictures(1, 128)))
    network(images)
    assert isinstance(network.network, ConstantNetwork)
    full, half = network.network.seen
    assert full is images
    torch.testing.assert_close(half[0, :, 3, 5], images[0, :, 6:8, 10:12].mean((1, 2)))


def test_sides_must_allow_half() -> None:
    import torch

    from maskwatch.network import TwoScales
    from tiny_network import tiny_network

    with pytest.raises(ValueError, match="96x64: both sides must be divisible by 64"):
        TwoScales(tiny_network())(torch.zeros(1, 3, 96, 64))


def test_openvino_reads_an_exported_file_itself_in_batches(tmp_path: Path) -> None:
    """Without `runtimes.openvino.read_model`, as C++ programs do; a mean without its axis would go wrong."""
    ov = pytest.importorskip("openvino", reason="OpenVINO is not installed")
    import numpy as np
    import onnx

    from maskwatch.export.onnx import build_model
    from maskwatch.network import TwoScales
    from maskwatch.runtimes.onnx_runtime import OnnxRuntime
    from tiny_model import metadata
    from tiny_network import noisy_pictures, tiny_network

    path = tmp_path / "two_scales.onnx"
    onnx.save(build_model(TwoScales(tiny_network(size=64)).eval(), metadata(64)), str(path))
    images = noisy_pictures(3, 64, seed=4)
    compiled = ov.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found, wanted = compiled([images]), OnnxRuntime(path, 1)(images)
    assert (wanted.num_detections > 10).all()
    np.testing.assert_allclose(found["scores"], wanted.scores, atol=1e-4)
    np.testing.assert_allclose(found["boxes"], wanted.boxes, atol=0.05)
