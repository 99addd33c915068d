"""A network and its metadata → one ONNX model: uint8 images in, detections out."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import onnx
import torch
from onnx import compose, helper
from torch import Tensor, nn

from maskwatch._version import __version__
from maskwatch.errors import ExportError
from maskwatch.export.nms_graph import IR_VERSION, OPSET, nms_graph
from maskwatch.models import CANDIDATE_TENSORS, ModelMetadata
from maskwatch.network import Network, preprocess
from maskwatch.network.boxes import decode
from maskwatch.network.postprocess import CANDIDATES, MAX_DETECTIONS
from maskwatch.text import first_line


class CandidateNetwork(nn.Module):
    """Images to the best (anchor, class) pairs, as `network.postprocess.detect` picks them before NMS."""

    def __init__(self, network: Network, size_hw: tuple[int, int]) -> None:
        super().__init__()
        self.network = network
        self.anchors_xyxy: Tensor
        self.register_buffer("anchors_xyxy", network.anchors_xyxy(size_hw).clone())
        pairs = len(self.anchors_xyxy) * network.num_classes
        self.count = min(CANDIDATES, pairs)
        # The NMS graph needs a hundred; the smallest inputs do not have that many.
        self.padding = max(0, MAX_DETECTIONS - self.count)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """uint8 (N, H, W, 3) RGB → boxes_xyxy (N, K, 4) in pixels, scores and classes (N, K), best first."""
        encodings, logits = self.network(preprocess(images))
        best, flat = logits[..., 1:].flatten(1).topk(self.count)  # (N, K)
        anchor_ids, class_ids = flat // self.network.num_classes, flat % self.network.num_classes
        encodings = encodings.gather(1, anchor_ids.unsqueeze(-1).expand(-1, -1, 4))  # (N, K, 4)
        boxes_xyxy = decode(encodings, self.anchors_xyxy[anchor_ids])
        scores = best.sigmoid()
        if self.padding:
            pad = nn.functional.pad
            boxes_xyxy = pad(boxes_xyxy, (0, 0, 0, self.padding))
            scores = pad(scores, (0, self.padding), value=-math.inf)
            class_ids = pad(class_ids, (0, self.padding))
        return boxes_xyxy, scores, class_ids

    @property
    def candidates(self) -> int:
        """K."""
        return self.count + self.padding


def build_model(network: Network, metadata: ModelMetadata) -> onnx.ModelProto:
    """The whole model as one ONNX graph: normalisation, network, decoding, thresholds, NMS.

    Args:
        network: on the CPU; it is put into evaluation mode.
        metadata: `input_size`, `thresholds` and `box_voting` go into the graph, all of it into
            `metadata_props`.

    Returns:
        A model that `onnx.checker` has checked, with `images` as its only required input. The same network
        and metadata give the same bytes again.
    """
    candidate_network = CandidateNetwork(network, metadata.input_size).eval()
    front = _without_notes(_trace(candidate_network, metadata.input_size))
    back = nms_graph(
        candidate_network.candidates, metadata.input_size, metadata.thresholds, voting=metadata.box_voting
    )
    model = compose.merge_models(
        front,
        back,
        [(name, name) for name in CANDIDATE_TENSORS],
        name="maskwatch",
        producer_name="maskwatch",
        producer_version=__version__,
    )
    del model.opset_import[1:]  # merging keeps the one of each part
    helper.set_model_props(model, metadata.to_props())
    onnx.checker.check_model(model, full_check=True)
    return model


@torch.no_grad()  # else `conv_norm` fuses BatchNorms as in training
def _trace(candidate_network: CandidateNetwork, size_hw: tuple[int, int]) -> onnx.ModelProto:
    images = torch.zeros(2, *size_hw, 3, dtype=torch.uint8)
    try:
        program = torch.onnx.export(
            candidate_network,
            (images,),
            dynamo=True,
            verbose=False,
            opset_version=OPSET,
            input_names=["images"],
            output_names=list(CANDIDATE_TENSORS),
            dynamic_shapes={"images": {0: torch.export.Dim("N")}},
        )
    except torch.onnx.OnnxExporterError as error:
        raise ExportError(
            f"torch {torch.__version__} cannot translate the network ({first_line(error)}); "
            "install the versions of torch, onnx and onnxscript that constraints.txt names"
        ) from error
    assert program is not None
    model = program.model_proto
    model.ir_version = IR_VERSION
    return model


def _without_notes(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without torch's notes: stack traces, which hold paths of the exporting machine, and the
    shapes of all inner tensors, which any reader can infer."""
    graph = model.graph
    del graph.value_info[:]
    messages: Iterable[Any] = (model, graph, *graph.node, *graph.initializer, *graph.input, *graph.output)
    for message in messages:
        del message.metadata_props[:]
        message.ClearField("doc_string")
    return model
