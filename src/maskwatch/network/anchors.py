"""Multiscale anchors as in the TF Object Detection API.

Source: `MultiscaleGridAnchorGenerator` of the TF Object Detection API (anchor_generators/
multiscale_grid_anchor_generator.py), after RetinaNet (Lin et al. 2017, section 4).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor


@dataclass(frozen=True)
class AnchorSpec:
    """The anchors at every cell of every level.

    A level l has stride 2**l; its anchors measure `anchor_scale * 2**l` pixels times an octave step and
    are stretched to each aspect ratio (width : height) with their area kept.
    """

    min_level: int = 3
    max_level: int = 7
    anchor_scale: float = 4.0
    aspect_ratios: tuple[float, ...] = (1.0, 2.0, 0.5)
    scales_per_octave: int = 2

    @property
    def levels(self) -> range:
        return range(self.min_level, self.max_level + 1)

    @property
    def per_cell(self) -> int:
        """Anchors at one cell."""
        return len(self.aspect_ratios) * self.scales_per_octave

    def shapes(self) -> list[tuple[float, float]]:
        """(aspect ratio, octave scale) of the anchors at a cell, in their order: aspect ratio first."""
        scales = [2 ** (i / self.scales_per_octave) for i in range(self.scales_per_octave)]
        return [(ratio, scale) for ratio in self.aspect_ratios for scale in scales]

    def grid(self, size_hw: tuple[int, int], level: int) -> tuple[int, int]:
        """Rows and columns of a level, as stride-2 convolutions with SAME padding leave them."""
        return math.ceil(size_hw[0] / 2**level), math.ceil(size_hw[1] / 2**level)

    def counts(self, size_hw: tuple[int, int]) -> list[int]:
        """Anchors of each level."""
        return [math.prod(self.grid(size_hw, level)) * self.per_cell for level in self.levels]


def _level_anchors_xyxy(spec: AnchorSpec, size_hw: tuple[int, int], level: int) -> Tensor:
    stride = 2**level
    rows, columns = spec.grid(size_hw, level)
    # The API shifts centres by half a stride only where the stride divides the size; at 320 the top level
    # (stride 128) starts at 0.
    offset_y = stride / 2 if size_hw[0] % stride == 0 else 0.0
    offset_x = stride / 2 if size_hw[1] % stride == 0 else 0.0
    ratios, scales = torch.tensor(spec.shapes(), dtype=torch.float64).unbind(1)  # (K,), (K,)
    base = spec.anchor_scale * stride
    heights = base * scales / ratios.sqrt()
    widths = base * scales * ratios.sqrt()
    centre_y = torch.arange(rows, dtype=torch.float64) * stride + offset_y
    centre_x = torch.arange(columns, dtype=torch.float64) * stride + offset_x
    cy, cx = torch.meshgrid(centre_y, centre_x, indexing="ij")
    centres = torch.stack([cx, cy], -1).reshape(-1, 1, 2)  # (cells, 1, 2)
    half = torch.stack([widths, heights], -1).reshape(1, -1, 2) / 2  # (1, K, 2)
    return torch.cat([centres - half, centres + half], -1).reshape(-1, 4)  # (cells·K, 4)


@lru_cache(maxsize=32)
def anchors_xyxy(spec: AnchorSpec, size_hw: tuple[int, int]) -> Tensor:
    """(A, 4) float32: all anchors of an input of H×W pixels, level by level, row by row.

    They reach beyond its border, as in the API. Callers share the tensor: do not write to it.
    """
    return torch.cat([_level_anchors_xyxy(spec, size_hw, level) for level in spec.levels]).float()
