"""Whether eight pictures can be learnt by heart: a training that cannot do that much is broken.

Wrong labels can be learnt by heart as well as right ones: eight pictures with the boxes of others came to
AP50 1.0 too. This tests the training; the other checks test the labels.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from maskwatch.data import DetectionSet, Sample
from maskwatch.diagnosis.check import Check, State
from maskwatch.errors import CheckpointError, TrainingError
from maskwatch.models import DEFAULT_MODEL
from maskwatch.training.recipe import Recipe
from maskwatch.training.run import TrainOptions, train

PICTURES = 8
SIZE = 192
STEPS = 60
GOOD, BAD = 0.9, 0.5
_QUIET = TrainOptions(devices=1, workers=0, progress=False)


def check_overfit(
    detection_set: DetectionSet,
    start: str | None,
    recipe: Recipe | None = None,
    size: int = SIZE,
    steps: int = STEPS,
) -> Check:
    """Trains on the eight pictures whose smallest box is largest, and measures on the same.

    Args:
        detection_set: boxes must be good ones.
        start: weights to begin with; None, or a model file without weights to train, for the embedded model.
        recipe: of the run, whose rate, losses, matcher and anchors are tested; None for the default one.
        size: side of the network's input, a multiple of 32.
        steps: of one batch of all eight.
    """
    name = "eight by heart"
    chosen = _largest(detection_set)
    if chosen is None:
        return Check(name, "skipped", "no picture has boxes that are inside of it and have an area")
    try:
        begun, score = _train(chosen, start, _short(recipe or Recipe(), size, steps))
    except TrainingError as error:
        return Check(name, "broken", "the loss is not a number any more", str(error))
    values = {"AP50": score, "pictures": len(chosen), "size": size, "start": begun, "steps": steps}
    text = f"AP50 {score:.3f} on {len(chosen)} pictures after {steps} steps at {size} from {begun}"
    state: State = "ok" if score >= GOOD else "suspect" if score >= BAD else "broken"
    advice = (
        "" if state == "ok" else "labels and pictures do not belong together, or cannot be told apart: look"
    )
    return Check(name, state, text, advice, values)


def _short(recipe: Recipe, size: int, steps: int) -> Recipe:
    """The recipe for one batch of pictures as they come, over and over."""
    return replace(
        recipe, name="overfit", size=size, train_sizes=(size,), batch_size=PICTURES, steps=steps,
        schedule_steps=0, validate_every=steps, warmup_steps=min(recipe.warmup_steps, steps // 10),
        patience=0, ema_decay=min(recipe.ema_decay, 0.9), bn_momentum=0.1, augment="none",
        no_aug_fraction=0.0, bn_update_fraction=1.0, frozen_blocks=0, class_balance=0.0,
    )  # fmt: skip


def _train(chosen: DetectionSet, start: str | None, recipe: Recipe) -> tuple[str, float]:
    """The start that was taken, and AP50 on the pictures."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        begun = start or DEFAULT_MODEL
        try:
            result = train(chosen, chosen, recipe, run, replace(_QUIET, start=begun))
        except CheckpointError:
            if begun == DEFAULT_MODEL:
                raise
            begun = DEFAULT_MODEL
            result = train(chosen, chosen, recipe, run, replace(_QUIET, start=begun))
    assert result.validation is not None
    return begun, max(0.0, result.validation.stats["AP50"])


def _largest(detection_set: DetectionSet) -> DetectionSet | None:
    """The pictures whose smallest box is the largest share of the picture."""
    ranks = [(_smallest_share(sample), -index) for index, sample in enumerate(detection_set.samples)]
    best = [-index for share, index in sorted(ranks, reverse=True)[:PICTURES] if share > 0]
    return detection_set.subset(best) if best else None


def _smallest_share(sample: Sample) -> float:
    """Of the picture's longer side; 0 where there is no box, or one is beyond the picture."""
    sample = sample.counted()
    if not len(sample):
        return 0.0
    boxes, wh = sample.boxes_xyxy, np.array(sample.size_hw[::-1])
    if (boxes < 0).any() or (boxes[:, 2:] > wh).any():
        return 0.0
    return float((boxes[:, 2:] - boxes[:, :2]).min() / max(sample.size_hw))
