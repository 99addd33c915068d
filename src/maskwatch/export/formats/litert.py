"""LiteRT (TensorFlow Lite): boxes and scores of all anchors, weights in float16, one picture at a time."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from maskwatch.errors import ExportError
from maskwatch.export.formats.base import (
    FLOAT16,
    ConvertOptions,
    ExportFormat,
    Signature,
    Tensor,
    file_stem,
    raw_signature,
)
from maskwatch.export.formats.raw import decoded
from maskwatch.media.images import FloatArray, UInt8Array
from maskwatch.models import ModelFile, ModelMetadata
from maskwatch.outputs import output_errors
from maskwatch.runtimes.base import Model
from maskwatch.text import first_line

_INPUT = "args_0"
_OUTPUTS = ("output_0", "output_1")
"""Names in the signature that litert-torch writes, in the order of `base.RAW_OUTPUTS`."""


def write_tflite(file: ModelFile, folder: Path, options: ConvertOptions) -> Signature:
    """Writes NAME.tflite."""
    import litert_torch
    import torch
    from ai_edge_quantizer import quantizer

    from maskwatch.export.formats.network import raw_network

    network = raw_network(file)
    images = torch.zeros(1, *file.metadata.input_size, 3, dtype=torch.uint8)
    path = folder / f"{file_stem(file.metadata)}.tflite"
    full = path.with_suffix(".float32")
    with _silence(), torch.no_grad():
        try:
            litert_torch.convert(network, (images,)).export(str(full))
            halves = quantizer.Quantizer(str(full), _FLOAT16_RECIPE).quantize().quantized_model
        except (RuntimeError, ValueError) as error:
            raise ExportError(
                f"litert-torch {litert_torch.__version__} cannot convert it ({first_line(error)}); "
                "install the version of litert-torch that docs/export.md names"
            ) from error
    with output_errors(path):
        path.write_bytes(halves)
        full.unlink()
    (_, outputs) = raw_signature(file.metadata, len(network.anchors_xyxy), 1)
    named = tuple(
        Tensor(name, tensor.type, tensor.shape) for name, tensor in zip(_OUTPUTS, outputs, strict=True)
    )
    return (Tensor(_INPUT, "uint8", (1, *file.metadata.input_size, 3)),), named


# Weights are stored in float16 and computed with in float32. Those of convolutions only: in float16, anchors
# beyond 256 pixels would move by up to an eighth of a pixel.
_FLOAT16_RECIPE = [
    {
        "regex": ".*",
        "operation": operation,
        "algorithm_key": "float_casting",
        "op_config": {
            "weight_tensor_config": {"num_bits": 16, "dtype": "FLOAT"},
            "compute_precision": "FLOAT",
            "explicit_dequantize": True,
        },
    }
    for operation in ("CONV_2D", "DEPTHWISE_CONV_2D")
]


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Mutes the progress that both packages print."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def load_tflite(folder: Path, metadata: ModelMetadata, options: ConvertOptions) -> Model:
    """The file in LiteRT's interpreter, its outputs decoded."""
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(model_path=str(next(folder.glob("*.tflite")))).get_signature_runner()

    def raw(images_nhwc: UInt8Array) -> tuple[FloatArray, FloatArray]:
        found = runner(**{_INPUT: images_nhwc})
        boxes_xyxy, scores = (np.array(found[name]) for name in _OUTPUTS)
        return boxes_xyxy, scores

    return decoded(raw, metadata)


LITERT = ExportFormat(
    "litert", write_tflite, load_tflite, FLOAT16, "litert", ("litert_torch", "ai_edge_litert", "onnx")
)
