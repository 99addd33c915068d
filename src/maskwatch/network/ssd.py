"""SSD MobileNetV2 FPNLite: backbone, pyramid, head.

Sources: Liu et al. 2016 (SSD), Sandler et al. 2018 (MobileNetV2), Lin et al. 2017 (FPN, RetinaNet), put
together as `ssd_mobilenet_v2_fpn_keras` in the TF Object Detection API.
"""

from __future__ import annotations

from torch import Tensor, nn

from maskwatch.network.anchors import AnchorSpec, anchors_xyxy
from maskwatch.network.backbone import MobileNetV2
from maskwatch.network.fpn import FeaturePyramid
from maskwatch.network.head import PredictionHead

SIZE_MULTIPLE = 32


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
        self.fpn = FeaturePyramid(self.backbone.out_channels)
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
