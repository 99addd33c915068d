"""A second pass at half the size, for faces that fill the image.

An image pyramid of two steps (Adelson et al. 1984) in front of one network. The top levels of a feature
pyramid see few faces in training and have few cells; at half the size the same face is one level lower, where
the network has seen many.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskwatch.network.boxes import SIZE_SCALE
from maskwatch.network.ssd import SIZE_MULTIPLE, SSD, check_sides

# Shares of the shorter side of the input. A face between the two is found by both passes, and NMS keeps one.
LARGEST_AT_FULL_SIZE = 0.5
SMALLEST_AT_HALF_SIZE = 0.15
# A logit whose score is below any threshold.
_NEVER = -50.0


class TwoScales(nn.Module):
    """Detects small faces at full size and large ones at half of it, both with one trained `network`."""

    size_multiple = 2 * SIZE_MULTIPLE

    def __init__(self, network: SSD) -> None:
        super().__init__()
        self.network = network
        self.num_classes = network.num_classes

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Head outputs of both passes, the one at full size first.

        Args:
            images: (N, 3, H, W) float RGB in −1..1; H and W divisible by 64.

        Returns:
            As `SSD.forward`, for the rows of `anchors_xyxy`.

        Raises:
            ValueError: a side is not divisible by 64.
        """
        check_sides(images, self.size_multiple)
        height, width = images.shape[-2:]
        # The mean of 2×2 pixels is what a photograph of half the size shows.
        passes = [self.network(images), self.network(F.avg_pool2d(images, 2))]
        encodings = torch.cat([encodings for encodings, _ in passes], 1)  # (N, A, 4)
        logits = torch.cat([logits for _, logits in passes], 1)  # (N, A, C + 1)
        log_side = self._log_side(encodings, (height, width))
        shorter = min(height, width)
        full = passes[0][0].shape[1]
        small = log_side[:, :full] < math.log(LARGEST_AT_FULL_SIZE * shorter)
        large = log_side[:, full:] >= math.log(SMALLEST_AT_HALF_SIZE * shorter)
        own = torch.cat([small, large], 1).unsqueeze(-1)  # (N, A, 1)
        return encodings, torch.where(own, logits, _NEVER)

    def _log_side(self, encodings: Tensor, size_hw: tuple[int, int]) -> Tensor:
        """(N, A) logarithm of the geometric mean of width and height, which needs no decoding."""
        anchors = self.anchors_xyxy(size_hw).to(encodings.device)
        log_sides = (anchors[:, 2:] - anchors[:, :2]).log().mean(-1)  # (A,)
        # A mean that keeps its axis: OpenVINO computes others wrongly in batches, see `runtimes.openvino`.
        mean = encodings[..., 2:].mean(-1, keepdim=True).squeeze(-1)
        return mean / SIZE_SCALE + log_sides

    def anchors_xyxy(self, size_hw: tuple[int, int]) -> Tensor:
        """(A, 4) pixels of the full input: the anchors behind the rows of `forward`."""
        half_hw = (size_hw[0] // 2, size_hw[1] // 2)
        return torch.cat([self.network.anchors_xyxy(size_hw), self.network.anchors_xyxy(half_hw) * 2])


Network: TypeAlias = SSD | TwoScales
"""A network to run, evaluate and export; only an `SSD` can be trained."""
