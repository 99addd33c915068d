"""Recordings: what browsers play, when frames are shown, and that nobody is to be seen in them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from live_scenes import frame_result
from maskwatch import Detector
from maskwatch.drawing.blur import COVER_SCORE, cover_thresholds
from maskwatch.errors import OutputError
from maskwatch.live.capture.frame import LiveFrame
from maskwatch.live.output.recorder import Recorder, part_pattern
from maskwatch.live.tracking.faces import WEAK_SCORE
from maskwatch.media.images import read_image
from maskwatch.media.mp4 import _ENCODERS, Mp4Writer, encoder_name

START = datetime(2025, 1, 31, 8, 0, 0, tzinfo=UTC)
NOBODY = np.zeros((0, 4))


def live(image_rgb: np.ndarray, index: int, time_s: float) -> LiveFrame:
    return LiveFrame("door", index, time_s, START + timedelta(seconds=time_s), time_s, image_rgb)


def grey(value: int, height: int = 48, width: int = 64) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


def frames_of(path: Path) -> list[tuple[float, np.ndarray]]:
    """Time in seconds and picture of each frame."""
    with av.open(str(path)) as file:
        return [(float(frame.time), frame.to_ndarray(format="rgb24")) for frame in file.decode(video=0)]


def test_a_file_that_browsers_play(tmp_path: Path) -> None:
    path = tmp_path / "new/door.mp4"
    with Recorder(path, 10) as recorder:
        for index in range(30):
            recorder.add(frame_result(live(grey(5 * index), index, index / 10)))
        assert path.is_file()
    with av.open(str(path)) as file:
        (stream,) = file.streams
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert stream.average_rate == 10
        assert float(stream.duration * stream.time_base) == pytest.approx(3)
    frames = frames_of(path)
    assert [round(time_s, 3) for time_s, _ in frames] == [index / 10 for index in range(30)]
    np.testing.assert_allclose([image[24, 32, 1] for _, image in frames], np.arange(30) * 5, atol=3)
    assert recorder.paths == (path,)


def test_colours_stay(tmp_path: Path) -> None:
    image = np.zeros((64, 96, 3), np.uint8)
    image[:, :32], image[:, 32:64], image[:, 64:] = (220, 30, 30), (30, 200, 60), (40, 60, 230)
    with Recorder(tmp_path / "a.mp4", 10) as recorder:
        recorder.add(frame_result(live(image, 0, 0.0)))
    ((_, shown),) = frames_of(tmp_path / "a.mp4")
    for x in (16, 48, 80):
        np.testing.assert_allclose(shown[32, x], image[32, x], atol=6)


def test_each_frame_at_its_own_time(tmp_path: Path) -> None:
    times = [100.0, 100.04, 100.5, 100.5, 103.217, 103.25]
    with Recorder(tmp_path / "a.mp4", 25) as recorder:
        for index, time_s in enumerate(times):
            recorder.add(frame_result(live(grey(40 * index), index, time_s)))
    shown = [time_s for time_s, _ in frames_of(tmp_path / "a.mp4")]
    assert shown == pytest.approx([0, 0.04, 0.5, 0.5, 3.217, 3.25], abs=1e-4)
    assert len(set(shown)) == 6


def test_what_is_drawn_lies_over_the_blur(tmp_path: Path) -> None:
    def draw(image_rgb: np.ndarray) -> np.ndarray:
        out = image_rgb.copy()
        out[:16] = (0, 255, 0)
        return out

    noise = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    with Recorder(tmp_path / "a.mp4", 10) as recorder:
        recorder.add(frame_result(live(noise, 0, 0.0), [[24, 0, 72, 96]]), draw=draw)
    ((_, shown),) = frames_of(tmp_path / "a.mp4")
    np.testing.assert_allclose(shown[8, 48], (0, 255, 0), atol=12)
    assert shown[40:90, 30:66].std() < 25 < shown[40:90, :8].std()


def test_another_size_begins_another_file(tmp_path: Path) -> None:
    """Frames that waited are written first; boxes of the old size do not reach into the new one."""
    noise = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    with Recorder(tmp_path / "door.mp4", 10) as recorder:
        for index in range(4):
            recorder.add(frame_result(live(grey(100), index, index / 10), [[10, 10, 30, 30]]))
        for index in range(4, 7):
            recorder.add(frame_result(live(noise, index, index / 10)))
    assert [path.name for path in recorder.paths] == ["door.mp4", "door-2.mp4"]
    first, second = (frames_of(path) for path in recorder.paths)
    assert [image.shape for _, image in first] == [(48, 64, 3)] * 4
    assert [image.shape for _, image in second] == [(120, 160, 3)] * 3
    assert second[0][0] == 0
    assert min(image[8:32, 8:32].std() for _, image in second) > 30


def test_odd_sides_and_nothing_overwritten(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"somebody else's")
    with Recorder(tmp_path / "a.mp4", 10) as recorder:
        recorder.add(frame_result(live(grey(80, 33, 45), 0, 0)))
    assert (tmp_path / "a.mp4").read_bytes() == b"somebody else's"
    ((_, image),) = frames_of(tmp_path / "a-2.mp4")
    assert image.shape == (34, 46, 3)


def test_parts_are_named_after_their_beginning(tmp_path: Path) -> None:
    path = tmp_path / "front door.mp4"
    with Recorder(path, 1, part_s=10) as recorder:
        for index in range(25):
            recorder.add(frame_result(live(grey(10 * index), index, float(index))))
    names = [part.name for part in recorder.paths]
    assert names == [f"front door_20250131T0800{second}Z.mp4" for second in ("00", "10", "20")]
    assert [len(frames_of(part)) for part in recorder.paths] == [10, 10, 5]
    assert all(part_pattern(path).fullmatch(name) for name in names)
    assert not part_pattern(path).fullmatch("front door.mp4")
    assert not part_pattern(path).fullmatch("back door_20250131T080000Z.mp4")


@pytest.mark.skipif(os.name != "posix", reason="there are no such rights here")
def test_others_may_not_look(tmp_path: Path) -> None:
    with Recorder(tmp_path / "a.mp4", 10) as recorder:
        recorder.add(frame_result(live(grey(0), 0, 0.0)))
    assert (tmp_path / "a.mp4").stat().st_mode & 0o007 == 0


def test_no_frames_give_no_file(tmp_path: Path) -> None:
    with Recorder(tmp_path / "a.mp4", 10):
        pass
    assert list(tmp_path.iterdir()) == []


def test_memory_holds_half_a_second(tmp_path: Path) -> None:
    with Recorder(tmp_path / "a.mp4", 10) as recorder:
        for index in range(20):
            recorder.add(frame_result(live(grey(0), index, index / 10)))
            assert recorder._mask is not None
            assert len(recorder._mask) <= 6


def test_a_place_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").mkdir()
    writer = pytest.raises(OutputError, match=r"a\.mp4: a video of 64x48 cannot be written here \(Is a dir")
    with writer:
        Mp4Writer(tmp_path / "a.mp4", 10, (64, 48))
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot create this folder"):
        Recorder(tmp_path / "file/a.mp4", 10)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is not there")
def test_a_full_disk(tmp_path: Path) -> None:
    (tmp_path / "full.mp4").symlink_to("/dev/full")

    def write() -> None:
        writer = Mp4Writer(tmp_path / "full.mp4", 10, (64, 48), growing=True)
        try:
            for index in range(50):
                writer.add(grey(index), index / 10)
        finally:
            writer.close()

    with pytest.raises(OutputError, match=r"full\.mp4: .*No space left on device.*free space"):
        write()


def test_without_an_encoder_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    assert encoder_name() in _ENCODERS
    monkeypatch.setattr("av.codecs_available", {"mpeg4"})
    with pytest.raises(OutputError, match=r"none of the encoders libx264, .*pip install"):
        encoder_name()


@pytest.mark.parametrize("name", [name for name in _ENCODERS if name in av.codecs_available])
def test_every_encoder_writes_what_can_be_read(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("maskwatch.media.mp4.encoder_name", lambda: name)
    with Recorder(tmp_path / "a.mp4", 10) as recorder:
        for index in range(12):
            recorder.add(frame_result(live(grey(20 * index), index, index / 10)))
    frames = frames_of(tmp_path / "a.mp4")
    assert [time_s for time_s, _ in frames] == pytest.approx(np.arange(12) / 10)
    np.testing.assert_allclose([image[24, 32, 1] for _, image in frames], np.arange(12) * 20, atol=8)


_KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[2])
from test_recorder import *
recorder = Recorder(Path(sys.argv[1]), 10)
noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
for index in range(100):
    recorder.add(frame_result(live(noise, index, index / 5)))  # half of the frames that were promised
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(os.name != "posix", reason="there is no SIGKILL here")
def test_a_killed_program_leaves_a_file_that_plays(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    done = subprocess.run(
        [sys.executable, "-c", _KILLED, path, str(Path(__file__).parent)], check=False, timeout=120
    )
    assert done.returncode == -signal.SIGKILL
    times = [time_s for time_s, _ in frames_of(path)]
    assert times == pytest.approx(np.arange(len(times)) / 5)
    assert 19.8 - times[-1] <= 3.0  # half a second waits, two seconds are a fragment, one frame on each side
    capture = cv2.VideoCapture(str(path))
    assert capture.read()[0]
    capture.release()


_PAGE = """<video id=v muted></video><p id=p>nothing</p><script>
v.onerror = () => p.textContent = v.error.message;
v.onloadeddata = () => p.textContent = `${v.videoWidth}x${v.videoHeight} ${v.duration.toFixed(1)} s`;
v.src = "door.mp4";
</script>"""


@pytest.mark.slow
@pytest.mark.parametrize("growing", [True, False])
def test_a_browser_plays_it(tmp_path: Path, growing: bool) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium here")
    (tmp_path / "page.html").write_text(_PAGE)
    writer = Mp4Writer(tmp_path / "door.mp4", 10, (64, 48), growing=growing)
    for index in range(60):
        writer.add(grey(4 * index), index / 10)
    writer.close()
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/profile"]
    command += ["--virtual-time-budget=10000", "--dump-dom", (tmp_path / "page.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=True)
    assert '<p id="p">64x48 6.0 s</p>' in done.stdout


def test_watching_finds_what_is_to_be_covered() -> None:
    assert WEAK_SCORE <= COVER_SCORE


# The promise, on a photograph that a camera pans over: 20 frames, six people.

FPS = 10
STEP = 10  # pixels to the right with each frame, a face in nine frames
VIEW = 520  # pixels, of 726
MISSED = {0, 1, 2, 7, 8, 9, 10, 17, 18, 19}  # frames in which nobody is found


@dataclass(frozen=True)
class Pan:
    """Frames; in each the boxes of all faces that are seen for more than half; what the detector finds."""

    frames: list[np.ndarray]
    faces: list[np.ndarray]
    found: list[np.ndarray]


@pytest.fixture(scope="module")
def detector() -> Detector:
    """The one that watching uses."""
    return Detector("maskwatch-320", threads=1)


@pytest.fixture(scope="module")
def pan(shared: Path, detector: Detector) -> Pan:
    photo = read_image(shared / "data/unseen/crowds/c_ca811f2573.jpg")
    everybody = detector(photo).xyxy
    assert len(everybody) == 6
    thresholds = cover_thresholds(detector.thresholds)
    pan = Pan([], [], [])
    for index in range(20):
        left = STEP * index
        pan.frames.append(np.ascontiguousarray(photo[:, left : left + VIEW]))
        boxes = everybody - np.array([left, 0, left, 0])
        middle = (boxes[:, 0] + boxes[:, 2]) / 2
        pan.faces.append(np.clip(boxes[(middle > 0) & (middle < VIEW)], 0, VIEW))
        missed = index in MISSED
        pan.found.append(NOBODY if missed else detector(pan.frames[-1], threshold=thresholds).xyxy)
    return pan


def detail(image_rgb: np.ndarray) -> np.ndarray:
    grey = cv2.cvtColor(image_rgb, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return grey - cv2.GaussianBlur(grey, (0, 0), 4)


def likeness(shown: np.ndarray, original: np.ndarray, box_xyxy: np.ndarray) -> float:
    """Correlation of the fine structure within a box: 1 for the same face, about 0 without one."""
    x1, y1, x2, y2 = np.rint(box_xyxy).astype(int)
    one, other = detail(shown)[y1:y2, x1:x2].ravel(), detail(original)[y1:y2, x1:x2].ravel()
    return float(np.corrcoef(one, other)[0, 1])


def recorded(path: Path, pan: Pan, **options: bool) -> list[np.ndarray]:
    with Recorder(path, FPS, **options) as recorder:
        for index, (image, boxes) in enumerate(zip(pan.frames, pan.found, strict=True)):
            recorder.add(frame_result(live(image, index, index / FPS), boxes))
    shown = [image for _, image in frames_of(path)]
    assert len(shown) == len(pan.frames)
    return shown


def likenesses(shown: list[np.ndarray], pan: Pan) -> np.ndarray:
    """That of each face in each frame."""
    triples = zip(shown, pan.frames, pan.faces, strict=True)
    return np.array([likeness(image, original, box) for image, original, faces in triples for box in faces])


def test_no_face_is_left_in_a_recording(tmp_path: Path, pan: Pan, detector: Detector) -> None:
    shown = recorded(tmp_path / "a.mp4", pan)
    alike = likenesses(shown, pan)
    assert len(alike) > 80
    assert alike.max() < 0.3
    assert sum(map(len, detector(shown))) == 0


def test_kept_faces_are_found_by_the_same_check(tmp_path: Path, pan: Pan, detector: Detector) -> None:
    shown = recorded(tmp_path / "a.mp4", pan, keep_faces=True)
    alike = likenesses(shown, pan)
    assert alike.min() > 0.8
    assert sum(map(len, detector(shown))) > 0.9 * len(alike)


def test_without_neighbouring_frames_the_check_fails(
    tmp_path: Path, pan: Pan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blurring only what was found in the frame itself leaves every face of the frames that were missed."""
    monkeypatch.setattr(
        "maskwatch.drawing.privacy_mask.PrivacyMask._reaches", lambda self, seconds, frames: frames == 0
    )
    alike = likenesses(recorded(tmp_path / "a.mp4", pan), pan)
    assert 0.4 < (alike > 0.8).mean() < 0.6
