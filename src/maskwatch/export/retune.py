"""Other thresholds for a model file that is there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from maskwatch.errors import ModelFileError, OptionError
from maskwatch.models import load_model_file
from maskwatch.outputs import new_file

_INPUT = "score_thresholds"


def write_thresholds(model: str | Path, target: Path, thresholds: Sequence[float]) -> None:
    """Writes a copy of a model file with other thresholds, in its metadata and as the default of its input.

    Args:
        model: an embedded model or a file.
        target: the copy; may be the file itself.
        thresholds: one for each class.

    Raises:
        OptionError: the number of thresholds is not that of the classes.
        ModelFileError: the file is no model of ours.
        OutputError: the copy cannot be written.
    """
    file = load_model_file(model)
    if len(thresholds) != len(file.metadata.classes):
        wanted = ", ".join(file.metadata.classes)
        raise OptionError(f"{len(thresholds)} thresholds for the classes {wanted}; give one for each")
    rounded = tuple(round(float(value), 4) for value in thresholds)
    proto = onnx.load(str(file.path))
    initializer = next((item for item in proto.graph.initializer if item.name == _INPUT), None)
    if initializer is None:
        raise ModelFileError(f"{file.path}: has no default for {_INPUT}; export it again")
    initializer.CopyFrom(numpy_helper.from_array(np.array(rounded, np.float32), _INPUT))
    props = {entry.key: entry.value for entry in proto.metadata_props}
    helper.set_model_props(proto, props | replace(file.metadata, thresholds=rounded).to_props())
    onnx.checker.check_model(proto)
    with new_file(target) as part:
        part.write_bytes(proto.SerializeToString())
