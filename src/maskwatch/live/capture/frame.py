"""One frame of a live source, with the two clocks that watching needs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from maskwatch.media.images import UInt8Array


@dataclass(frozen=True, eq=False)
class LiveFrame:
    """One frame as it came from a source.

    Attributes:
        source: the source's short name, the same in every event and file.
        index: number of the frame in its source, from 0; numbers of dropped frames are missing.
        time_s: seconds on the source's own clock, which never goes back: for a camera those since watching
            began, for a file the position in it. Dwell, cooldown and speed are measured on it.
        when: the same moment on the wall clock, with time zone; stands in events. For a file, when watching
            began plus the seconds of the video since.
        read_s: `time.monotonic()` when the frame had been read; now less this is its age.
        image_rgb: uint8 (H, W, 3).
        media_time_s: position in the video in seconds from its beginning; None for what is no file.
    """

    source: str
    index: int
    time_s: float
    when: datetime
    read_s: float
    image_rgb: UInt8Array
    media_time_s: float | None = None
