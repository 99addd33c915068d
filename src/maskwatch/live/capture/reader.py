"""What all readers of sources share: their interface, and the error that says why a source was lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from av.video.frame import VideoFrame

from maskwatch.live.capture.frame import RawFrame
from maskwatch.media.video_decoder import DisplayTransform


class ReadError(Exception):
    """A source cannot be opened or broke off; the text says why in a few words."""


class Reader(Protocol):
    """An open source.

    Attributes:
        finite: it has an end; reaching it is no error.
        bursts: frames arrive in bursts, faster than they were filmed.
        duration_s: length in seconds as the header of a file says; None where it is not known.
    """

    finite: bool
    bursts: bool
    duration_s: float | None

    def frames(self, wanted: Callable[[], bool]) -> Iterator[RawFrame | None]:
        """The frames until the source ends; None for a frame that was not decoded since `wanted()` was False.

        Raises:
            ReadError: the source broke off.
        """

    def close(self) -> None:
        """Releases the device, file or connection."""


def av_frame(frame: VideoFrame, pts_s: float | None = None) -> RawFrame:
    """A frame as PyAV decoded it, turned the right way up when it is converted."""
    transform = DisplayTransform.of(frame)
    return RawFrame(pts_s, transform.size_wh(frame), lambda: transform.to_rgb(frame))
