"""Ready folders for model servers: Triton's model repository, and OpenVINO Model Server's."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from maskwatch.export.formats.base import (
    FLOAT16,
    FLOAT32,
    ConvertOptions,
    ExportFormat,
    Signature,
    Tensor,
    file_stem,
    whole_model_signature,
)
from maskwatch.export.formats.openvino import load_ir, write_ir
from maskwatch.models import ModelFile, ModelMetadata
from maskwatch.outputs import make_folder
from maskwatch.runtimes.base import OPTIONAL_INPUTS, Model
from maskwatch.runtimes.onnx_runtime import OnnxRuntime
from maskwatch.tf_compat import textproto

VERSION = "1"
"""Both servers keep a model in numbered folders."""

MODELS_AT = "/models"
"""Where OpenVINO Model Server finds the folder, as in its documentation's container."""

_TRITON_TYPES = {"uint8": "TYPE_UINT8", "float32": "TYPE_FP32", "bool": "TYPE_BOOL", "int64": "TYPE_INT64"}


def write_triton(file: ModelFile, folder: Path, options: ConvertOptions) -> Signature:
    """Writes NAME/config.pbtxt and NAME/1/model.onnx, a copy of the model file."""
    signature = whole_model_signature(file.metadata)
    model = folder / file_stem(file.metadata)
    make_folder(model / VERSION)
    shutil.copyfile(file.path, model / VERSION / "model.onnx")
    (model / "config.pbtxt").write_text(textproto.write(_triton_config(model.name, signature)), "utf-8")
    return signature


def _triton_config(name: str, signature: Signature) -> textproto.Message:
    """Source: `model_config.proto` of triton-inference-server/common.

    Thresholds belong to a whole batch. Inputs without a side for the batch need `max_batch_size` 0, so the
    server does not join requests.
    """
    inputs, outputs = ([_triton_tensor(tensor) for tensor in tensors] for tensors in signature)
    return {
        "name": [name],
        "backend": ["onnxruntime"],
        "max_batch_size": [0],
        "input": [*inputs],
        "output": [*outputs],
    }


def _triton_tensor(tensor: Tensor) -> textproto.Message:
    message: textproto.Message = {
        "name": [tensor.name],
        "data_type": [textproto.Word(_TRITON_TYPES[tensor.type])],
        "dims": [side if isinstance(side, int) else -1 for side in tensor.shape],
    }
    return message | {"optional": [True]} if tensor.name in OPTIONAL_INPUTS else message


def load_triton(folder: Path, metadata: ModelMetadata, options: ConvertOptions) -> Model:
    """The copy of the model file."""
    return OnnxRuntime(folder / file_stem(metadata) / VERSION / "model.onnx")


def write_model_server(file: ModelFile, folder: Path, options: ConvertOptions) -> Signature:
    """Writes config.json, and the model as OpenVINO IR in NAME/1."""
    name = file_stem(file.metadata)
    make_folder(folder / name / VERSION)
    signature = write_ir(file, folder / name / VERSION, options)
    config = {
        "name": name,
        "base_path": f"{MODELS_AT}/{name}",
        # In bfloat16, which newer CPUs would take, boxes beyond 256 pixels move in steps of 2.
        "plugin_config": {"INFERENCE_PRECISION_HINT": "f32"},
    }
    text = json.dumps({"model_config_list": [{"config": config}]}, indent=2)
    (folder / "config.json").write_text(text + "\n", encoding="utf-8")
    return signature


def load_model_server(folder: Path, metadata: ModelMetadata, options: ConvertOptions) -> Model:
    """The IR in OpenVINO."""
    return load_ir(folder / file_stem(metadata) / VERSION, metadata, options)


TRITON = ExportFormat("triton", write_triton, load_triton, FLOAT32, int8=True, unverified="in Triton itself")
MODEL_SERVER = ExportFormat(
    "openvino-model-server",
    write_model_server,
    load_model_server,
    FLOAT16,
    "openvino",
    ("openvino",),
    int8=True,
    unverified="in OpenVINO Model Server itself",
)
