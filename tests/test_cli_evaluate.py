"""`maskwatch evaluate` with a tiny real model on pictures of coloured cells."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from maskwatch.cli.app import main
from maskwatch.cli.evaluate_options import EvaluateOptions
from maskwatch.labels import MASK_CLASSES
from maskwatch.training.recipe import Recipe

TITLE = " Average Precision  (AP) @[ IoU=0.50:0.95 | area=   all | maxDets=100 ] = "
CELLS = {"Mask": (16, 0, 32, 16), "no mask": (0, 32, 16, 48), "bad_mask": (48, 48, 64, 64)}  # see `street`


class Answer(NamedTuple):
    status: int
    out: str
    err: str


Run = Callable[..., Answer]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["maskwatch", "evaluate", *map(str, arguments)])
        capfd.readouterr()
        try:
            status = main()
        except SystemExit as end:
            status = end.code
        return Answer(int(status or 0), *capfd.readouterr())

    return call


def write_set(
    folder: Path, image: np.ndarray, objects: dict[str, tuple[int, ...]], stems: str = "ab"
) -> Path:
    folder.mkdir()
    corners = ("xmin", "ymin", "xmax", "ymax")
    inner = "".join(
        f"<object><name>{name}</name><bndbox>"
        + "".join(f"<{k}>{v}</{k}>" for k, v in zip(corners, box, strict=True))
        + "</bndbox></object>"
        for name, box in objects.items()
    )
    for stem in stems:
        Image.fromarray(image).save(folder / f"{stem}.png")
        (folder / f"{stem}.xml").write_text(f"<annotation>{inner}</annotation>", encoding="utf-8")
    return folder


@pytest.fixture
def right(tmp_path: Path, street: np.ndarray) -> Path:
    return write_set(tmp_path / "right", street, CELLS)


@pytest.fixture
def wrong(tmp_path: Path, street: np.ndarray) -> Path:
    """The model answers `mask` and `no_mask` where there is nothing, and misses the one box."""
    return write_set(tmp_path / "wrong", street, {"mask": (32, 0, 48, 16)})


def test_prints_twelve_lines_and_a_table_for_each_set(
    run: Run, tiny_model: Path, right: Path, wrong: Path
) -> None:
    status, out, err = run(tiny_model, right, wrong)
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == f"{right}: 2 pictures, 6 boxes"
    assert lines[1] == TITLE + "1.000"
    assert all(line.startswith(" Average ") for line in lines[1:13])
    assert [line.split() for line in lines[13:17]] == [
        ["class", "boxes", "AP", "AP50"],
        ["mask", "2", "1.000", "1.000"],
        ["no_mask", "2", "1.000", "1.000"],
        ["mask_incorrect", "2", "1.000", "1.000"],
    ]
    assert lines[18] == f"{wrong}: 2 pictures, 2 boxes"
    assert lines[19] == TITLE + "0.000"
    assert lines[33].split() == ["no_mask", "0", "-", "-"]


def test_intervals_where_asked_for(run: Run, tiny_model: Path, right: Path, wrong: Path) -> None:
    lines = run(tiny_model, wrong, "--bootstrap", 5).out.splitlines()
    assert lines[17].split() == ["95", "%", "intervals,", "5", "draws", "of", "the", "pictures"]
    assert lines[18].split() == ["AP", "0.000", "to", "0.000"]
    assert lines[-2].split() == ["AP50", "mask_incorrect", "-"]
    record = json.loads(run(tiny_model, right, "--bootstrap", 5, "--json", "-").out)["results"][0]
    assert record["bootstrap"]["draws"] == 5
    assert record["bootstrap"]["intervals"]["AP50"] == [pytest.approx(1), pytest.approx(1)]
    assert "bootstrap" not in json.loads(run(tiny_model, right, "--json", "-").out)["results"][0]


def test_writes_json(run: Run, tiny_model: Path, right: Path, wrong: Path, tmp_path: Path) -> None:
    target = tmp_path / "scores" / "of tiny.json"
    assert run(tiny_model, right, wrong, "--json", target).status == 0
    record = json.loads(target.read_text(encoding="utf-8"))
    assert record["model"] == str(tiny_model)
    assert [entry["data"] for entry in record["results"]] == [str(right), str(wrong)]
    assert [entry["stats"]["AP50"] for entry in record["results"]] == [pytest.approx(1), 0]
    absent = record["results"][1]["classes"]["no_mask"]
    assert (absent["boxes"], absent["AP"], absent["AP50"]) == (0, None, None)
    assert set(absent["stats"].values()) == {None}


def test_json_on_standard_output_stands_alone(run: Run, tiny_model: Path, right: Path) -> None:
    status, out, _ = run(tiny_model, right, "--json", "-")
    assert status == 0
    assert json.loads(out)["results"][0]["pictures"] == 2


def test_json_is_not_overwritten_unasked(run: Run, tiny_model: Path, right: Path, tmp_path: Path) -> None:
    target = tmp_path / "scores.json"
    target.write_text("precious", encoding="utf-8")
    status, out, err = run(tiny_model, right, "--json", target)
    assert (status, out) == (2, "")
    assert "--force" in err
    assert target.read_text(encoding="utf-8") == "precious"
    assert run(tiny_model, right, "--json", target, "--force").status == 0
    assert "results" in json.loads(target.read_text(encoding="utf-8"))


def test_stems_restrict_the_pictures(run: Run, tiny_model: Path, right: Path, tmp_path: Path) -> None:
    stems = tmp_path / "some.txt"
    stems.write_text("b\n", encoding="utf-8")
    assert run(tiny_model, right, "--stems", stems).out.startswith(f"{right}: 1 pictures, 3 boxes")
    stems.write_text("b\nc\n", encoding="utf-8")
    status, _, err = run(tiny_model, right, "--stems", stems)
    assert status == 2
    assert "'c'" in err


def test_classes_give_other_spellings(run: Run, tiny_model: Path, tmp_path: Path, street: np.ndarray) -> None:
    named = write_set(
        tmp_path / "named", street, dict(zip(("ok", "bare", "chin"), CELLS.values(), strict=True))
    )
    status, _, err = run(tiny_model, named)
    assert status == 2
    assert "unknown class 'chin'" in err
    assert run(tiny_model, named, "--classes", "mask=ok,no_mask=bare,mask_incorrect=chin").out.splitlines()[
        1
    ] == (TITLE + "1.000")
    assert run(tiny_model, named, "--classes", "bare,ok,chin").status == 2


def test_nms_for_each_class_keeps_boxes_of_several_classes(
    run: Run, tiny_model: Path, tmp_path: Path, street: np.ndarray
) -> None:
    mixed = street.copy()
    mixed[0:16, 16:32] = (140, 200, 0)  # green above red: `mask` 0.78, `no_mask` 0.55
    both = write_set(tmp_path / "both", mixed, {"mask": CELLS["Mask"], "no_mask": CELLS["Mask"]})
    together = run(tiny_model, both, "--json", "-", "--class-agnostic-nms").out
    apart = run(tiny_model, both, "--json", "-").out
    assert apart == run(tiny_model, both, "--json", "-", "--per-class-nms").out
    recall = [json.loads(out)["results"][0]["stats"]["AR100"] for out in (together, apart)]
    assert recall == [pytest.approx(0.5), pytest.approx(1)]


def test_batches_do_not_change_the_numbers(run: Run, tiny_model: Path, right: Path) -> None:
    assert run(tiny_model, right, "--batch", 1) == run(tiny_model, right)


def test_the_size_of_a_model_file_is_fixed(run: Run, tiny_model: Path, right: Path) -> None:
    assert run(tiny_model, right, "--size", "64").status == 0
    assert run(tiny_model, right, "--size", "64x64").status == 0
    answer = run(tiny_model, right, "--size", "64x96")
    assert answer.status == 2
    assert "works at 64x64 only" in answer.err


@pytest.mark.parametrize("size", ["0", "big", "64x", "1x2x3", "-64", ""])
def test_a_size_that_is_none_is_refused(run: Run, tiny_model: Path, right: Path, size: str) -> None:
    assert run(tiny_model, right, f"--size={size}").status == 2


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """As `maskwatch train` writes it, of a network that learnt nothing."""
    import torch

    from maskwatch.network import SSD
    from maskwatch.training.checkpoint import FORMAT_KEY, anchors_of, describe

    torch.manual_seed(5)
    recipe = Recipe(size=64)
    network = SSD(3, anchors_of(recipe))
    content = {
        FORMAT_KEY: describe(recipe, MASK_CLASSES, "nothing"),
        "state_dict": {f"network.{key}": value for key, value in network.state_dict().items()},
        "global_step": 0,
    }
    torch.save(content, tmp_path / "best.ckpt")
    return tmp_path / "best.ckpt"


@pytest.mark.parametrize(("size", "size_hw"), [((), (64, 64)), (("--size", "64x96"), (64, 96))])
def test_a_checkpoint_finds_again_what_it_found_at_this_size(
    run: Run,
    checkpoint: Path,
    street: np.ndarray,
    tmp_path: Path,
    size: tuple[str, ...],
    size_hw: tuple[int, int],
) -> None:
    from maskwatch.training.checkpoint import load_checkpoint
    from maskwatch.training.torch_detector import TorchDetector

    network = load_checkpoint(checkpoint).network
    (found,) = TorchDetector(network, MASK_CLASSES, size_hw, class_agnostic=False)([street])
    large = found[found.box_area > 25]
    best = {large.data["class_name"][row]: tuple(large.xyxy[row]) for row in range(len(large))}
    own = write_set(tmp_path / "own", street, best)
    status, out, _ = run(checkpoint, own, *size, "--json", "-")
    assert status == 0
    assert json.loads(out)["results"][0]["boxes"] > 0
    assert json.loads(out)["results"][0]["stats"]["AR100"] == pytest.approx(1)


def test_a_checkpoint_takes_sizes_that_its_network_can(run: Run, checkpoint: Path, right: Path) -> None:
    answer = run(checkpoint, right, "--size", "100")
    assert answer.status == 2
    assert "multiples of 32" in answer.err


def test_mistakes_are_one_clear_line(run: Run, tiny_model: Path, right: Path, tmp_path: Path) -> None:
    for arguments, hint in [
        ((tmp_path / "none.onnx", right), "none.onnx"),
        ((right / "a.png", right), "a.png"),
        ((tmp_path / "none.ckpt", right), "none.ckpt"),
        ((tiny_model, tmp_path / "nowhere"), "does not exist"),
        ((tiny_model, right, "--stems", tmp_path / "none.txt"), "none.txt"),
        ((tiny_model, right, "--stems", right / "a.png"), "is not UTF-8"),
        ((tiny_model, right, "--classes", "mask,,"), "--classes"),
        ((tiny_model, right, "--json", right), "folder"),
    ]:
        status, out, err = run(*arguments)
        assert (status, out) == (2, ""), arguments
        assert "Traceback" not in err
        assert hint in err.replace("\n", "")


def test_the_faults_of_all_sets_come_before_any_number(
    run: Run, tiny_model: Path, right: Path, wrong: Path, tmp_path: Path
) -> None:
    (wrong / "a.xml").unlink()
    status, out, err = run(tiny_model, right, wrong, tmp_path / "nowhere")
    assert (status, out) == (2, "")
    assert "a.png" in err
    assert "nowhere" in err


def test_the_options_are_the_fields_of_a_dataclass(run: Run, tmp_path: Path) -> None:
    """`with_options`: defaults, names of flags and the help of each come from the fields."""
    out = run("--help").out
    for field in dataclasses.fields(EvaluateOptions):
        name = "--json" if field.name == "json_file" else "--" + field.name.replace("_", "-")
        assert field.name in ("model", "data") or name in out, field.name
    options = EvaluateOptions("maskwatch-320", [tmp_path])
    assert (options.draws, options.needs_report, options.objective.has_costs) == (0, False, False)
    assert dataclasses.replace(options, report=tmp_path / "report").draws == 1000


def test_a_missing_extra_is_named_at_once(
    run: Run, tiny_model: Path, right: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    status, _, err = run(tiny_model, right)
    assert status == 2
    assert "maskwatch[train]" in err
