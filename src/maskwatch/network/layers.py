"""Building blocks that the backbone, the pyramid and the head share."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BATCH_NORM_EPSILON = 1e-3
BATCH_NORM_MOMENTUM = 0.003  # weight of the new batch, as in torch: 1 − the API's decay of 0.997


class SameConv2d(nn.Conv2d):
    """Convolution that pads as TensorFlow's SAME does.

    With kernel 3 and stride 2 that is one row below (and one column to the right) on even sizes, and one
    on either side on odd sizes; torch's own `padding=1` would shift every feature by half a stride.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        bias: bool = False,
    ) -> None:
        padding = kernel // 2 if stride == 1 else 0
        super().__init__(channels_in, channels_out, kernel, stride, padding, groups=groups, bias=bias)

    def forward(self, input: Tensor) -> Tensor:
        return self.convolve(input, self.weight, self.bias)

    def convolve(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """This convolution with another kernel of the same shape."""
        if self.stride[0] != 1:
            top, bottom = _same_padding(input.shape[-2], self.kernel_size[0], self.stride[0])
            left, right = _same_padding(input.shape[-1], self.kernel_size[1], self.stride[1])
            if _is_slow_backwards(self, input):
                padding = (left, right, top, bottom)
                return torch.as_tensor(_StridedDepthwise.apply(input, weight, bias, padding))
            input = F.pad(input, (left, right, top, bottom))
        return F.conv2d(input, weight, bias, self.stride, self.padding, self.dilation, self.groups)


def _same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def _is_slow_backwards(conv: SameConv2d, input: Tensor) -> bool:
    """Whether `_StridedDepthwise` pays: a depthwise convolution that trains in bfloat16 on a CPU."""
    return (
        conv.groups == conv.in_channels == conv.out_channels > 1
        and torch.is_grad_enabled()
        and input.device.type == "cpu"
        and torch.is_autocast_enabled("cpu")
        and torch.get_autocast_dtype("cpu") == torch.bfloat16
    )


class _StridedDepthwise(torch.autograd.Function):
    """A depthwise convolution of stride 2 in bfloat16; the gradient of its input is computed in float32.

    For that gradient oneDNN has fast code in float32, not in bfloat16: measured with oneDNN 3.12, the latter
    takes five times as long as the former with the conversions.
    """

    @staticmethod
    def forward(
        ctx: Any, input: Tensor, weight: Tensor, bias: Tensor | None, padding: tuple[int, int, int, int]
    ) -> Tensor:
        padded, weight = F.pad(input.bfloat16(), padding), weight.bfloat16()
        ctx.save_for_backward(padded, weight)
        ctx.padding, ctx.has_bias, ctx.size_hw = padding, bias is not None, input.shape[-2:]
        bias = None if bias is None else bias.bfloat16()
        return F.conv2d(padded, weight, bias, stride=2, groups=len(weight))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        padded, weight = ctx.saved_tensors
        groups = len(weight)
        of_input = None
        if ctx.needs_input_grad[0]:
            (left, _, top, _), (height, width) = ctx.padding, ctx.size_hw
            # SAME pads no more than the kernel reaches, so that this has the size of `padded`.
            of_padded = F.conv_transpose2d(gradient.float(), weight.float(), stride=2, groups=groups)
            of_input = of_padded[..., top : top + height, left : left + width].bfloat16()
        wanted = [False, ctx.needs_input_grad[1], ctx.has_bias and ctx.needs_input_grad[2]]
        _, of_weight, of_bias = torch.ops.aten.convolution_backward(
            gradient, padded, weight, [groups] if ctx.has_bias else None,
            [2, 2], [0, 0], [1, 1], False, [0, 0], groups, wanted,
        )  # fmt: skip
        return of_input, of_weight, of_bias, None


def batch_norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=BATCH_NORM_EPSILON, momentum=BATCH_NORM_MOMENTUM)


def conv_norm(conv: SameConv2d, norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """`norm(conv(x))`; while a frozen BatchNorm trains, in one convolution.

    Frozen statistics are constants, so that the BatchNorm is a factor on the kernel and a shift. Weights and
    gradients are the same, with one pass fewer over the large maps, forwards and backwards.
    """
    if norm.training or not torch.is_grad_enabled():
        return torch.as_tensor(norm(conv(x)))
    assert norm.running_mean is not None
    assert norm.running_var is not None
    factor = norm.weight * torch.rsqrt(norm.running_var + norm.eps)  # (C,)
    shift = norm.bias - norm.running_mean * factor
    return conv.convolve(x, conv.weight * factor[:, None, None, None], shift)


class _Relu6(torch.autograd.Function):
    """ReLU6 in place that keeps its result for the gradient; torch's own first copies its input for that.

    The gradient is the same, since a result of 0 or 6 has none either way.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x.clamp_(0, 6)
        ctx.mark_dirty(x)
        ctx.save_for_backward(x)
        return x

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (result,) = ctx.saved_tensors
        return torch.as_tensor(torch.ops.aten.hardtanh_backward(gradients[0], result, 0, 6))


def relu6(layer_output: Tensor, inplace: bool = False) -> Tensor:
    """ReLU6 of a layer's output; where gradients are wanted always in place."""
    if torch.is_grad_enabled() and layer_output.requires_grad:
        return torch.as_tensor(_Relu6.apply(layer_output))
    return F.relu6(layer_output, inplace)


class Relu6(nn.ReLU6):
    """`relu6` as a module."""

    def forward(self, input: Tensor) -> Tensor:
        return relu6(input, self.inplace)


class SeparableConv2d(nn.Module):
    """Depthwise 3×3, then pointwise 1×1, as Keras' SeparableConv2D; the pointwise has the bias."""

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1, bias: bool = False) -> None:
        super().__init__()
        self.depthwise = SameConv2d(channels_in, channels_in, 3, stride, groups=channels_in)
        self.pointwise = SameConv2d(channels_in, channels_out, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.pointwise(self.depthwise(x)))


class ConvNormRelu6(nn.Sequential):
    """Convolution, BatchNorm and, unless linear, ReLU6."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        linear: bool = False,
    ) -> None:
        conv = SameConv2d(channels_in, channels_out, kernel, stride, groups)
        activation = () if linear else (Relu6(inplace=True),)
        super().__init__(conv, batch_norm(channels_out), *activation)

    def forward(self, input: Tensor) -> Tensor:
        conv, norm, *activation = self
        assert isinstance(conv, SameConv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        x = conv_norm(conv, norm, input)
        return torch.as_tensor(activation[0](x)) if activation else x


class SeparableNormRelu6(nn.Sequential):
    """Separable convolution of as many channels out as in, BatchNorm, ReLU6."""

    def __init__(self, channels: int, stride: int = 1) -> None:
        conv = SeparableConv2d(channels, channels, stride)
        super().__init__(conv, batch_norm(channels), Relu6(inplace=True))

    def forward(self, input: Tensor) -> Tensor:
        separable, norm, activation = self
        assert isinstance(separable, SeparableConv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        return torch.as_tensor(activation(conv_norm(separable.pointwise, norm, separable.depthwise(input))))
