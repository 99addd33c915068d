"""Several processes on this machine train like one with the batches of all (Lightning's DDP over gloo).

They are started as users start them: by the command itself, by torchrun, by hand as on two machines, and with
the variables that SLURM sets.
"""

from __future__ import annotations

import ast
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from drawn_data import draw_faces
from maskwatch.data import read_data
from maskwatch.errors import OptionError
from maskwatch.evaluation import coco_evaluate, predict
from maskwatch.labels import MASK_CLASSES
from maskwatch.training.recipe import Recipe

# Frozen BatchNorms: each process would normalise by its own half of the batch. SGD: AdamW turns the rounding
# of a gradient near 0 into a whole step.
SETTINGS = (
    *("steps=4", "validate_every=4", "size=64", "train_sizes=[64, 128]", "warmup_steps=0", "precision=32"),
    *("bn_update_fraction=0", "optimizer=sgd", "learning_rate=0.01", "ema_decay=0"),
)
LOSS_TOLERANCE = 1e-4  # relative, after four steps
LATER_LOSS_TOLERANCE = 1e-3  # after eight: each step starts from the rounding of those before
WEIGHT_TOLERANCE = 1e-2  # of the largest change of a weight in the tensor
TIMEOUT_S = 600
LAUNCHERS = re.compile("MASTER_|NODE_RANK|LOCAL_|GROUP_|RANK|WORLD_SIZE|SLURM_|TORCHELASTIC")

# The command, with a checkpoint every two steps and a line for each step.
OFTEN = """
import maskwatch.training.trainer as trainer
from maskwatch.cli.app import main
trainer.SAVE_EVERY, trainer.PROGRESS_EVERY = 2, 1
main()
"""

# A training that prints, in each process, a hash of weights and statistics at each step.
STATES = """
import hashlib, json, sys
import lightning as L
from maskwatch.data import read_data
from maskwatch.training.recipe import Recipe
from maskwatch.training.run import TrainOptions, train

def hashed(tensors):
    return hashlib.sha256(b"".join(t.detach().numpy().tobytes() for t in tensors)).hexdigest()

class Report(L.Callback):
    def on_train_batch_end(self, trainer, module, *_):
        state = module.network.state_dict()
        frozen = [value for name, value in state.items() if name.startswith("backbone.stem")]
        print(json.dumps([trainer.global_step, hashed(state.values()), hashed(frozen)]), flush=True)

data = read_data(sys.argv[1])
recipe = Recipe(size=64, train_sizes=(64,), batch_size=2, steps=4, validate_every=4, bn_update_fraction=0.5,
                warmup_steps=0, frozen_blocks=1)
train(data, data, recipe, sys.argv[2],
      TrainOptions("maskwatch-640", progress=False, workers=0, callbacks=(Report(),)))
"""


def environment(**variables: object) -> dict[str, str]:
    """That of this process, without what its own launcher may have set."""
    own = {name: value for name, value in os.environ.items() if not LAUNCHERS.match(name)}
    return own | {"OMP_NUM_THREADS": "1"} | {name: str(value) for name, value in variables.items()}


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def arguments(data: Path, out: Path, settings: Sequence[str], *options: str) -> list[str]:
    """Of `maskwatch`."""
    changes = [word for setting in settings for word in ("--set", setting)]
    paths = ["train", str(data), "--val", str(data), "--out", str(out), "--start", "maskwatch-640"]
    return [*paths, "--workers", "0", *options, *changes]


def start(program: Sequence[str], **variables: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(**variables),
    )


def finish(process: subprocess.Popen[str], status: int = 0) -> tuple[str, str]:
    out, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == status, err[-4000:]
    return out, err


def losses_in(output: str) -> dict[str, float]:
    """The losses of the last step, as the command prints them."""
    return dict(ast.literal_eval(output[output.index("{") : output.index("}") + 1]))


def file_names(folder: Path) -> list[str]:
    """All files of a run; the name of an event file without time and host."""
    return sorted(
        re.sub(r"tfevents.*", "tfevents", path.name) for path in folder.rglob("*") if path.is_file()
    )


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three batches of a validation: two for the first process, one for the second."""
    folder = tmp_path_factory.mktemp("drawn")
    draw_faces(folder, 18)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("loss", "launcher", "options"),
    [
        ("gfl", ["-m", "maskwatch"], ["--devices", "2"]),
        (
            "ssd",
            ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "--", "maskwatch"],
            [],
        ),
    ],
    ids=["gfl", "ssd-torchrun"],
)
def test_two_processes_are_one_with_twice_the_batch(
    loss: str, launcher: list[str], options: list[str], drawn: Path, tmp_path: Path
) -> None:
    from maskwatch.training.checkpoint import load_checkpoint
    from maskwatch.training.start import start_network
    from maskwatch.training.torch_detector import TorchDetector

    settings = (*SETTINGS, f"loss={loss}")
    halves = arguments(drawn, tmp_path / "two", (*settings, "batch_size=4"), *options)
    out, err = finish(start([*launcher, *halves]))
    assert err.count("training: ") == 1, "the second process repeats messages"
    assert out.count("next: maskwatch export") == 1
    whole = arguments(drawn, tmp_path / "one", (*settings, "batch_size=8"), "--devices", "1")
    expected, _ = finish(start(["-m", "maskwatch", *whole]))
    assert losses_in(out) == pytest.approx(losses_in(expected), rel=LOSS_TOLERANCE)
    assert file_names(tmp_path / "two") == file_names(tmp_path / "one")

    last = load_checkpoint(tmp_path / "two" / "last.ckpt")
    assert last.processes == 2
    two, one = last.network, load_checkpoint(tmp_path / "one" / "last.ckpt").network
    before = start_network("maskwatch-640", Recipe(), MASK_CLASSES).state_dict()
    moved = 0
    for name, value in one.state_dict().items():
        step = (value - before[name]).abs().max()
        difference = (value - two.state_dict()[name]).abs().max()
        assert difference <= WEIGHT_TOLERANCE * step + 1e-7, name
        moved += bool(step > 0)
    assert moved > 100

    data = read_data(drawn)
    found = predict(TorchDetector.load(tmp_path / "two" / "last.ckpt", class_agnostic=False), data)
    lines = coco_evaluate(data, found).lines()
    assert "\n".join(lines) in out, "the validation of two processes is that of one"


@pytest.mark.slow
def test_a_lost_machine_ends_the_other_and_one_process_resumes(drawn: Path, tmp_path: Path) -> None:
    """Two machines that have no launcher; the second is killed in between."""
    script = tmp_path / "often.py"
    script.write_text(OFTEN)
    settings = (*SETTINGS, "steps=8")
    whole = arguments(drawn, tmp_path / "one", (*settings, "batch_size=8"), "--devices", "1")
    expected, _ = finish(start([str(script), *whole]))

    halves = arguments(drawn, tmp_path / "run", (*settings, "batch_size=4"), "--nodes", "2", "--devices", "1")
    port = free_port()
    first, second = (
        start([str(script), *halves], MASTER_ADDR="127.0.0.1", MASTER_PORT=port, NODE_RANK=rank)
        for rank in range(2)
    )
    assert first.stderr is not None
    assert any("step 3/8" in line for line in first.stderr)
    second.kill()
    _, err = finish(first, status=2)
    assert "error: another of the 2 processes ended or no longer answers" in err
    assert "continue from last.ckpt with --resume" in err
    assert "Traceback" not in err
    second.communicate()

    again = (*settings, "batch_size=4")
    fewer = arguments(drawn, tmp_path / "run", again, "--devices", "1", "--resume")
    _, err = finish(start([str(script), *fewer]), status=2)
    assert "began with 2 processes and batch_size 4, now there are 1 and 4" in err
    assert "with batch_size 8, for the same batches" in err
    again = (*settings, "batch_size=8")
    resumed, err = finish(
        start([str(script), *arguments(drawn, tmp_path / "run", again, "--devices", "1", "--resume")])
    )
    assert "step 1/8" not in err
    assert losses_in(resumed) == pytest.approx(losses_in(expected), rel=LATER_LOSS_TOLERANCE)


@pytest.mark.slow
def test_processes_have_the_same_state_at_every_step(drawn: Path, tmp_path: Path) -> None:
    """While BatchNorms update and blocks are frozen, and after that; with the variables of srun."""
    script = tmp_path / "states.py"
    script.write_text(STATES)
    shared = {
        "SLURM_JOB_ID": 1, "SLURM_JOB_NAME": "train", "SLURM_NTASKS": 2, "SLURM_NTASKS_PER_NODE": 2,
        "SLURM_NNODES": 1, "SLURM_NODEID": 0, "SLURM_NODELIST": "127.0.0.1", "MASTER_PORT": free_port(),
    }  # fmt: skip
    processes = [
        start(
            [str(script), str(drawn), str(tmp_path / "run")], **shared, SLURM_PROCID=rank, SLURM_LOCALID=rank
        )
        for rank in range(2)
    ]
    first, second = (
        [json.loads(line) for line in finish(process)[0].splitlines() if line.startswith("[")]
        for process in processes
    )
    assert [step for step, *_ in first] == [1, 2, 3, 4]
    assert first == second
    states, stems = [state for _, state, _ in first], [stem for *_, stem in first]
    assert len({*states}) == 4
    assert stems[0] == stems[1]
    assert len({*stems}) == 3, "the stem trains once BatchNorms are frozen"


@pytest.mark.slow
def test_a_machine_that_does_not_come(drawn: Path, tmp_path: Path) -> None:
    options = ("--nodes", "2", "--devices", "1", "--timeout", "2")
    one = arguments(drawn, tmp_path / "run", SETTINGS, *options)
    port = free_port()
    process = start(["-m", "maskwatch", *one], MASTER_ADDR="127.0.0.1", MASTER_PORT=port, NODE_RANK=0)
    _, err = finish(process, status=2)
    assert "error: not all of the 2 processes came within 2 s" in err
    assert f"check that they reach 127.0.0.1:{port}" in err
    assert "Traceback" not in err


@pytest.fixture
def no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if LAUNCHERS.match(name):
            monkeypatch.delenv(name)


TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": "6", "LOCAL_WORLD_SIZE": "2", "RANK": "2", "LOCAL_RANK": "0",
    "GROUP_RANK": "1",
}  # fmt: skip
SLURM = {
    "SLURM_NTASKS": "8", "SLURM_NTASKS_PER_NODE": "4", "SLURM_NNODES": "2", "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0", "SLURM_NODEID": "0",
}  # fmt: skip


@pytest.mark.usefixtures("no_launcher")
@pytest.mark.parametrize(
    ("variables", "planned", "is_first"),
    [(TORCHRUN, (3, 2), False), (SLURM, (2, 4), True), ({"LOCAL_RANK": "1"}, (1, 2), False)],
    ids=["torchrun", "slurm", "none"],
)
def test_the_launcher_knows_the_processes(
    variables: dict[str, str], planned: tuple[int, int], is_first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from maskwatch.training.processes import is_first_process, plan_processes

    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert plan_processes(devices=planned[1]) == planned
    assert is_first_process() == is_first


@pytest.mark.usefixtures("no_launcher")
@pytest.mark.parametrize(
    ("variables", "nodes", "message"),
    [
        (TORCHRUN, 2, "--nodes 2: torchrun started 2 processes on each of 3 nodes; leave out --nodes"),
        (SLURM, 3, "--nodes 3: SLURM started 4 processes on each of 2 nodes"),
        ({"SLURM_NTASKS": "8"}, None, "cannot be used: You set `--ntasks=8`"),
        ({}, 2, "--nodes 2: MASTER_ADDR, MASTER_PORT, NODE_RANK not set"),
        ({"MASTER_ADDR": "10.0.0.1"}, 2, "--nodes 2: MASTER_PORT, NODE_RANK not set"),
    ],
)
def test_processes_that_cannot_train_together(
    variables: dict[str, str], nodes: int | None, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from maskwatch.training.processes import plan_processes

    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(OptionError) as error:
        plan_processes(nodes)
    assert message in str(error.value)


def test_batches_of_a_validation_are_shared_out() -> None:
    from maskwatch.training.batches import validation_batches

    assert validation_batches(18) == [list(range(8)), list(range(8, 16)), [16, 17]]
    assert validation_batches(18, 1, 2) == [list(range(8, 16))]
    assert validation_batches(3, 1, 2) == [[0, 1, 2]], "each process takes part"
