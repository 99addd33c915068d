"""Whether the losses of a training went down and stayed down."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from maskwatch.diagnosis.check import Check
from maskwatch.errors import CheckpointError

LOSS_TAG = "Loss/total_loss"
RATE_TAG = "learning_rate"
# Points of the curve that are taken together, as a share of it, so that one batch is no verdict.
_WINDOW = 0.1
# Of fewer points nothing is said.
LEAST_POINTS = 5
# The end against the best part of the curve, and against its beginning.
RISEN = 1.5
STUCK = 0.95


def read_curve(folder: Path, tag: str) -> list[tuple[int, float]]:
    """(step, value) of a scalar in the event files of a folder, in the order of the steps.

    Steps that were trained again after a resume count as they were the last time.

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


def check_losses(folder: Path | None) -> Check:
    """The total loss over the steps of a run."""
    name = "losses"
    curve = [] if folder is None else read_curve(folder, LOSS_TAG)
    if folder is None or not curve:
        return Check(name, "skipped", "no TensorBoard events of a training; give the folder of the run")
    steps, losses = (np.array(part, np.float64) for part in zip(*curve, strict=True))
    rate = max((value for _, value in read_curve(folder, RATE_TAG)), default=math.nan)
    lower = (
        f"go on or start anew with a lower rate: --set learning_rate={rate / 3:.2g}, or --set clip_norm=10"
    )
    bad = ~np.isfinite(losses)
    if bad.any():
        at = int(steps[bad][0])
        return Check(
            name, "broken", f"no number from step {at} on", lower, {"first bad step": at, "rate": rate}
        )
    window = max(1, round(len(losses) * _WINDOW))
    smooth = [float(np.median(losses[i : i + window])) for i in range(len(losses) - window + 1)]
    first, best, last = smooth[0], min(smooth), smooth[-1]
    values = {"first": first, "best": best, "last": last, "steps": int(steps[-1]) + 1, "rate": rate}
    text = f"from {first:.3g} to {last:.3g} in {int(steps[-1]) + 1} steps, at best {best:.3g}"
    if len(losses) < LEAST_POINTS:
        return Check(name, "skipped", f"{text}: too few points to judge", "", values)
    if last > RISEN * best:
        return Check(name, "broken", f"{text}: they rose again", lower, values)
    if last > STUCK * first:
        advice = (
            "they are stuck: try 3 times the rate (and a third of it), and --overfit to test the pipeline"
        )
        return Check(name, "broken", text, advice, values)
    return Check(name, "ok", text, values=values)
