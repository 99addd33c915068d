"""How long to wait before a source is tried again."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass
class Backoff:
    """Waiting times that double up to a cap, each shortened by chance.

    By chance, because cameras behind one switch come back together and would otherwise all be asked at the
    same moment, again and again ("Exponential Backoff And Jitter", AWS Architecture Blog, 2015; this is its
    "equal jitter").

    Attributes:
        first_s, cap_s: seconds; a wait lies between half and all of min(cap_s, first_s · 2^tries).
    """

    first_s: float = 1.0
    cap_s: float = 30.0
    tries: int = 0

    def next_wait(self) -> float:
        """Seconds to wait before the next try."""
        longest = min(self.cap_s, self.first_s * 2.0 ** min(self.tries, 32))
        self.tries += 1
        return longest * (0.5 + 0.5 * random.random())

    def reset(self) -> None:
        """Begins anew, after the source has worked."""
        self.tries = 0
