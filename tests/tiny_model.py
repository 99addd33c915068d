"""A real model file of a few kilobytes that keeps the contract: it finds coloured cells on a 4×4 grid.

The score of a class in a cell is how far its channel stands above the weakest channel there: green is `mask`,
red `no_mask`, blue `mask_incorrect`; grey and white are nothing. Each cell has a second box, an eighth wider
on each side and a tenth less sure, with IoU 0.64 to the first (at a border, where it is clipped, up to 0.8).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from maskwatch.models import ModelMetadata

GRID = 4
CLASSES = ("mask", "no_mask", "mask_incorrect")
CHANNELS = (1, 0, 2)  # of RGB, in the order of the classes; a model of fewer classes leaves out the last
MAX_DETECTIONS = 100


def metadata(
    size: int = 64, name: str = "tiny", resize: str = "letterbox", classes: tuple[str, ...] = CLASSES
) -> ModelMetadata:
    return ModelMetadata(
        name=name,
        version="1",
        classes=classes,
        input_size=(size, size),
        resize=resize,  # type: ignore[arg-type]
        thresholds=(0.5, 0.4, 0.3)[: len(classes)],
        trained_on="nothing: drawn by the tests",
        created="2025-01-01",
        recipe="none",
    )


def write_tiny_model(path: Path, about: ModelMetadata, props: Mapping[str, str] | None = None) -> Path:
    """Writes the model; `props` replaces the metadata, to write files that are none of ours."""
    path.parent.mkdir(parents=True, exist_ok=True)
    model = helper.make_model(
        _graph(about.input_size[0], about.thresholds),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=10,
        producer_name="tests",
    )
    helper.set_model_props(model, about.to_props() if props is None else dict(props))
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path


def _boxes(size: int, classes: int) -> np.ndarray:
    """(32 × classes, 4) in the order of the scores: box (tight, wide), class, cell."""
    cell = size // GRID
    corners = [(x, y, x + cell, y + cell) for y in range(0, size, cell) for x in range(0, size, cell)]
    tight = np.array(corners * classes, np.float32)
    wide = (tight + np.array([-1, -1, 1, 1], np.float32) * cell / 8).clip(0, size)
    return np.concatenate([tight, wide]).astype(np.float32)


def _constants(size: int, thresholds: tuple[float, ...]) -> dict[str, np.ndarray]:
    cells = GRID * GRID
    classes = len(thresholds)
    count = 2 * classes * cells
    return {
        "score_thresholds": np.array(thresholds, np.float32),
        "iou_threshold": np.array([0.6], np.float32),
        "class_agnostic": np.array([True]),
        "all_boxes": _boxes(size, classes),
        "all_classes": np.tile(np.repeat(np.arange(classes), cells), 2).astype(np.int64),
        "channels": np.array(CHANNELS[:classes], np.int64),
        "brightest": np.array(255, np.float32),
        "zero": np.array(0, np.float32),
        "none": np.array(-1, np.int64),
        "less_sure": np.array(0.9, np.float32),
        "overlap": np.array([0.64], np.float32),
        "by_cell": np.array([0, classes, cells], np.int64),
        "flat": np.array([0, classes * cells], np.int64),
        "columns": np.array([1, classes, 1], np.int64),
        "count": np.array([count], np.int64),
        "axis1": np.array([1], np.int64),
        "axis2": np.array([2], np.int64),
        "pads2": np.array([0, 0, 0, MAX_DETECTIONS - count], np.int64),
        "pads3": np.array([0, 0, 0, 0, MAX_DETECTIONS - count, 0], np.int64),
    }


def _nodes(cell: int) -> list[onnx.NodeProto]:
    node = helper.make_node
    return [
        node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        node("Transpose", ["floats"], ["nchw"], perm=[0, 3, 1, 2]),
        node("AveragePool", ["nchw"], ["pooled"], kernel_shape=[cell, cell], strides=[cell, cell]),
        node("ReduceMin", ["pooled", "axis1"], ["weakest"], keepdims=1),
        node("Sub", ["pooled", "weakest"], ["above"]),
        node("Div", ["above", "brightest"], ["by_channel"]),
        node("Gather", ["by_channel", "channels"], ["by_class"], axis=1),
        node("Reshape", ["by_class", "by_cell"], ["raw"]),  # (N, C, cells)
        node("Reshape", ["score_thresholds", "columns"], ["thresholds"]),
        node("Greater", ["raw", "thresholds"], ["counts"]),
        node("ReduceMax", ["raw", "axis1"], ["best"], keepdims=1),
        node("Equal", ["raw", "best"], ["is_best"]),
        node("Not", ["class_agnostic"], ["per_class"]),
        node("Or", ["is_best", "per_class"], ["may_stay"]),
        node("And", ["counts", "may_stay"], ["stays"]),
        node("Where", ["stays", "raw", "zero"], ["kept"]),
        node("Reshape", ["kept", "flat"], ["tight_scores"]),
        node("Mul", ["tight_scores", "less_sure"], ["less"]),
        node("Less", ["iou_threshold", "overlap"], ["suppress"]),
        node("Where", ["suppress", "zero", "less"], ["wide_scores"]),
        node("Concat", ["tight_scores", "wide_scores"], ["candidates"], axis=1),
        node("TopK", ["candidates", "count"], ["top", "index"], axis=1),
        node("Greater", ["top", "zero"], ["used"]),
        node("Gather", ["all_boxes", "index"], ["top_boxes"], axis=0),
        node("Unsqueeze", ["used", "axis2"], ["used_rows"]),
        node("Where", ["used_rows", "top_boxes", "zero"], ["used_boxes"]),
        node("Gather", ["all_classes", "index"], ["top_classes"], axis=0),
        node("Where", ["used", "top_classes", "none"], ["used_classes"]),
        node("Pad", ["top", "pads2", "zero"], ["scores"]),
        node("Pad", ["used_boxes", "pads3", "zero"], ["boxes"]),
        node("Pad", ["used_classes", "pads2", "none"], ["classes"]),
        node("Cast", ["used"], ["ones"], to=TensorProto.INT64),
        node("ReduceSum", ["ones", "axis1"], ["num_detections"], keepdims=0),
    ]


def _graph(size: int, thresholds: tuple[float, ...]) -> onnx.GraphProto:
    value, m = helper.make_tensor_value_info, MAX_DETECTIONS
    inputs = [
        value("images", TensorProto.UINT8, ["N", size, size, 3]),
        value("score_thresholds", TensorProto.FLOAT, [len(thresholds)]),
        value("iou_threshold", TensorProto.FLOAT, [1]),
        value("class_agnostic", TensorProto.BOOL, [1]),
    ]
    outputs = [
        value("boxes", TensorProto.FLOAT, ["N", m, 4]),
        value("scores", TensorProto.FLOAT, ["N", m]),
        value("classes", TensorProto.INT64, ["N", m]),
        value("num_detections", TensorProto.INT64, ["N"]),
    ]
    constants = [numpy_helper.from_array(v, k) for k, v in _constants(size, thresholds).items()]
    return helper.make_graph(_nodes(size // GRID), "tiny", inputs, outputs, constants)
