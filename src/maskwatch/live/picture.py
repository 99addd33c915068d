"""What a reader hands on: a picture that is turned into RGB only if somebody takes it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from av.video.frame import VideoFrame

from maskwatch.images import UInt8Array


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture as a source gave it.

    Attributes:
        pts_s: the source's own time stamp in seconds, from where it likes; None when there is none.
        size: (width, height) in pixels.
        to_rgb: gives uint8 (H, W, 3); may be called once, from any thread.
    """

    pts_s: float | None
    size: tuple[int, int]
    to_rgb: Callable[[], UInt8Array]


class Reader(Protocol):
    """An open source.

    Attributes:
        finite: it has an end, which is no fault.
        bursts: its frames come in lumps, faster than they were filmed.
    """

    finite: bool
    bursts: bool

    def pictures(self, wanted: Callable[[], bool]) -> Iterator[Picture | None]:
        """The pictures until the source ends; None for one that was not decoded, as nobody wanted it.

        Raises:
            LostError: the source broke off.
        """

    def close(self) -> None:
        """Lets the device, file or connection go."""


class LostError(Exception):
    """A source that cannot be opened or broke off; the text says why in a few words."""


def picture_of(frame: VideoFrame) -> Picture:
    """A decoded frame as it is handed on."""
    # Of time_base and not frame.time, which is None together with pts.
    pts_s = None if frame.pts is None or frame.time_base is None else float(frame.pts * frame.time_base)
    if pts_s is not None and not math.isfinite(pts_s):
        pts_s = None
    turns = round(frame.rotation / 90) % 4
    size = (frame.height, frame.width) if turns % 2 else (frame.width, frame.height)
    return Picture(pts_s, size, lambda: _to_rgb(frame, turns))


def _to_rgb(frame: VideoFrame, turns: int) -> UInt8Array:
    """uint8 (H, W, 3), turned anticlockwise by quarters as a phone's video asks for."""
    image_rgb = frame.to_ndarray(format="rgb24")
    return np.ascontiguousarray(np.rot90(image_rgb, turns), np.uint8)
