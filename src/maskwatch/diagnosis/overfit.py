"""Whether eight pictures can be learnt by heart: a pipeline that cannot do that much is broken."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from maskwatch.data import DetectionSet, Sample
from maskwatch.diagnosis.check import Check, State
from maskwatch.errors import CheckpointError
from maskwatch.training.recipe import Recipe
from maskwatch.training.run import train

PICTURES = 8
SIZE = 192
STEPS = 80
# Random weights have more to learn.
STEPS_FROM_NOTHING = 400
GOOD, BAD = 0.9, 0.5


def check_overfit(
    detection_set: DetectionSet, start: str | None, size: int = SIZE, steps: int | None = None
) -> Check:
    """Trains on the eight pictures whose smallest box is largest, and measures on the same.

    Args:
        detection_set: boxes must be good ones.
        start: weights to begin with; None, or a model without weights to train, for random ones.
        size: side of the network's input, a multiple of 32.
        steps: None for as many as the start needs.
    """
    name = "eight by heart"
    chosen = _largest(detection_set)
    if chosen is None:
        return Check(name, "skipped", "no picture has boxes that are inside of it and have an area")
    begun, score, done = _train(chosen, start, size, steps)
    values = {"AP50": score, "pictures": len(chosen), "size": size, "start": begun, "steps": done}
    origin = begun or "random weights"
    text = f"AP50 {score:.3f} on {len(chosen)} pictures after {done} steps at {size} from {origin}"
    state: State = "ok" if score >= GOOD else "suspect" if score >= BAD else "broken"
    advice = (
        ""
        if state == "ok"
        else "labels and pictures do not belong together, or are not learnable: look at them"
    )
    return Check(name, state, text, advice, values)


def _train(
    chosen: DetectionSet, start: str | None, size: int, steps: int | None
) -> tuple[str | None, float, int]:
    """The start that was taken, AP50 on the pictures and the number of steps."""
    with tempfile.TemporaryDirectory() as folder:
        for begin in dict.fromkeys((start, None)):
            count = steps or (STEPS_FROM_NOTHING if begin is None else STEPS)
            recipe = Recipe(
                name="overfit", size=size, train_sizes=(size,), batch_size=PICTURES, steps=count,
                validate_every=count, warmup_steps=count // 10, average_decay=0.9, norm_momentum=0.1,
                augment="none", mild_phase=0.0, first_phase=1.0, resting_blocks=0, class_balance=0.0,
                learning_rate=2e-3 if begin is None else 1e-3,
            )  # fmt: skip
            try:
                result = train(
                    chosen,
                    chosen,
                    recipe,
                    Path(folder) / "run",
                    start=begin,
                    progress=False,
                    devices=1,
                    workers=0,
                )
            except CheckpointError:
                if begin is None:
                    raise
                continue  # a model file that has no weights to train
            assert result.validation is not None
            return begin, max(0.0, result.validation.stats["AP50"]), count
    raise AssertionError("random weights are always a start")


def _largest(detection_set: DetectionSet) -> DetectionSet | None:
    """The pictures whose smallest box is the largest share of the picture."""
    ranks = [(_smallest_share(sample), -index) for index, sample in enumerate(detection_set.samples)]
    best = [-index for share, index in sorted(ranks, reverse=True)[:PICTURES] if share > 0]
    return detection_set.subset(best) if best else None


def _smallest_share(sample: Sample) -> float:
    """Of the picture's longer side; 0 where there is no box, or one is beyond the picture."""
    if not len(sample):
        return 0.0
    boxes, wh = sample.boxes_xyxy, np.array(sample.size_hw[::-1])
    if (boxes < 0).any() or (boxes[:, 2:] > wh).any():
        return 0.0
    return float((boxes[:, 2:] - boxes[:, :2]).min() / max(sample.size_hw))
