"""The network of a model file in torch, up to all boxes and scores, for what is traced from torch."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from maskwatch.errors import CheckpointError
from maskwatch.models import ModelFile
from maskwatch.network import SSD, Network, TwoScales, preprocess
from maskwatch.network.boxes import decode
from maskwatch.network.layers import BATCH_NORM_EPSILON
from maskwatch.training.start import read_weights


class RawNetwork(nn.Module):
    """Pictures to the outputs that `base.RAW_OUTPUTS` names."""

    def __init__(self, network: Network, size_hw: tuple[int, int]) -> None:
        super().__init__()
        self.network = network
        self.anchors_xyxy: Tensor
        self.register_buffer("anchors_xyxy", network.anchors_xyxy(size_hw).clone())
        for module in network.modules():
            if isinstance(module, nn.ReLU6):
                module.inplace = False  # torch would first have to undo it

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 (N, H, W, 3) RGB → boxes_xyxy (N, A, 4) in pixels, not clipped; scores (N, A, C)."""
        encodings, logits = self.network(preprocess(images))
        return decode(encodings, self.anchors_xyxy), logits[..., 1:].sigmoid()


def raw_network(file: ModelFile) -> RawNetwork:
    """The network with the weights of a model file, in evaluation mode.

    Raises:
        CheckpointError: its weights are not those of such a network.
    """
    spec, prefix, weights = read_weights(file)
    network = SSD(len(file.metadata.classes), spec)
    own = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
    state = network.state_dict()
    for name in state:
        if not name.endswith("num_batches_tracked"):
            state[name] = own[name] if name in own else _merged(own, name, file)
    network.load_state_dict(state)
    whole = TwoScales(network) if prefix.count("network.") > 1 else network
    return RawNetwork(whole.eval(), file.metadata.input_size).eval()


def _merged(weights: Mapping[str, Tensor], name: str, file: ModelFile) -> Tensor:
    """A weight of a BatchNorm that torch has merged into the convolution before it.

    The convolution then has the factor in its weights and the shift as its bias.
    """
    block, _, kind = name.rpartition(".1.")
    for convolution in (f"{block}.0", f"{block}.0.pointwise"):
        if block and f"{convolution}.weight_bias" in weights:
            shift = weights[f"{convolution}.weight_bias"]
            ones = torch.ones_like(shift)
            neutral = {"weight": ones, "bias": shift, "running_mean": 0 * ones}
            return neutral.get(kind, ones - BATCH_NORM_EPSILON)
    raise CheckpointError(
        f"{file.path}: has no weights {name}; convert its checkpoint, or use --to openvino or onnx-raw"
    )
