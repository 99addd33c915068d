"""The model to improve: what a new one starts from, and is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TypeAlias

from maskwatch.detector import Detector
from maskwatch.media.images import ResizeRule
from maskwatch.models import load_model_file
from maskwatch.network import SSD, AnchorSpec
from maskwatch.runtimes.choice import REFERENCE
from maskwatch.training.checkpoint import anchors_of, load_checkpoint
from maskwatch.training.recipe import Recipe, load_recipe, parse_settings
from maskwatch.training.start import read_weights
from maskwatch.training.torch_detector import TorchDetector

Model: TypeAlias = Detector | TorchDetector

RECIPE = "fast"
"""The recipe of a later stage: it trains all layers of a network that knows its classes."""

PASSES = 50
"""Most times that `RECIPE` shows each picture, if no number of steps is given. On 168 pictures, 57 passes
scored nearly as high as 152 (docs/experiments.md)."""

_SMALLER_SIDE = 384
"""The second training size of larger networks, as in the recipe `default`."""


@dataclass(frozen=True)
class CurrentModel:
    """A model, opened to be measured, and what a model that replaces it must share with it.

    name: as it was given, which a training starts from; detector: with all scores and NMS within
    classes; size_hw: input of the network in pixels; two_scales: whether it also runs at half of that;
    trained_on: description of its data.
    """

    name: str
    detector: Model
    size_hw: tuple[int, int]
    resize: ResizeRule
    anchors: AnchorSpec
    two_scales: bool
    trained_on: str

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.detector.class_names


def open_current(name: str) -> CurrentModel:
    """Opens an embedded model, a model file or a checkpoint of `maskwatch train`.

    Raises:
        ModelFileError, CheckpointError: there is no such model, or it cannot be trained further.
    """
    if Path(name).suffix.lower() == ".ckpt":
        checkpoint = load_checkpoint(name)
        detector = TorchDetector.of(checkpoint, class_agnostic=False)
        anchors, resize = anchors_of(checkpoint.recipe), checkpoint.recipe.resize
        return CurrentModel(
            name, detector, detector.input_size, resize, anchors, False, checkpoint.trained_on
        )
    file = load_model_file(name)
    about = file.metadata
    anchors, _, weights = read_weights(file)
    rows = max((len(w) for w in weights.values() if w.ndim == 2 and w.shape[1] == 4), default=0)
    one_scale = len(SSD(len(about.classes), anchors).anchors_xyxy(about.input_size))
    return CurrentModel(
        name,
        Detector(name, threshold=0.0, class_agnostic=False, **asdict(REFERENCE)),
        about.input_size,
        about.resize,
        anchors,
        rows > one_scale,
        about.trained_on,
    )


def fine_tuning_recipe(
    current: CurrentModel, name: str | None, settings: Sequence[str], pictures: int
) -> Recipe:
    """The recipe that trains a model further: at its size, with its anchors, validated at the end.

    Args:
        name: as `load_recipe`; None for `RECIPE`, with at most `PASSES` over the pictures.
        settings: `key=value` texts, which win.
        pictures: number to train on.

    Raises:
        RecipeError: as `load_recipe`.
    """
    side, anchors = max(current.size_hw), current.anchors
    sizes = [side] if side <= _SMALLER_SIDE else [_SMALLER_SIDE, side]
    own = {
        "size": side,
        "train_sizes": sizes,
        "aspect_ratios": list(anchors.aspect_ratios),
        "scales_per_octave": anchors.scales_per_octave,
        "anchor_scale": anchors.anchor_scale,
    }
    texts = [f"resize={current.resize}", *(f"{key}={value}" for key, value in own.items())]
    recipe = load_recipe(name or RECIPE, [*texts, *settings])
    given = parse_settings(settings)
    if name is None and "steps" not in given:
        passes = -(-PASSES * pictures // recipe.batch_size)
        recipe = replace(recipe, steps=min(recipe.steps, passes))
    return recipe if "validate_every" in given else replace(recipe, validate_every=recipe.steps)
