"""The benchmarks behind the published accuracy figures: bounds, close-ups, robustness, small data."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import numpy.typing as npt
import pytest
import supervision as sv
from PIL import Image

from benchmark_module import load_benchmark
from drawn_data import draw_faces
from maskwatch import Detector
from maskwatch.data import DetectionSet, Sample
from maskwatch.labels import MASK_CLASSES

# ---- What limits the score (docs/experiments.md) -----------------------------------------------------------


@pytest.fixture
def bounds(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    pytest.importorskip("pycocotools", reason="the variants are measured as COCO does")
    return load_benchmark("bounds", monkeypatch)


def found(*rows: tuple[list[float], float, int]) -> sv.Detections:
    boxes, scores, class_ids = zip(*rows, strict=True)
    return sv.Detections(
        np.array(boxes, np.float32), confidence=np.array(scores, np.float32), class_id=np.array(class_ids)
    )


def test_pairs_become_their_mean_and_the_rest_keeps_half(bounds: ModuleType) -> None:
    one = found(([0, 0, 10, 10], 0.6, 0), ([50, 50, 60, 60], 0.4, 1))
    other = found(([0, 0, 10, 12], 0.3, 0), ([50, 50, 60, 60], 0.4, 2))
    both = bounds.merged(one, other)
    np.testing.assert_allclose(both.xyxy[0], [0, 0, 10, 10 + 2 / 3], rtol=1e-6)
    np.testing.assert_allclose(both.confidence, [0.45, 0.2, 0.2])
    assert both.class_id.tolist() == [0, 1, 2]
    assert one.confidence.tolist() == pytest.approx([0.6, 0.4]), "what was given stays as it is"
    nothing = one[np.zeros(2, bool)]
    np.testing.assert_allclose(bounds.merged(one, nothing).confidence, [0.3, 0.2])
    np.testing.assert_allclose(bounds.merged(nothing, one).confidence, [0.3, 0.2])


def test_each_face_is_found_once_by_the_best(bounds: ModuleType) -> None:
    boxes = np.array([[0, 0, 10, 10]], np.float32)
    sample = Sample(Path("k_1.jpg"), None, (80, 80), boxes, np.array([2]), np.zeros(1, bool))
    detections = found(([0, 0, 10, 9], 0.3, 0), ([0, 0, 10, 11], 0.6, 1), ([40, 40, 50, 50], 0.9, 1))
    assert bounds.matches(sample, detections).tolist() == [-1, 0, -1]
    assert bounds.with_truth(sample, detections, "class").class_id.tolist() == [0, 2, 1]
    assert bounds.with_truth(sample, detections, "box").xyxy[1].tolist() == [0, 0, 10, 10]
    assert bounds.source(sample) == "k"


def test_scatter_is_measured_back(bounds: ModuleType) -> None:
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 100, (400, 2)).astype(np.float32)
    samples = tuple(
        Sample(
            Path(f"j_{i}.jpg"),
            None,
            (300, 300),
            np.concatenate([c, c + 100])[None],
            np.array([0]),
            np.zeros(1, bool),
        )
        for i, c in enumerate(corners)
    )
    truths = DetectionSet(("mask",), samples)
    moved = bounds.scattered(truths, {"j": 0.06})
    assert bounds.scatter(truths, moved)["j"] == pytest.approx(0.06, abs=0.005)


def test_bounds_table(
    bounds: ModuleType, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw_faces(tmp_path / "data", 2)
    (tmp_path / "c.csv").write_text("picture,fault,class,xmin,ymin,xmax,ymax\n0,missing,mask,1,1,20,20\n")
    arguments = [str(tiny_model), "--data", str(tmp_path / "data"), "--corrections", str(tmp_path / "c.csv")]
    assert bounds.main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 12
    assert lines[-1].startswith("| the truth, edges scattered")
    assert bounds.main([str(tiny_model), "--data", str(tmp_path / "none")]) == 2


# ---- Close-ups (docs/experiments.md) -----------------------------------------------------------------------


@pytest.fixture
def closeups(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    pytest.importorskip("pycocotools", reason="close-ups are measured as COCO does")
    return load_benchmark("closeups", monkeypatch)


def faces_of(boxes: list[list[int]]) -> Sample:
    """Of a picture of 200 x 100, a class for each box."""
    count = len(boxes)
    marks = np.zeros(count, np.bool_)
    return Sample(Path("x.png"), None, (100, 200), np.array(boxes, np.float32), np.arange(count), marks)


def test_the_face_spans_its_share(closeups: ModuleType) -> None:
    image = np.zeros((100, 200, 3), np.uint8)
    faces = faces_of([[60, 40, 80, 60], [80, 40, 100, 60], [100, 40, 120, 60]])
    one = closeups.closeup(image, faces, 0, 0.5)
    # 40 pixels around (70, 50); half of the second face would be just enough, the third is far away.
    assert one.image.shape == (40, 40, 3)
    np.testing.assert_array_equal(one.sample.boxes_xyxy, [[10, 10, 30, 30], [30, 10, 40, 30]])
    np.testing.assert_array_equal(one.sample.class_ids, [0, 1])
    assert one.sample.size_hw == (40, 40)


def test_a_face_at_the_border_keeps_its_size(closeups: ModuleType) -> None:
    one = closeups.closeup(np.zeros((100, 200, 3), np.uint8), faces_of([[0, 80, 20, 100]]), 0, 0.25)
    assert one.image.shape == (80, 80, 3)
    np.testing.assert_array_equal(one.sample.boxes_xyxy, [[0, 60, 20, 80]])


def test_a_picture_too_small_for_the_span_is_left_out(closeups: ModuleType) -> None:
    assert closeups.closeup(np.zeros((100, 200, 3), np.uint8), faces_of([[0, 80, 60, 100]]), 0, 0.25) is None


def test_closeups_one_line_for_each_span_and_model(
    closeups: ModuleType, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw_faces(tmp_path / "data", 2)
    data = ["--data", str(tmp_path / "data")]
    assert closeups.main([str(tiny_model), *data, "--least", "20"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == ["0.25", "0.50", "0.75"]
    assert "AP50" in lines[1]
    assert closeups.main([str(tiny_model), *data, "--least", "500"]) == 0
    assert "no face of 500 pixels" in capsys.readouterr().out
    assert closeups.main([str(tiny_model), "--data", str(tmp_path / "none")]) == 2
    assert "none" in capsys.readouterr().err


# ---- Worse pictures (MODEL_CARD.md) ------------------------------------------------------------------------


@pytest.fixture
def robustness(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    pytest.importorskip("pycocotools", reason="the variants are measured as COCO does")
    return load_benchmark("robustness", monkeypatch)


def scene_of(
    robustness: ModuleType, image: npt.NDArray[np.uint8], boxes: list[list[int]], *names: str
) -> object:
    return robustness.Scene(image, np.array(boxes, np.float32), names, np.zeros(len(names), np.bool_))


def disc(robustness: ModuleType) -> object:
    rows, columns = np.indices((200, 300)) + 0.5
    image = np.full((200, 300, 3), 60, np.uint8)
    image[(rows - 70) ** 2 / 40**2 + (columns - 90) ** 2 / 30**2 <= 1] = 220
    return scene_of(robustness, image, [[60, 30, 120, 110]], "no_mask")


def test_a_rotated_box_fits_the_rotated_face(robustness: ModuleType) -> None:
    scene = robustness.rotated(15)(disc(robustness), np.random.default_rng(0))
    rows, columns = np.nonzero(scene.image[..., 0] > 170)
    found = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    np.testing.assert_allclose(scene.boxes_xyxy[0], found, atol=1.5)


def test_a_face_that_is_turned_out_of_the_picture_is_left_out(robustness: ModuleType) -> None:
    image = np.zeros((100, 400, 3), np.uint8)
    scene = scene_of(robustness, image, [[0, 80, 20, 100], [180, 40, 200, 60]], "mask", "mask")
    assert robustness.rotated(15)(scene, np.random.default_rng(0)).names == ("mask",)


def test_masks_cover_the_lower_face_alone(robustness: ModuleType) -> None:
    before = disc(robustness)
    for title, becomes in (("black mask drawn", "mask"), ("hand drawn over the mouth", "no_mask")):
        after = robustness.DRAWN[title](before, np.random.default_rng(0))
        changed = (after.image != before.image).any(-1)
        assert after.names == (becomes,)
        assert changed[75:105, 80:100].mean() > 0.8 or becomes == "no_mask"
        assert changed.any()
        assert not changed[:55].any(), "the eyes stay bare"
        assert not changed[:, 140:].any()
    assert before.names == ("no_mask",)


def test_small_and_masked_faces_are_left_alone(robustness: ModuleType) -> None:
    image = np.full((200, 200, 3), 90, np.uint8)
    scene = scene_of(robustness, image, [[0, 0, 30, 40], [60, 60, 160, 180]], "no_mask", "mask")
    after = robustness.DRAWN["patterned mask drawn"](scene, np.random.default_rng(0))
    np.testing.assert_array_equal(after.image, image)
    assert after.names == ("no_mask", "mask")


def test_every_variant_keeps_the_picture_a_picture(robustness: ModuleType) -> None:
    for variant in (*robustness.WHOLE.values(), *robustness.DRAWN.values()):
        scene = variant(disc(robustness), np.random.default_rng(1))
        assert (scene.image.shape, scene.image.dtype) == ((200, 300, 3), np.uint8)


def test_robustness_tables(
    robustness: ModuleType, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw_faces(tmp_path / "data", 2)
    assert robustness.main([str(tiny_model), "--data", str(tmp_path / "data")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("on data")
    assert [line.split(" | ")[0].removeprefix("| ") for line in lines[4:12]] == list(robustness.WHOLE)
    assert robustness.main([str(tiny_model), "--data", str(tmp_path / "none")]) == 2
    assert "none" in capsys.readouterr().err


def test_places_are_found_as_the_detector_finds_them(
    robustness: ModuleType, tiny_model: Path, street: npt.NDArray[np.uint8], tmp_path: Path
) -> None:
    """The tiny model finds coloured cells, also where a window of one is enlarged; nothing on grey."""
    Image.fromarray(street).save(tmp_path / "street.png")
    nothing = np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.bool_)
    sample = Sample(tmp_path / "street.png", None, (64, 64), *nothing)
    lines = ["picture,slice,xmin,ymin,xmax,ymax", "other,hand,0,0,9,9"]
    lines += ["street,hand,16,0,32,16", "street,hand,0,32,16,48", "street,hand,40,20,56,36"]
    lines += ["street,no face,48,48,64,64", "street,no face,32,16,64,48"]
    (tmp_path / "slices.csv").write_text("\n".join(lines))
    places = robustness.read_places(tmp_path / "slices.csv")
    found = robustness.found_at(Detector(tiny_model), DetectionSet(MASK_CLASSES, (sample,)), places)
    assert found == {
        "hand": {"mask": 1, "no_mask": 1, "missed": 1},
        "no face": {"mask_incorrect": 1, "missed": 1},
    }
    assert {name: robustness.right(name, outcome) for name, outcome in found.items()} == {
        "hand": 1,
        "no face": 1,
    }


# ---- Small data (docs/experiments.md) ----------------------------------------------------------------------


@pytest.fixture
def small_data(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    pytest.importorskip("lightning", reason="the benchmark trains")
    return load_benchmark("small_data", monkeypatch)


def test_small_data_table_gives_mean_spread_and_ratio(small_data: ModuleType) -> None:
    one, two = (dict.fromkeys(small_data.SCORES, value) for value in (0.2, 0.3))
    lines = list(small_data.table({"seed": [one, two], "default": [two]}, {"seed": 64, "default": 32}))
    assert lines[2].startswith("| `seed` | 2 | 64 | 0.250 (0.200 to 0.300) |")
    assert lines[3].startswith("| `default` | 1 | 32 | 0.300 |")
    assert lines[-1] == "\nAP of `default` is 1.20 times that of `seed`."


def test_recipes_keep_what_makes_them(small_data: ModuleType) -> None:
    seed, default = small_data.entry("seed", 320, 8000, None, 3), small_data.entry("default", 320, 100, 16, 3)
    assert (seed.images, default.images) == (64000, 1600)
    assert (seed.recipe.loss, seed.recipe.schedule_steps) == ("ssd", 50000)
    assert (default.recipe.loss, default.recipe.train_sizes) == ("gfl", (320,))
    assert seed.recipe.seed == default.recipe.seed == 3


def test_runs_are_trained_once_and_measured(
    small_data: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from safetensors.torch import save_file

    for part in ("train", "test"):
        draw_faces(tmp_path / part, 4)
        (tmp_path / f"small_{part}.txt").write_text("0\n1\n2\n")
    from maskwatch.network import SSD

    save_file(SSD(90).state_dict(), tmp_path / "start.safetensors")
    arguments = [
        *("--data", tmp_path, "--start", tmp_path / "start.safetensors", "--out", tmp_path / "runs"),
        *("--size", 64, "--seed-steps", 2, "--default-steps", 2, "--default-batch", 2),
    ]
    assert small_data.main([str(argument) for argument in arguments]) == 0
    first = capsys.readouterr()
    assert "| `default` | 1 | 4 |" in first.out
    assert (tmp_path / "runs" / "seed-64-1" / "last.ckpt").exists()
    assert small_data.main([str(argument) for argument in arguments]) == 0
    assert "0.0 minutes" in capsys.readouterr().err


def test_missing_data_is_one_message(
    small_data: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert small_data.main(["--data", str(tmp_path), "--start", "nowhere"]) == 2
    assert "small_train.txt: cannot be read" in capsys.readouterr().err


# ---- The loop of labels (docs/improve.md) ------------------------------------------------------------------


@pytest.fixture
def label_loop(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    pytest.importorskip("lightning", reason="the benchmark trains")
    return load_benchmark("label_loop", monkeypatch)


def labelled(count: int) -> DetectionSet:
    """Pictures of three faces each, one of each class."""
    boxes = np.array([[10, 10, 40, 40], [100, 100, 140, 140], [200, 20, 230, 50]], np.float32)
    samples = tuple(
        Sample(Path(f"{n}.png"), None, (300, 300), boxes, np.arange(3), np.zeros(3, bool))
        for n in range(count)
    )
    return DetectionSet(MASK_CLASSES, samples)


def test_labels_are_spoilt_in_four_ways_and_a_person_would_see_it(label_loop: ModuleType) -> None:
    from maskwatch.evaluation.suspects import Suspect

    clean = labelled(40)
    spoilt, what = label_loop.spoil(clean, 0.2, 1)
    assert [sum(one.kind == kind for one in what) for kind in label_loop.KINDS] == [6, 6, 6, 6]
    assert sum(spoilt.class_counts().values()) == 120 - 6 + 6
    again, _ = label_loop.spoil(clean, 0.2, 1)
    assert [s.class_ids.tolist() for s in again.samples] == [s.class_ids.tolist() for s in spoilt.samples]
    found = []
    for one in what:
        before, after = clean.samples[one.picture], spoilt.samples[one.picture]
        box = one.spoilt_xyxy if one.kind in ("wrong class", "on nothing") else one.clean_xyxy
        name = ""
        if one.clean_xyxy is not None:
            label = int((before.boxes_xyxy == one.clean_xyxy).all(1).argmax())
            name = MASK_CLASSES[before.class_ids[label]]
        faults = {"wrong class": "class", "left out": "missing", "shifted": "box", "on nothing": "no_face"}
        fault = faults[one.kind]
        suspect = Suspect(one.picture, fault, name, "", tuple(box.tolist()), 0.9)
        assert label_loop.is_right(suspect, before, after, MASK_CLASSES)
        assert label_loop.finds(suspect, one)
        found.append(suspect)
    assert label_loop.right_ones(found, clean, spoilt) == found
    wrong = Suspect(0, "missing", "mask", "", (150, 200, 180, 230), 0.9)
    assert label_loop.right_ones([wrong], clean, spoilt) == []
    rows = list(label_loop.suspect_rows({"m": [*found, wrong]}, clean, spoilt, what))
    assert rows[2] == "| m | 25 | 24 | 0.96 | 6 of 6 | 6 of 7 | 6 of 6 | 6 of 6 |"
    assert rows[-1] == "| m | 24 of 24 | 6 of 6 | 6 of 6 | 6 of 6 | 6 of 6 |"
