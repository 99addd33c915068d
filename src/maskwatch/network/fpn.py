"""Feature pyramid P3–P7 (Lin et al. 2017a), light: separable convolutions of 128 channels.

Source: `KerasFpnTopDownFeatureMaps` and `SSDMobileNetV2FpnKerasFeatureExtractor` of the TF Object Detection
API. Two things differ from the paper: each level adds the smoothed level above it, and P5 is the plain
1×1 lateral.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from maskwatch.network.layers import SeparableNormRelu6

FPN_CHANNELS = 128


class FeaturePyramid(nn.Module):
    """Levels of strides 8 to 128, each of 128 channels."""

    def __init__(self, in_channels: Sequence[int], channels: int = FPN_CHANNELS) -> None:
        super().__init__()
        c3, c4, c5 = in_channels
        self.lateral3 = nn.Conv2d(c3, channels, 1)
        self.lateral4 = nn.Conv2d(c4, channels, 1)
        self.lateral5 = nn.Conv2d(c5, channels, 1)
        self.smooth3 = SeparableNormRelu6(channels, channels)
        self.smooth4 = SeparableNormRelu6(channels, channels)
        self.down6 = SeparableNormRelu6(channels, channels, stride=2)
        self.down7 = SeparableNormRelu6(channels, channels, stride=2)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Three backbone maps, finest first → five levels, finest first, each (N, 128, H/2**l, W/2**l)."""
        c3, c4, c5 = features
        p5 = self.lateral5(c5)
        p4 = self.smooth4(self.lateral4(c4) + F.interpolate(p5, scale_factor=2.0, mode="nearest"))
        p3 = self.smooth3(self.lateral3(c3) + F.interpolate(p4, scale_factor=2.0, mode="nearest"))
        p6 = self.down6(p5)
        return [p3, p4, p5, p6, self.down7(p6)]
