"""The network of a model file in int8, by post-training quantisation with NNCF.

The graph is cut at its last convolutions. What lies before them computes in int8: weights by channel, values
between layers by tensor, with the ranges that calibration pictures gave. Decoding, NMS and calibration of
scores stay as they are. Source: Jacob et al. 2018; as QuantizeLinear and DequantizeLinear of ONNX, which
ONNX Runtime and OpenVINO both compute in int8.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx
import onnxruntime as ort
from onnx import helper

from maskwatch.data import DetectionSet
from maskwatch.detector import Detector
from maskwatch.errors import ExportError, ModelFileError
from maskwatch.evaluation.coco import STAT_NAMES, coco_evaluate
from maskwatch.evaluation.predictor import predict
from maskwatch.export.formats.comparison import AP_TOLERANCE
from maskwatch.media.images import UInt8Array, fit, read_image
from maskwatch.models import ModelFile, load_model_file
from maskwatch.outputs import new_file
from maskwatch.runtimes.choice import REFERENCE

FLOAT_PARTS: tuple[tuple[str, ...], ...] = ((), ("head",))
"""What stays in float, tried in this order: parts of the names of weights. In int8 the head costs most of the
AP and gains least of the time, see docs/experiments.md."""

PICTURES = 100
"""At most this many, at even steps, give the ranges of values."""

# OpenVINO (2026.4) takes an eighth more time where layers share scales and zero points, which are smaller.
_SHARED_BYTES = 1 << 14

_FATAL = 4  # ONNX Runtime's log severity


@dataclass(frozen=True)
class Quantised:
    """An int8 model file that was written.

    Attributes:
        float_parts: of the network, as in `FLOAT_PARTS`.
        ap, float32_ap: COCO's AP on the data, of this file and of the one it came from.
    """

    float_parts: tuple[str, ...]
    ap: float
    float32_ap: float

    def __str__(self) -> str:
        kept = f", {' and '.join(self.float_parts)} in float32" if self.float_parts else ""
        return f"AP {self.ap:.4f}, in float32 {self.float32_ap:.4f}{kept}"


def write_int8(
    model: str | Path,
    target: Path,
    calibration: DetectionSet,
    data: DetectionSet,
    data_name: str,
    report: Callable[[str], object] = lambda line: None,
) -> Quantised:
    """Writes a copy of a model file that computes in int8, with as much of it as AP allows.

    Args:
        model: an embedded model or a model file in float32.
        target: the copy.
        calibration: its pictures give the ranges of values.
        data: AP is measured on it, with ONNX Runtime on the CPU.
        data_name: of both, for the metadata.
        report: called with a line about each attempt.

    Raises:
        ExportError: AP falls by more than `AP_TOLERANCE` whatever stays in float32, or the data holds no box;
            nothing is written.
        ModelFileError: the file is no Maskwatch model, or one in int8.
        OutputError: the copy cannot be written.
    """
    file = load_model_file(model)
    if file.metadata.is_int8:
        raise ModelFileError(f"{file.path}: is in int8 already; give the model file that it came from")
    pictures = calibration_pictures(file, calibration)
    reference = average_precision(file.path, data)
    if reference < 0:
        raise ExportError(f"{data_name}: holds no box to measure AP by; give annotated pictures to --int8")
    tried: list[Quantised] = []
    with new_file(target) as part:
        for parts in FLOAT_PARTS:
            proto = quantise(file, pictures, parts)
            helper.set_model_props(proto, _props(file, data_name, len(pictures), parts))
            part.write_bytes(proto.SerializeToString(deterministic=True))
            tried.append(Quantised(parts, average_precision(part, data), reference))
            report(f"int8: {tried[-1]}")
            if reference - tried[-1].ap <= AP_TOLERANCE:
                return tried[-1]
        raise ExportError(
            f"AP falls by more than {AP_TOLERANCE} in int8, so nothing was written: "
            f"{'; '.join(map(str, tried))}. Give more pictures like those of use, or stay with float32"
        )


def calibration_pictures(file: ModelFile, data: DetectionSet) -> list[UInt8Array]:
    """Up to `PICTURES` of a data set at even steps, each (1, H, W, 3) at the network's size."""
    step = -(-len(data) // PICTURES)
    paths = [sample.image_path for sample in data.samples[::step]]
    about = file.metadata
    return [fit(read_image(path), about.input_size, about.resize)[0][None] for path in paths]


def average_precision(model: Path, data: DetectionSet) -> float:
    """COCO's AP of a model file with ONNX Runtime on the CPU."""
    detector = Detector(
        model,
        threshold=0.0,
        class_agnostic=False,
        runtime=REFERENCE.runtime,
        device=REFERENCE.device,
        precision=REFERENCE.precision,
    )
    return coco_evaluate(data, predict(detector, data)).stats[STAT_NAMES[0]]


def quantise(file: ModelFile, pictures: Sequence[UInt8Array], float_parts: Sequence[str]) -> onnx.ModelProto:
    """The model with its convolutions in int8, except those whose weights' names hold a float part.

    Raises:
        ModelFileError: it has no convolution.
    """
    model = onnx.load(str(file.path))
    last = _last_convolutions(model.graph)
    if not last:
        raise ModelFileError(f"{file.path}: has no convolution to quantise; export it again")
    inferred = onnx.shape_inference.infer_shapes(model)
    front = onnx.utils.Extractor(inferred).extract_model(["images"], last)
    return _joined(model, front, _quantised(_folded(front), pictures, float_parts))


def _props(file: ModelFile, data_name: str, count: int, float_parts: Sequence[str]) -> dict[str, str]:
    kept = f"; {', '.join(float_parts)} in float32" if float_parts else ""
    about = f"{data_name}: {count} pictures{kept}"
    return replace(file.metadata, precision="int8", quantised_on=about).to_props()


# ---- The graph -------------------------------------------------------------------------------------------


def _last_convolutions(graph: onnx.GraphProto) -> list[str]:
    """Outputs of the convolutions from which no other one computes: those of the head."""
    used: set[str] = set()
    last = []
    for node in reversed(graph.node):
        is_convolution = node.op_type == "Conv"
        if is_convolution and node.output[0] not in used:
            last.append(node.output[0])
        if is_convolution or used.intersection(node.output):
            used.update(node.input)
    return last[::-1]


def _folded(front: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with BatchNorms inside their convolutions, since NNCF leaves others in float."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = _FATAL
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "folded.onnx")
        options.optimized_model_filepath = str(path)
        ort.InferenceSession(front.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return onnx.load(str(path))


def _quantised(
    front: onnx.ModelProto, pictures: Sequence[UInt8Array], float_parts: Sequence[str]
) -> onnx.ModelProto:
    nncf = _nncf()
    advanced = nncf.quantization.advanced_parameters
    names = [
        node.name
        for node in front.graph.node
        if node.op_type == "Conv" and any(f".{part}." in node.input[1] for part in float_parts)
    ]
    # By channel, depthwise convolutions would not be computed in int8.
    by_tensor = advanced.QuantizationParameters(per_channel=False)
    with contextlib.redirect_stdout(sys.stderr):  # progress bars
        quantised: onnx.ModelProto = nncf.quantize(
            front,
            nncf.Dataset(pictures, lambda images: {"images": images}),
            subset_size=len(pictures),
            ignored_scope=nncf.IgnoredScope(names=names),
            advanced_parameters=advanced.AdvancedQuantizationParameters(
                activations_quantization_params=by_tensor
            ),
        )
    return quantised


def _nncf() -> Any:
    # Without this, NNCF reports every use to its maker. Maskwatch has no telemetry.
    os.environ.setdefault("NNCF_CI", "1")
    # It loads torch's compiler of extensions, which warns where there is no CUDA.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    import nncf
    import nncf.quantization.advanced_parameters

    nncf.set_log_level(logging.ERROR)
    return nncf


def _joined(model: onnx.ModelProto, front: onnx.ModelProto, quantised: onnx.ModelProto) -> onnx.ModelProto:
    """The model with the quantised network in place of `front`."""
    replaced = {name for node in front.graph.node for name in node.output}
    rest = [node for node in model.graph.node if not replaced.intersection(node.output)]
    read = {name for node in rest for name in node.input} | {value.name for value in model.graph.input}
    own = {tensor.name for tensor in quantised.graph.initializer}
    constants = [tensor for tensor in model.graph.initializer if tensor.name in read - own]
    joined = onnx.ModelProto()
    joined.CopyFrom(model)
    graph = joined.graph
    for items in (graph.node, graph.initializer, graph.value_info):
        del items[:]
    graph.node.extend([*quantised.graph.node, *rest])
    graph.initializer.extend([*quantised.graph.initializer, *constants])
    _share_weights(graph)
    onnx.checker.check_model(joined)
    return joined


def _share_weights(graph: onnx.GraphProto) -> None:
    """Keeps one of equal weights: two scales share theirs, which NNCF writes for each."""
    kept: dict[bytes, onnx.TensorProto] = {}
    names: dict[str, str] = {}
    for tensor in graph.initializer:
        own = onnx.TensorProto()
        own.CopyFrom(tensor)
        if tensor.ByteSize() >= _SHARED_BYTES:
            own.name = ""
        first = kept.setdefault(own.SerializeToString(deterministic=True), own)
        first.name = names.setdefault(tensor.name, first.name or tensor.name)
    for node in graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = names.get(name, name)
    del graph.initializer[:]
    graph.initializer.extend(kept.values())
