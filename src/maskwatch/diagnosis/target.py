"""The target of a diagnosis: a run, a checkpoint or a model file, with all that can be read of it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx

from maskwatch.detector import Detector
from maskwatch.errors import CheckpointError, RecipeError
from maskwatch.evaluation.predictor import DetectorLike
from maskwatch.media.images import ResizeRule
from maskwatch.models import embedded_models, load_model_file
from maskwatch.runtimes.choice import REFERENCE
from maskwatch.training.checkpoint import load_checkpoint, read_checkpoint
from maskwatch.training.recipe import Recipe, recipe_of
from maskwatch.training.torch_detector import TorchDetector

_EVENTS = "tensorboard"
# Keys of a recipe that a diagnosis needs.
_NEEDED_KEYS = ("size", "resize", "matcher", "anchor_scale", "aspect_ratios", "scales_per_octave")


@dataclass(frozen=True)
class Target:
    """A model to be diagnosed.

    Attributes:
        source: what a training can start from; None where there are no weights.
        class_names: its list of classes; () where it has none.
        head_classes: classes that its weights have outputs for; None where there are none.
        detector: None where the weights cannot be used.
        recipe: None where it is not known; of a model file only what decides its anchors.
        events: folder of TensorBoard events, where there is one.
    """

    source: str | None = None
    class_names: tuple[str, ...] = ()
    head_classes: int | None = None
    detector: DetectorLike | None = None
    recipe: Recipe | None = None
    events: Path | None = None
    input_hw: tuple[int, int] | None = None
    resize: ResizeRule = "letterbox"

    def to_original(
        self, boxes_xyxy: npt.NDArray[np.float32], size_hw: tuple[int, int]
    ) -> npt.NDArray[np.float32]:
        """From pixels of the network's input to those of a picture of this size, padding left out."""
        assert self.input_hw is not None
        ratios = [size / side for size, side in zip(size_hw, self.input_hw, strict=True)]
        y, x = (max(ratios), max(ratios)) if self.resize == "letterbox" else ratios
        return boxes_xyxy * np.array([x, y, x, y], np.float32)


def open_target(model: str) -> Target:
    """Opens a folder of a run, a checkpoint, a model file or an embedded model.

    Raises:
        CheckpointError, ModelFileError: it cannot be read.
    """
    path = Path(model)
    if path.is_dir():
        events = path / _EVENTS if (path / _EVENTS).is_dir() else None
        for name in ("best.ckpt", "last.ckpt"):
            if (path / name).is_file():
                return _of_checkpoint(path / name, events)
        if events is None:
            raise CheckpointError(f"{path}: holds neither a checkpoint nor events; give the folder of a run")
        return Target(events=events)
    if path.suffix == ".ckpt":
        events = path.parent / _EVENTS
        return _of_checkpoint(path, events if events.is_dir() else None)
    if not path.exists() and model not in embedded_models() and not path.suffix:
        raise CheckpointError(
            f"{model}: no such run or model; give a folder such as runs/default, a .ckpt, a model file, or "
            f"{', '.join(embedded_models())}"
        )
    return _of_model(model)


def _of_checkpoint(path: Path, events: Path | None) -> Target:
    """A checkpoint; without a detector where its head has other classes than its list."""
    file = read_checkpoint(path)
    names, recipe, head = file.class_names, file.recipe, file.head_classes
    if head != len(names):
        return Target(str(path), names, head, None, recipe, events)
    detector = TorchDetector.of(load_checkpoint(path), class_agnostic=False)
    return Target(str(path), names, head, detector, recipe, events, (recipe.size, recipe.size), recipe.resize)


def _of_model(model: str) -> Target:
    file = load_model_file(model)
    names, head = file.metadata.classes, None
    graph = onnx.load(file.path, load_external_data=False).graph
    for value in graph.input:
        if value.name == "score_thresholds":
            head = int(value.type.tensor_type.shape.dim[0].dim_value)
    detector = None
    if head == len(names):
        detector = Detector(model, threshold=0.0, class_agnostic=False, **asdict(REFERENCE))
    recipe, size_hw = _recipe_in(file.metadata.recipe), file.metadata.input_size
    return Target(model, names, head, detector, recipe, input_hw=size_hw, resize=file.metadata.resize)


def _recipe_in(text: str) -> Recipe | None:
    """The recipe that a model file keeps; None where it keeps none that this version knows."""
    try:
        values = json.loads(text)
        # The other keys may come from an older version.
        known = {key: value for key, value in values.items() if key in _NEEDED_KEYS}
        return recipe_of(known) if known else None
    except (ValueError, AttributeError, RecipeError):
        return None
