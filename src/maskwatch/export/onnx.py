"""Model files: a network and its metadata as one ONNX model, from uint8 images to detections."""

from __future__ import annotations

import copy
import datetime
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import compose, helper, numpy_helper
from onnxscript import ir, optimizer, rewriter
from onnxscript.rewriter.rules import common as rules
from torch import Tensor, nn

from maskwatch._version import __version__
from maskwatch.errors import ExportError, ModelFileError, OptionError
from maskwatch.export.nms_graph import IR_VERSION, OPSET, nms_graph
from maskwatch.export.photographs import Photograph
from maskwatch.export.verify import Verification, verify
from maskwatch.models import (
    CANDIDATE_TENSORS,
    CANDIDATES,
    MAX_DETECTIONS,
    Calibration,
    ModelMetadata,
    load_model_file,
)
from maskwatch.network import Network, preprocess
from maskwatch.network.boxes import decode
from maskwatch.outputs import atomic_write, make_folder, new_file, output_errors
from maskwatch.text import first_line
from maskwatch.training.checkpoint import Checkpoint
from maskwatch.training.recipe import plain

DEFAULT_THRESHOLD = 0.5
"""Score threshold of a class for which none was chosen."""

_THRESHOLDS_INPUT = "score_thresholds"
_DEFAULTS = (_THRESHOLDS_INPUT, "iou_threshold", "class_agnostic")

_RULES = (
    rules.normalize_pad_format_conv_rule,
    rules.fuse_pad_into_conv_rule,
    rules.cast_cast_rule,
    rules.no_op_cast_rule,
    rules.no_op_expand_rule,
    rules.no_op_transpose_rule,
    rules.no_op_static_scatter_nd_rule,
    rules.no_op_dynamic_scatter_nd_rule,
    rules.materialize_reshape_shape_rule,
    rules.reshape_reshape_rule,
    rules.squeeze_reshape_1d_rule,
    rules.transpose_transpose_rule,
    rules.unsqueeze_unsqueeze_rule,
    rules.collapse_slice_rule,
    rules.collapse_slice2_rule,
    rules.add_0_rule,
    rules.sub_0_rule,
    rules.mul_by_1_rule,
    rules.div_by_1_rule,
)
"""Those of torch's own `optimize` that change these networks, without the merging of BatchNorms."""


def export_network(
    network: Network, metadata: ModelMetadata, target: str | Path, photographs: Sequence[Photograph]
) -> Verification:
    """Writes a model file under a temporary name, compares it with the network, and then renames it.

    Args:
        target: replaced where it exists.
        photographs: to compare on, such as `own_photographs`.

    Raises:
        ExportError: as `verify`; nothing new is left at the target or beside it.
        OutputError: the file cannot be written.
    """
    target = Path(target)
    data = build_model(network, metadata).SerializeToString(deterministic=True)
    make_folder(target.parent)
    with atomic_write(target) as part:
        with output_errors(target):
            part.write_bytes(data)
        return verify(part, network, metadata, photographs)


def describe_model(
    checkpoint: Checkpoint, name: str, size_hw: tuple[int, int], thresholds: Sequence[float]
) -> ModelMetadata:
    """The metadata of a checkpoint's model file.

    Args:
        name: of the model, such as "maskwatch-640".
        size_hw: the network's input in pixels.
        thresholds: score threshold of each class.
    """
    recipe = checkpoint.recipe
    steps = {"step": checkpoint.step, "mean_of": checkpoint.mean_of}
    return ModelMetadata(
        name=name,
        version=__version__,
        classes=checkpoint.class_names,
        input_size=size_hw,
        resize=recipe.resize,
        thresholds=tuple(round(value, 4) for value in thresholds),
        trained_on=checkpoint.trained_on,
        created=datetime.datetime.now(datetime.UTC).date().isoformat(),
        recipe=json.dumps(plain(recipe) | steps),
        box_voting=recipe.box_voting,
    )


def write_tuned(
    model: str | Path,
    target: Path,
    thresholds: Sequence[float],
    calibration: Calibration | None = None,
    calibrated_on: int = 0,
) -> None:
    """Writes a copy of a model file with other thresholds, in its metadata and as the default of its input.

    Args:
        model: an embedded model or a file.
        target: the copy; may be the file itself.
        thresholds: one for each class.
        calibration, calibrated_on: also another calibration, fitted on so many pictures; None keeps the
            file's.

    Raises:
        OptionError: the number of thresholds is not that of the classes.
        ModelFileError: the file is not a maskwatch model, or not one whose scores can be calibrated.
        OutputError: the copy cannot be written.
    """
    file = load_model_file(model)
    if len(thresholds) != len(file.metadata.classes):
        wanted = ", ".join(file.metadata.classes)
        raise OptionError(f"{len(thresholds)} thresholds for the classes {wanted}; give one for each")
    about = replace(file.metadata, thresholds=tuple(round(float(value), 4) for value in thresholds))
    proto = onnx.load(str(file.path))
    if calibration is not None:
        about = replace(about, calibration=calibration, calibrated_on=calibrated_on)
        proto = _with_calibration(proto, about, file.path)
    initializer = next((item for item in proto.graph.initializer if item.name == _THRESHOLDS_INPUT), None)
    if initializer is None:
        raise ModelFileError(f"{file.path}: has no default of {_THRESHOLDS_INPUT}; export it again")
    initializer.CopyFrom(numpy_helper.from_array(np.array(about.thresholds, np.float32), _THRESHOLDS_INPUT))
    props = {entry.key: entry.value for entry in proto.metadata_props}
    helper.set_model_props(proto, props | about.to_props())
    onnx.checker.check_model(proto)
    with new_file(target) as part:
        part.write_bytes(proto.SerializeToString())


# ---- The graph -------------------------------------------------------------------------------------------


class CandidateNetwork(nn.Module):
    """Images to the best (anchor, class) pairs, as `network.postprocess.detect` picks them before NMS."""

    def __init__(self, network: Network, size_hw: tuple[int, int]) -> None:
        super().__init__()
        self.network = network
        self.anchors_xyxy: Tensor
        self.register_buffer("anchors_xyxy", network.anchors_xyxy(size_hw).clone())
        self.count = min(CANDIDATES, len(self.anchors_xyxy) * network.num_classes)
        # The NMS graph needs a hundred; the smallest inputs do not have that many.
        self.padding = max(0, MAX_DETECTIONS - self.count)
        self.candidates = self.count + self.padding  # K

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


def build_model(network: Network, metadata: ModelMetadata) -> onnx.ModelProto:
    """The whole model as one ONNX graph: normalisation, network, decoding, thresholds, NMS.

    Args:
        network: on the CPU; it is put into evaluation mode.
        metadata: `input_size`, `thresholds`, `box_voting` and `calibration` go into the graph, all of it into
            `metadata_props`.

    Returns:
        A model that `onnx.checker` has checked, with `images` as its only required input. The same network
        and metadata give the same bytes again.
    """
    size_hw = metadata.input_size
    candidate_network = CandidateNetwork(network, size_hw).eval()
    front = _without_notes(_trace(candidate_network, size_hw))
    model = _with_nms(front, candidate_network.candidates, metadata)
    helper.set_model_props(model, metadata.to_props())
    onnx.checker.check_model(model, full_check=True)
    return model


def _with_nms(front: onnx.ModelProto, candidates: int, metadata: ModelMetadata) -> onnx.ModelProto:
    """A graph up to its candidates, K of them, and behind it the rest of a model file."""
    back = nms_graph(
        candidates,
        metadata.input_size,
        metadata.thresholds,
        voting=metadata.box_voting,
        calibration=metadata.calibration,
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
    return model


def _with_calibration(model: onnx.ModelProto, metadata: ModelMetadata, path: Path) -> onnx.ModelProto:
    """The model with a new part behind its candidates: that of older files has no calibration."""
    if not {*CANDIDATE_TENSORS} <= {name for node in model.graph.node for name in node.output}:
        raise ModelFileError(
            f"{path}: has no {CANDIDATE_TENSORS[1]} to calibrate; export it again, or leave out --calibrate"
        )
    front = onnx.utils.Extractor(model).extract_model(["images"], list(CANDIDATE_TENSORS))
    candidates = front.graph.output[1].type.tensor_type.shape.dim[1].dim_value
    del front.graph.value_info[:]
    calibrated = _with_nms(front, candidates, metadata)
    calibrated.metadata_props.extend(model.metadata_props)
    defaults = {old.name: old for old in model.graph.initializer if old.name in _DEFAULTS}
    for initializer in calibrated.graph.initializer:
        if initializer.name in defaults:
            initializer.CopyFrom(defaults[initializer.name])
    return calibrated


@torch.no_grad()  # else `conv_norm` fuses BatchNorms as in training
def _trace(candidate_network: CandidateNetwork, size_hw: tuple[int, int]) -> onnx.ModelProto:
    images = torch.zeros(2, *size_hw, 3, dtype=torch.uint8)
    candidate_network = copy.deepcopy(candidate_network)
    for module in candidate_network.modules():
        if isinstance(module, nn.ReLU6):
            module.inplace = False  # torch would first have to undo it: a quarter of the time
    try:
        program = torch.onnx.export(
            candidate_network,
            (images,),
            dynamo=True,
            verbose=False,
            opset_version=OPSET,
            optimize=False,
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
    _simplify(program.model)
    model = program.model_proto
    model.ir_version = IR_VERSION
    return model


def _simplify(model: ir.Model) -> None:
    """As torch's own `optimize`, but without merging BatchNorms into convolutions.

    A training that starts from the file needs them, and every runtime merges them when it loads the file.
    """
    optimizer.inline(model)
    optimizer.fold_constants(model)
    rewriter.rewrite(model, _RULES)
    common = ir.passes.common
    ir.passes.Sequential(
        common.IdentityEliminationPass(),
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
    )(model)


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
