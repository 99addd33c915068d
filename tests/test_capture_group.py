"""Several sources as one."""

from __future__ import annotations

import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from camera_servers import HttpCamera, mjpeg, numbered_frame, read_number
from maskwatch.errors import OptionError, SourceError
from maskwatch.live.capture.core import open_capture, open_captures
from maskwatch.live.capture.group import CaptureGroup
from maskwatch.media.videos import video_writer

PATIENCE_S = 30.0


def films(folder: Path, *lengths: int) -> list[str]:
    """Videos `a`, `b` … of so many numbered frames."""
    paths = [folder / f"{'abcdefghijkl'[index]}.mp4" for index in range(len(lengths))]
    for path, frames in zip(paths, lengths, strict=True):
        with video_writer(path, 10) as write:
            for number in range(frames):
                write(np.repeat(numbered_frame(number, 0)[:, :, None], 3, axis=2))
    return [str(path) for path in paths]


def no_capture_runs() -> bool:
    return not [thread for thread in threading.enumerate() if thread.name.startswith("capture")]


def test_all_frames_of_all_files(tmp_path: Path) -> None:
    states: list[tuple[str, str, str, bool]] = []
    main = threading.current_thread()
    found: dict[str, list[int]] = {"a": [], "b": [], "c": []}

    def on_state(*change: str) -> None:
        states.append((*change, threading.current_thread() is main))

    with CaptureGroup(open_captures(films(tmp_path, 5, 9, 20)), on_state=on_state) as group:
        while not group.finished:
            frames = group.next(PATIENCE_S)
            names = [frame.source for frame in frames]
            assert len(set(names)) == len(names)
            for frame in frames:
                assert (frame.source, "ended", "", True) not in states
                found[frame.source].append(read_number(frame.image_rgb)[0])
        assert len(states) == 6
        assert group.next(PATIENCE_S) == []  # at once
        assert [status.state for status in group.status()] == ["ended"] * 3
    assert found == {"a": list(range(5)), "b": list(range(9)), "c": list(range(20))}
    for name in "abc":
        mine = [change for change in states if change[0] == name]
        assert mine == [(name, "live", "", True), (name, "ended", "", True)]
    assert no_capture_runs()


def test_sources_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maskwatch.live.capture.group.MAX_BATCH", 2)
    counts: Counter[str] = Counter()
    with CaptureGroup(open_captures(films(tmp_path, 30, 30, 30, 30))) as group:
        while sum(counts.values()) < 60:
            deadline = time.monotonic() + PATIENCE_S  # all wait, so that only the turns decide
            while any(capture.ready_in() is None for capture in group._order):
                assert time.monotonic() < deadline
                time.sleep(0.001)
            frames = group.next(PATIENCE_S)
            assert len(frames) == 2
            counts.update(frame.source for frame in frames)
            assert max(counts.values()) - min(counts[name] for name in "abcd") <= 1


def test_a_dead_source_does_not_block_others(tmp_path: Path) -> None:
    sources = ["gone=rtsp://127.0.0.1:1/x", *films(tmp_path, 10)]
    states: dict[str, list[str]] = {"gone": [], "a": []}
    found = []
    with CaptureGroup(
        open_captures(sources), on_state=lambda name, state, _: states[name].append(state)
    ) as group:
        while states["a"] != ["live", "ended"] or not states["gone"]:
            found += [frame.index for frame in group.next(1.0)]
        assert not group.finished
    assert found == list(range(10))
    assert states["gone"][0] == "waiting"


def test_a_loss_is_reported_after_the_last_frame() -> None:
    states: list[str] = []
    with HttpCamera(mjpeg(frames=3, fps=1000)) as camera:
        capture = open_capture(camera.url, first_wait_s=60, longest_wait_s=60)
        with CaptureGroup([capture], on_state=lambda _, state, __: states.append(state)) as group:
            deadline = time.monotonic() + PATIENCE_S
            while capture.status().state != "waiting":
                assert time.monotonic() < deadline
                time.sleep(0.01)
            assert states == []
            (frame,) = group.next(PATIENCE_S)
            assert frame.index == capture.status().frames - 1
            assert states == ["live"]
            assert group.next(0.1) == []
            assert states == ["live", "waiting"]
            assert capture.status().error in ("the stream ended", "the connection broke off")


def test_the_limit_of_a_camera() -> None:
    with HttpCamera(mjpeg(fps=50)) as camera, CaptureGroup([open_capture(camera.url)], fps=5) as group:
        frames = [frame for _ in range(8) for frame in group.next(PATIENCE_S)]
        status = group.status()[0]
        group.close()
    assert len(frames) == 8
    assert frames[-1].read_s - frames[0].read_s > 7 / 5 - 0.15  # read a little before they were let through
    assert status.skipped >= 20
    assert status.dropped < 20
    numbers = [read_number(frame.image_rgb)[0] for frame in frames]
    assert numbers == sorted(set(numbers))


def test_next_returns_after_its_timeout() -> None:
    with CaptureGroup([open_capture("rtsp://127.0.0.1:1/x")]) as group:
        began = time.monotonic()
        assert group.next(0.3) == []
        assert time.monotonic() - began >= 0.3
        assert group.next(0) == []


def test_one_broken_file_stops_all(tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"no film")
    captures = open_captures([*films(tmp_path, 30), str(tmp_path / "broken.mp4")])
    with pytest.raises(SourceError, match=r"broken\.mp4"), CaptureGroup(captures):
        pass
    assert no_capture_runs()


def test_an_interruption_closes_all(tmp_path: Path) -> None:
    def watch() -> None:
        with CaptureGroup(open_captures(films(tmp_path, 30, 30))) as group:
            group.next(PATIENCE_S)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        watch()
    assert no_capture_runs()


@pytest.mark.parametrize(
    ("names", "fps", "message"),
    [
        ([], None, "no source"),
        (["a", "b", "a"], None, "two sources are named 'a'"),
        (["a"], 0, "0 frames per"),
    ],
)
def test_invalid_groups(names: list[str], fps: float | None, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        CaptureGroup([open_capture("0", name=name) for name in names], fps)
