"""Weights of a trained network → those of one with other classes or anchors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from maskwatch.errors import CheckpointError
from maskwatch.network.anchors import AnchorSpec
from maskwatch.network.ssd import SSD
from maskwatch.tf_compat import zoo

ZOO_ANCHORS = AnchorSpec()


def load_zoo(
    path: str | Path,
    num_classes: int | None = None,
    *,
    anchors: AnchorSpec | None = None,
    class_sources: Sequence[int | None] | None = None,
) -> SSD:
    """The network with the weights of a checkpoint of the TF2 Detection Model Zoo.

    Args:
        path: as `zoo.read_state`: an archive, its URL, a folder, a prefix or a converted `.safetensors`.
        num_classes: classes without background; None keeps those of the checkpoint. With another number the
            class head is initialised (see `class_sources`), everything else is kept.
        anchors: which anchors to predict for; None keeps the zoo's six a cell. Shapes that the zoo has too
            keep their weights, others are initialised.
        class_sources: for each class the checkpoint's class (from 0, without background) whose weights it
            starts from, or None for fresh ones.

    Returns:
        The network in evaluation mode, float32.

    Raises:
        CheckpointError, SourceError, MissingExtraError: as `zoo.read_state`.
    """
    state = {name: torch.from_numpy(value) for name, value in zoo.read_state(path).items()}
    columns = state["head.classes.pointwise.bias"].numel() // ZOO_ANCHORS.per_cell
    if num_classes is None:
        num_classes = len(class_sources) if class_sources is not None else columns - 1
    if class_sources is None and num_classes == columns - 1:
        class_sources = range(num_classes)
    network = SSD(num_classes, anchors or ZOO_ANCHORS)
    fit_head(state, ZOO_ANCHORS, network, class_sources)
    network.load_state_dict(state)
    return network.eval()


def fit_head(
    state: dict[str, Tensor],
    anchors: AnchorSpec,
    network: SSD,
    class_sources: Sequence[int | None] | None,
) -> None:
    """Writes the predictor layers of `state` in the shape of `network`: its anchors, its classes.

    Args:
        state: weights of an SSD with `anchors`; changed in place. All layers but the two predictors must fit.
        anchors: those of `state`. Anchor shapes that `network` has too keep their weights, others have the
            present ones of `network`.
        network: gives the shape, and weights for what `state` does not have.
        class_sources: for each class of `network` the class of `state` (both from 0, without background)
            whose weights it gets, or None for those of `network`; None for none at all, not even background.

    Raises:
        CheckpointError: the sources are not as many as the classes, or are not in `state`.
    """
    columns = state["head.classes.pointwise.bias"].numel() // anchors.per_cell
    if class_sources is not None and len(class_sources) != network.num_classes:
        raise CheckpointError(
            f"class_sources names {len(class_sources)} classes for {network.num_classes}; give one each"
        )
    beyond = [s for s in class_sources or () if s is not None and not 0 <= s < columns - 1]
    if beyond:
        raise CheckpointError(
            f"class_sources {beyond} are not in the checkpoint's 0…{columns - 2}; correct them"
        )
    fresh, shapes = network.state_dict(), anchors.shapes()
    for layer, width in (("boxes", 4), ("classes", columns)):
        for part in ("weight", "bias"):
            name = f"head.{layer}.pointwise.{part}"
            old = state[name].reshape(anchors.per_cell, width, *state[name].shape[1:])
            new = fresh[name].reshape(network.anchor_spec.per_cell, -1, *fresh[name].shape[1:]).clone()
            kept = range(4) if layer == "boxes" else _class_columns(class_sources)
            for anchor, shape in enumerate(network.anchor_spec.shapes()):
                if shape in shapes:
                    for ours, theirs in enumerate(kept):
                        if theirs is not None:
                            new[anchor, ours] = old[shapes.index(shape), theirs]
            state[name] = new.flatten(0, 1)


def _class_columns(sources: Sequence[int | None] | None) -> list[int | None]:
    """Checkpoint column of each of our columns; the background keeps its own."""
    return [] if sources is None else [0, *(None if s is None else s + 1 for s in sources)]
