"""A network of random weights that finds something: scores and boxes spread as those of a trained one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from maskwatch.network import SSD, AnchorSpec, preprocess
from maskwatch.network.anchors import anchors_xyxy
from maskwatch.network.boxes import encode


@contextmanager
def one_thread() -> Iterator[None]:
    """For networks so small that threads on a busy machine only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def noisy_pictures(count: int, size: int, seed: int = 0) -> np.ndarray:
    """uint8 (count, size, size, 3): blots of many sizes, so that no two places look alike."""
    generator = torch.Generator().manual_seed(seed)
    blots = torch.zeros(count, 3, size, size)
    for side in (2, 4, 8, 16):
        noise = torch.randn(count, 3, side, side, generator=generator)
        blots += nn.functional.interpolate(noise, size=(size, size), mode="bilinear")
    return (blots * 40 + 128).clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous().numpy()


def tiny_network(num_classes: int = 3, size: int = 64) -> SSD:
    """Logits of deviation 2 around −2, encodings of deviation 1.5; in evaluation mode."""
    torch.manual_seed(3)
    network = SSD(num_classes, AnchorSpec(aspect_ratios=(1.0,)))
    images = preprocess(torch.from_numpy(noisy_pictures(24, size)))
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # a plain mean over the batches it has seen
    with torch.no_grad():
        network.train()(images)
        network.eval()
        encodings, logits = network(images)
        boxes, classes = network.head.boxes.pointwise, network.head.classes.pointwise
        assert boxes.bias is not None
        assert classes.bias is not None
        boxes.weight *= 1.5 / encodings.std()
        classes.weight *= 2 / logits.std((0, 1)).mean()
        boxes.bias.normal_(std=0.2)
        classes.bias.fill_(-2.0)
    return network


class ConstantNetwork(SSD):
    """Gives one box for all anchors, in shares of the input, and the same score; keeps what it was shown."""

    def __init__(self, box_xyxy: tuple[float, ...]) -> None:
        nn.Module.__init__(self)
        self.num_classes, self.anchor_spec = 1, AnchorSpec(aspect_ratios=(1.0,), scales_per_octave=1)
        self.box_xyxy = torch.tensor(box_xyxy)
        self.seen: list[Tensor] = []

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        self.seen.append(images)
        anchors = anchors_xyxy(self.anchor_spec, (images.shape[2], images.shape[3]))
        box = (self.box_xyxy * images.shape[2]).expand(len(anchors), 4)
        return encode(box, anchors)[None], torch.ones(1, len(anchors), 2)
