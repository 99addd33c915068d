"""A frame on its way from a source to the loop: from its reader, through the mailbox, to a `LiveFrame`."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, Protocol, TypeVar

from av.video.frame import VideoFrame

from maskwatch.media.images import UInt8Array
from maskwatch.media.video_decoder import DisplayTransform

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class RawFrame:
    """A frame as a reader returns it, converted to RGB only if it is taken.

    Attributes:
        pts_s: the source's own timestamp in seconds, from any origin; None when there is none. Of a file the
            position in the video, see `video_decoder.MediaClock`.
        size: (width, height) in pixels.
        to_rgb: returns uint8 (H, W, 3); may be called once, from any thread.
        is_key: packets were left out up to this frame, which needs none of them, or will be.
    """

    pts_s: float | None
    size: tuple[int, int]
    to_rgb: Callable[[], UInt8Array]
    is_key: bool = False

    @classmethod
    def of_image(cls, image_rgb: UInt8Array, pts_s: float | None = None) -> RawFrame:
        """From an image that is RGB already, uint8 (H, W, 3)."""
        return cls(pts_s, (image_rgb.shape[1], image_rgb.shape[0]), lambda: image_rgb)

    @classmethod
    def of_av(cls, frame: VideoFrame, pts_s: float | None = None, *, is_key: bool = False) -> RawFrame:
        """From a frame as PyAV decoded it; converting it also rotates it upright."""
        transform = DisplayTransform.of(frame)
        return cls(pts_s, transform.size_wh(frame), lambda: transform.to_rgb(frame), is_key)


class ReadError(Exception):
    """A source cannot be opened or broke off; the text gives the reason in a few words."""


class Wanted(Protocol):
    """Tells a reader whether to decode a frame."""

    def __call__(self, key_in_s: float | None = None) -> bool:
        """Whether this frame may be used; or, with `key_in_s`, any before a key frame in so many seconds."""


class Reader(ABC):
    """An open source.

    Attributes:
        finite: it has an end; reaching it is no error.
        bursts: frames arrive in bursts, faster than they were filmed.
        duration_s: length in seconds by the header of a file; None where it is not known.
    """

    finite: bool = False
    bursts: bool = False
    duration_s: float | None = None

    @abstractmethod
    def frames(self, wanted: Wanted) -> Iterator[RawFrame | None]:
        """The frames until the source ends; None for a frame that was not decoded since `wanted()` was False.

        Raises:
            ReadError: the source broke off.
        """

    @abstractmethod
    def close(self) -> None:
        """Releases the device, file or connection."""


@dataclass(frozen=True, eq=False)
class LiveFrame:
    """One frame of a source, with the two clocks that watching needs.

    Attributes:
        source: the source's short name, the same in every event and file.
        index: number of the frame in its source, from 0; numbers of dropped frames are missing.
        clock_s: seconds on the source's own clock, which never goes back: for a camera those since watching
            began, for a file the position in it. Dwell, cooldown and speed are measured on it.
        when: the same moment on the wall clock, with time zone, as events report it. For a file, when
            watching began plus the seconds of the video since.
        read_s: `time.monotonic()` when the frame had been read; now less this is its age.
        image_rgb: uint8 (H, W, 3).
        media_time_s: position in the video in seconds from its beginning; None unless the source is a file.
    """

    source: str
    index: int
    clock_s: float
    when: datetime
    read_s: float
    image_rgb: UInt8Array
    media_time_s: float | None = None


class Mailbox(Generic[T]):
    """Holds one item at most, so that memory stays constant and no item grows old in a queue.

    Args:
        keep_all: `put` waits until the last item has been taken, instead of replacing it.
        on_put: called after each item, in the thread that put it.
    """

    def __init__(self, *, keep_all: bool, on_put: Callable[[], None]) -> None:
        self._keep_all = keep_all
        self._on_put = on_put
        self._changed = threading.Condition()
        self._item: T | None = None
        self._closed = False

    def put(self, item: T) -> T | None:
        """Stores an item and returns the one that it replaces; a closed mailbox discards the item."""
        if self._keep_all:
            self.wait_taken()
        with self._changed:
            replaced = self._item
            self._item = None if self._closed else item
            self._changed.notify_all()
        self._on_put()
        return replaced

    def take(self, timeout_s: float = 0.0) -> T | None:
        """The item, waited for up to `timeout_s` seconds; None when there is none."""
        with self._changed:
            self._changed.wait_for(lambda: self._item is not None or self._closed, timeout_s)
            item, self._item = self._item, None
            self._changed.notify_all()
        return item

    def full(self) -> bool:
        """Whether an item waits."""
        return self._item is not None

    def wait_taken(self) -> None:
        """Returns when the last item has been taken, or the mailbox is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._item is None or self._closed)

    def close(self) -> None:
        """Discards the item and ends all waiting."""
        with self._changed:
            self._closed = True
            self._item = None
            self._changed.notify_all()
