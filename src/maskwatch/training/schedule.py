"""Learning rate over steps."""

from __future__ import annotations

import math


def cosine_with_warmup(
    step: int, *, base: float, total_steps: int, warmup_rate: float, warmup_steps: int
) -> float:
    """Cosine decay to zero after a linear warm-up.

    Source: `cosine_decay_with_warmup` of the TF Object Detection API (utils/learning_schedules.py).

    Args:
        step: optimiser steps done before this one, from 0.
        base: rate at the end of the warm-up.
        total_steps: step at which the rate reaches zero.
        warmup_rate: rate at step 0 where there is a warm-up.
        warmup_steps: length of the warm-up; 0 for none.
    """
    if step < warmup_steps:
        return warmup_rate + (base - warmup_rate) * step / warmup_steps
    if step >= total_steps:
        return 0.0
    return 0.5 * base * (1 + math.cos(math.pi * (step - warmup_steps) / (total_steps - warmup_steps)))
