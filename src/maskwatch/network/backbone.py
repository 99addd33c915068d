"""MobileNetV2, width 1.0 (Sandler et al. 2018, table 2), with the padding of the TF Object Detection API."""

from __future__ import annotations

from torch import Tensor, nn

from maskwatch.network.layers import ConvNormRelu6

# expansion, channels, repeats, stride of the first
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
STEM_CHANNELS = 32
TOP_CHANNELS = 1280


class InvertedResidual(nn.Module):
    """Expand 1×1, depthwise 3×3, project 1×1 without activation; a residual where shapes allow (3.3)."""

    def __init__(self, channels_in: int, channels_out: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = channels_in * expansion
        self.residual = stride == 1 and channels_in == channels_out
        self.expand = ConvNormRelu6(channels_in, hidden) if expansion > 1 else nn.Identity()
        self.depthwise = ConvNormRelu6(hidden, hidden, 3, stride, groups=hidden)
        self.project = ConvNormRelu6(hidden, channels_out, linear=True)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


class MobileNetV2(nn.Module):
    """Feature maps of strides 8, 16 and 32.

    They are the outputs of the last block with 32 channels, of the last with 96, and of the final 1×1
    convolution: `layer_7`, `layer_14` and `layer_19` of the TF Object Detection API.
    """

    out_channels = (32, 96, TOP_CHANNELS)

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvNormRelu6(3, STEM_CHANNELS, 3, 2)
        blocks: list[nn.Module] = []
        channels = STEM_CHANNELS
        for expansion, channels_out, repeats, stride in STAGES:
            for repeat in range(repeats):
                blocks.append(
                    InvertedResidual(channels, channels_out, stride if repeat == 0 else 1, expansion)
                )
                channels = channels_out
        self.blocks = nn.ModuleList(blocks)
        self.top = ConvNormRelu6(channels, TOP_CHANNELS)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(N, 3, H, W) in −1..1 → (N, 32, H/8, W/8), (N, 96, H/16, W/16), (N, 1280, H/32, W/32)."""
        x: Tensor = self.stem(images)
        taps = {}
        for index, block in enumerate(self.blocks):
            x = block(x)
            taps[index] = x
        return taps[5], taps[12], self.top(x)
