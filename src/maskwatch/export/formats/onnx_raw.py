"""ONNX up to the boxes and scores of all anchors, for compilers that have no NMS or another one.

The graph of a model file is changed in two places: where the indices of TopK gather encodings and anchors of
the best candidates, decoding takes all of them; and scores are taken before TopK.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from maskwatch.errors import ModelFileError
from maskwatch.export.formats.base import (
    FLOAT32,
    RAW_OUTPUTS,
    ConvertOptions,
    ExportFormat,
    Signature,
    Tensor,
    file_stem,
)
from maskwatch.export.formats.raw import decoded
from maskwatch.media.images import UInt8Array
from maskwatch.models import CANDIDATE_TENSORS, ModelFile, ModelMetadata
from maskwatch.runtimes.base import Model

if TYPE_CHECKING:
    import onnx


def write_onnx(file: ModelFile, folder: Path, options: ConvertOptions) -> Signature:
    """Writes NAME.onnx, with the metadata in its `metadata_props`."""
    import onnx

    model = raw_graph(file, options)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(folder / f"{file_stem(file.metadata)}.onnx"))
    inputs, outputs = (tuple(map(_tensor, values)) for values in (model.graph.input, model.graph.output))
    return inputs, outputs


def raw_graph(file: ModelFile, options: ConvertOptions) -> onnx.ModelProto:
    """A model file without its choice of candidates, thresholds and NMS.

    Raises:
        ModelFileError: its graph is not one that `maskwatch export` writes.
    """
    import onnx
    from onnx import shape_inference

    model = onnx.load(str(file.path))
    try:
        anchors = _take_all_anchors(model.graph, len(file.metadata.classes))
        _set_outputs(model.graph, anchors, len(file.metadata.classes))
        props = list(model.metadata_props)
        model = onnx.utils.Extractor(model).extract_model(["images"], list(RAW_OUTPUTS))
        if options.input_type == "float32":
            _take_floats(model.graph, file.metadata.input_size)
    except (KeyError, StopIteration):
        raise ModelFileError(
            f"{file.path}: its graph is not one that maskwatch export writes; export its checkpoint again"
        ) from None
    model.metadata_props.extend(props)
    if options.batch is not None:
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.shape.dim[0].dim_value = options.batch
    del model.graph.value_info[:]
    return shape_inference.infer_shapes(model)


def _take_all_anchors(graph: onnx.GraphProto, classes: int) -> int:
    """Adds the raw outputs to a graph; returns the number of anchors."""
    from onnx import helper, numpy_helper

    boxes_name, scores_name, _ = CANDIDATE_TENSORS
    top = _upstream(graph, scores_name, "TopK")
    encodings = _upstream(graph, boxes_name, "GatherElements")
    anchors = _upstream(graph, boxes_name, "GatherND")
    graph.node.remove(next(node for node in graph.node if RAW_OUTPUTS[1] in node.output))  # after NMS
    tables = {item.name: item for item in graph.initializer}
    corners = numpy_helper.to_array(tables[anchors.input[0]])[None]  # (1, A, 4)
    instead = {encodings.output[0]: encodings.input[0], anchors.output[0]: "all_anchors"}
    for node in graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = instead.get(name, name)
    producer = next(node for node in graph.node if boxes_name in node.output)
    # Few candidates are padded to a hundred.
    decoded_name = producer.input[0] if producer.op_type == "Pad" else boxes_name
    graph.initializer.append(numpy_helper.from_array(corners, "all_anchors"))
    graph.initializer.append(numpy_helper.from_array(np.array([0, -1, classes], np.int64), "by_anchor"))
    graph.node.extend(
        [
            helper.make_node("Identity", [decoded_name], [RAW_OUTPUTS[0]]),
            helper.make_node("Sigmoid", [top.input[0]], ["flat_scores"]),
            helper.make_node("Reshape", ["flat_scores", "by_anchor"], [RAW_OUTPUTS[1]]),
        ]
    )
    return int(corners.shape[1])


def _upstream(graph: onnx.GraphProto, tensor: str, op_type: str) -> onnx.NodeProto:
    """The nearest node of a type that a tensor is computed from; StopIteration where there is none."""

    def walk() -> Iterator[onnx.NodeProto]:
        producers = {name: node for node in graph.node for name in node.output}
        names, seen = [tensor], {tensor}
        for name in names:
            if name in producers:
                yield producers[name]
                new = [source for source in producers[name].input if source not in seen]
                seen.update(new)
                names += new

    return next(node for node in walk() if node.op_type == op_type)


def _set_outputs(graph: onnx.GraphProto, anchors: int, classes: int) -> None:
    from onnx import TensorProto, helper

    del graph.output[:]
    for name, columns in zip(RAW_OUTPUTS, (4, classes), strict=True):
        shape: list[str | int | None] = ["N", anchors, columns]
        graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))


def _take_floats(graph: onnx.GraphProto, size_hw: tuple[int, int]) -> None:
    """Starts with channels first and in float32, behind the Transpose and Cast of `network.preprocess`."""
    from onnx import TensorProto, helper

    transpose = next(node for node in graph.node if "images" in node.input and node.op_type == "Transpose")
    cast = next(node for node in graph.node if transpose.output[0] in node.input and node.op_type == "Cast")
    for node in graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = "images" if name == cast.output[0] else name
    graph.node.remove(transpose)
    graph.node.remove(cast)
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 3, *size_hw])
    graph.input[0].CopyFrom(images)


def _tensor(value: onnx.ValueInfoProto) -> Tensor:
    from onnx import helper

    tensor = value.type.tensor_type
    shape = tuple(side.dim_param or side.dim_value for side in tensor.shape.dim)
    return Tensor(value.name, str(helper.tensor_dtype_to_np_dtype(tensor.elem_type)), shape)


def load_onnx(folder: Path, metadata: ModelMetadata, options: ConvertOptions) -> Model:
    """The file in ONNX Runtime, its outputs decoded."""
    from maskwatch.runtimes.onnx_runtime import open_tensors

    run = open_tensors(next(folder.glob("*.onnx")).read_bytes(), RAW_OUTPUTS)

    def raw(images_nhwc: UInt8Array) -> tuple[np.ndarray, np.ndarray]:
        if options.input_type == "float32":
            boxes, scores = run(images_nhwc.transpose(0, 3, 1, 2).astype(np.float32))
        else:
            boxes, scores = run(images_nhwc)
        return boxes, scores

    return decoded(raw, metadata)


ONNX_RAW = ExportFormat(
    "onnx-raw", write_onnx, load_onnx, FLOAT32, "train", ("onnx", "torch"), ("batch", "input_type"), int8=True
)
