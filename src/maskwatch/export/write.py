"""Writing a model file."""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from pathlib import Path

from maskwatch._version import __version__
from maskwatch.export.onnx import build_model
from maskwatch.export.photographs import Photograph
from maskwatch.export.verify import Verification, verify
from maskwatch.models import ModelMetadata
from maskwatch.network import Network
from maskwatch.outputs import atomic_write, make_folder, output_errors
from maskwatch.training.checkpoint import Checkpoint
from maskwatch.training.recipe import plain

DEFAULT_THRESHOLD = 0.5
"""Score threshold of a class for which none was chosen: as sure as not."""


def describe_model(
    checkpoint: Checkpoint, name: str, size_hw: tuple[int, int], thresholds: Sequence[float]
) -> ModelMetadata:
    """What the file of a checkpoint says about itself.

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
    """Writes a model file, reads it back and compares it with the network; only then it gets its name.

    Args:
        target: replaced where it exists.
        photographs: to compare on; `own_photographs` where there are no better ones.

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
