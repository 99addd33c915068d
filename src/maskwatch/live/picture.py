"""What a reader hands on: a picture that is turned into RGB only if somebody takes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from maskwatch.images import UInt8Array


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture as a source gave it.

    Attributes:
        pts_s: the source's own time stamp in seconds, from where it likes; None when there is none. Of a file
            the position in the video, see `video_decoder.MediaClock`.
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
