"""Where the weights of a training come from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor

from maskwatch.errors import CheckpointError, RecipeError
from maskwatch.labels import find_class
from maskwatch.models import embedded_models, load_model_file
from maskwatch.network import SSD, AnchorSpec
from maskwatch.network.transfer import fit_head, load_zoo
from maskwatch.training.checkpoint import anchors_of, load_checkpoint
from maskwatch.training.recipe import Recipe, recipe_of

_INSTEAD = "start from maskwatch-640, or from the checkpoint that the file was exported from"
_ANCHOR_KEYS = ("anchor_scale", "aspect_ratios", "scales_per_octave")
# Any weight of the network; what precedes its name in a file precedes all names.
_LANDMARK = "backbone.stem.0.weight"


def start_network(start: str | Path | None, recipe: Recipe, class_names: Sequence[str]) -> SSD:
    """A network to train.

    Classes and anchor shapes that the start has too keep their weights in the predictors, others are
    initialised. All other layers are those of the start.

    Args:
        start: an embedded model or a model file, a maskwatch checkpoint, a zoo checkpoint (see `load_zoo`),
            or None for random weights.
        recipe: decides the anchors.
        class_names: of the training.

    Raises:
        CheckpointError: the start cannot be read, or holds no weights to train.
        ModelFileError: the file is no maskwatch model.
        MissingExtraError: a zoo checkpoint that was not read before needs the `tf` extra.
    """
    anchors = anchors_of(recipe)
    if start is None:
        return SSD(len(class_names), anchors)
    suffix = Path(start).suffix
    if suffix == ".ckpt":
        checkpoint = load_checkpoint(start)
        names, spec = checkpoint.class_names, checkpoint.network.anchor_spec
        state = dict(checkpoint.network.state_dict())
    elif suffix == ".onnx" or str(start) in embedded_models():
        names, spec, state = _read_model(start)
    else:
        return load_zoo(start, len(class_names), anchors=anchors)
    network = SSD(len(class_names), anchors)
    fit_head(state, spec, network, [find_class(names, name) for name in class_names])
    network.load_state_dict(state)
    return network.eval()


def _read_model(name_or_path: str | Path) -> tuple[tuple[str, ...], AnchorSpec, dict[str, Tensor]]:
    """Classes, anchors and weights of a model file."""
    file = load_model_file(name_or_path)
    weights = {tensor.name: tensor for tensor in onnx.load(file.path).graph.initializer}
    try:
        recipe = json.loads(file.metadata.recipe)
        # Its other keys may be those of another version.
        spec = anchors_of(recipe_of({key: recipe[key] for key in _ANCHOR_KEYS}))
    except (ValueError, TypeError, KeyError, RecipeError):
        raise CheckpointError(f"{name_or_path}: its metadata lacks the anchors; {_INSTEAD}") from None
    prefix = next((n.removesuffix(_LANDMARK) for n in weights if n.endswith(_LANDMARK)), "")
    state = SSD(len(file.metadata.classes), spec).state_dict()
    for name in state:
        if name.endswith("num_batches_tracked"):
            continue
        if prefix + name not in weights:
            raise CheckpointError(
                f"{name_or_path}: its BatchNorms are merged into its convolutions, there is no {name} to "
                f"train; {_INSTEAD}"
            )
        state[name] = torch.from_numpy(np.array(numpy_helper.to_array(weights[prefix + name])))
    return file.metadata.classes, spec, state
