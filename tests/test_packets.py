"""With a limit on the frames per second, packets that no frame in use needs are not decoded."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.frame import PictureType

from maskwatch.live.capture import av_reader
from maskwatch.live.capture.core import open_capture
from maskwatch.live.capture.packets import nal_units, packet_kind
from maskwatch.live.capture.settings import CaptureSettings
from maskwatch.live.capture.source_spec import parse_source

FPS = 25
KEYS_ONLY = "keyint={0}:min-keyint={0}:scenecut=0"


def write_film(
    path: Path,
    frames: int,
    codec: str = "libx264",
    params: str = "",
    keys: Collection[int] = (),
    **options: str,
) -> Path:
    """Noise that moves, each frame different; frames `keys` are key frames in any case."""
    noise = np.random.default_rng(0).integers(0, 255, (96, 64 + 2 * frames, 3), np.uint8)
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=FPS)
        stream.width, stream.height, stream.pix_fmt = 64, 96, "yuv420p"
        name = codec.removeprefix("lib")
        stream.codec_context.options = {
            f"{name}-params": f"{params}:log-level=none",
            "forced-idr": "1",
            **options,
        }
        for number in range(frames):
            image = np.ascontiguousarray(noise[:, 2 * number : 2 * number + 64])
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            if number in keys:
                frame.pict_type = PictureType.I
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


@dataclass
class Watched:
    """What came of a film that was played as a camera."""

    numbers: list[int] = field(default_factory=list)
    taken_s: list[float] = field(default_factory=list)
    packets: int = 0
    decoded: int = 0


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Watched]:
    """Plays a film as a camera, on a clock of its own; frames are taken as soon as the limit allows.

    Each frame taken is compared with the same one of a film that was decoded completely.
    """

    def play(path: Path, fps: float | None, arrivals_s: Iterator[float] | None = None) -> Watched:
        with av.open(str(path)) as whole:
            numbers = {
                frame.to_ndarray(format="rgb24").tobytes(): number
                for number, frame in enumerate(whole.decode(video=0))
            }
        watched, now_s = Watched(), [0.0]
        arrivals_s = arrivals_s or (number / FPS for number in itertools.count(1))
        all_packets = av_reader.packets

        def arriving(*of_what: Any) -> Iterator[Any]:
            for packet in all_packets(*of_what):
                watched.packets += packet.size > 0
                now_s[0] = next(arrivals_s)
                yield packet

        class CountingReader(av_reader.AvReader):
            def _decode(self, packet: Any) -> list[Any]:
                watched.decoded += packet.size > 0
                return super()._decode(packet)

        capture = open_capture("-")
        capture.limit(fps)
        with monkeypatch.context() as patch, path.open("rb") as pipe:
            patch.setattr(time, "monotonic", lambda: now_s[0])
            patch.setattr(av_reader, "packets", arriving)
            reader = CountingReader(parse_source("-"), CaptureSettings(), pipe)  # type: ignore[arg-type]
            for frame in reader.frames(capture._wanted):
                capture._arrive(frame)
                if capture.ready_in() == 0 and (taken := capture.take()) is not None:
                    watched.numbers.append(numbers[taken.image_rgb.tobytes()])
                    watched.taken_s.append(now_s[0])
            reader.close()
        assert capture.status().frames == watched.packets  # those left out are counted, too
        return watched

    return play


@pytest.mark.parametrize("suffix", [".ts", ".mp4"])
def test_b_frames_that_are_not_used_are_not_decoded(
    tmp_path: Path, watch: Callable[..., Watched], suffix: str
) -> None:
    film = write_film(tmp_path / f"a{suffix}", 100, params=f"{KEYS_ONLY.format(50)}:bframes=3:b-adapt=0")
    found, whole = watch(film, 5), watch(film, None)
    assert (whole.numbers, whole.decoded) == (list(range(100)), 100)
    assert set(np.diff(found.numbers[1:])) <= {4, 5, 6}  # the first ones come before the rate is known
    assert len(found.numbers) == 20
    assert found.decoded < 80


def test_the_upper_layer_of_svc_is_not_decoded(tmp_path: Path, watch: Callable[..., Watched]) -> None:
    """Every other frame is referred to by none, as with cameras that code temporal layers."""
    film = write_film(tmp_path / "a.ts", 100, params=f"{KEYS_ONLY.format(1000)}:bframes=1:b-adapt=0:ref=1")
    found = watch(film, 5)
    assert set(np.diff(found.numbers[1:])) <= {4, 5, 6}
    assert 50 <= found.decoded < 75


@pytest.mark.parametrize(("codec", "suffix"), [("libx264", ".ts"), ("libx264", ".mp4"), ("libx265", ".ts")])
@pytest.mark.parametrize(("fps", "most"), [(1, 75), (2, 175), (5, 220)])
def test_frames_before_a_key_frame_are_not_decoded(
    tmp_path: Path, watch: Callable[..., Watched], codec: str, suffix: str, fps: float, most: int
) -> None:
    """At 1 a second, only key frames are decoded, once two of them have shown how far apart they are."""
    film = write_film(
        tmp_path / f"a{suffix}",
        250,
        codec,
        KEYS_ONLY.format(25) + ":bframes=0:open-gop=0",
        tune="zerolatency",
    )
    found = watch(film, fps)
    assert found.decoded <= most
    assert len(found.numbers) == 10 * fps
    assert max(np.diff(found.numbers)) <= FPS / fps + 1
    steps_s = np.diff(found.taken_s)
    assert np.abs(steps_s - 1 / fps).max() <= 1.01 / FPS


def test_a_key_frame_that_does_not_come_costs_no_frame(tmp_path: Path, watch: Callable[..., Watched]) -> None:
    """What was held back for it is decoded as soon as a frame is due."""
    film = write_film(tmp_path / "a.ts", 200, params="keyint=1000:bframes=0", keys=(0, 25, 50, 75))
    found = watch(film, 2)
    assert found.decoded < 200  # those before the last key frames
    assert len(found.numbers) == 16
    assert np.abs(np.diff(found.taken_s) - 0.5).max() <= 2.01 / FPS


def test_key_frames_that_drift_stay_in_use(tmp_path: Path, watch: Callable[..., Watched]) -> None:
    """The clock of this camera is a thousandth slow, over which a second's grid would lose its key frames."""
    film = write_film(
        tmp_path / "a.ts", 25 * 200, params=KEYS_ONLY.format(25) + ":bframes=0", tune="zerolatency",
        preset="ultrafast",
    )  # fmt: skip
    found = watch(film, 1, (1.001 * number / FPS for number in itertools.count(1)))
    assert len(found.numbers) >= 199
    assert found.decoded < 300


@pytest.mark.parametrize(
    ("codec", "units", "kind"),
    [
        ("h264", [0x67, 0x68, 0x65], "key"),
        ("h264", [0x09, 0x41], "reference"),
        ("h264", [0x09, 0x01, 0x01], "disposable"),
        ("h264", [0x41, 0x01], "reference"),  # two fields; the second one refers to the first
        ("h264", [0x68, 0x01], "parameters"),
        ("h264", [0x06], "reference"),
        ("hevc", [0x40, 0x42, 0x44, 0x26], "key"),
        ("hevc", [0x2A], "reference"),  # CRA: frames after it may refer to frames before it
        ("hevc", [0x00], "reference"),
    ],
)
def test_kinds(codec: str, units: list[int], kind: str) -> None:
    headers = [bytes([unit, 0x80, 0x80]) for unit in units]
    with_codes = b"".join(b"\0\0\0\1" + header for header in headers)
    with_lengths = b"".join(b"\0\0\0\3" + header for header in headers)
    assert list(nal_units(with_codes)) == list(nal_units(with_lengths, 4)) == headers
    assert packet_kind(with_codes, codec) == packet_kind(with_lengths, codec, 4) == kind


def test_odd_packets() -> None:
    for data in (b"", b"\0\0\1", b"\0\0", b"\0\0\1\x65"):
        assert packet_kind(data, "h264") == packet_kind(data, "h264", 4) == "reference"
    rest_of_a_key_frame = b"\0\0\1\x67\x64\0\0\0\1\x65\x11"  # some senders split frames before each slice
    assert packet_kind(rest_of_a_key_frame, "h264") == "parameters"
