"""`maskwatch improve`: what is held out, when a model is taken, and whole rounds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drawn_data import draw_faces
from maskwatch.cli.app import main
from maskwatch.errors import DataError, OutputError

NAMES = ("mask", "no_mask")


# ---- What is held out ------------------------------------------------------------------------------------


def pictures(count: int, folder: str = "p"):
    """A set of pictures with one or two boxes each."""
    from maskwatch.data import DetectionSet, Sample

    samples = []
    for number in range(count):
        boxes = np.array([[0, 0, 10, 10]] * (1 + number % 2), np.float32)
        ids = np.arange(len(boxes)) % len(NAMES)
        path = Path(folder) / f"{number}.png"
        samples.append(Sample(path, None, (64, 64), boxes, ids, np.zeros(len(boxes), bool)))
    return DetectionSet(NAMES, tuple(samples))


# Of each picture, the group of near-duplicates that it is in, and the side that it has from earlier rounds.
PICTURES = st.lists(
    st.tuples(st.integers(0, 12), st.sampled_from([None, "train", "val"])), min_size=1, max_size=25
)


@settings(deadline=None)
@given(PICTURES)
def test_what_was_held_out_stays_held_out_with_its_near_duplicates(
    case: list[tuple[int, str | None]],
) -> None:
    from maskwatch.improve.held_out import keep_split

    count = len(case)
    groups = [[n for n in range(count) if case[n][0] == group] for group in {group for group, _ in case}]
    known = {n: side for n, (_, side) in enumerate(case) if side is not None}
    held = set(keep_split(pictures(count), groups, known))
    assert {index for index, side in known.items() if side == "val"} <= held
    for group in groups:
        assert held.issuperset(group) or held.isdisjoint(group)
        sides = {known.get(index) for index in group} - {None}
        if sides == {"train"}:
            assert held.isdisjoint(group), "was trained on before"
    again = dict.fromkeys(range(count), "train") | dict.fromkeys(held, "val")
    assert set(keep_split(pictures(count), groups, again)) == held, "another round changes nothing"


@settings(deadline=None)
@given(st.integers(0, 30), st.integers(10, 60), st.integers(0, 5))
def test_about_a_fifth_is_held_out_of_new_pictures_too(old: int, new: int, seed: int) -> None:
    from maskwatch.improve.held_out import keep_split

    first = keep_split(pictures(old), [[n] for n in range(old)], {}, seed)
    known = dict.fromkeys(range(old), "train") | dict.fromkeys(first, "val")
    count = old + new
    held = keep_split(pictures(count), [[n] for n in range(count)], known, seed)
    assert abs(len(held) - 0.2 * count) <= 3
    assert len(held) < count


def test_the_list_survives_pictures_that_come_and_go(tmp_path: Path) -> None:
    from maskwatch.improve.held_out import read_list, write_list

    path = tmp_path / "split.csv"
    assert read_list(path, pictures(3)) == {}
    write_list(path, pictures(4), [1, 3])
    assert read_list(path, pictures(4)) == {0: "train", 1: "val", 2: "train", 3: "val"}
    write_list(path, pictures(2), [1])
    assert read_list(path, pictures(5)) == {0: "train", 1: "val", 2: "train", 3: "val"}
    path.write_text("picture,split\n0.png,validation\n")
    with pytest.raises(DataError, match=r"restore it, or choose another --out"):
        read_list(path, pictures(2))


# ---- Whether it is taken ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("new", "old", "low", "high", "passes", "verdict"),
    [
        (0.50, 0.40, 0.05, 0.15, True, "better"),
        (0.41, 0.40, -0.03, 0.05, True, "not worse"),
        (0.40, 0.40, -0.05, 0.05, True, "not worse"),
        (0.398, 0.40, -0.009, 0.005, True, "not worse"),
        (0.39, 0.40, -0.03, 0.01, False, "lower, and these pictures cannot rule out a loss"),
        (0.30, 0.40, -0.15, -0.05, False, "worse"),
        (0.395, 0.40, -0.009, -0.001, True, "lower, by less than 0.01"),
        (float("nan"), 0.4, float("nan"), float("nan"), False, "lower"),
    ],
)
def test_the_rule(new: float, old: float, low: float, high: float, passes: bool, verdict: str) -> None:
    from maskwatch.evaluation.intervals import Difference, Interval
    from maskwatch.improve.decision import SetDecision

    one = SetDecision("door", Difference(new, old, Interval(low, high)), {})
    assert one.not_worse is passes
    assert one.words().startswith(f"door: {verdict}")
    lost = Difference(0.3, 0.6, Interval(-0.5, -0.1))
    rare = replace(one, worse_classes={"mask_incorrect": lost})
    assert not rare.not_worse, "whatever the mean over the classes"
    assert "worse for mask_incorrect" in rare.words()


def test_an_unfinished_round_is_not_given_up_for_another(tmp_path: Path) -> None:
    from maskwatch.improve.rounds import Round, choose_round, read_rounds, start_of

    assert start_of([], "maskwatch-640") == "maskwatch-640"
    first = choose_round(tmp_path, [], {"data": ["a"]}, "maskwatch-640")
    first.write()
    assert choose_round(tmp_path, read_rounds(tmp_path), {"data": ["a"]}, "x") == first
    with pytest.raises(OutputError, match="begun with other data; repeat its command"):
        choose_round(tmp_path, read_rounds(tmp_path), {"data": ["b"]}, "x")
    assert start_of(read_rounds(tmp_path), "other") == "maskwatch-640"
    replace(first, decision={"taken": True, "sets": []}).write()
    model = str(tmp_path / "round-1" / "model.onnx")
    assert start_of(read_rounds(tmp_path), "maskwatch-640") == model
    second = choose_round(tmp_path, read_rounds(tmp_path), {"data": ["b"]}, model)
    assert second == Round(tmp_path / "round-2", {"data": ["b"]}, model)
    (tmp_path / "round-1" / "improve.json").write_text("{}")
    with pytest.raises(OutputError, match="delete the folder of this round"):
        read_rounds(tmp_path)


# ---- Whole rounds ----------------------------------------------------------------------------------------

SMALL = [
    *("--set", "size=128", "--set", "train_sizes=[128]", "--set", "batch_size=4"),
    *("--set", "precision=32", "--workers", "0"),
]


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    return int(end.value.code or 0)


@pytest.mark.slow
def test_rounds_write_a_model_or_refuse_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On drawn data, from a model that knows it: a harmless round is taken, a harmful one is not."""
    from maskwatch.models import load_model_file

    data, door, out = tmp_path / "data", tmp_path / "door", tmp_path / "out"
    draw_faces(data, 30)
    draw_faces(door, 8, size=160)
    steps = ("--set", "steps=60", "--set", "validate_every=60", "--set", "learning_rate=2e-3")
    known = tmp_path / "known"
    assert run("train", data, "--out", known, "--start", "maskwatch-640", *SMALL, *steps) == 0
    command = ["improve", data, "--val", door, "--out", out, "--start", known / "last.ckpt", *SMALL]
    harmless = ("--set", "steps=3", "--set", "learning_rate=1e-7")
    capsys.readouterr()

    assert run(*command, *harmless, "--dry-run") == 0
    text = capsys.readouterr().out
    assert "training: 24 pictures" in text
    assert "held out: 6 pictures" in text
    assert "round-1 (new)" in text
    assert "time: about " in text
    assert not out.exists(), "a dry run writes nothing"

    assert run(*command, *harmless) == 0
    text = capsys.readouterr().out
    assert "held out: " in text
    assert f"{door}: " in text
    assert "take the new model" in text
    model = out / "model.onnx"
    assert load_model_file(model).metadata.calibrated_on == 6
    assert "data (24 pictures)" in load_model_file(model).metadata.trained_on
    assert model.read_bytes() == (out / "round-1" / "model.onnx").read_bytes()
    assert (out / "round-1" / "report" / "report.html").is_file()
    state = json.loads((out / "round-1" / "improve.json").read_text("utf-8"))
    assert [part["data"] for part in state["decision"]["sets"]] == ["held out", str(door)]
    listed = (out / "split.csv").read_text("utf-8")
    assert listed.count(",val\n") == 6
    assert run(*command, *harmless) == 0
    assert "nothing has changed" in capsys.readouterr().out

    # The next round starts from the model that was taken. A rate this high destroys any network.
    before = model.read_bytes()
    harmful = [*command[:6], *SMALL, "--set", "steps=4", "--set", "learning_rate=0.02"]
    assert run(*harmful) == 1
    done = capsys.readouterr()
    start = out / "round-1" / "model.onnx"
    assert f"start: {start}" in done.err
    assert f"keep {start}" in done.out
    assert "worse" in done.out
    assert not (out / "round-2" / "model.onnx").exists()
    assert model.read_bytes() == before
    assert (out / "split.csv").read_text("utf-8") == listed, "the same pictures are held out"

    # A round that was cut off behind its training is finished without training again.
    path = out / "round-2" / "improve.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | {"decision": None}))
    trained = (out / "round-2" / "train" / "last.ckpt").stat().st_mtime_ns
    assert run("improve", data, "--out", out, *SMALL) == 2
    assert "is unfinished, and was begun with other val, recipe" in capsys.readouterr().err
    assert run(*harmful) == 1
    assert "(continued)" in capsys.readouterr().err
    assert (out / "round-2" / "train" / "last.ckpt").stat().st_mtime_ns == trained


def test_errors_in_the_data_come_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw_faces(tmp_path / "data", 4)
    (tmp_path / "data" / "2.xml").write_text("<annotation>")
    out = tmp_path / "out"
    assert run("improve", tmp_path / "data", "--out", out) == 2
    assert "2.xml" in capsys.readouterr().err
    assert run("improve", tmp_path / "data", "--out", out, "--classes", "helmet") == 2
    assert "the model knows mask, no_mask, mask_incorrect" in capsys.readouterr().err
    assert not out.exists()
