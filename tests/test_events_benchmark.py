"""The benchmark of events: its scripts, its judge, its tables; not what it measures."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from benchmark_module import load_benchmark
from drawn_data import draw_faces


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    for name in ("stream_scripts", "stream_levels"):
        load_benchmark(name, monkeypatch)
    return load_benchmark("events", monkeypatch)


@pytest.fixture
def photographs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    draw_faces(tmp_path / "photographs", 8)
    return tmp_path / "photographs"


def stream_of(events: ModuleType, changes_s: float = 10.0) -> object:
    """Somebody stands there bare for ten seconds, then with a mask; ten frames a second, found in each."""
    from stream_levels import Gallery, perfect, simulated
    from stream_scripts import Actor, Script

    bare = Actor(
        (0.0, 20.0), ((400.0, 200.0, 100.0),) * 2, ((0.0, 1), (changes_s, 0)), (0.0, 0.0), (), (), ()
    )
    script = Script(tuple(number / 10 for number in range(200)), (bare,), (0.0, 9.0, 0.0), (), 0.0, 1)
    said: dict[int, list[np.ndarray]] = {0: [], 1: [], 2: []}
    limits = np.full(3, 0.5, np.float32)
    return simulated(script, perfect(Gallery(("mask", "no_mask", "mask_incorrect"), limits, {}, [], said)))


def test_the_judge(events: ModuleType) -> None:
    stream = stream_of(events)
    box, other = np.array([360, 150, 440, 250], np.float32), np.array([0, 0, 80, 100], np.float32)
    calls = [
        (2.5, 1, box),  # right
        (4.0, 1, box),  # again
        (5.0, 2, box),  # another state
        (5.0, 1, other),  # nobody there
        (11.0, 1, box),  # within the grace after the change, and told already
        (15.0, 1, box),  # long over
    ]
    score = events.judge(stream, calls, frozenset([1, 2]), 2.0)
    assert (score.due, score.found, score.wrong, score.repeated) == (1, 1, 3, 2)
    assert score.delays_s == [0.5]
    assert score.cost == 5


def test_a_state_that_is_too_short_is_neither_due_nor_wrong(events: ModuleType) -> None:
    stream = stream_of(events, changes_s=3.0)
    box = np.array([360, 150, 440, 250], np.float32)
    assert events.judge(stream, [], frozenset([1]), 2.0).due == 0
    score = events.judge(stream, [(2.5, 1, box)], frozenset([1]), 2.0)
    assert (score.due, score.found, score.wrong) == (0, 0, 0)


def test_people_and_frames_on_an_easy_stream(events: ModuleType) -> None:
    from live_scenes import MODEL

    stream = stream_of(events)
    ours = events.watch(stream, MODEL, events.PeopleSettings())
    assert (ours.due, ours.found, ours.wrong, ours.repeated, ours.switches) == (1, 1, 0, 0, 0)
    assert (ours.people, ours.counted) == (1, 1)
    frames = events.by_frames(stream, MODEL, only_new=False)
    assert (frames.found, frames.wrong, frames.repeated) == (1, 0, 99)
    new = events.by_frames(stream, MODEL, only_new=True)
    assert (new.found, new.wrong, new.repeated) == (1, 0, 0)


def test_scripts_are_the_same_for_the_same_seed(events: ModuleType) -> None:
    from stream_scripts import write_script

    one, two = (write_script(7, [0, 1, 2], [0.5, 0.3, 0.2]) for _ in range(2))
    assert one == two
    boxes = np.array([one.boxes(time_s) for time_s in one.times_s])
    assert boxes.shape == (len(one.times_s), len(one.actors), 4)
    assert (boxes[..., 2] >= boxes[..., 0]).all()
    assert any(one.visible(time_s, one.boxes(time_s)).any() for time_s in one.times_s)


def test_who_is_behind_somebody_is_not_visible(events: ModuleType) -> None:
    from stream_scripts import Actor, Script

    def stands(x: float, hidden: tuple[tuple[float, float], ...] = ()) -> Actor:
        return Actor((0.0, 9.0), ((x, 200.0, 100.0),) * 2, ((0.0, 0),), (0.0,), (), (), hidden)

    script = Script((1.0,), (stands(300), stands(330), stands(600, ((0.5, 2.0),))), (0, 9, 0), (), 0.0, 1)
    assert script.visible(1.0, script.boxes(1.0)).tolist() == [False, True, False]
    assert script.visible(3.0, script.boxes(3.0)).tolist() == [False, True, True]


@pytest.mark.slow
def test_table(
    events: ModuleType,
    photographs: Path,
    tiny_model: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import stream_levels

    monkeypatch.setattr(stream_levels, "LEAST_FACE", 20.0)
    arguments = [
        "--data",
        str(photographs),
        "--model",
        str(tiny_model),
        "--simulated",
        "2",
        "--rendered",
        "1",
    ]
    assert events.main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[0] for line in lines[2::3]] == [
        "| 2 of a perfect model",
        "| 2 simulated",
        "| 1 rendered",
    ]
    monkeypatch.setattr(events, "GRID", {("vote", "hold_s"): (0.5, 0.8)})
    assert events.main([*arguments, "--rendered", "0", "--choose"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[1] for line in lines[2:4]] == ["0.5", "0.8"]
    assert lines[-1].startswith("chosen: PeopleSettings(")


def test_errors_are_one_line(
    events: ModuleType, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert events.main(["--data", str(tmp_path / "none"), "--model", str(tiny_model)]) == 2
    assert "none" in capsys.readouterr().err
