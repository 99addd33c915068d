"""Webcams, read with OpenCV, which supports them on Linux, macOS and Windows."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
from cv2.utils import logging

from maskwatch.live.capture.frame import RawFrame, Reader, ReadError
from maskwatch.media.images import UInt8Array

_DEVICES = Path("/dev")


class Webcam(Reader):
    """An open webcam.

    Raises:
        ReadError: there is no webcam of this number, or it cannot be opened.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        if sys.platform == "linux":
            _check_device(_DEVICES / f"video{number}")
        with _silent_opencv():
            self._capture = cv2.VideoCapture(number, cv2.CAP_V4L2 if sys.platform == "linux" else cv2.CAP_ANY)
        if not self._capture.isOpened():
            raise ReadError(f"webcam {number} cannot be opened; is it plugged in, and not in use elsewhere?")
        # The driver's queue would add its length in frames to the delay. Not all drivers obey.
        self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)

    def frames(self, wanted: Callable[[], bool]) -> Iterator[RawFrame | None]:
        while self._capture.grab():  # takes a frame from the driver; only `retrieve` decodes it
            if not wanted():
                yield None
                continue
            ok, image_bgr = self._capture.retrieve()
            if not ok:
                break
            yield _raw_frame(np.asarray(image_bgr, np.uint8))
        raise ReadError(f"webcam {self._number} delivers no more pictures; has it been unplugged?")

    def close(self) -> None:
        self._capture.release()


def _raw_frame(image_bgr: UInt8Array) -> RawFrame:
    height, width = image_bgr.shape[:2]
    return RawFrame(
        None, (width, height), lambda: np.asarray(cv2.cvtColor(image_bgr, cv2.COLOR_BGR2RGB), np.uint8)
    )


def _check_device(device: Path) -> None:
    if not device.exists():
        others = sorted(path.name.removeprefix("video") for path in _DEVICES.glob("video[0-9]*"))
        there = f"there are {', '.join(others)}" if others else "this machine has none"
        raise ReadError(f"no webcam of this number, {there}")
    if not os.access(device, os.R_OK | os.W_OK):
        raise ReadError(f"no permission to read {device}; add your user to its group: ls -l {device}")


@contextlib.contextmanager
def _silent_opencv() -> Iterator[None]:
    """Keeps OpenCV from printing warnings about a webcam that does not open."""
    before = logging.getLogLevel()
    logging.setLogLevel(logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        logging.setLogLevel(before)
