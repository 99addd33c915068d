"""Decoding on a device: none of these machines has one, so it is replaced where Maskwatch calls PyAV."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest

from camera_servers import numbered_frame, read_number
from maskwatch.errors import OptionError
from maskwatch.live.capture import av_reader, hwaccel
from maskwatch.live.capture.core import open_capture
from maskwatch.media.videos import video_writer


class Devices:
    """Those that a PyAV offers, of which some open."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, offered: list[str], opens: list[str]) -> None:
        configs = [SimpleNamespace(device_type=SimpleNamespace(name=n), is_supported=True) for n in offered]
        self.tried: list[str] = []
        devices = self

        class HWAccel:
            def __init__(self, device: str) -> None:
                self.device = device

            def create(self, codec: Any) -> None:
                devices.tried.append(self.device)
                if self.device not in opens:
                    raise OSError("no such card\nat all")

        monkeypatch.setattr(hwaccel, "Codec", lambda *_: SimpleNamespace(hardware_configs=configs))
        monkeypatch.setattr(hwaccel, "HWAccel", HWAccel)


@pytest.fixture(autouse=True)
def _no_memory() -> Iterator[None]:
    hwaccel.open_device.cache_clear()
    yield
    hwaccel.open_device.cache_clear()


def test_the_device_named_or_the_first_that_opens(monkeypatch: pytest.MonkeyPatch) -> None:
    devices = Devices(monkeypatch, ["cuda", "vaapi", "qsv"], opens=["vaapi", "qsv"])
    assert hwaccel.open_device("none") == (None, "")
    assert hwaccel.hwaccel_of("none") is None
    assert devices.tried == []
    assert hwaccel.open_device("auto") == ("vaapi", "")
    assert hwaccel.open_device("qsv") == ("qsv", "")
    assert hwaccel.open_device("cuda") == (None, "cuda: no such card")
    with pytest.raises(OptionError, match="use one of auto, none, cuda, vaapi, qsv"):
        hwaccel.open_device("abacus")
    hwaccel.open_device("auto")
    assert devices.tried == ["cuda", "vaapi", "qsv", "cuda"]  # each is tried once


def test_why_no_device_opens(monkeypatch: pytest.MonkeyPatch) -> None:
    Devices(monkeypatch, ["cuda", "vaapi"], opens=[])
    assert hwaccel.open_device("auto") == (None, "cuda: no such card; vaapi: no such card")
    hwaccel.open_device.cache_clear()
    Devices(monkeypatch, [], opens=[])
    assert hwaccel.open_device("auto") == (None, "this PyAV offers none")


@pytest.mark.parametrize("opens", [["cuda"], []])
def test_streams_are_opened_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opens: list[str]
) -> None:
    """Without a device, the film is decoded as ever."""
    with video_writer(tmp_path / "a.mp4", 10) as write:
        for number in range(3):
            write(np.repeat(numbered_frame(number, 0)[:, :, None], 3, axis=2))
    Devices(monkeypatch, ["cuda"], opens)
    passed, av_open = [], av.open

    def opened(*args: Any, hwaccel: Any = None, **options: Any) -> Any:
        passed.append(hwaccel and hwaccel.device)
        return av_open(*args, **options)

    monkeypatch.setattr(av_reader.av, "open", opened)
    capture = open_capture(str(tmp_path / "a.mp4"), hwaccel="cuda")
    capture.start()
    try:
        frames = [capture.take(20) for _ in range(3)]
    finally:
        capture.close()
    assert [read_number(frame.image_rgb)[0] for frame in frames if frame] == [0, 1, 2]
    assert passed == [opens[0] if opens else None]
