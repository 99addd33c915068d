"""Writing model files: of a checkpoint, or a copy with other thresholds."""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from maskwatch._version import __version__
from maskwatch.errors import ModelFileError, OptionError
from maskwatch.export.onnx import build_model
from maskwatch.export.photographs import Photograph
from maskwatch.export.verify import Verification, verify
from maskwatch.models import ModelMetadata, load_model_file
from maskwatch.network import Network
from maskwatch.outputs import atomic_write, make_folder, new_file, output_errors
from maskwatch.training.checkpoint import Checkpoint
from maskwatch.training.recipe import plain

DEFAULT_THRESHOLD = 0.5
"""Score threshold of a class for which none was chosen."""

_THRESHOLDS_INPUT = "score_thresholds"


def describe_model(
    checkpoint: Checkpoint, name: str, size_hw: tuple[int, int], thresholds: Sequence[float]
) -> ModelMetadata:
    """The metadata of a checkpoint's model file.

    Args:
        name: of the model, such as "maskwatch-640".
        size_hw: the network's input in pixels.
        thresholds: score threshold of each class.
    """
    return ModelMetadata(
        name=name,
        version=__version__,
        classes=checkpoint.class_names,
        input_size=size_hw,
        resize=checkpoint.recipe.resize,
        thresholds=tuple(round(value, 4) for value in thresholds),
        trained_on=checkpoint.trained_on,
        created=datetime.datetime.now(datetime.UTC).date().isoformat(),
        recipe=json.dumps(
            {**plain(checkpoint.recipe), "step": checkpoint.step, "mean_of": checkpoint.mean_of}
        ),
        box_voting=checkpoint.recipe.box_voting,
    )


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


def write_thresholds(model: str | Path, target: Path, thresholds: Sequence[float]) -> None:
    """Writes a copy of a model file with other thresholds, in its metadata and as the default of its input.

    Args:
        model: an embedded model or a file.
        target: the copy; may be the file itself.
        thresholds: one for each class.

    Raises:
        OptionError: the number of thresholds is not that of the classes.
        ModelFileError: the file is not a maskwatch model.
        OutputError: the copy cannot be written.
    """
    file = load_model_file(model)
    if len(thresholds) != len(file.metadata.classes):
        wanted = ", ".join(file.metadata.classes)
        raise OptionError(f"{len(thresholds)} thresholds for the classes {wanted}; give one for each")
    rounded = tuple(round(float(value), 4) for value in thresholds)
    proto = onnx.load(str(file.path))
    initializer = next((item for item in proto.graph.initializer if item.name == _THRESHOLDS_INPUT), None)
    if initializer is None:
        raise ModelFileError(f"{file.path}: has no default of {_THRESHOLDS_INPUT}; export it again")
    initializer.CopyFrom(numpy_helper.from_array(np.array(rounded, np.float32), _THRESHOLDS_INPUT))
    props = {entry.key: entry.value for entry in proto.metadata_props}
    helper.set_model_props(proto, props | replace(file.metadata, thresholds=rounded).to_props())
    onnx.checker.check_model(proto)
    with new_file(target) as part:
        part.write_bytes(proto.SerializeToString())
