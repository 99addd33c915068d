"""Parts of a video have together the frames of the whole, with their index, time and pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from maskwatch.errors import SourceError
from maskwatch.media.video_parts import VideoPart, split_video
from maskwatch.media.videos import Frame, Video
from video_files import write_film

TIMES_S = [n / 10 + (0.03 if n % 3 else 0) for n in range(60)]


def whole(path: Path) -> list[Frame]:
    with Video(path) as video:
        return list(video.frames())


def in_parts(path: Path, length_s: float) -> list[list[Frame]]:
    found = []
    for part in split_video(path, length_s):
        with VideoPart(path, part) as video:
            found.append(list(video.frames()))
    return found


@pytest.mark.parametrize("name", ["film.mp4", "film.mkv"])
@pytest.mark.parametrize(
    ("codec", "options"),
    [
        ("mpeg4", {"g": "10"}),
        ("libx264", {"g": "10", "bf": "2"}),
        # Leading pictures: shown before the key frame, stored after it.
        ("libx264", {"g": "10", "bf": "3", "x264-params": "open-gop=1:scenecut=0"}),
    ],
)
def test_parts_are_the_whole(tmp_path: Path, name: str, codec: str, options: dict[str, str]) -> None:
    path = write_film(tmp_path / name, TIMES_S, codec, 10, **options)
    parts, expected = in_parts(path, 1.5), whole(path)
    assert len(parts) > 1
    found = [frame for part in parts for frame in part]
    assert [(frame.index, frame.time_s) for frame in found] == [
        (frame.index, frame.time_s) for frame in expected
    ]
    assert all(np.array_equal(*pair) for pair in zip(_pixels(found), _pixels(expected), strict=True))


def _pixels(frames: list[Frame]) -> list[np.ndarray]:
    return [frame.image_rgb for frame in frames]


def test_what_cannot_be_split(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mp4", TIMES_S, "mpeg4", 10, g="10")
    assert split_video(film, 4.0) == [], "it is short"
    assert split_video(write_film(tmp_path / "film.avi", TIMES_S, "mjpeg", 10), 1.0) == [], "no timestamps"
    pause_s = [*TIMES_S, *(time_s + 100 for time_s in TIMES_S)]
    assert split_video(write_film(tmp_path / "pause.mkv", pause_s, "mpeg4", 10, g="10"), 1.0) == []
    torn = write_film(tmp_path / "torn.mkv", TIMES_S, "mpeg4", 10, g="10")
    torn.write_bytes(torn.read_bytes()[:-900])
    assert split_video(torn, 1.0) == []


def test_a_part_that_lacks_frames_is_an_error(tmp_path: Path) -> None:
    path = write_film(tmp_path / "film.mkv", TIMES_S, "mpeg4", 10, g="10")
    part = split_video(path, 1.5)[1]
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle - 400 : middle + 400] = bytes(800)
    path.write_bytes(data)
    with (
        VideoPart(path, part) as video,
        pytest.raises(SourceError, match="cannot be decoded; get a complete"),
    ):
        for _ in video.frames():
            pass
