"""Which model watches, and how many frames, with speeds that the tests make up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from maskwatch import Detector
from maskwatch.errors import OptionError
from maskwatch.live.config import WatchConfig
from maskwatch.live.model_choice import ModelChoice, choose_model, seconds_per_picture

pytestmark = pytest.mark.usefixtures("tiny_embedded")


def never(_: Detector) -> float:
    raise AssertionError("speed must not matter here")


def choose(
    cameras: int, files: int, measure: Callable[[Detector], float] = never, **settings: Any
) -> ModelChoice:
    load = lambda model: Detector(model, threads=1)  # noqa: E731
    return choose_model(WatchConfig(("0",), **settings), cameras, files, load, measure)


def two_cores(detector: Detector) -> float:
    return {"maskwatch-640": 0.088, "maskwatch-320": 0.026}[detector.name]


def test_a_file_has_a_fixed_rule() -> None:
    choice = choose(0, 1)
    assert choice.title == "maskwatch-640 (64x64), 6 frames/s"
    assert (choice.file_fps, choice.file_looks) == (6, 2)
    assert choose(0, 1, fps=10).title == "maskwatch-640 (64x64), 10 frames/s"


def test_a_file_and_a_given_model_are_every_frame() -> None:
    choice = choose(0, 1, model="maskwatch-320")
    assert choice.title == "maskwatch-320 (32x32)"
    assert choice.file_fps is None


def test_cameras_get_the_better_model_while_it_is_fast_enough() -> None:
    """0.7 / 0.088 is nearly eight pictures a second: one camera with 5 frames, not two."""
    assert choose(1, 0, two_cores).title == "maskwatch-640 (64x64), 88 ms a frame"
    assert choose(2, 0, two_cores).title == "maskwatch-320 (32x32), 26 ms a frame"
    assert choose(2, 0, two_cores, fps=3).title == "maskwatch-640 (64x64), 3 frames/s, 88 ms a frame"
    assert choose(1, 0, two_cores, fps=10).title == "maskwatch-320 (32x32), 10 frames/s, 26 ms a frame"


def test_the_time_that_is_left_goes_to_tiles() -> None:
    """0.7 / 0.026 is nearly 27 pictures a second."""
    assert choose(1, 0, two_cores).live_looks == 1
    assert choose(2, 0, two_cores).live_looks == 2
    assert choose(1, 0, lambda _: 0.009).live_looks == 15
    assert choose(9, 0, two_cores).live_looks == 1  # too slow, and still one


def test_a_given_model_stays_and_only_tiles_need_its_speed() -> None:
    choice = choose(9, 0, two_cores, model="maskwatch-640")
    assert (choice.title, choice.live_looks) == ("maskwatch-640 (64x64)", 1)
    assert choose(1, 0, model="maskwatch-640", tiles=0).live_looks == 1


def test_a_camera_beside_a_file() -> None:
    choice = choose(1, 1, two_cores)
    assert (choice.title, choice.file_fps) == ("maskwatch-640 (64x64), 88 ms a frame", 6)


def test_speed_is_measured(tiny_embedded: Path) -> None:
    assert 0 < seconds_per_picture(Detector(tiny_embedded / "maskwatch-320.onnx", threads=1)) < 10


def test_number_of_tiles_is_checked() -> None:
    with pytest.raises(OptionError, match="9 tiles along the frame; choose 1 to 8, or off"):
        WatchConfig(("0",), tiles=9)
