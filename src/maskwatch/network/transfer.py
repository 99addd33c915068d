"""Weights of a trained network → those of one with other classes or anchors."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from maskwatch.errors import CheckpointError
from maskwatch.network.anchors import AnchorSpec
from maskwatch.network.ssd import SSD


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
