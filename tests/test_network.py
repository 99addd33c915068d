"""Geometry that a reader can check by hand, and the shapes of the network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskwatch.models import MAX_DETECTIONS

if TYPE_CHECKING:
    from torch import Tensor


def test_anchors_of_one_cell() -> None:
    import torch

    from maskwatch.network import AnchorSpec
    from maskwatch.network.anchors import anchors_xyxy

    spec = AnchorSpec(min_level=3, max_level=3, aspect_ratios=(1.0, 4.0), scales_per_octave=2)
    root = 2**0.5
    expected = [
        [-12, -12, 20, 20],  # 32 px around the middle of the first cell of stride 8, (4, 4)
        [4 - 16 * root, 4 - 16 * root, 4 + 16 * root, 4 + 16 * root],
        [4 - 32, 4 - 8, 4 + 32, 4 + 8],  # four times as wide as high, the same area
        [4 - 32 * root, 4 - 8 * root, 4 + 32 * root, 4 + 8 * root],
    ]
    torch.testing.assert_close(anchors_xyxy(spec, (8, 8)), torch.tensor(expected))


def test_anchors_go_row_by_row() -> None:
    from maskwatch.network import AnchorSpec
    from maskwatch.network.anchors import anchors_xyxy

    spec = AnchorSpec(min_level=3, max_level=3, aspect_ratios=(1.0,), scales_per_octave=1)
    boxes = anchors_xyxy(spec, (16, 24))
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    assert centres.tolist() == [[4, 4], [12, 4], [20, 4], [4, 12], [12, 12], [20, 12]]


def test_a_level_that_does_not_divide_the_input_starts_at_zero() -> None:
    from maskwatch.network import AnchorSpec
    from maskwatch.network.anchors import anchors_xyxy

    spec = AnchorSpec(min_level=7, max_level=7, aspect_ratios=(1.0,), scales_per_octave=1)
    boxes = anchors_xyxy(spec, (320, 320))  # 2.5 strides of 128
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    assert centres[:3].tolist() == [[0, 0], [128, 0], [256, 0]]
    assert len(boxes) == 9


@pytest.mark.parametrize("size_hw", [(64, 64), (320, 320), (96, 160), (352, 608)])
def test_one_row_of_outputs_for_each_anchor(size_hw: tuple[int, int]) -> None:
    import torch

    from maskwatch.network import SSD, AnchorSpec

    network = SSD(2, AnchorSpec(aspect_ratios=(1.0,))).eval()
    with torch.inference_mode():
        encodings, logits = network(torch.zeros(2, 3, *size_hw))
    anchors = len(network.anchors_xyxy(size_hw))
    assert sum(network.anchor_spec.counts(size_hw)) == anchors
    assert encodings.shape == (2, anchors, 4)
    assert logits.shape == (2, anchors, 3)


@pytest.mark.parametrize("size_hw", [(100, 320), (320, 100)])
def test_sides_must_divide_by_32(size_hw: tuple[int, int]) -> None:
    import torch

    from maskwatch.network import SSD

    with pytest.raises(ValueError, match="divisible by 32"):
        SSD(1)(torch.zeros(1, 3, *size_hw))
    with pytest.raises(ValueError, match="at least one class"):
        SSD(0)


def test_scores_start_low() -> None:
    import torch

    from maskwatch.network import SSD

    network = SSD(3).eval()
    with torch.inference_mode():
        logits = network(torch.zeros(1, 3, 64, 64))[1]
    assert logits.sigmoid().max() < 0.05


@pytest.mark.parametrize(("size", "taps"), [(4, [1, 3]), (5, [0, 2, 4])])
def test_same_padding_of_stride_two(size: int, taps: list[int]) -> None:
    """The middle of the kernel falls where TensorFlow lets it fall."""
    import torch

    from maskwatch.network.layers import SameConv2d

    conv = SameConv2d(1, 1, 3, stride=2)
    weight = torch.zeros(1, 1, 3, 3)
    weight[0, 0, 1, 1] = 1.0
    conv.weight = torch.nn.Parameter(weight)
    ramp = torch.arange(float(size)).repeat(size, 1)[None, None]
    assert conv(ramp)[0, 0, 0].tolist() == taps


@pytest.mark.parametrize("height", [8, 9])
def test_a_strided_depthwise_convolution_in_bfloat16_has_the_gradients_of_float32(height: int) -> None:
    """Within the rounding of bfloat16, whose steps are 1/256 of a value."""
    import torch

    from maskwatch.network.layers import SameConv2d

    torch.manual_seed(0)
    conv = SameConv2d(32, 32, 3, stride=2, groups=32, bias=True)
    leaves = [torch.randn(2, 32, height, 10, requires_grad=True), *conv.parameters()]
    exact = conv(leaves[0])
    weights = torch.randn_like(exact)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = conv(leaves[0])
    assert rounded.dtype == torch.bfloat16
    assert type(rounded.grad_fn).__name__ == "_StridedDepthwiseBackward"
    torch.testing.assert_close(rounded.float(), exact, rtol=0.02, atol=0.02)
    expected = torch.autograd.grad((exact * weights).sum(), leaves)
    found = torch.autograd.grad((rounded.float() * weights).sum(), leaves)
    torch.testing.assert_close(found, expected, rtol=0.02, atol=0.05)


def test_relu6_in_place_has_the_gradient_of_torchs() -> None:
    import torch
    import torch.nn.functional as F

    from maskwatch.network.layers import relu6

    x = torch.tensor([-1.0, 0.0, 1e-6, 3.0, 6.0, 7.0], requires_grad=True)
    weights = torch.arange(1.0, 7)
    layer = x * 1
    result = relu6(layer)
    assert result.data_ptr() == layer.data_ptr()
    assert torch.equal(result, F.relu6(x))
    (found,) = torch.autograd.grad((result * weights).sum(), x)
    (expected,) = torch.autograd.grad((F.relu6(x) * weights).sum(), x)
    assert torch.equal(found, expected)


def test_preprocess() -> None:
    import torch

    from maskwatch.network import preprocess

    image = torch.tensor([[[0, 255, 51]]], dtype=torch.uint8)[None]
    assert preprocess(image).flatten().tolist() == pytest.approx([-1.0, 1.0, -0.6], abs=1e-6)


def test_encoding_by_hand() -> None:
    import torch

    from maskwatch.network.boxes import encode

    anchor = torch.tensor([10.0, 20.0, 30.0, 60.0])  # centre (20, 40), 20 × 40
    box = torch.tensor([12.0, 22.0, 32.0, 62.0])  # moved by 2 both ways
    assert encode(box, anchor).tolist() == pytest.approx([0.5, 1.0, 0.0, 0.0])


side = st.floats(1, 500, width=32)
corner = st.floats(-200, 800, width=32)


@given(st.tuples(corner, corner, side, side), st.tuples(corner, corner, side, side))
def test_decode_undoes_encode(
    box: tuple[float, float, float, float], anchor: tuple[float, float, float, float]
) -> None:
    import torch

    from maskwatch.network.boxes import decode, encode

    def xyxy(x: float, y: float, w: float, h: float) -> Tensor:
        return torch.tensor([x, y, x + w, y + h], dtype=torch.float64)

    box_xyxy, anchor_xyxy = xyxy(*box), xyxy(*anchor)
    if max(box[2] / anchor[2], box[3] / anchor[3]) < 62:  # beyond, decode bounds the size
        torch.testing.assert_close(
            decode(encode(box_xyxy, anchor_xyxy), anchor_xyxy), box_xyxy, atol=1e-6, rtol=1e-6
        )


def _outputs(boxes_xyxy: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
    """Head outputs for anchors that are the boxes themselves."""
    import torch

    logits = torch.cat([torch.zeros(len(scores), 1), torch.logit(scores)], 1)
    return torch.zeros(1, len(boxes_xyxy), 4), logits[None]


def test_nms_per_class_and_over_all_classes() -> None:
    import torch

    from maskwatch.network.postprocess import detect

    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 11], [20, 20, 30, 30]])
    scores = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.6, 0.1]])
    outputs = _outputs(boxes, scores)
    (apart,) = detect(*outputs, boxes, (32, 32), score_threshold=0.5)
    assert apart.class_ids.tolist() == [0, 1, 0]
    assert apart.scores.tolist() == pytest.approx([0.9, 0.8, 0.6])
    (together,) = detect(*outputs, boxes, (32, 32), score_threshold=0.5, class_agnostic=True)
    assert together.boxes_xyxy.tolist() == [[0, 0, 10, 10], [20, 20, 30, 30]]


def test_boxes_are_clipped_after_nms() -> None:
    """Clipped first, the two boxes would be one and the same."""
    import torch

    from maskwatch.network.postprocess import detect

    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 30]])
    outputs = _outputs(boxes, torch.tensor([[0.9], [0.8]]))
    (found,) = detect(*outputs, boxes, (10, 10), score_threshold=0.5)
    assert found.boxes_xyxy.tolist() == [[0, 0, 10, 10], [0, 0, 10, 10]]


def test_boxes_of_a_class_vote_where_the_best_one_lies() -> None:
    """Weights by hand: IoU 2/3 and score 0.5 against 0.8; the other class has no vote."""
    import torch

    from maskwatch.network.postprocess import detect

    boxes = torch.tensor([[0.0, 0, 10, 10], [2, 0, 12, 10], [5, 5, 5, 5]])
    scores = torch.tensor([[0.8, 0.1], [0.5, 0.7], [0.9, 0.1]])
    outputs = _outputs(boxes, scores)
    (found,) = detect(*outputs, boxes, (32, 32), score_threshold=0.75, voting=True)
    weight = (5 / 8) ** 2 * (1 / 3) ** 3
    x0 = 2 * weight / (1 + weight)
    assert found.boxes_xyxy[0].tolist() == [5, 5, 5, 5]  # a point overlaps nothing, not even itself
    assert found.boxes_xyxy[1].tolist() == pytest.approx([x0, 0, 10 + x0, 10])
    assert found.scores.tolist() == pytest.approx([0.9, 0.8])


def test_at_most_a_hundred_and_possibly_none() -> None:
    import torch

    from maskwatch.network.postprocess import detect

    corners = torch.arange(150.0)[:, None] * 20
    boxes = torch.cat([corners, corners * 0, corners + 10, corners * 0 + 10], 1)
    outputs = _outputs(boxes, torch.linspace(0.1, 0.9, 150)[:, None])
    (found,) = detect(*outputs, boxes, (10, 3200), score_threshold=0.05)
    assert len(found.scores) == MAX_DETECTIONS
    assert found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)
    (none,) = detect(*outputs, boxes, (10, 3200), score_threshold=0.95)
    assert none.boxes_xyxy.shape == (0, 4)


@pytest.mark.parametrize(
    ("layer", "options"),
    [
        ("ConvNormRelu6", {"channels_in": 4, "channels_out": 6, "kernel": 3, "stride": 2}),
        ("ConvNormRelu6", {"channels_in": 6, "channels_out": 6, "kernel": 3, "groups": 6, "linear": True}),
        ("SeparableNormRelu6", {"channels": 4, "stride": 2}),
    ],
)
def test_a_frozen_norm_trains_as_the_two_layers_would(layer: str, options: dict[str, int]) -> None:
    import torch
    from torch import nn

    from maskwatch.network import layers

    torch.manual_seed(0)
    block = getattr(layers, layer)(**options).double()
    norm = next(module for module in block if isinstance(module, nn.BatchNorm2d))
    nn.init.normal_(norm.weight)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    block.eval()
    parameters = list(block.parameters())
    channels = next(module.in_channels for module in block.modules() if isinstance(module, nn.Conv2d))
    x = torch.randn(2, channels, 9, 8, dtype=torch.float64)
    layered = x
    for one in block:
        layered = one(layered)
    torch.testing.assert_close(block(x), layered)
    torch.testing.assert_close(
        torch.autograd.grad(block(x).sin().sum(), parameters),
        torch.autograd.grad(layered.sin().sum(), parameters),
    )
