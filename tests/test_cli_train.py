"""`maskwatch train` as a user calls it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from drawn_data import draw_faces
from maskwatch.cli.app import main

SHORT = [
    *("--set", "steps=2", "--set", "validate_every=2", "--set", "size=64"),
    *("--set", "train_sizes=[64]", "--set", "batch_size=2", "--workers", "0", "--devices", "1"),
]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    draw_faces(folder / "train", 6)
    draw_faces(folder / "val", 3)
    return folder


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    return int(end.value.code or 0)


def test_train_then_evaluate(drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from maskwatch.training.checkpoint import load_checkpoint

    assert run("train", drawn, "--out", tmp_path / "run", *SHORT) == 0
    out, err = capsys.readouterr()
    assert "training: 6 pictures (6 mask, 6 no_mask, 0 mask_incorrect)" in err
    assert "validation: 3 pictures" in err
    assert "random weights" in err
    assert "step 2/2: " in err
    assert "'Loss/total_loss'" in out
    assert out.count("Average Precision") == 6
    best = tmp_path / "run" / "best.ckpt"
    assert f"next: maskwatch export {best} -o model.onnx" in out
    assert run("evaluate", best, drawn / "val") == 0
    assert capsys.readouterr().out.count("Average Recall") == 6
    assert "6 pictures" in load_checkpoint(best).trained_on


def test_a_tenth_is_held_out(drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--set", "resting_blocks=0")
    assert run("train", drawn / "train", "--out", tmp_path / "run", *SHORT, *options) == 0
    out, err = capsys.readouterr()
    assert "the recipe key resting_blocks is deprecated; use frozen_blocks" in err
    assert "Epoch" not in out, "no bar where standard error is not a terminal"
    assert "training: 5 pictures" in err
    assert "validation: 1 pictures" in err


def test_other_classes_and_chosen_stems(
    drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from maskwatch.training.checkpoint import load_checkpoint

    stems = tmp_path / "stems.txt"
    stems.write_text("0\n2\n3\n")
    options = ("--classes", "covered=with_mask,=without_mask", "--stems", stems)
    assert run("train", drawn, "--out", tmp_path / "run", *options, *SHORT) == 0
    assert "training: 3 pictures (3 covered)" in capsys.readouterr().err
    assert load_checkpoint(tmp_path / "run" / "last.ckpt").class_names == ("covered",)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--recipe", "quick"], "give one of default, fast, seed"),
        (["--set", "stpes=2"], "did you mean 'steps'"),
        (["--set", "data_weights=[3, 1]"], "data_weights has 2 numbers for 1 data sets; give one for each"),
        (["--devices", "none"], "is not a number of devices"),
        (["--start", "nowhere"], "no TensorFlow checkpoint there"),
        (["--start", "nowhere.ckpt"], "no such file"),
        (["--classes", "helmet"], "unknown class 'with_mask'"),
        (["--resume"], "no training to resume"),
    ],
)
def test_mistakes_end_in_one_message(
    drawn: Path,
    tmp_path: Path,
    options: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run("train", drawn, "--out", tmp_path / "run", *SHORT, *options) == 2
    err = capsys.readouterr().err
    assert "error: " in err
    assert message in err
    assert "Traceback" not in err


def test_every_bad_file_is_named_before_training(
    drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw_faces(tmp_path / "data", 4)
    (tmp_path / "data" / "0.png").write_bytes(b"")
    (tmp_path / "data" / "2.xml").write_text("<annotation>")
    assert run("train", tmp_path / "data", "--val", drawn / "val", "--out", tmp_path / "run", *SHORT) == 2
    err = capsys.readouterr().err
    assert "2 issues in the data set" in err
    assert "0.png" in err
    assert "2.xml" in err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_two_processes_train_one_network(drawn: Path, tmp_path: Path) -> None:
    """Lightning's DDP, on the CPU: each process takes a batch of its own, one reports."""
    from maskwatch.training.checkpoint import load_checkpoint

    command = [sys.executable, "-m", "maskwatch", "train", drawn, "--out", tmp_path / "run", *SHORT]
    done = subprocess.run(
        [str(part) for part in [*command, "--devices", "2"]], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("next: maskwatch export") == 1
    assert done.stderr.count("training: 6 pictures") == 1
    assert load_checkpoint(tmp_path / "run" / "last.ckpt").step == 2


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_training_is_no_success(drawn: Path, tmp_path: Path, sent: signal.Signals) -> None:
    each_step = "import maskwatch.training.trainer as trainer; trainer.PROGRESS_EVERY = 1"
    program = f"{each_step}; from maskwatch.cli.app import main; main()"
    long = ("--set", "steps=100000", "--set", "validate_every=100000")
    process = subprocess.Popen(
        [sys.executable, "-c", program, "train", drawn, "--out", tmp_path / "run", *SHORT, *long],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    assert any("step 2/100000" in line for line in process.stderr)
    process.send_signal(sent)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "Traceback" not in err
