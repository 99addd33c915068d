"""Settings of a capture."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

from maskwatch.errors import OptionError
from maskwatch.live.capture.hwaccel import open_device

Transport: TypeAlias = Literal["tcp", "udp"]


@dataclass(frozen=True)
class CaptureSettings:
    """How a source is read, checked.

    Attributes:
        pace: play a file at its own pace, as if it were a camera.
        rtsp_transport: "tcp", or "udp" for a network that loses no packets.
        hwaccel: device to decode on, as FFmpeg names it ("cuda", "vaapi"); "auto" for any, "none" for the
            processor, which also steps in for a device that cannot be opened.
        stall_s: seconds of silence after which a stream counts as lost.
        max_retries: consecutive failed tries after which a source is given up; None for no limit.
        first_wait_s, longest_wait_s: between tries, in seconds; see `Backoff`.

    Raises:
        OptionError: a value out of range.
    """

    pace: bool = False
    rtsp_transport: Transport = "tcp"
    hwaccel: str = "none"
    stall_s: float = 10.0
    max_retries: int | None = None
    first_wait_s: float = 1.0
    longest_wait_s: float = 30.0

    def __post_init__(self) -> None:
        if self.rtsp_transport not in ("tcp", "udp"):
            raise OptionError(f"{self.rtsp_transport!r} is not a transport of RTSP; use tcp or udp")
        open_device(self.hwaccel)
        if not 0 < self.stall_s < math.inf:
            raise OptionError(f"stall_s is {self.stall_s:g}; give a number of seconds above 0")
        if self.max_retries is not None and self.max_retries < 0:
            raise OptionError(f"{self.max_retries} retries: give 0 or more, or leave it out to keep trying")
