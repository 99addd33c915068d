"""A program of torch.export, for torch without this package, and for torch's own compilers."""

from __future__ import annotations

import json
from pathlib import Path

from maskwatch.export.formats.base import (
    FLOAT32,
    ConvertOptions,
    ExportFormat,
    Signature,
    file_stem,
    raw_signature,
)
from maskwatch.export.formats.raw import decoded
from maskwatch.media.images import FloatArray, UInt8Array
from maskwatch.models import ModelFile, ModelMetadata
from maskwatch.runtimes.base import Model

PROPS = "maskwatch.json"
"""The extra file inside the program: the `metadata_props` of the model file as one JSON object."""


def write_pt2(file: ModelFile, folder: Path, options: ConvertOptions) -> Signature:
    """Writes NAME.pt2."""
    import torch

    from maskwatch.export.formats.network import raw_network

    network = raw_network(file)
    images = torch.zeros(options.batch or 2, *file.metadata.input_size, 3, dtype=torch.uint8)
    free = None if options.batch else {"images": {0: torch.export.Dim("N")}}
    with torch.no_grad():  # else `conv_norm` fuses BatchNorms as in training
        program = torch.export.export(network, (images,), dynamic_shapes=free)
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # holds paths of this machine
    props = {PROPS: json.dumps(file.metadata.to_props())}
    torch.export.save(program, folder / f"{file_stem(file.metadata)}.pt2", extra_files=props)
    return raw_signature(file.metadata, len(network.anchors_xyxy), options.batch or "N")


def load_pt2(folder: Path, metadata: ModelMetadata, options: ConvertOptions) -> Model:
    """The program in torch, its outputs decoded."""
    import torch

    module = torch.export.load(next(folder.glob("*.pt2"))).module()

    def raw(images_nhwc: UInt8Array) -> tuple[FloatArray, FloatArray]:
        with torch.inference_mode():
            boxes_xyxy, scores = module(torch.from_numpy(images_nhwc))
        return boxes_xyxy.numpy(), scores.numpy()

    return decoded(raw, metadata)


PT2 = ExportFormat("pt2", write_pt2, load_pt2, FLOAT32, "train", ("torch", "onnx"), ("batch",))
