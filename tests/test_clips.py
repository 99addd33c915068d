"""Clips of alerts: what they show, from when to when, under which name, and what they cost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from drawn_events import wait_until
from live_scenes import frame_result
from maskwatch.live.capture.frame import LiveFrame
from maskwatch.live.events import Event
from maskwatch.live.output import clip_buffer
from maskwatch.live.output.clip_buffer import Clip, ClipBuffer, part_path
from maskwatch.live.output.clips import NAMES, AlertClips, ClipSettings, complete_leftovers
from maskwatch.live.tracking.results import FrameResult
from maskwatch.media.videos import Video

START = datetime(2025, 1, 31, 8, 0, 0, tzinfo=UTC)
FPS = 10
FACE = (48, 32, 80, 72)


def noise(seed: int, size_hw: tuple[int, int] = (24, 32), block: int = 4) -> np.ndarray:
    """Blocks of random colours, large enough to survive compression."""
    colors = np.random.default_rng(seed).integers(0, 256, (*size_hw, 3), dtype=np.uint8)
    return np.kron(colors, np.ones((block, block, 1), np.uint8))


def grey(value: float) -> np.ndarray:
    return np.full((48, 64, 3), value, np.uint8)


def look(
    time_s: float, image_rgb: np.ndarray, boxes_xyxy: object = (), source: str = "door", *, file: bool = True
) -> FrameResult:
    when, index = START + timedelta(seconds=time_s), round(time_s * FPS)
    frame = LiveFrame(source, index, time_s, when, 0.0, image_rgb, time_s if file else None)
    return frame_result(frame, boxes_xyxy)


def alert(time_s: float, number: int = 1, **fields: object) -> Event:
    values = {"track": number, "state": "no_mask", "duration_s": 1.0, "id": f"{number}"} | fields
    return Event("alert", START + timedelta(seconds=time_s), "door", "run", **values)


def alert_end(time_s: float, number: int = 1) -> Event:
    when = START + timedelta(seconds=time_s)
    return Event("alert_end", when, "door", "run", track=number, alert=f"{number}", reason="left")


def play(
    clips: AlertClips,
    seconds: float,
    events: tuple[Event, ...] = (),
    picture: Callable[[int], np.ndarray] = lambda index: grey(2 * index),
) -> dict[str, str | None]:
    """Frames for so long with the events at their times; the path that each event got, by kind and person."""
    paths = {}
    for index in range(round(seconds * FPS)):
        clips.on_frame(look(index / FPS, picture(index)))
        for event in events:
            if round((event.time - START).total_seconds() * FPS) == index:
                paths[f"{event.kind} {event.track}"] = clips.path_of(event)
    return paths


def settings(folder: Path, **values: object) -> ClipSettings:
    return ClipSettings(**{"folder": folder, "fps": FPS, "dwell_s": 1, "before_s": 2, "after_s": 1} | values)


def frames_of(path: Path | str | None) -> list[tuple[float, np.ndarray]]:
    with Video(Path(str(path))) as video:
        return [(frame.time_s, frame.image_rgb) for frame in video.frames()]


def span(path: Path | str | None) -> tuple[float, float]:
    """From when to when a clip of the frames of `play` was filmed, by their grey."""
    greys = [image.mean() / 2 / FPS for _, image in frames_of(path)]
    return round(greys[0], 1), round(greys[-1], 1)


def test_a_clip_has_the_seconds_before_and_after(tmp_path: Path) -> None:
    """The state began at 5 s, the alert at 6 s, and ended at 8 s."""
    with AlertClips(settings(tmp_path / "new"), {}, ()) as clips:
        paths = play(clips, 12, (alert(6), alert_end(8)))
    (path,) = (tmp_path / "new").iterdir()
    assert paths == {"alert 1": str(path), "alert_end 1": str(path)}
    assert path.name == "20250131T080006Z_door_t1_no-mask_1.mp4"
    assert span(path) == pytest.approx((3.0, 9.0), abs=1 / FPS)
    times_s = [time_s for time_s, _ in frames_of(path)]
    assert times_s == pytest.approx(np.arange(61) / FPS, abs=1e-3)
    if os.name == "posix":
        assert path.stat().st_mode & 0o007 == 0


def test_an_alert_that_begins_or_ends_with_the_video(tmp_path: Path) -> None:
    with AlertClips(settings(tmp_path), {}, ()) as clips:
        paths = play(clips, 4, (alert(1.5), alert_end(3.9)))
    assert span(paths["alert 1"]) == (0.0, 3.9)


def test_a_state_that_lasted_long_before(tmp_path: Path) -> None:
    """After a cooldown of a minute, the seconds in memory are what there is."""
    with AlertClips(settings(tmp_path), {}, ()) as clips:
        paths = play(clips, 12, (alert(10, duration_s=60), alert_end(10.5)))
    assert span(paths["alert 1"]) == pytest.approx((10 - clips._settings.keep_s, 11.5), abs=1 / FPS)


@pytest.mark.parametrize("keep_faces", [False, True])
def test_faces_are_blurred_in_every_frame(tmp_path: Path, keep_faces: bool) -> None:
    """The face is missed in every third frame, also before the alert, and is hidden there too."""
    clips = AlertClips(settings(tmp_path, keep_faces=keep_faces), {}, ())
    with clips:
        for index in range(80):
            clips.on_frame(look(index / FPS, noise(index), [FACE] if index % 3 else []))
            if index == 50:
                path = clips.path_of(alert(5))
    frames = frames_of(path)
    assert len(frames) == 60
    x1, y1, x2, y2 = FACE
    for number, (_, image) in enumerate(frames, 20):
        changed = abs(image.astype(float) - noise(number))
        assert (changed[y1:y2, x1:x2].mean() > 45) == (not keep_faces), number
        assert changed[:, :20].mean() < 30


def test_what_was_seen_in_a_frame_that_is_left_out_still_counts(tmp_path: Path) -> None:
    """Its neighbours, in which the face was missed, hide it."""
    buffer = ClipBuffer(5, FPS, lambda image_rgb, _: image_rgb, keep_faces=False, on_error=pytest.fail)
    clip = Clip(tmp_path / "a.mp4", 0.0)
    for index in range(9):
        left_out = index == 4
        picture = np.zeros((0, 0, 3), np.uint8) if left_out else noise(index)
        buffer.add(look(index / FPS, picture, [FACE] if left_out else []))
    buffer.begin(clip)
    buffer.finish()
    frames = frames_of(clip.path)
    assert len(frames) == 8
    assert max(image[40:64, 56:72].std(axis=(0, 1)).mean() for _, image in frames) < 30


def test_alerts_that_overlap_share_a_clip(tmp_path: Path) -> None:
    """The third begins after the end of the shared one, and has its own."""
    events = (alert(3), alert(4, 2), alert_end(5), alert_end(6, 2), alert(9, 3), alert_end(10, 3))
    with AlertClips(settings(tmp_path), {}, ()) as clips:
        paths = play(clips, 12, events)
    assert len({paths[name] for name in ("alert 1", "alert 2", "alert_end 1", "alert_end 2")}) == 1
    assert paths["alert 3"] == paths["alert_end 3"] != paths["alert 1"]
    assert span(paths["alert 1"]) == pytest.approx((0.0, 7.0), abs=1 / FPS)
    assert span(paths["alert 3"]) == pytest.approx((6.0, 11.0), abs=1 / FPS)
    assert sorted(map(str, tmp_path.iterdir())) == [paths["alert 1"], paths["alert 3"]]


def test_an_alert_during_the_last_seconds_continues_the_clip(tmp_path: Path) -> None:
    with AlertClips(settings(tmp_path, after_s=3), {}, ()) as clips:
        paths = play(clips, 12, (alert(3), alert_end(4), alert(5, 2), alert_end(6, 2)))
    assert paths["alert 1"] == paths["alert 2"]
    assert span(paths["alert 1"]) == pytest.approx((0.0, 9.0), abs=1 / FPS)


def test_a_clip_has_an_end(tmp_path: Path) -> None:
    """Six seconds at most; the second alert begins in the second half, so it has a clip of its own."""
    events = (alert(3), alert(5, 2), alert_end(11), alert_end(11.5, 2))
    with AlertClips(settings(tmp_path, longest_s=6), {}, ()) as clips:
        paths = play(clips, 12, events)
    assert paths["alert 1"] == paths["alert_end 1"] != paths["alert 2"] == paths["alert_end 2"]
    assert span(paths["alert 1"]) == pytest.approx((0.0, 6.0), abs=1 / FPS)
    assert span(paths["alert 2"]) == pytest.approx((2.0, 8.0), abs=1 / FPS)


def test_sources_have_their_own_clips(tmp_path: Path) -> None:
    with AlertClips(settings(tmp_path), {}, ()) as clips:
        for index in range(60):
            for source, value in (("door", 40), ("hall", 200)):
                clips.on_frame(look(index / FPS, grey(value), source=source))
                if index == 30:
                    clips.path_of(replace(alert(3), source=source))
    means = {path.name.split("_")[1]: frames_of(path)[-1][1].mean() for path in tmp_path.iterdir()}
    assert means == pytest.approx({"door": 40, "hall": 200}, abs=3)


def test_a_source_that_is_lost_ends_its_clip(tmp_path: Path) -> None:
    lost = Event("source", START, "door", "run", state="waiting", reason="gone")
    with AlertClips(settings(tmp_path), {}, ()) as clips:
        paths = play(clips, 4, (alert(3), alert_end(3.9)))
        assert clips.path_of(lost) is None
        clips.on_event(lost)
        wait_until(lambda: Path(str(paths["alert 1"])).is_file(), "the clip is complete")
        for index in range(100, 110):
            clips.on_frame(look(index / FPS, grey(200)))
    assert span(paths["alert 1"]) == (0.0, 3.9)


def test_another_size_ends_the_clip(tmp_path: Path) -> None:
    with AlertClips(settings(tmp_path), {}, ()) as clips:
        events = (alert(3), alert(5, 2), alert_end(5.5), alert_end(5.5, 2))
        paths = play(clips, 6, events, lambda index: grey(2 * index)[: 48 if index < 40 else 32])
    assert span(paths["alert 1"]) == pytest.approx((0.0, 3.9), abs=1 / FPS)
    assert span(paths["alert 2"]) == pytest.approx((4.0, 5.9), abs=1.01 / FPS)
    assert (paths["alert_end 1"], paths["alert_end 2"]) == (paths["alert 1"], paths["alert 2"])


def test_large_frames_are_scaled_down_with_their_boxes(tmp_path: Path) -> None:
    image = noise(0, (90, 160), 16)  # 2560 × 1440
    with AlertClips(settings(tmp_path), {}, ()) as clips:
        for index in range(4):
            clips.on_frame(look(index / FPS, image, [(800, 400, 1200, 900)]))
        path = clips.path_of(alert(0.3))
    image = frames_of(path)[1][1]
    assert image.shape == (720, 1280, 3)
    assert image[220:430, 420:580].std(axis=(0, 1)).mean() < 30 < image[:, :300].std()


def test_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit below what two seconds need: the frames before the alert are fewer, none after is missing."""
    one = clip_buffer._Frame.of(look(0, noise(0))).jpeg.nbytes
    limit = 12 * one
    monkeypatch.setattr(clip_buffer, "BUFFER_BYTES", limit)
    buffer = ClipBuffer(2, FPS, lambda image_rgb, _: image_rgb, keep_faces=False, on_error=pytest.fail)
    clip = Clip(tmp_path / "a.mp4", 6.0, 12.0)
    for index in range(200):
        if index == 80:
            buffer.begin(clip)
        buffer.add(look(index / FPS, noise(index)))  # nothing is written in between
        assert buffer.bytes <= limit
        assert buffer.bytes == sum(frame.jpeg.nbytes for frame, _ in buffer._frames)
    times_s = [time_s for time_s, _ in frames_of(clip.path)]
    assert 6 < clip._first_s < 7
    assert clip._first_s + np.array(times_s) == pytest.approx(
        np.arange(12 - times_s[-1], 12.01, 1 / FPS), abs=1e-3
    )


def test_a_camera_never_waits(tmp_path: Path) -> None:
    """The thread does nothing yet: four pictures wait, of the others only where the faces are."""
    clips = AlertClips(settings(tmp_path), {}, ())
    picture = noise(0)
    for index in range(1200):
        clips.on_frame(look(index / FPS, picture, [FACE], file=False))
    assert clips._steps.qsize() <= 1000
    waiting = [clips._steps.get() for _ in range(clips._steps.qsize())]
    pictures = [step.args[-1].frame.image_rgb for step in waiting]  # type: ignore[union-attr]
    assert sum(picture.size > 0 for picture in pictures) == 4


def test_a_file_waits_for_its_pictures(tmp_path: Path) -> None:
    with AlertClips(settings(tmp_path), {}, ()) as clips:
        clips._steps.put(lambda: time.sleep(0.3))
        paths = play(clips, 4, (alert(3),))
    assert len(frames_of(paths["alert 1"])) == 40


def test_a_folder_that_is_gone_costs_the_clip_only(tmp_path: Path) -> None:
    said: list[tuple[str, str]] = []
    folder = tmp_path / "clips"

    def repaired(index: int) -> np.ndarray:
        if index == 60:
            wait_until(lambda: said, "the error")
            folder.unlink()
        return grey(2 * index)

    with AlertClips(settings(folder), {}, (), lambda *text: said.append(text)) as clips:
        folder.rmdir()
        folder.touch()
        paths = play(clips, 9, (alert(2), alert_end(2.5), alert(8, 2)), repaired)
    assert [name for name, _ in said] == ["clips"]
    assert "clips: cannot create this folder (a file is in the way); choose another one" in said[0][1]
    assert [str(path) for path in folder.iterdir()] == [paths["alert 2"]]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is not there")
def test_a_full_disk_costs_the_clip_only(tmp_path: Path) -> None:
    said: list[str] = []
    with AlertClips(settings(tmp_path), {}, (), lambda name, text: said.append(text)) as clips:
        stem = "20250131T080003Z_door_t1_no-mask_1"
        part_path(tmp_path / f"{stem}.mp4").symlink_to("/dev/full")
        paths = play(clips, 40, (alert(3), alert_end(20), alert(30, 2)), lambda index: noise(index))
    (text,) = said
    assert "No space left on device" in text
    assert f"{stem}.mp4: " in text
    assert [str(path) for path in tmp_path.iterdir()] == [paths["alert 2"]]


def test_a_bug_ends_neither_the_thread_nor_the_next_clip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    add = clip_buffer.ClipBuffer.add
    calls = iter(range(1000))

    def fail_once(buffer: ClipBuffer, result: FrameResult) -> None:
        if next(calls) == 5:
            raise RuntimeError("a bug")
        add(buffer, result)

    monkeypatch.setattr(clip_buffer.ClipBuffer, "add", fail_once)
    with AlertClips(settings(tmp_path), {}, (), lambda name, text: said.append(text)) as clips:
        paths = play(clips, 6, (alert(3),))
    assert said == ["RuntimeError: a bug"]
    assert len(frames_of(paths["alert 1"])) == 59


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"source": "Tür 1"}, "T-r-1_t1_no-mask_1"),
        ({"source": "x" * 300, "state": "y" * 300}, f"{'x' * 40}_t1_{'y' * 20}_1"),
        ({"source": "...", "track": None, "state": "../ä"}, "source_t-_-_1"),
        ({"state": "hard hat"}, "door_t1_hard-hat_1"),
    ],
)
def test_names_are_safe_and_known(tmp_path: Path, fields: dict[str, object], name: str) -> None:
    clips = AlertClips(settings(tmp_path), {}, ())
    event = replace(alert(3), **fields)
    clips.on_frame(look(3, grey(0), source=event.source))
    path = Path(str(clips.path_of(event)))
    assert path.parent == tmp_path
    assert path.stem == f"20250131T080003Z_{name}"
    assert NAMES.fullmatch(path.name)
    assert NAMES.fullmatch(part_path(path).name)


_KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[2])
from test_clips import *
with AlertClips(settings(Path(sys.argv[1])), {}, ()) as clips:
    play(clips, 12, (alert(3),), noise)
    buffer = clips._buffers["door"]
    number = lambda: buffer._clips[0].next_number if buffer._clips else 0
    wait_until(lambda: number() + len(buffer._mask) == 120, "all is written")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(os.name != "posix", reason="there is no SIGKILL here")
def test_what_a_killed_program_leaves_is_completed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _KILLED, tmp_path, str(Path(__file__).parent)]
    done = subprocess.run(command, check=False, timeout=120)
    assert done.returncode == -signal.SIGKILL
    path = tmp_path / "20250131T080003Z_door_t1_no-mask_1.mp4"
    part, empty = part_path(path), part_path(tmp_path / "20250131T080003Z_door_t2_no-mask_2.mp4")
    assert list(tmp_path.iterdir()) == [part]
    empty.write_bytes(b"\0\0\0\x1cftyp")
    others = [tmp_path / name for name in (".mine.part.mp4", "20250131T080003Z_door_t2_no-mask_3.mp4")]
    for other in others:
        other.touch()
    complete_leftovers(tmp_path)
    assert part.exists(), "it may be another program's, which still writes"
    for old in (part, empty, *others):
        os.utime(old, (0, 0))
    with AlertClips(settings(tmp_path), {}, ()):
        pass
    assert sorted(tmp_path.iterdir()) == sorted([path, *others])
    assert len(frames_of(path)) > 80
