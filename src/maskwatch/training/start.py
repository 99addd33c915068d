"""Initial weights of a training: of the zoo, a model file or a checkpoint, for other classes or anchors."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor

from maskwatch.errors import CheckpointError, RecipeError
from maskwatch.labels import find_class
from maskwatch.models import ModelFile, embedded_models, load_model_file
from maskwatch.network import SSD, AnchorSpec
from maskwatch.tf_compat import zoo
from maskwatch.training.checkpoint import Checkpoint, anchors_of, load_checkpoint
from maskwatch.training.recipe import Recipe, recipe_of

ZOO_ANCHORS = AnchorSpec()
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
    sources = [find_class(names, name) for name in class_names]
    return _fitted(state, spec, SSD(len(class_names), anchors), sources)


def load_mean(paths: Sequence[str | Path]) -> Checkpoint:
    """The mean of the weights of several checkpoints of one run, or of runs from the same start.

    Their mean is often better than each of them. The mean with the start itself keeps more of what the start
    knew, and gains most of what was learnt since. Everything but the weights is that of the first. The
    statistics of BatchNorms are averaged too; where they were frozen, all have the same.

    Source: Wortsman et al. 2022, "Model soups: averaging weights of multiple fine-tuned models improves
    accuracy without increasing inference time" and "Robust fine-tuning of zero-shot models".

    Args:
        paths: checkpoints; all but the first, and one alone, may be embedded models or model files. One that
            is given twice counts twice.

    Raises:
        CheckpointError: as `load_checkpoint`; they differ in classes, anchors or the resize rule, or a model
            file holds no weights to train.
        ModelFileError: a file is no maskwatch model.
    """
    read_first = _member if len(paths) == 1 else load_checkpoint
    first, *others = [read_first(paths[0]), *map(_member, paths[1:])]
    for path, other in zip(paths[1:], others, strict=True):
        if _shape(other) != _shape(first):
            raise CheckpointError(
                f"{path}: has other classes, anchors or resizing than {paths[0]}, so that their weights have "
                "no mean; give checkpoints of one run, or of runs from the same start with the same recipe"
            )
    states = [one.network.state_dict() for one in (first, *others)]
    mean = first.network.state_dict()
    for key, value in mean.items():
        if value.is_floating_point():  # counts of batches are not, and have no use after training
            mean[key] = torch.stack([state[key] for state in states]).mean(0)
    first.network.load_state_dict(mean)
    trained_on = "; ".join(dict.fromkeys(one.trained_on for one in (first, *others)))
    return replace(first, mean_of=len(states), trained_on=trained_on)


def _member(path: str | Path) -> Checkpoint:
    """A checkpoint, or a model file as if it were one, with what decides its outputs of its recipe."""
    if Path(path).suffix != ".onnx" and str(path) not in embedded_models():
        return load_checkpoint(path)
    metadata = load_model_file(str(path)).metadata
    names, spec, state = _read_model(str(path))
    network = SSD(len(names), spec)
    network.load_state_dict(state)
    recipe = Recipe(resize=metadata.resize, box_voting=metadata.box_voting)
    return Checkpoint(network.eval(), recipe, names, 0, metadata.trained_on)


def _shape(checkpoint: Checkpoint) -> tuple[object, ...]:
    return checkpoint.class_names, checkpoint.network.anchor_spec, checkpoint.recipe.resize


def _read_model(name_or_path: str | Path) -> tuple[tuple[str, ...], AnchorSpec, dict[str, Tensor]]:
    """Classes, anchors and weights of a model file."""
    file = load_model_file(name_or_path)
    spec, prefix, weights = read_weights(file)
    state = SSD(len(file.metadata.classes), spec).state_dict()
    for name in state:
        if name.endswith("num_batches_tracked"):
            continue
        if prefix + name not in weights:
            raise CheckpointError(
                f"{name_or_path}: its BatchNorms are merged into its convolutions, there is no {name} to "
                f"train; {_INSTEAD}"
            )
        state[name] = weights[prefix + name]
    return file.metadata.classes, spec, state


def read_weights(file: ModelFile) -> tuple[AnchorSpec, str, dict[str, Tensor]]:
    """Anchors of a model file, what precedes the names of its network's weights, and all its constants.

    Raises:
        CheckpointError: its metadata lacks the anchors, or it is in int8.
    """
    if file.metadata.is_int8:
        raise CheckpointError(f"{file.path}: is in int8; give the model file that it came from")
    weights = {
        tensor.name: torch.from_numpy(np.array(numpy_helper.to_array(tensor)))
        for tensor in onnx.load(file.path).graph.initializer
    }
    try:
        recipe = json.loads(file.metadata.recipe)
        # Its other keys may be those of another version.
        spec = anchors_of(recipe_of({key: recipe[key] for key in _ANCHOR_KEYS}))
    except (ValueError, TypeError, KeyError, RecipeError):
        raise CheckpointError(f"{file.path}: its metadata lacks the anchors; {_INSTEAD}") from None
    prefix = next((n.removesuffix(_LANDMARK) for n in weights if n.endswith(_LANDMARK)), "")
    return spec, prefix, weights


def load_zoo(
    path: str | Path,
    num_classes: int | None = None,
    *,
    anchors: AnchorSpec | None = None,
    class_sources: Sequence[int | None] | None = None,
) -> SSD:
    """The network with the weights of a checkpoint of the TF2 Detection Model Zoo, in evaluation mode.

    Args:
        path: as `zoo.read_state`: an archive, its URL, a folder, a prefix or a converted `.safetensors`.
        num_classes: classes without background; None keeps those of the checkpoint. With another number the
            class head is initialised (see `class_sources`), everything else is kept.
        anchors: which anchors to predict for; None keeps the zoo's six a cell. Shapes that the zoo has too
            keep their weights, others are initialised.
        class_sources: for each class the checkpoint's class (from 0, without background) whose weights it
            starts from, or None for fresh ones.

    Raises:
        CheckpointError, SourceError, MissingExtraError: as `zoo.read_state`.
    """
    state = {name: torch.from_numpy(value) for name, value in zoo.read_state(path).items()}
    known = state["head.classes.pointwise.bias"].numel() // ZOO_ANCHORS.per_cell - 1
    if num_classes is None:
        num_classes = known if class_sources is None else len(class_sources)
    if class_sources is None and num_classes == known:
        class_sources = range(known)
    return _fitted(state, ZOO_ANCHORS, SSD(num_classes, anchors or ZOO_ANCHORS), class_sources)


def _fitted(
    state: dict[str, Tensor], anchors: AnchorSpec, network: SSD, class_sources: Sequence[int | None] | None
) -> SSD:
    fit_head(state, anchors, network, class_sources)
    network.load_state_dict(state)
    return network.eval()


def fit_head(
    state: dict[str, Tensor], anchors: AnchorSpec, network: SSD, class_sources: Sequence[int | None] | None
) -> None:
    """Brings the predictor layers of `state` into the shape of `network`: its anchors, its classes.

    Args:
        state: weights of an SSD with `anchors`; changed in place. All layers but the two predictors must fit.
        anchors: those of `state`. Anchor shapes that `network` has too keep their weights, others get the
            present ones of `network`.
        network: has the wanted shape, and weights for what `state` does not have.
        class_sources: for each class of `network` the class of `state` (both from 0, without background)
            whose weights it gets, or None for those of `network`; None for none at all, not even background.

    Raises:
        CheckpointError: the sources are not as many as the classes, or are not in `state`.
    """
    columns = state["head.classes.pointwise.bias"].numel() // anchors.per_cell
    sources = list(class_sources or ())
    if class_sources is not None and len(sources) != network.num_classes:
        raise CheckpointError(
            f"class_sources names {len(sources)} classes for {network.num_classes}; give one each"
        )
    if beyond := [s for s in sources if s is not None and not 0 <= s < columns - 1]:
        raise CheckpointError(
            f"class_sources {beyond} are not in the checkpoint's 0…{columns - 2}; correct them"
        )
    # The checkpoint's column of each of ours; the background keeps its own.
    class_columns = [0, *(None if s is None else s + 1 for s in sources)] if sources else []
    fresh, shapes = network.state_dict(), anchors.shapes()
    for layer, width, kept in (("boxes", 4, range(4)), ("classes", columns, class_columns)):
        for part in ("weight", "bias"):
            name = f"head.{layer}.pointwise.{part}"
            old = state[name].reshape(anchors.per_cell, width, *state[name].shape[1:])
            new = fresh[name].reshape(network.anchor_spec.per_cell, -1, *fresh[name].shape[1:]).clone()
            for anchor, shape in enumerate(network.anchor_spec.shapes()):
                if shape in shapes:
                    for ours, theirs in enumerate(kept):
                        if theirs is not None:
                            new[anchor, ours] = old[shapes.index(shape), theirs]
            state[name] = new.flatten(0, 1)
