"""Frames that carry numbers in black and white blocks.

A test reads from them which frame it got and when it was shown. Needs the standard library alone, as the RTSP
server runs in the system's Python.
"""

from __future__ import annotations

import time
from collections.abc import Callable

WIDTH, HEIGHT = 320, 240
_COLUMNS, _ROWS = 16, 4
_BITS = 48  # 32 for the milliseconds of time.monotonic, 16 for the number; a row of 16 to check them
_BLOCKS = [bytes([value]) * (WIDTH // _COLUMNS) for value in (16, 235)]


def draw(number: int, shown_s: float) -> bytes:
    """A grey picture (HEIGHT, WIDTH) of `number` and of the moment that it is shown, as bytes."""
    value = (int(shown_s * 1000) & 0xFFFFFFFF) << 16 | (number & 0xFFFF)
    value = value << 16 | _check(value)
    blocks = [_BLOCKS[value >> (_BITS + 15 - index) & 1] for index in range(_BITS + 16)]
    lines = [b"".join(blocks[row * _COLUMNS : (row + 1) * _COLUMNS]) for row in range(_ROWS)]
    return b"".join(line * (HEIGHT // _ROWS) for line in lines)


def read(grey: Callable[[int, int], int]) -> tuple[int, float] | None:
    """Number and moment in a picture; None where it carries none.

    Args:
        grey: value of the pixel (x, y) of the picture at WIDTH × HEIGHT.
    """
    across, down = WIDTH // _COLUMNS, HEIGHT // _ROWS
    value = 0
    for index in range(_BITS + 16):
        row, column = divmod(index, _COLUMNS)
        value = value << 1 | (grey(column * across + across // 2, row * down + down // 2) > 127)
    value, check = value >> 16, value & 0xFFFF
    return (value & 0xFFFF, (value >> 16) / 1000) if _check(value) == check else None


def delay_s(shown_s: float) -> float:
    """Seconds since a moment that was read from a picture; the clock is the same in all processes."""
    wrap = 2**32 / 1000
    return (time.monotonic() - shown_s + wrap / 2) % wrap - wrap / 2


def _check(value: int) -> int:
    return (value ^ value >> 16 ^ value >> 32 ^ 0xA5C3) & 0xFFFF
