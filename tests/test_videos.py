"""Videos in and out; the files are written by the tests."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from maskwatch.errors import OutputError, SourceError
from maskwatch.media.videos import Video, video_writer


def film(path: Path, codec: str = "MJPG", frames: int = 20, fps: float = 10) -> Path:
    """Frame i is grey of brightness 10 i, the left half darker in red."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), fps, (64, 48))
    assert writer.isOpened()
    for index in range(frames):
        image_bgr = np.full((48, 64, 3), 10 * index, np.uint8)
        image_bgr[:, :32, 2] = 0
        writer.write(image_bgr)
    writer.release()
    return path


@pytest.mark.parametrize(
    ("suffix", "codec"), [(".avi", "MJPG"), (".mp4", "mp4v"), (".mkv", "MJPG"), (".mov", "mp4v")]
)
def test_frames_in_order(tmp_path: Path, suffix: str, codec: str) -> None:
    with Video(film(tmp_path / f"ünï film{suffix}", codec)) as video:
        assert video.fps == pytest.approx(10)
        frames = list(video.frames())
    assert [frame.index for frame in frames] == list(range(20))
    assert [frame.time_s for frame in frames] == pytest.approx([index / 10 for index in range(20)])
    np.testing.assert_allclose([frame.image_rgb[24, 48, 0] for frame in frames], np.arange(20) * 10, atol=6)
    assert frames[10].image_rgb.shape == (48, 64, 3)
    red, green, blue = frames[15].image_rgb[24, 10]
    assert int(red) < 20 < int(green) == pytest.approx(int(blue), abs=9)


def test_closing_ends_the_frames(tmp_path: Path) -> None:
    video = Video(film(tmp_path / "a.avi"))
    frames = video.frames()
    next(frames)
    video.close()
    assert list(frames) == []


def test_a_video_that_breaks_off(tmp_path: Path) -> None:
    whole = film(tmp_path / "a.avi", frames=20).read_bytes()
    torn = tmp_path / "torn.avi"
    torn.write_bytes(whole[: len(whole) * 3 // 4])
    read: list[int] = []
    message = r"torn\.avi: broken video, only \d+ of 20 frames"
    with Video(torn) as video, pytest.raises(SourceError, match=message):
        read.extend(frame.index for frame in video.frames())
    assert read == list(range(len(read)))
    assert 0 < len(read) < 19


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "the file is empty"), (b"no film" * 100, "neither a picture nor a video")],
)
def test_files_that_are_no_videos(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "x.mp4").write_bytes(content)
    with pytest.raises(SourceError, match=rf"x\.mp4: {message}"):
        Video(tmp_path / "x.mp4")
    with pytest.raises(SourceError, match="cannot be read"):
        Video(tmp_path / "gone.mp4")


def test_written_videos_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    with video_writer(path, 12.5) as write:
        for index in range(10):
            write(np.full((49, 65, 3), (20 * index, 0, 0), np.uint8))  # odd sides
        assert not path.exists()
    with Video(path) as video:
        assert video.fps == pytest.approx(12.5)
        reds = [int(frame.image_rgb[24, 32, 0]) for frame in video.frames()]
    np.testing.assert_allclose(reds, np.arange(10) * 20, atol=12)
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]


def test_an_error_leaves_no_half_video(tmp_path: Path) -> None:
    def interrupted() -> None:
        with video_writer(tmp_path / "out.mp4", 10) as write:
            write(np.zeros((48, 64, 3), np.uint8))
            assert len(list(tmp_path.iterdir())) == 1
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_no_frames_give_no_file(tmp_path: Path) -> None:
    with video_writer(tmp_path / "out.mp4", 10):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_place_where_nothing_can_be_written(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"out\.mp4"), video_writer(tmp_path / "gone/out.mp4", 10) as write:
        write(np.zeros((48, 64, 3), np.uint8))
