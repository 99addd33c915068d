"""Building blocks that the backbone, the pyramid and the head share."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BATCH_NORM_EPSILON = 1e-3
BATCH_NORM_MOMENTUM = 0.003  # torch counts the new share: 1 − the API's decay of 0.997


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
        if self.stride[0] == 1:
            return super().forward(input)
        top, bottom = _same_padding(input.shape[-2], self.kernel_size[0], self.stride[0])
        left, right = _same_padding(input.shape[-1], self.kernel_size[1], self.stride[1])
        return super().forward(F.pad(input, (left, right, top, bottom)))


def _same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def batch_norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=BATCH_NORM_EPSILON, momentum=BATCH_NORM_MOMENTUM)


class SeparableConv2d(nn.Module):
    """Depthwise 3×3, then pointwise 1×1, as Keras' SeparableConv2D; the bias stands on the pointwise."""

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1, bias: bool = False) -> None:
        super().__init__()
        self.depthwise = SameConv2d(channels_in, channels_in, 3, stride, groups=channels_in)
        self.pointwise = nn.Conv2d(channels_in, channels_out, 1, bias=bias)

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
        activation = () if linear else (nn.ReLU6(inplace=True),)
        super().__init__(conv, batch_norm(channels_out), *activation)


class SeparableNormRelu6(nn.Sequential):
    """Separable convolution, BatchNorm, ReLU6."""

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1) -> None:
        super().__init__(
            SeparableConv2d(channels_in, channels_out, stride),
            batch_norm(channels_out),
            nn.ReLU6(inplace=True),
        )
