"""`maskwatch diagnose`: each check on data or models that are broken on purpose, and on sound ones."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from drawn_data import draw_faces
from maskwatch.cli.app import main
from maskwatch.data import DetectionSet, Sample, read_data
from maskwatch.evaluation import coco_evaluate
from maskwatch.labels import ClassMap
from maskwatch.training.recipe import Recipe

if TYPE_CHECKING:
    from maskwatch.diagnosis import Finding

Box = tuple[float, float, float, float]
NAMES = ("mask", "no_mask", "mask_incorrect")
COLOURS = ((0, 255, 0), (255, 0, 0), (0, 0, 255))  # which tiny_model.py takes for these
CELL = 24  # pixels; a picture is 4 × 4 of them, the network sees it at two thirds


def same(box: Box) -> Box:
    return box


def draw_cells(
    folder: Path,
    change: Callable[[Box], Box] = same,
    names: tuple[str, ...] = NAMES,
    bgr: bool = False,
    count: int = 12,
) -> Path:
    """Pictures (96, 96) with three coloured cells each, and VOC boxes after `change`."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(5)
    for number in range(count):
        image = np.full((4 * CELL, 4 * CELL, 3), 90, np.uint8)
        objects = ""
        for class_id, place in enumerate(rng.choice(16, 3, replace=False)):
            y, x = (int(part) * CELL for part in divmod(int(place), 4))
            image[y : y + CELL, x : x + CELL] = COLOURS[class_id]
            corners = zip(("xmin", "ymin", "xmax", "ymax"), change((x, y, x + CELL, y + CELL)), strict=True)
            box = "".join(f"<{key}>{value}</{key}>" for key, value in corners)
            objects += f"<object><name>{names[class_id]}</name><bndbox>{box}</bndbox></object>"
        Image.fromarray(np.ascontiguousarray(image[..., ::-1]) if bgr else image).save(
            folder / f"{number}.png"
        )
        (folder / f"{number}.xml").write_text(f"<annotation>{objects}</annotation>")
    return folder


def by_name(checks: list[Finding]) -> dict[str, Finding]:
    return {check.name: check for check in checks}


def test_a_sound_model_and_sound_data(tiny_model: Path, tmp_path: Path) -> None:
    from maskwatch.diagnosis import diagnose

    checks = by_name(diagnose(str(tiny_model), [draw_cells(tmp_path / "data")]))
    assert {name: check.state for name, check in checks.items()} == {
        "losses": "skipped",
        "head size": "ok",
        "class names": "ok",
        "box units": "ok",
        "class order": "ok",
        "box places": "ok",
        "channel order": "ok",
        "anchors": "skipped",  # the file keeps no recipe
    }
    assert checks["class order"].values["AP50"] == 1
    assert not any(check.advice for check in checks.values() if check.state == "ok")


def test_permuted_classes(tiny_model: Path, tmp_path: Path) -> None:
    from maskwatch.diagnosis import diagnose

    data = draw_cells(tmp_path / "data", names=("no_mask", "mask", "mask_incorrect"))
    check = by_name(diagnose(str(tiny_model), [data]))["class order"]
    assert check.state == "broken"
    assert (check.values["AP50"], check.values["best AP50"]) == (pytest.approx(1 / 3), 1)
    assert "what the data call mask is the model's no_mask" in check.measured
    assert "mask_incorrect is" not in check.measured


def test_unknown_classes(tiny_model: Path, tmp_path: Path) -> None:
    from maskwatch.diagnosis import diagnose

    data = draw_cells(tmp_path / "data", names=("hat", "no_mask", "mask_incorrect"))
    checks = by_name(diagnose(str(tiny_model), [data]))
    assert checks["class names"].state == "broken"
    assert "the model does not know hat (12 of 36 boxes)" in checks["class names"].measured
    assert "--classes 'mask=hat" in checks["class names"].advice
    assert "what the data call hat is the model's mask" in checks["class order"].measured
    mapped = ClassMap.parse("mask=hat,no_mask,mask_incorrect")
    checks = by_name(diagnose(str(tiny_model), [data], mapped))
    assert checks["class names"].state == checks["class order"].state == "ok"


def test_a_class_that_never_comes_up(tiny_model: Path, tmp_path: Path) -> None:
    from maskwatch.diagnosis import diagnose

    data = draw_cells(tmp_path / "data", names=("mask", "no_mask", "no_mask"))
    check = by_name(diagnose(str(tiny_model), [data]))["class names"]
    assert check.state == "suspect"
    assert "no box in the data is mask_incorrect" in check.measured


SIDE = 4 * CELL


@pytest.mark.parametrize(
    ("change", "what", "units"),
    [
        (lambda b: (b[1], b[0], b[3], b[2]), "x and y are swapped", "ok"),
        (lambda b: tuple(v / SIDE for v in b), "shares of the picture, not pixels", "broken"),
        (lambda b: tuple(v * SIDE for v in b), "pixels taken for shares", "broken"),
        (lambda b: (b[0], b[1], b[2] - b[0], b[3] - b[1]), "xmin, ymin, width, height", "broken"),
        (
            lambda b: ((b[0] + b[2]) / 2, (b[1] + b[3]) / 2, b[2] - b[0], b[3] - b[1]),
            "centre and size",
            "broken",
        ),
        (lambda b: tuple(v * 64 / SIDE for v in b), "pixels of the network's input", "ok"),
        (lambda b: tuple(v * 2 for v in b), "x is scaled by 0.50 and y by 0.50", "broken"),
        (lambda b: tuple(v / 2 for v in b), "x is scaled by 2.00 and y by 2.00", "ok"),
        (lambda b: (b[0] / 3, b[1], b[2] / 3, b[3]), "x is scaled by 3.00 and y by 1.00", "ok"),
        (lambda b: (b[0] + 12, b[1] - 6, b[2] + 12, b[3] - 6), "moved by -12.5% and 6.2%", "broken"),
    ],
)
def test_boxes_in_wrong_places(
    tiny_model: Path, tmp_path: Path, change: Callable[[Box], Box], what: str, units: str
) -> None:
    from maskwatch.diagnosis import diagnose

    checks = by_name(diagnose(str(tiny_model), [draw_cells(tmp_path / "data", change)]))
    assert checks["box places"].state == "broken"
    assert what in checks["box places"].measured
    assert checks["box places"].values["best"] > 0.95
    assert checks["box units"].state == units


def test_channels_in_the_wrong_order(tiny_model: Path, tmp_path: Path) -> None:
    """Pictures with red and blue swapped are to a sound model what sound pictures are to one taught BGR."""
    from maskwatch.diagnosis import diagnose

    check = by_name(diagnose(str(tiny_model), [draw_cells(tmp_path / "data", bgr=True)]))["channel order"]
    assert check.state == "broken"
    assert check.measured == "AP50 0.333, 1.000 with red and blue swapped"
    assert "BGR" in check.advice


# ---- checkpoints and runs --------------------------------------------------------------------------------


def write_checkpoint(
    path: Path, names: tuple[str, ...], head_classes: int, recipe: Recipe | None = None
) -> None:
    import torch

    from maskwatch.network import SSD
    from maskwatch.training.checkpoint import FORMAT_KEY, anchors_of, describe

    recipe = recipe or Recipe(size=64, train_sizes=(64,))
    network = SSD(head_classes, anchors_of(recipe))
    state = {f"network.{name}": value for name, value in network.state_dict().items()}
    torch.save(
        {"state_dict": state, "global_step": 3, FORMAT_KEY: describe(recipe, names, "drawn")},
        path,
    )


def write_losses(folder: Path, losses: list[float], rate: float = 0.03) -> None:
    from torch.utils.tensorboard import SummaryWriter

    from maskwatch.diagnosis.training_run import LOSS_TAG, RATE_TAG

    with SummaryWriter(str(folder)) as writer:
        for number, loss in enumerate(losses):
            writer.add_scalar(LOSS_TAG, loss, 10 * number + 9)
            writer.add_scalar(RATE_TAG, rate, 10 * number + 9)


def test_a_head_of_another_size(tmp_path: Path) -> None:
    from maskwatch.diagnosis import diagnose

    write_checkpoint(tmp_path / "best.ckpt", NAMES, 5)
    checks = by_name(diagnose(str(tmp_path), [draw_cells(tmp_path / "data", count=3)]))
    assert checks["head size"].state == "broken"
    assert "the head has 5 classes, its list 3: mask" in checks["head size"].measured
    assert checks["class order"].state == checks["box places"].state == "skipped"
    assert checks["anchors"].state == "ok"


def test_a_run_folder_with_a_model_that_knows_nothing(tmp_path: Path) -> None:
    from maskwatch.diagnosis import diagnose

    write_checkpoint(tmp_path / "last.ckpt", NAMES, 3)
    write_losses(tmp_path / "tensorboard", [3.0, 2.0, 1.5, 1.2, 1.0, 0.9])
    checks = by_name(diagnose(str(tmp_path), [draw_cells(tmp_path / "data", count=3)]))
    assert checks["losses"].state == "ok"
    assert checks["head size"].state == "ok"
    assert checks["class order"].values["AP50"] < 0.5
    assert checks == checks | by_name(diagnose(str(tmp_path / "last.ckpt"), [tmp_path / "data"]))


FALLING = [4 / (1 + i / 4) for i in range(30)]


@pytest.mark.parametrize(
    ("losses", "state", "measured"),
    [
        (FALLING, "ok", "in 300 steps"),
        ([*FALLING[:20], *(math.nan for _ in range(5))], "broken", "no number from step 209 on"),
        ([*FALLING[:20], math.inf], "broken", "no number from step 209 on"),
        ([*FALLING[:20], *(0.8 * 1.4**i for i in range(10))], "broken", "they rose again"),
        ([4 + 0.2 * math.sin(i) for i in range(40)], "broken", "from 4"),
        ([4.0, 2.0], "skipped", "too few points"),
    ],
)
def test_loss_curves(losses: list[float], state: str, measured: str, tmp_path: Path) -> None:
    from maskwatch.diagnosis.training_run import check_losses

    write_losses(tmp_path, losses)
    check = check_losses(tmp_path)
    assert (check.state, measured in check.measured) == (state, True), check
    if state == "broken":
        assert "rate=0.01" in check.advice or "they are stuck" in check.advice


def test_a_resumed_curve_is_one(tmp_path: Path) -> None:
    from torch.utils.tensorboard import SummaryWriter

    from maskwatch.diagnosis.training_run import LOSS_TAG, read_curve

    write_losses(tmp_path, [5.0, 4.0, 100.0])
    with SummaryWriter(str(tmp_path), filename_suffix=".again") as writer:
        writer.add_scalar(LOSS_TAG, 3.0, 29)
    assert read_curve(tmp_path, LOSS_TAG) == [(9, 5.0), (19, 4.0), (29, 3.0)]


def test_embedded_models_say_what_anchors_they_have() -> None:
    from maskwatch.diagnosis.target import open_target

    for name, size in (("maskwatch-640", 640), ("maskwatch-320", 320)):
        target = open_target(name)
        assert target.recipe is not None
        assert (target.recipe.size, target.recipe.matcher) == (size, "atss")
        assert target.head_classes == 3


def test_no_events() -> None:
    from maskwatch.diagnosis.training_run import check_losses

    assert check_losses(None).state == "skipped"


# ---- anchors ---------------------------------------------------------------------------------------------


def boxes_of(width: float, height: float, size: int = 640) -> DetectionSet:
    boxes = [(x, 100.0, x + width, 100.0 + height) for x in (0.0, 100.0, 200.0)]
    sample = Sample(
        Path("a.jpg"),
        None,
        (size, size),
        np.array(boxes, np.float32),
        np.zeros(3, np.int64),
        np.zeros(3, bool),
    )
    return DetectionSet(("face",), (sample,))


@pytest.mark.parametrize(
    ("width", "height", "matcher", "state", "advice"),
    [
        (64, 64, "atss", "ok", ""),
        (64, 64, "iou", "ok", ""),
        (3, 3, "atss", "broken", "--set size=1280"),
        (8, 8, "atss", "broken", "--set size=1280"),
        (0, 8, "atss", "skipped", ""),
        (90, 8, "iou", "broken", "--set matcher=atss"),
    ],
)
def test_anchors(width: float, height: float, matcher: str, state: str, advice: str) -> None:
    from maskwatch.diagnosis.anchors import check_anchors

    recipe = Recipe(size=640, matcher=matcher)  # type: ignore[arg-type]
    check = check_anchors(boxes_of(width, height), recipe)
    assert check.state == state, check
    assert advice in check.advice


def test_anchors_see_boxes_at_the_size_of_the_network() -> None:
    from maskwatch.diagnosis.anchors import check_anchors

    check = check_anchors(boxes_of(64, 64, size=6400), Recipe(size=640))
    assert check.values["median side"] == pytest.approx(6.4)


# ---- the parts -------------------------------------------------------------------------------------------


def test_faults_do_not_stop_a_diagnosis(tmp_path: Path) -> None:
    from maskwatch.diagnosis.raw_dataset import read_raw_dataset

    data = draw_cells(tmp_path / "data", lambda b: (b[0], b[1], b[0], b[3]), count=3)
    (data / "0.png").write_bytes(b"")
    raw = read_raw_dataset([data], ClassMap())
    assert len(raw.detection_set) == 2
    assert "0.png" in raw.issues[0]
    assert raw.sample(1, seed=0).class_names == NAMES


def test_ap50_is_near_cocos(shared: Path) -> None:
    from maskwatch.detector import Detector
    from maskwatch.diagnosis.predictions import ap50
    from maskwatch.evaluation import predict

    some = read_data(shared / "data" / "masks" / "val").subset(range(12))
    predictions = predict(Detector("maskwatch-320", threshold=0.0, class_agnostic=False), some)
    result = coco_evaluate(some, predictions)
    for class_id, score in enumerate(result.per_class):
        if score.ap50 is not None:
            assert ap50(some, predictions, class_id) == pytest.approx(score.ap50, abs=0.02)


def test_many_classes_are_paired_best_first() -> None:
    import supervision as sv

    from maskwatch.diagnosis.classes import check_order

    count = 9
    boxes = np.array([[10 * i, 0, 10 * i + 8, 8] for i in range(count)], np.float32)
    truth = Sample(Path("a.png"), None, (8, 90), boxes, np.arange(count), np.zeros(count, bool))
    names = tuple(f"c{i}" for i in range(count))
    found = sv.Detections(boxes, confidence=np.full(count, 0.9), class_id=(np.arange(count) + 1) % count)
    check = check_order(DetectionSet(names, (truth,)), [found], names)
    assert (check.state, check.values["AP50"], check.values["best AP50"]) == ("broken", 0, 1)


@pytest.mark.slow
def test_eight_pictures_are_overfitted(tmp_path: Path) -> None:
    from maskwatch.diagnosis.training_run import check_overfit

    draw_faces(tmp_path / "right", 8)
    right = read_data(tmp_path / "right")
    good = check_overfit(right, None, size=96, steps=40)
    assert good.name == "overfit test"
    assert good.values["AP50"] > 0.8, good
    assert good.values["start"] == "maskwatch-640"
    # Boxes of nothing, too small to be learnt.
    empty = [
        Sample(s.image_path, None, s.size_hw, s.boxes_xyxy / 40, s.class_ids, s.difficult)
        for s in right.samples
    ]
    bad = check_overfit(DetectionSet(right.class_names, tuple(empty)), None, size=96, steps=20)
    assert bad.state == "broken", bad


def test_a_rate_that_learns_nothing(tmp_path: Path) -> None:
    from maskwatch.diagnosis.training_run import check_overfit

    draw_faces(tmp_path, 2)
    wild = Recipe(learning_rate=1e30, optimizer="sgd", clip_norm=0.0, warmup_steps=0, precision="32")
    check = check_overfit(read_data(tmp_path), None, wild, size=64, steps=6)
    assert (check.state, check.measured) == ("broken", "the loss is no longer a number")
    assert "learning_rate=" in check.advice


def test_pictures_to_learn_have_good_boxes() -> None:
    from maskwatch.diagnosis.training_run import check_overfit

    beyond = DetectionSet(("face",), (replace(boxes_of(64, 64).samples[0], size_hw=(100, 100)),))
    assert check_overfit(beyond, None).state == "skipped"


# ---- the command -----------------------------------------------------------------------------------------


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    return int(end.value.code or 0)


def test_the_table_and_the_json(tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = draw_cells(tmp_path / "good")
    assert run("diagnose", tiny_model, good, "--json", tmp_path / "out.json") == 0
    out = capsys.readouterr().out
    assert "class order    ok       AP50 1.000 by name, 1.000 in the best order" in out
    assert out.endswith("broken: nothing; suspect: nothing\n")
    checks = json.loads((tmp_path / "out.json").read_text())["checks"]
    assert [check["check"] for check in checks][:2] == ["losses", "head size"]
    bad = draw_cells(tmp_path / "bad", lambda b: (b[1], b[0], b[3], b[2]))
    assert run("diagnose", tiny_model, bad, "--json", "-") == 1
    record = json.loads(capsys.readouterr().out)
    states = {check["check"]: check["state"] for check in record["checks"]}
    assert states["box places"] == "broken"


def test_mistakes_end_in_one_message(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.ckpt").write_bytes(b"no checkpoint")
    data = draw_cells(tmp_path / "data", count=1)
    for arguments, message in (
        (("nowhere", data), "no such run or model"),
        ((tmp_path / "empty", data), "holds neither a checkpoint nor events"),
        ((tmp_path / "broken.ckpt", data), "not a checkpoint of this version"),
        ((tmp_path / "x.ckpt", data), "no such file"),
        ((tiny_model, tmp_path / "nowhere"), "does not exist"),
        ((tiny_model, tmp_path / "empty"), "1 issue in the data set"),
    ):
        assert run("diagnose", *arguments) == 2
        err = capsys.readouterr().err
        assert message in err
        assert "Traceback" not in err
