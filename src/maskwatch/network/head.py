"""The box and class predictor, shared by all levels.

Source: `WeightSharedConvolutionalBoxPredictor` of the TF Object Detection API with
`share_prediction_tower`, `use_depthwise`: one tower of four separable convolutions whose weights all
levels share, while every level has separate BatchNorms.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskwatch.network.fpn import FPN_CHANNELS
from maskwatch.network.layers import SeparableConv2d, batch_norm, conv_norm

TOWER_DEPTH = 4
# Starts every score at about 0.01, so that the many background anchors do not dominate the first steps
# (Lin et al. 2017b, section 4.1).
CLASS_BIAS_INIT = -4.6
_INIT_STD = 0.01


class PredictionHead(nn.Module):
    """Pyramid levels → encodings and class logits."""

    def __init__(
        self, num_classes: int, anchors_per_cell: int, levels: int, channels: int = FPN_CHANNELS
    ) -> None:
        super().__init__()
        self.columns = num_classes + 1  # column 0 is the background
        self.tower = nn.ModuleList(SeparableConv2d(channels, channels) for _ in range(TOWER_DEPTH))
        self.norms = nn.ModuleList(
            nn.ModuleList(batch_norm(channels) for _ in range(TOWER_DEPTH)) for _ in range(levels)
        )
        self.boxes = SeparableConv2d(channels, anchors_per_cell * 4, bias=True)
        self.classes = SeparableConv2d(channels, anchors_per_cell * self.columns, bias=True)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Normal weights of deviation 0.01, as pipeline.config asks for."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=_INIT_STD)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        assert self.classes.pointwise.bias is not None
        nn.init.constant_(self.classes.pointwise.bias, CLASS_BIAS_INIT)

    def forward(self, levels: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Five (N, 128, h, w) → encodings (N, A, 4), logits (N, A, C + 1)."""
        encodings, logits = [], []
        for x, norms in zip(levels, self.norms, strict=True):
            assert isinstance(norms, nn.ModuleList)
            for conv, norm in zip(self.tower, norms, strict=True):
                assert isinstance(conv, SeparableConv2d)
                assert isinstance(norm, nn.BatchNorm2d)
                x = F.relu6(conv_norm(conv.pointwise, norm, conv.depthwise(x)))
            encodings.append(_per_anchor(self.boxes(x), 4))
            logits.append(_per_anchor(self.classes(x), self.columns))
        return torch.cat(encodings, 1), torch.cat(logits, 1)


def _per_anchor(x: Tensor, columns: int) -> Tensor:
    """(N, K·columns, h, w) → (N, h·w·K, columns)."""
    return x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, columns)
