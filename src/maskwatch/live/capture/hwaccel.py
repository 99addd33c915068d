"""Decoding on a graphics card, through FFmpeg: CUDA, VAAPI, VideoToolbox, whatever PyAV was built with."""

from __future__ import annotations

import functools

from av.codec import Codec
from av.codec.hwaccel import HWAccel

from maskwatch.errors import OptionError
from maskwatch.text import first_line


@functools.cache
def open_device(hwaccel: str) -> tuple[str | None, str]:
    """The device to decode on, tried out, and why there is none; None for the processor.

    Args:
        hwaccel: "none", the name of a device, or "auto" for the first one that opens.

    Raises:
        OptionError: there is no such device in this PyAV.
    """
    if hwaccel == "none":
        return None, ""
    codec = Codec("h264", "r")  # nearly all cameras; what a device cannot decode, PyAV decodes itself
    offered = [config.device_type.name for config in codec.hardware_configs if config.is_supported]
    if hwaccel not in (*offered, "auto"):
        names = ", ".join(["auto", "none", *offered])
        raise OptionError(f"{hwaccel!r} is no device that this PyAV decodes on; use one of {names}")
    reasons = []
    for device in offered if hwaccel == "auto" else [hwaccel]:
        try:
            HWAccel(device).create(codec)
        except Exception as error:  # FFmpeg's and PyAV's share no base class
            reasons.append(f"{device}: {first_line(error)}")
        else:
            return device, ""
    return None, "; ".join(reasons) or "this PyAV offers none"


def hwaccel_of(hwaccel: str) -> HWAccel | None:
    """For `av.open`; None decodes on the processor. Raises as `open_device`."""
    device, _ = open_device(hwaccel)
    return None if device is None else HWAccel(device)
