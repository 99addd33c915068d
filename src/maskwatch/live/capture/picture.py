"""What a reader hands on: a picture that is turned into RGB only if somebody takes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from av.video.frame import VideoFrame

from maskwatch.media.images import UInt8Array
from maskwatch.media.video_decoder import DisplayTransform, MediaClock, seconds


@dataclass(frozen=True, eq=False)
class RawFrame:
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

    def pictures(self, wanted: Callable[[], bool]) -> Iterator[RawFrame | None]:
        """The pictures until the source ends; None for one that was not decoded, as nobody wanted it.

        Raises:
            ReadError: the source broke off.
        """

    def close(self) -> None:
        """Lets the device, file or connection go."""


class ReadError(Exception):
    """A source that cannot be opened or broke off; the text says why in a few words."""


def raw_frame(frame: VideoFrame, clock: MediaClock | None = None) -> RawFrame:
    """A decoded frame as it is handed on.

    Args:
        clock: of a file; without it the time stamp is handed on as it is.
    """
    turn = DisplayTransform.of(frame)
    pts_s = seconds(frame.pts, frame.time_base) if clock is None else clock.time_s(frame)
    return RawFrame(pts_s, turn.size_wh(frame), lambda: turn.to_rgb(frame))
