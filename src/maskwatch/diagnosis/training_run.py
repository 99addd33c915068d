"""Whether a training works: its losses, and whether it can overfit eight pictures.

A training that cannot overfit eight pictures is broken. The test does not check the labels: wrong ones can be
overfitted as well (eight pictures with the boxes of others reached AP50 1.0, too).
"""

from __future__ import annotations

import math
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from maskwatch.data import DetectionSet, Sample
from maskwatch.diagnosis.check import CheckState, Finding
from maskwatch.errors import CheckpointError, TrainingError
from maskwatch.models import DEFAULT_MODEL
from maskwatch.training.recipe import Recipe
from maskwatch.training.run import TrainOptions, train

LOSS_TAG = "Loss/total_loss"
RATE_TAG = "learning_rate"
# Width of the moving median, as a share of the curve, so that one batch decides nothing.
_WINDOW = 0.1
# A curve with fewer points is not checked.
MIN_POINTS = 5
# Ratio of the last loss to the best, and of the last to the first.
RISEN = 1.5
STUCK = 0.95


def read_curve(folder: Path, tag: str) -> list[tuple[int, float]]:
    """(step, value) of a scalar in the event files of a folder, in the order of the steps.

    A step that was trained again after a resume has its last value.

    Raises:
        CheckpointError: a file is damaged.
    """
    from tensorboard.backend.event_processing.event_file_loader import (  # type: ignore[import-untyped]
        LegacyEventFileLoader,
    )

    values: dict[int, float] = {}
    for path in sorted(folder.glob("events.out.tfevents.*"), key=lambda path: path.stat().st_mtime_ns):
        try:
            for event in LegacyEventFileLoader(str(path)).Load():
                for value in event.summary.value:
                    if value.tag == tag:
                        values[event.step] = value.simple_value
        except Exception as error:  # TensorBoard's reader raises whatever the damage leads it to
            raise CheckpointError(
                f"{path}: not a TensorBoard event file that can be read ({error}); remove it"
            ) from error
    return sorted(values.items())


def check_losses(folder: Path | None) -> Finding:
    """The total loss over the steps of a run."""
    name = "losses"
    curve = [] if folder is None else read_curve(folder, LOSS_TAG)
    if folder is None or not curve:
        return Finding(name, "skipped", "no TensorBoard events of a training; give the folder of the run")
    steps, losses = (np.array(part, np.float64) for part in zip(*curve, strict=True))
    rate = max((value for _, value in read_curve(folder, RATE_TAG)), default=math.nan)
    lower = f"resume or restart with a lower rate: --set learning_rate={rate / 3:.2g}, or --set clip_norm=10"
    bad = ~np.isfinite(losses)
    if bad.any():
        at = int(steps[bad][0])
        values = {"first bad step": at, "rate": rate}
        return Finding(name, "broken", f"no number from step {at} on", lower, values)
    window = max(1, round(len(losses) * _WINDOW))
    smooth = [float(np.median(losses[i : i + window])) for i in range(len(losses) - window + 1)]
    first, best, last = smooth[0], min(smooth), smooth[-1]
    values = {"first": first, "best": best, "last": last, "steps": int(steps[-1]) + 1, "rate": rate}
    text = f"from {first:.3g} to {last:.3g} in {int(steps[-1]) + 1} steps, at best {best:.3g}"
    if len(losses) < MIN_POINTS:
        return Finding(name, "skipped", f"{text}: too few points to check", "", values)
    if last > RISEN * best:
        return Finding(name, "broken", f"{text}: they rose again", lower, values)
    if last > STUCK * first:
        advice = "they are stuck: try three times the rate, a third of it, and --overfit to test the pipeline"
        return Finding(name, "broken", text, advice, values)
    return Finding(name, "ok", text, values=values)


# ---- The overfit test ------------------------------------------------------------------------------------

PICTURES = 8
SIZE = 192
STEPS = 60
GOOD, BAD = 0.9, 0.5


def check_overfit(
    detection_set: DetectionSet,
    start: str | None,
    recipe: Recipe | None = None,
    size: int = SIZE,
    steps: int = STEPS,
) -> Finding:
    """Trains on the eight pictures whose smallest box is largest, and measures on the same pictures.

    Args:
        detection_set: with correct boxes.
        start: initial weights; None, or a model file without weights to train, for the embedded model.
        recipe: of the run; its rate, losses, matcher and anchors are tested. None for the default one.
        size: side of the network's input, a multiple of 32.
        steps: of one batch of all eight.
    """
    name = "overfit test"
    chosen = _largest(detection_set)
    if chosen is None:
        return Finding(name, "skipped", "no picture has boxes that are inside of it and have an area")
    try:
        begun, score = _train(chosen, start, _short(recipe or Recipe(), size, steps))
    except TrainingError as error:
        return Finding(name, "broken", "the loss is no longer a number", str(error))
    values = {"AP50": score, "pictures": len(chosen), "size": size, "start": begun, "steps": steps}
    text = f"AP50 {score:.3f} on {len(chosen)} pictures after {steps} steps at {size} from {begun}"
    state: CheckState = "ok" if score >= GOOD else "suspect" if score >= BAD else "broken"
    advice = (
        "" if state == "ok" else "labels do not fit their pictures, or classes look the same: inspect them"
    )
    return Finding(name, state, text, advice, values)


def _short(recipe: Recipe, size: int, steps: int) -> Recipe:
    """The recipe for one batch of unchanged pictures, over and over."""
    return replace(
        recipe, name="overfit", size=size, train_sizes=(size,), batch_size=PICTURES, steps=steps,
        schedule_steps=0, validate_every=steps, warmup_steps=min(recipe.warmup_steps, steps // 10),
        patience=0, ema_decay=min(recipe.ema_decay, 0.9), bn_momentum=0.1, augment="none",
        no_aug_fraction=0.0, bn_update_fraction=1.0, frozen_blocks=0, class_balance=0.0,
        data_weights=(),
    )  # fmt: skip


def _train(chosen: DetectionSet, start: str | None, recipe: Recipe) -> tuple[str, float]:
    """The weights that it starts from, and AP50 on the pictures."""
    options = TrainOptions(devices=1, workers=0, progress=False)
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        begun = start or DEFAULT_MODEL
        try:
            result = train(chosen, chosen, recipe, run, replace(options, start=begun))
        except CheckpointError:
            if begun == DEFAULT_MODEL:
                raise
            begun = DEFAULT_MODEL
            result = train(chosen, chosen, recipe, run, replace(options, start=begun))
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
