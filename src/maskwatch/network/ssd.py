"""SSD MobileNetV2 FPNLite: backbone, feature pyramid, prediction head.

Sources: Liu et al. 2016 (SSD), Sandler et al. 2018 (MobileNetV2), Lin et al. 2017a (FPN) and 2017b
(RetinaNet), put together as `ssd_mobilenet_v2_fpn_keras` in the TF Object Detection API.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskwatch.network.anchors import AnchorSpec, anchors_xyxy
from maskwatch.network.layers import (
    ConvNormRelu6,
    SeparableConv2d,
    SeparableNormRelu6,
    batch_norm,
    conv_norm,
    relu6,
)

SIZE_MULTIPLE = 32

# ---- Backbone --------------------------------------------------------------------------------------------

# MobileNetV2 of width 1.0 (table 2): expansion, channels, repeats, stride of the first.
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

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvNormRelu6(3, STEM_CHANNELS, 3, 2)
        blocks: list[nn.Module] = []
        channels = STEM_CHANNELS
        for expansion, channels_out, repeats, first_stride in STAGES:
            for stride in (first_stride, *[1] * (repeats - 1)):
                blocks.append(InvertedResidual(channels, channels_out, stride, expansion))
                channels = channels_out
        self.blocks = nn.ModuleList(blocks)
        self.top = ConvNormRelu6(channels, TOP_CHANNELS)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(N, 3, H, W) in −1..1 → (N, 32, H/8, W/8), (N, 96, H/16, W/16), (N, 1280, H/32, W/32)."""
        x: Tensor = self.stem(images)
        outputs = []
        for block in self.blocks:
            x = block(x)
            outputs.append(x)
        return outputs[5], outputs[12], self.top(x)


# ---- Feature pyramid -------------------------------------------------------------------------------------

FPN_CHANNELS = 128


class FeaturePyramid(nn.Module):
    """Levels P3–P7, light: separable convolutions of 128 channels.

    Source: `KerasFpnTopDownFeatureMaps` and `SSDMobileNetV2FpnKerasFeatureExtractor` of the TF Object
    Detection API. Two things differ from the paper: each level adds the smoothed level above it, and P5 is
    the plain 1×1 lateral.
    """

    def __init__(self) -> None:
        super().__init__()
        self.lateral3 = nn.Conv2d(32, FPN_CHANNELS, 1)
        self.lateral4 = nn.Conv2d(96, FPN_CHANNELS, 1)
        self.lateral5 = nn.Conv2d(TOP_CHANNELS, FPN_CHANNELS, 1)
        self.smooth3 = SeparableNormRelu6(FPN_CHANNELS)
        self.smooth4 = SeparableNormRelu6(FPN_CHANNELS)
        self.down6 = SeparableNormRelu6(FPN_CHANNELS, stride=2)
        self.down7 = SeparableNormRelu6(FPN_CHANNELS, stride=2)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Three backbone maps, finest first → five levels, finest first, each (N, 128, H/2**l, W/2**l)."""
        c3, c4, c5 = features
        p5 = self.lateral5(c5)
        p4 = self.smooth4(self.lateral4(c4) + F.interpolate(p5, scale_factor=2.0, mode="nearest"))
        p3 = self.smooth3(self.lateral3(c3) + F.interpolate(p4, scale_factor=2.0, mode="nearest"))
        p6 = self.down6(p5)
        return [p3, p4, p5, p6, self.down7(p6)]


# ---- Head ------------------------------------------------------------------------------------------------

TOWER_DEPTH = 4
# Starts every score at about 0.01, so that the many background anchors do not dominate the first steps
# (Lin et al. 2017b, section 4.1).
CLASS_BIAS_INIT = -4.6
_INIT_STD = 0.01


class PredictionHead(nn.Module):
    """The box and class predictor: one tower of separable convolutions for all levels.

    Source: `WeightSharedConvolutionalBoxPredictor` of the TF Object Detection API with
    `share_prediction_tower` and `use_depthwise`: all levels share the weights, each has its own BatchNorms.
    """

    def __init__(self, num_classes: int, anchors_per_cell: int, levels: int) -> None:
        super().__init__()
        self.columns = num_classes + 1  # column 0 is the background
        self.tower = nn.ModuleList(SeparableConv2d(FPN_CHANNELS, FPN_CHANNELS) for _ in range(TOWER_DEPTH))
        self.norms = nn.ModuleList(
            nn.ModuleList(batch_norm(FPN_CHANNELS) for _ in range(TOWER_DEPTH)) for _ in range(levels)
        )
        self.boxes = SeparableConv2d(FPN_CHANNELS, anchors_per_cell * 4, bias=True)
        self.classes = SeparableConv2d(FPN_CHANNELS, anchors_per_cell * self.columns, bias=True)
        self._reset_parameters()

    def _reset_parameters(self) -> None:
        """Normal weights of deviation 0.01, as in pipeline.config."""
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
                x = relu6(conv_norm(conv.pointwise, norm, conv.depthwise(x)))
            encodings.append(_per_anchor(self.boxes(x), 4))
            logits.append(_per_anchor(self.classes(x), self.columns))
        return torch.cat(encodings, 1), torch.cat(logits, 1)


def _per_anchor(x: Tensor, columns: int) -> Tensor:
    """(N, K·columns, h, w) → (N, h·w·K, columns)."""
    return x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, columns)


# ---- The whole -------------------------------------------------------------------------------------------


class SSD(nn.Module):
    """The detector network: images to raw head outputs, without loss and NMS.

    Args:
        num_classes: classes without the background.
        anchors: the anchors that the head predicts for.
    """

    size_multiple = SIZE_MULTIPLE

    def __init__(self, num_classes: int, anchors: AnchorSpec | None = None) -> None:
        super().__init__()
        if num_classes < 1:
            raise ValueError(f"num_classes is {num_classes}; a detector needs at least one class")
        self.num_classes = num_classes
        self.anchor_spec = anchors or AnchorSpec()
        self.backbone = MobileNetV2()
        self.fpn = FeaturePyramid()
        self.head = PredictionHead(num_classes, self.anchor_spec.per_cell, len(self.anchor_spec.levels))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Raw head outputs for each anchor.

        Args:
            images: (N, 3, H, W) float RGB in −1..1; H and W divisible by 32.

        Returns:
            encodings (N, A, 4) as ty, tx, th, tw; logits (N, A, C + 1), column 0 the background.

        Raises:
            ValueError: a side is not divisible by 32.
        """
        check_sides(images, self.size_multiple)
        encodings, logits = self.head(self.fpn(self.backbone(images)))
        return encodings, logits

    def anchors_xyxy(self, size_hw: tuple[int, int]) -> Tensor:
        """(A, 4) pixels: the anchors behind the rows of `forward` for an input of this size."""
        return anchors_xyxy(self.anchor_spec, size_hw)


def check_sides(images: Tensor, multiple: int) -> None:
    """Raises ValueError where a side of (N, 3, H, W) is not divisible by `multiple`."""
    height, width = images.shape[-2:]
    if height % multiple or width % multiple:
        raise ValueError(f"input of {height}x{width}: both sides must be divisible by {multiple}")


def preprocess(images: Tensor) -> Tensor:
    """uint8 (N, H, W, 3) RGB → float32 (N, 3, H, W) in −1..1."""
    return images.permute(0, 3, 1, 2).float() * (2.0 / 255.0) - 1.0
