"""What the formats share: the interface of a format, and what it says about itself.

To add a format, write a module with an `ExportFormat` in it and add that to `formats.FORMATS`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy.typing as npt

from maskwatch.export.compare import Tolerance
from maskwatch.media.images import UInt8Array
from maskwatch.models import ModelFile, ModelMetadata
from maskwatch.runtimes.base import Model

INPUT_TYPES = ("uint8", "float32")


FLOAT32 = Tolerance(box=0.1, score=1e-3)
FLOAT16 = Tolerance(box=1.0, score=0.01)
"""Of weights in these types."""


@dataclass(frozen=True)
class ConvertOptions:
    """Options that not every format has.

    Attributes:
        batch: a fixed number of pictures; None leaves it free, or takes the only one that the format has.
        input_type: "uint8" (N, H, W, 3), or "float32" (N, 3, H, W) of 0..255.
    """

    batch: int | None = None
    input_type: str = INPUT_TYPES[0]


@dataclass(frozen=True)
class Tensor:
    """An input or output: name, element type as NumPy writes it, shape; a free side is a text."""

    name: str
    type: str
    shape: tuple[int | str, ...]


Signature: TypeAlias = tuple[tuple[Tensor, ...], tuple[Tensor, ...]]
"""Inputs and outputs."""

Convert: TypeAlias = Callable[[ModelFile, Path, ConvertOptions], Signature]


@dataclass(frozen=True)
class ExportFormat:
    """One format of models.

    Attributes:
        name: as users write it.
        convert: writes a model file in this format into an empty folder; returns what it takes and gives.
        load: loads what `convert` wrote in the format's own runtime; None where none is there to load it.
        tolerance: of its detections against those of the model file.
        extra, modules: what it needs installed.
        options: the fields of `ConvertOptions` that it has.
        int8: whether it can hold a network in int8.
        unverified: where it was not verified, since this machine cannot run that: "in Triton itself".
    """

    name: str
    convert: Convert
    load: Callable[[Path, ModelMetadata, ConvertOptions], Model] | None
    tolerance: Tolerance
    extra: str = ""
    modules: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    int8: bool = False
    unverified: str = ""


def file_stem(metadata: ModelMetadata) -> str:
    """The model's name as the name of a file."""
    return re.sub(r"[^\w.-]+", "_", metadata.name).strip(".") or "model"


def whole_model_signature(metadata: ModelMetadata) -> Signature:
    """Of a model file, see docs/model-file.md."""
    from maskwatch.models import MAX_DETECTIONS

    height, width = metadata.input_size
    inputs = (
        Tensor("images", "uint8", ("N", height, width, 3)),
        Tensor("score_thresholds", "float32", (len(metadata.classes),)),
        Tensor("iou_threshold", "float32", (1,)),
        Tensor("class_agnostic", "bool", (1,)),
    )
    outputs = (
        Tensor("boxes", "float32", ("N", MAX_DETECTIONS, 4)),
        Tensor("scores", "float32", ("N", MAX_DETECTIONS)),
        Tensor("classes", "int64", ("N", MAX_DETECTIONS)),
        Tensor("num_detections", "int64", ("N",)),
    )
    return inputs, outputs


RAW_OUTPUTS = ("boxes_xyxy", "scores")
"""Of a model without NMS: (N, A, 4) in pixels, not clipped, and (N, A, C), not calibrated."""


def raw_signature(metadata: ModelMetadata, anchors: int, batch: int | str) -> Signature:
    """Of a model without NMS that takes uint8."""
    sides = (4, len(metadata.classes))
    outputs = tuple(
        Tensor(name, "float32", (batch, anchors, side)) for name, side in zip(RAW_OUTPUTS, sides, strict=True)
    )
    return (Tensor("images", "uint8", (batch, *metadata.input_size, 3)),), outputs


RawModel: TypeAlias = Callable[[UInt8Array], tuple[npt.NDArray[Any], npt.NDArray[Any]]]
"""uint8 (N, H, W, 3) → the two of `RAW_OUTPUTS`."""
