"""Checkpoint files of `maskwatch train`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from maskwatch.errors import CheckpointError, MaskwatchError
from maskwatch.network import SSD, AnchorSpec
from maskwatch.text import first_line
from maskwatch.training.recipe import Recipe, plain, recipe_of

FORMAT_KEY = "maskwatch"
_PREFIX = "network."


def anchors_of(recipe: Recipe) -> AnchorSpec:
    """The anchors of a recipe."""
    return AnchorSpec(
        anchor_scale=recipe.anchor_scale,
        aspect_ratios=recipe.aspect_ratios,
        scales_per_octave=recipe.scales_per_octave,
    )


def describe(
    recipe: Recipe, class_names: Sequence[str], trained_on: str, processes: int = 1
) -> dict[str, Any]:
    """What a checkpoint file holds under `FORMAT_KEY`, beside the weights."""
    return {
        "recipe": plain(recipe),
        "class_names": list(class_names),
        "trained_on": trained_on,
        "processes": processes,
    }


@dataclass(frozen=True)
class CheckpointFile:
    """The content of a checkpoint file; its weights may be those of other classes.

    trained_on: description of the training data; weights: of an `SSD`, by name; head_classes: number of
    classes that they predict, without the background; processes: that trained together, None in files that
    do not say.
    """

    recipe: Recipe
    class_names: tuple[str, ...]
    step: int
    trained_on: str
    weights: dict[str, Tensor]
    head_classes: int
    processes: int | None = None


@dataclass(frozen=True)
class Checkpoint:
    """A trained network and its training.

    mean_of: number of checkpoints whose mean the weights are; processes: as in `CheckpointFile`.
    """

    network: SSD
    recipe: Recipe
    class_names: tuple[str, ...]
    step: int
    trained_on: str
    mean_of: int = 1
    processes: int | None = None


def read_checkpoint(path: str | Path) -> CheckpointFile:
    """Reads a `.ckpt` of `maskwatch train`; the averaged weights, where the recipe averaged.

    Raises:
        CheckpointError: no such file, damaged, or not written by `maskwatch train`.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; give a checkpoint such as runs/NAME/best.ckpt")
    try:
        # weights_only: a downloaded checkpoint must not run code.
        content = torch.load(path, map_location="cpu", weights_only=True)
        own, state = content[FORMAT_KEY], content["state_dict"]
        recipe, names = recipe_of(own["recipe"]), tuple(own["class_names"])
        step, trained_on = int(content["global_step"]), str(own["trained_on"])
        weights = {k.removeprefix(_PREFIX): v for k, v in state.items() if k.startswith(_PREFIX)}
        columns = weights["head.classes.pointwise.bias"].numel() // anchors_of(recipe).per_cell
        return CheckpointFile(recipe, names, step, trained_on, weights, columns - 1, own.get("processes"))
    except MaskwatchError:
        raise
    except Exception as error:  # unpickling and the content of another program's file raise a dozen kinds
        raise _not_ours(path, error) from error


def load_checkpoint(path: str | Path) -> Checkpoint:
    """The network of a checkpoint, in evaluation mode.

    Raises:
        CheckpointError: as `read_checkpoint`; or the weights do not fit recipe and classes.
    """
    file = read_checkpoint(path)
    try:
        network = SSD(len(file.class_names), anchors_of(file.recipe))
        network.load_state_dict(file.weights)
    except Exception as error:  # as many kinds as above
        raise _not_ours(path, error) from error
    return Checkpoint(
        network.eval(),
        file.recipe,
        file.class_names,
        file.step,
        file.trained_on,
        processes=file.processes,
    )


def _not_ours(path: str | Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"{path}: not a checkpoint of this version of maskwatch ({first_line(error)[:120]}); "
        "give one that `maskwatch train` wrote"
    )
