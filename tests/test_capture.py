"""Captures of files and webcams, and the mailbox of a capture. Streams: test_streams.py."""

from __future__ import annotations

import struct
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from camera_servers import numbered_frame, read_number
from maskwatch.errors import OptionError, SourceError
from maskwatch.live.capture.core import Capture, open_capture
from maskwatch.live.capture.frame import LiveFrame, Mailbox
from maskwatch.media.videos import Video, video_writer

PATIENCE_S = 20.0


def film(path: Path, frames: int = 20, fps: float = 10) -> Path:
    """A video of numbered frames."""
    with video_writer(path, fps) as write:
        for number in range(frames):
            write(np.repeat(numbered_frame(number, 0)[:, :, None], 3, axis=2))
    return path


def take_all(capture: Capture) -> list[LiveFrame]:
    """Starts a capture and takes what it gives until it has ended."""
    frames = []
    capture.start()
    try:
        while not capture.finished:
            if frame := capture.take(0.05):
                frames.append(frame)
    finally:
        capture.close()
    return frames


def numbers(frames: list[LiveFrame]) -> list[int]:
    return [read_number(frame.image_rgb)[0] for frame in frames]


NAMES_WITH_COLONS = ["08:15:04.mp4", "door 08:15:04.mp4", "cam:1/a.mp4", "file:a.mp4", "rtsp:a.mp4",
                     "C:\\a.mp4", "a=b:c.mp4", "concat:a|b.mp4"]  # fmt: skip


@pytest.mark.parametrize("name", NAMES_WITH_COLONS)
def test_an_existing_path_is_that_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("cam:1").mkdir()
    film(Path(name), frames=3)
    for text in (name, f"door={name}"):
        assert numbers(take_all(open_capture(text))) == [0, 1, 2]
    with Video(Path(name)) as video:
        assert [read_number(frame.image_rgb)[0] for frame in video.frames()] == [0, 1, 2]


@pytest.mark.parametrize(
    "settings",
    [
        {"stall_s": 0},
        {"rtsp_transport": "quic"},
        {"max_retries": -1},
        {"stall_s": float("nan")},
        {"hwaccel": "abacus"},
    ],
)
def test_invalid_settings(settings: dict[str, object]) -> None:
    with pytest.raises(OptionError):
        open_capture("0", **settings)


def test_every_frame_of_a_file(tmp_path: Path) -> None:
    capture = open_capture(str(film(tmp_path / "door.mp4")))
    states: list[tuple[str, str, str]] = []
    capture.on_state = lambda *change: states.append(change)
    frames = take_all(capture)
    assert not capture.live
    assert numbers(frames) == [frame.index for frame in frames] == list(range(20))
    assert {frame.source for frame in frames} == {"door"}
    tenths = [number / 10 for number in range(20)]
    assert [frame.clock_s for frame in frames] == pytest.approx(tenths, abs=1e-3)
    assert (frames[15].when - frames[5].when).total_seconds() == pytest.approx(1.0, abs=1e-3)
    assert frames[0].when.tzinfo is not None
    assert states == [("door", "live", ""), ("door", "ended", "")]
    status = capture.status()
    assert (status.frames, status.dropped, status.state, status.size) == (20, 0, "ended", (320, 240))


def test_the_limit_thins_a_file_by_its_own_time(tmp_path: Path) -> None:
    capture = open_capture(str(film(tmp_path / "door.mp4")))
    capture.limit(5)
    assert numbers(take_all(capture)) == list(range(0, 20, 2))
    assert (capture.status().dropped, capture.status().skipped) == (0, 10)


def test_a_paced_file_takes_its_time(tmp_path: Path) -> None:
    capture = open_capture(str(film(tmp_path / "door.mp4", frames=11)), pace=True)
    began = time.monotonic()
    frames = take_all(capture)
    assert capture.live
    assert time.monotonic() - began > 0.95  # ten frames of a tenth of a second after the first
    assert numbers(frames) == sorted(set(numbers(frames)))
    assert numbers(frames)[-1] == 10
    assert capture.status().dropped == 11 - len(frames)
    for frame in frames:
        assert frame.clock_s == pytest.approx(read_number(frame.image_rgb)[0] / 10, abs=1e-3)


@pytest.mark.parametrize("matrix", [(0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0)], ids=["90", "180", "270"])
def test_rotated_videos_are_rotated_as_in_detect(tmp_path: Path, matrix: tuple[int, ...]) -> None:
    data = bytearray(film(tmp_path / "door.mp4", frames=2).read_bytes())
    a, b, c, d = (value << 16 for value in matrix)
    place = data.index(b"tkhd") + 44  # the track's matrix, ISO/IEC 14496-12, 8.3.2
    data[place : place + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    (tmp_path / "turned.mp4").write_bytes(data)
    capture = open_capture(str(tmp_path / "turned.mp4"))
    ours = take_all(capture)[0].image_rgb
    with Video(tmp_path / "turned.mp4") as video:
        theirs = next(video.frames()).image_rgb
    assert capture.status().size == (ours.shape[1], ours.shape[0])
    assert ours.shape == theirs.shape == ((240, 320, 3) if matrix[0] else (320, 240, 3))
    assert np.abs(ours.astype(int) - theirs).mean() < 4
    assert np.abs(ours.astype(int) - np.rot90(ours, 2)).mean() > 20  # so that a wrong rotation would fail


@pytest.mark.parametrize(
    ("content", "reason"), [(b"no film" * 99, "not a readable video"), (b"", "not a readable video")]
)
def test_files_that_are_not_videos(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "x.mp4").write_bytes(content)
    with pytest.raises(SourceError, match=rf"x\.mp4: .*{reason}.*; get a complete copy"):
        open_capture(str(tmp_path / "x.mp4")).start()


def test_a_truncated_video_yields_its_readable_frames(tmp_path: Path) -> None:
    pytest.importorskip("av")
    writer = cv2.VideoWriter(str(tmp_path / "a.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (320, 240))
    for number in range(20):
        writer.write(np.repeat(numbered_frame(number, 0)[:, :, None], 3, axis=2))
    writer.release()
    whole = (tmp_path / "a.avi").read_bytes()
    (tmp_path / "torn.avi").write_bytes(whole[: len(whole) // 2])
    capture = open_capture(str(tmp_path / "torn.avi"))
    found = numbers(take_all(capture))
    assert found == list(range(len(found)))
    assert 5 < len(found) < 15
    status = capture.status()
    assert (status.state, status.error) == (
        "failed",
        f"broken video, only {len(found)} of 20 frames could be read",
    )


def test_closing_early_leaves_no_thread(tmp_path: Path) -> None:
    before = threading.active_count()
    capture = open_capture(str(film(tmp_path / "door.mp4")))
    capture.start()
    assert capture.take(PATIENCE_S) is not None
    capture.close()
    assert threading.active_count() == before
    assert capture.take(1.0) is None
    assert capture.finished


def test_a_webcam_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if sys.platform != "linux":
        pytest.skip("only Linux tells which webcams there are")
    monkeypatch.setattr("maskwatch.live.capture.webcam._DEVICES", tmp_path)
    with pytest.raises(SourceError, match=r"^7: no webcam of this number, this machine has none; check the"):
        open_capture("7").start()
    for name in ("video0", "video2"):
        (tmp_path / name).touch()
    with pytest.raises(SourceError, match="there are 0, 2;"):
        open_capture("7").start()


class DrawnWebcam:
    """`cv2.VideoCapture` of a webcam that gives frames until `unplugged`, and can be plugged in again."""

    unplugged = threading.Event()
    retrieved = 0

    def __init__(self, number: int, _: int) -> None:
        self.number = 0

    def isOpened(self) -> bool:
        return not self.unplugged.is_set()

    def set(self, *_: object) -> bool:
        return False

    def grab(self) -> bool:
        self.number += 1
        return not self.unplugged.wait(0.01)

    def retrieve(self) -> tuple[bool, np.ndarray]:
        type(self).retrieved += 1
        return True, np.full((48, 64, 3), (255, self.number % 256, 7), np.uint8)  # BGR

    def release(self) -> None:
        pass


@pytest.fixture
def webcam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[DrawnWebcam]:
    (tmp_path / "video3").touch()
    monkeypatch.setattr("maskwatch.live.capture.webcam._DEVICES", tmp_path)
    monkeypatch.setattr("cv2.VideoCapture", DrawnWebcam)
    DrawnWebcam.unplugged.clear()
    DrawnWebcam.retrieved = 0
    return DrawnWebcam


def test_a_webcam_that_is_unplugged_and_comes_back(webcam: type[DrawnWebcam]) -> None:
    capture = open_capture("3", first_wait_s=0.02, longest_wait_s=0.05)
    capture.start()
    try:
        frame = capture.take(PATIENCE_S)
        assert frame is not None
        assert tuple(frame.image_rgb[0, 0, ::2]) == (7, 255)
        webcam.unplugged.set()
        await_state(capture, "waiting")
        assert "has it been unplugged" in capture.status().error or "plugged in" in capture.status().error
        webcam.unplugged.clear()
        await_state(capture, "live")
        assert capture.status().reconnects == 1
        assert capture.status().error == ""
    finally:
        capture.close()


def test_a_limit_saves_the_decoding_of_a_webcam(webcam: type[DrawnWebcam]) -> None:
    capture = open_capture("3")
    capture.limit(2)
    capture.start()
    try:
        for _ in range(3):
            assert capture.take(PATIENCE_S) is not None
    finally:
        capture.close()
    status = capture.status()
    assert status.frames > 20
    assert webcam.retrieved < status.frames / 2
    assert status.skipped >= status.frames - webcam.retrieved


def await_state(capture: Capture, state: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while capture.status().state != state:
        assert time.monotonic() < deadline, capture.status()
        capture.take(0.01)


def test_a_real_webcam() -> None:
    devices = sorted(Path("/dev").glob("video[0-9]*"))
    if not devices:
        pytest.skip("no /dev/video*: this machine has no webcam and no v4l2loopback")
    number = devices[0].name.removeprefix("video")
    if not cv2.VideoCapture(int(number)).grab():
        pytest.skip(f"{devices[0]} gives no pictures")
    capture = open_capture(number)
    capture.start()
    try:
        frame = capture.take(PATIENCE_S)
        assert frame is not None
        assert frame.image_rgb.ndim == 3
    finally:
        capture.close()


def test_a_mailbox_holds_the_newest() -> None:
    puts: list[int] = []
    box: Mailbox[int] = Mailbox(keep_all=False, on_put=lambda: puts.append(1))
    assert box.take() is None
    assert [box.put(item) for item in (1, 2, 3)] == [None, 1, 2]
    assert (box.take(), box.take(), len(puts)) == (3, None, 3)
    box.put(4)
    box.close()
    box.put(5)
    assert box.take(1.0) is None


def test_a_mailbox_that_keeps_all_waits() -> None:
    box: Mailbox[int] = Mailbox(keep_all=True, on_put=lambda: None)
    replaced: list[int | None] = []
    thread = threading.Thread(target=lambda: replaced.extend(box.put(item) for item in range(50)))
    thread.start()
    assert [box.take(PATIENCE_S) for _ in range(50)] == list(range(50))
    thread.join()
    assert replaced == [None] * 50
    box.put(50)
    thread = threading.Thread(target=box.put, args=(51,))
    thread.start()
    box.close()  # which ends the waiting
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
