"""OpenVINO IR: the whole model, weights of convolutions in float16.

Only these: in float16 the corners of anchors beyond 512 would move by up to a quarter of a pixel.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from maskwatch.errors import ModelFileError
from maskwatch.export.formats.base import (
    FLOAT16,
    ConvertOptions,
    ExportFormat,
    Signature,
    file_stem,
    whole_model_signature,
)
from maskwatch.media.images import FloatArray, UInt8Array
from maskwatch.models import IOU_THRESHOLD, ModelFile, ModelMetadata
from maskwatch.runtimes.base import OPTIONAL_INPUTS, OUTPUTS, Model, RawDetections, option_feeds
from maskwatch.runtimes.openvino import read_model

_WEIGHTED = ("Convolution", "GroupConvolution", "MatMul")


def write_ir(file: ModelFile, folder: Path, options: ConvertOptions) -> Signature:
    """Writes NAME.xml and NAME.bin; the metadata are in `rt_info`, under maskwatch."""
    import openvino as ov

    model = _with_inputs(ov, read_model(ov.Core(), str(file.path)), file)
    _compress(ov, model)
    for key, value in file.metadata.to_props().items():
        model.set_rt_info(value, key.split("."))
    model.set_rt_info(file.metadata.name, ["model_info", "model_name"])
    ov.save_model(model, folder / f"{file_stem(file.metadata)}.xml", compress_to_fp16=False)
    return whole_model_signature(file.metadata)


def _with_inputs(ov: Any, model: Any, file: ModelFile) -> Any:
    """The model with its optional inputs as inputs: OpenVINO reads them as constants."""
    constants = {
        name: output for node in model.get_ops() for output in node.outputs() for name in output.get_names()
    }
    parameters = []
    for name in OPTIONAL_INPUTS:
        if name not in constants:
            raise ModelFileError(f"{file.path}: has no tensor {name}; export it again")
        constant = constants[name]
        parameter = ov.op.Parameter(constant.get_element_type(), constant.get_partial_shape())
        for reader in list(constant.get_target_inputs()):
            reader.replace_source_output(parameter.output(0))
        constant.set_names(set())
        parameter.set_friendly_name(name)
        parameter.output(0).set_names({name})
        parameters.append(parameter)
    results = [model.output(name).get_node() for name in OUTPUTS]
    return ov.Model(results, [*model.get_parameters(), *parameters], file_stem(file.metadata))


def _compress(ov: Any, model: Any) -> None:
    """Stores weights as float16 constants that are converted to float32 when the model is loaded."""
    from openvino import opset13

    halves: dict[str, Any] = {}  # two scales share their weights
    for node in model.get_ops():
        if node.get_type_name() not in _WEIGHTED:
            continue
        weights = node.input(1)
        constant = weights.get_source_output().get_node()
        if constant.get_type_name() != "Constant" or constant.get_element_type() != ov.Type.f32:
            continue
        name = constant.get_friendly_name()
        if name not in halves:
            half = opset13.constant(constant.get_data().astype(np.float16))
            halves[name] = opset13.convert(half, "f32")
        weights.replace_source_output(halves[name].output(0))


def load_ir(folder: Path, metadata: ModelMetadata, options: ConvertOptions) -> Model:
    """The IR on the CPU in float32."""
    import openvino as ov

    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    path = next(folder.glob("*.xml"))
    compiled = ov.Core().compile_model(str(path), "CPU", exact)
    own = option_feeds(np.array(metadata.thresholds, np.float32), IOU_THRESHOLD, True)

    def run(
        images_nhwc: UInt8Array,
        score_thresholds: FloatArray | None = None,
        iou_threshold: float | None = None,
        class_agnostic: bool | None = None,
    ) -> RawDetections:
        feeds = own | option_feeds(score_thresholds, iou_threshold, class_agnostic)
        found = compiled({"images": images_nhwc, **feeds})
        return RawDetections(*(found[name] for name in OUTPUTS))

    return run


OPENVINO = ExportFormat("openvino", write_ir, load_ir, FLOAT16, "openvino", ("openvino",), int8=True)
