"""Numbers → texts that read back as the same number."""

from __future__ import annotations

import numpy as np


def shortest(value: np.float32 | float) -> str:
    """The shortest text of a float32: "12", not "12.0"; never with an exponent."""
    return np.format_float_positional(np.float32(value), trim="-")
