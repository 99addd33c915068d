"""SSD MobileNetV2 FPNLite: the network, its anchors, matching, losses and NMS.

Needs the `train` extra.
"""

try:
    import torch  # noqa: F401
except ModuleNotFoundError as error:  # pragma: no cover - the test suite runs with torch
    from maskwatch.errors import MissingExtraError

    raise MissingExtraError("The network in torch", "train") from error

from maskwatch.network.anchors import AnchorSpec
from maskwatch.network.ssd import SSD, preprocess
from maskwatch.network.two_scales import Network, TwoScales

__all__ = ["SSD", "AnchorSpec", "Network", "TwoScales", "preprocess"]
