"""`data check`: every issue is planted once and found, repaired in a copy, and gone from it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskwatch.cli.app import main
from maskwatch.data import find_splits, read_data
from maskwatch.data.quality.check import DataCheck, check_splits
from maskwatch.data.quality.repair import repair
from maskwatch.labels import ClassMap

Boxes = Sequence[tuple[str, tuple[float, float, float, float]]]


def photograph(path: Path, seed: int, size_wh: tuple[int, int] = (160, 120)) -> Image.Image:
    """A picture with structure, unlike those of other seeds."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)
    image = Image.fromarray(small).resize(size_wh, Image.Resampling.BICUBIC)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return image


def annotate(xml: Path, boxes: Boxes, size_wh: tuple[int, int] = (160, 120)) -> None:
    objects = ""
    for name, corners in boxes:
        tags = zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True)
        inner = "".join(f"<{key}>{value}</{key}>" for key, value in tags)
        objects += f"<object><name>{name}</name><bndbox>{inner}</bndbox></object>"
    size = f"<size><width>{size_wh[0]}</width><height>{size_wh[1]}</height></size>"
    xml.write_text(f"<annotation>{size}{objects}</annotation>")


GOOD: Boxes = (("with_mask", (20, 20, 60, 70)), ("without_mask", (90, 30, 120, 70)))


@pytest.fixture
def sick(tmp_path: Path) -> Path:
    """A data set of train and val with one issue of each kind."""
    root = tmp_path / "sick"
    faulty: dict[str, Boxes] = {
        "outside": [("with_mask", (200, 10, 220, 30))],
        "beyond": [("with_mask", (100, 10, 190, 60))],
        "inverted": [("with_mask", (60, 10, 20, 60))],
        "flat": [("with_mask", (20, 10, 20, 60)), ("with_mask", (90, 20, 130, 60))],
        "tiny": [("with_mask", (20, 10, 21.5, 60))],
        "whole": [("with_mask", (0, 0, 160, 120))],
        "misspelt": [("with_maks", (20, 10, 50, 60))],
        "unknown": [("zebra", (20, 10, 50, 60))],
        "double": [("with_mask", (20, 10, 50, 60)), ("with_mask", (20, 10, 50, 60))],
        "contradiction": [("with_mask", (20, 10, 50, 60)), ("without_mask", (20, 10, 50, 60))],
        "small": [("with_mask", (20, 10, 21.99, 60)), ("with_mask", (80, 10, 99, 40))],
        "empty": [],
    }
    for number, (stem, boxes) in enumerate(faulty.items()):
        photograph(root / "train" / f"{stem}.png", number)
        annotate(root / "train" / f"{stem}.xml", boxes)
    for number in range(4):
        photograph(root / "val" / f"good{number}.png", 100 + number)
        annotate(root / "val" / f"good{number}.xml", GOOD)
    Image.new("RGB", (160, 120), (9, 9, 9)).save(root / "train" / "blank.png")
    annotate(root / "train" / "blank.xml", GOOD)
    cut = photograph(root / "train" / "cut.jpg", 50)
    annotate(root / "train" / "cut.xml", GOOD)
    data = (root / "train" / "cut.jpg").read_bytes()
    (root / "train" / "cut.jpg").write_bytes(data[: len(data) // 2])
    cut.resize((80, 60)).save(root / "train" / "scaled.png")
    annotate(root / "train" / "scaled.xml", GOOD)  # stated and drawn at 160 x 120
    cut.transpose(Image.Transpose.ROTATE_90).save(root / "train" / "othershape.png")
    annotate(root / "train" / "othershape.xml", GOOD)
    exif = Image.Exif()
    exif[0x0112] = 6
    photograph(root / "x.png", 51).save(root / "train" / "turned.jpg", exif=exif)
    (root / "x.png").unlink()
    annotate(root / "train" / "turned.xml", GOOD)
    photograph(root / "train" / "lonely.png", 52)
    annotate(root / "train" / "ghost.xml", GOOD)
    twin = photograph(root / "train" / "twin.png", 53)
    annotate(root / "train" / "twin.xml", GOOD)
    twin.save(root / "train" / "twin_again.png")
    annotate(root / "train" / "twin_again.xml", GOOD)
    leak = Image.open(root / "val" / "good0.png")
    leak.resize((120, 90)).save(root / "train" / "leak.jpg", quality=70)
    annotate(root / "train" / "leak.xml", [("with_mask", (15, 15, 45, 52))], (120, 90))
    return root


@pytest.fixture
def checked(sick: Path) -> DataCheck:
    return check_splits(find_splits(sick), ClassMap(), 64, workers=1)


def kinds_at(check: DataCheck, stem: str) -> set[str]:
    return {issue.kind for issue in check.issues if issue.file.stem == stem}


@pytest.mark.parametrize(
    ("stem", "kind", "severity"),
    [
        ("outside", "box-outside", "error"),
        ("beyond", "box-beyond", "error"),
        ("inverted", "box-inverted", "error"),
        ("flat", "box-empty", "error"),
        ("tiny", "box-tiny", "error"),
        ("whole", "box-whole", "warning"),
        ("misspelt", "class-unknown", "error"),
        ("unknown", "class-unknown", "error"),
        ("double", "box-double", "error"),
        ("contradiction", "box-contradiction", "error"),
        ("empty", "picture-empty", "warning"),
        ("blank", "picture-blank", "warning"),
        ("cut", "picture-unreadable", "error"),
        ("scaled", "size-differs", "error"),
        ("othershape", "size-differs", "error"),
        ("turned", "size-turned", "error"),
        ("lonely", "annotation-missing", "error"),
        ("ghost", "picture-missing", "error"),
        ("twin_again", "picture-twice", "warning"),
        ("leak", "leak", "error"),
    ],
)
def test_every_planted_fault_is_found(checked: DataCheck, stem: str, kind: str, severity: str) -> None:
    (issue, *_) = [f for f in checked.issues if f.file.stem == stem and f.kind == kind]
    assert issue.severity == severity
    assert issue.text
    assert issue.fix


def test_good_pictures_have_no_fault_and_errors_come_first(checked: DataCheck) -> None:
    assert not any(kinds_at(checked, f"good{number}") for number in range(4))
    severities = [issue.severity for issue in checked.issues]
    assert severities == sorted(severities)


def test_a_fault_names_value_object_and_nearest_class(checked: DataCheck) -> None:
    texts = {issue.file.stem: str(issue) for issue in checked.issues}
    assert "object 1 (with_mask): box xmin 200, ymin 10, xmax 220, ymax 30 lies outside" in texts["outside"]
    assert "did you mean 'with_mask'?" in texts["misspelt"]
    assert "EXIF orientation 6 turns it" in texts["turned"]
    (leak,) = (issue for issue in checked.issues if issue.kind == "leak")
    assert leak.twin is not None
    assert (leak.file.name, leak.twin.name) == ("leak.jpg", "good0.png")


def test_small_boxes_are_measured_at_network_size(sick: Path) -> None:
    splits = find_splits(sick)
    at = {
        size: {f.file.stem for f in check_splits(splits, ClassMap(), size, 1).issues if f.kind == "box-small"}
        for size in (64, 640)
    }
    assert "small" in at[64]  # 19 of 160 pixels are 7.6 of 64
    assert "twin" not in at[640]


def test_rare_and_absent_classes(tmp_path: Path) -> None:
    photograph(tmp_path / "a.png", 1, (400, 300))
    many = [("with_mask", (x, y, x + 8, y + 8)) for x in range(0, 300, 12) for y in range(0, 24, 12)]
    annotate(tmp_path / "a.xml", [*many, ("without_mask", (310, 200, 340, 240))], (400, 300))
    issues = check_splits(find_splits(tmp_path), ClassMap(), 640, 1).issues
    texts = {issue.kind: issue.text for issue in issues}
    assert texts["class-rare"] == "class 'no_mask' has 1 boxes, the most frequent one 50"
    assert texts["class-absent"] == "no box of class 'mask_incorrect'"


def test_other_classes_are_taken_from_the_data(tmp_path: Path) -> None:
    photograph(tmp_path / "a.png", 1)
    annotate(
        tmp_path / "a.xml",
        [("helmet", (5, 5, 50, 50)), ("helmet", (70, 5, 90, 50)), ("head", (5, 60, 50, 99))],
    )
    check = check_splits(find_splits(tmp_path), workers=1)
    assert check.class_names == ("helmet", "head")
    assert not check.errors


def test_the_mended_copy_reads_without_a_fault(sick: Path, checked: DataCheck, tmp_path: Path) -> None:
    before = {file: file.read_bytes() for file in sick.rglob("*") if file.is_file()}
    target = tmp_path / "repaired"
    with pytest.raises(SystemExit) as status:
        main(["data", "check", str(sick), "--fix", str(target), "--workers", "1"])
    assert status.value.code == 1
    assert {file: file.read_bytes() for file in sick.rglob("*") if file.is_file()} == before
    again = check_splits(find_splits(target), ClassMap(), 64, workers=1)
    assert again.errors == 0, [str(issue) for issue in again.issues]
    train = {sample.stem: sample for sample in read_data(target, split="train").samples}
    gone = {"cut", "unknown", "contradiction", "othershape", "lonely", "ghost", "twin_again", "leak"}
    assert gone.isdisjoint(train)
    boxes = {stem: sample.boxes_xyxy.tolist() for stem, sample in train.items()}
    assert boxes["outside"] == []
    assert boxes["beyond"] == [[100, 10, 160, 60]]
    assert boxes["inverted"] == [[20, 10, 60, 60]]
    assert boxes["flat"] == [[90, 20, 130, 60]]
    assert boxes["double"] == [[20, 10, 50, 60]]
    assert boxes["misspelt"] == [[20, 10, 50, 60]]
    assert boxes["scaled"] == [[10, 10, 30, 35], [45, 15, 60, 35]]
    assert boxes["turned"] == [[50, 20, 100, 60], [50, 90, 90, 120]]  # x is 120 - y, y is x
    assert len(read_data(target, split="val")) == 4


def test_changes_are_told(sick: Path, checked: DataCheck) -> None:
    changes = "\n".join(repair(checked).changes)
    for piece in (
        "inverted.xml: object 1 (with_mask): corners swapped",
        "beyond.xml: object 1 (with_mask): clipped to the picture",
        "misspelt.xml: object 1: class 'with_maks' written 'with_mask'",
        "unknown.png: left out: object 1: unknown class 'zebra'",
        "scaled.xml: boxes scaled from 160 x 120 to 80 x 60",
        "turned.xml: boxes turned by EXIF orientation 6",
        "leak.jpg: left out: in train, is nearly the same picture as",
        "twin_again.png: left out: is the same picture as",
        "cut.jpg: left out: broken picture",
        "left out: 1 annotations without a picture",
    ):
        assert piece in changes


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_turned_boxes_lie_on_the_same_pixels(tmp_path: Path, orientation: int) -> None:
    stored = Image.new("RGB", (160, 120), (0, 0, 0))
    stored.paste((255, 255, 255), (20, 30, 60, 40))
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "a.png", exif=exif)
    annotate(tmp_path / "a.xml", [("with_mask", (20, 30, 60, 40))])
    (sample,) = repair(check_splits(find_splits(tmp_path), ClassMap(), 640, 1)).sets[""].samples
    from maskwatch.media.images import read_image

    shown = read_image(tmp_path / "a.png")
    ys, xs = np.nonzero(shown[..., 0])
    assert sample.boxes_xyxy.tolist() == [[xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]]


def test_a_picture_stays_where_its_twin_goes(tmp_path: Path) -> None:
    image = photograph(tmp_path / "train" / "a.png", 1)
    annotate(tmp_path / "train" / "a.xml", GOOD)
    (tmp_path / "val").mkdir()
    image.save(tmp_path / "val" / "b.png")
    annotate(tmp_path / "val" / "b.xml", [("zebra", (20, 20, 60, 70)), *GOOD])
    repaired = repair(check_splits(find_splits(tmp_path), workers=1))
    assert {split: len(a_set) for split, a_set in repaired.sets.items()} == {"train": 1, "val": 0}


def test_spellings_of_one_class_are_one_box_twice(tmp_path: Path) -> None:
    photograph(tmp_path / "a.png", 1)
    annotate(tmp_path / "a.xml", [("no mask", (20, 20, 60, 70)), ("without_mask", (20, 20, 60, 70))])
    check = check_splits(find_splits(tmp_path), workers=1)
    assert [issue.kind for issue in check.issues if issue.severity == "error"] == ["box-double"]


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as status:
        main(arguments)
    captured = capsys.readouterr()
    return int(status.value.code or 0), captured.out, captured.err


def test_table_json_and_page(sick: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page, record = tmp_path / "out" / "check.html", tmp_path / "out" / "check.json"
    code, out, _ = run(
        ["data", "check", str(sick), "--html", str(page), "--json", str(record), "--workers", "1"], capsys
    )
    assert code == 1
    assert "error leak: 1" in out
    assert "warning picture-twice: 1" in out
    document = json.loads(record.read_text())
    assert document["schema"] == "maskwatch.data-check/1"
    assert document["errors"] == sum(f["severity"] == "error" for f in document["faults"])
    text = page.read_text()
    assert "http://" not in text.replace("http://www.w3.org", "")
    assert "https://" not in text
    assert text.count("data:image/jpeg") > 10
    assert 'href="../sick/train/leak.jpg"' in text
    code, out, _ = run(["data", "check", str(sick), "--json", "-", "--workers", "1"], capsys)
    assert json.loads(out)["errors"] == document["errors"]


def test_a_healthy_set_exits_with_0(sick: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(["data", "check", str(sick / "val"), "--workers", "1"], capsys)
    assert code == 0
    assert "0 errors, 1 warning in 4 pictures" in out
    code, _, err = run(["data", "check", str(sick / "val"), "--format", "pdf"], capsys)
    assert code == 2
    assert "--format 'pdf' is not one of voc, yolo, label-studio, coco" in err
    code, _, err = run(["data", "check", str(sick / "nowhere")], capsys)
    assert code == 2
    assert "does not exist" in err


def test_faults_of_coco_and_yolo_are_found_and_mended(sick: Path, tmp_path: Path) -> None:
    from maskwatch.data.formats import write_data

    good = {"": read_data(sick / "val")}
    breakers: dict[str, Callable[[Path], None]] = {
        "coco": lambda root: _replace(
            root / "annotations" / "instances.json", '"bbox": [\n    20.0', '"bbox": [\n    900.0'
        ),
        "yolo": lambda root: _replace(root / "labels" / "good0.txt", "0.2500000000", "7.25"),
    }
    for format, break_it in breakers.items():
        root = tmp_path / format
        write_data(good, root, format)  # type: ignore[arg-type]
        break_it(root)
        check = check_splits(find_splits(root), ClassMap(), 640, 1)
        (issue,) = (issue for issue in check.issues if issue.severity == "error")
        assert issue.kind == "box-outside"
        assert issue.object_index == 0
        repaired = repair(check)
        assert sum(len(s) for s in repaired.sets[""].samples) == 7


def _replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.slow
def test_the_shared_set_holds_three_leaks(shared: Path) -> None:
    """Crops of one photograph, each seen by eye; the split was made by other means."""
    check = check_splits(find_splits(shared / "data" / "masks"), ClassMap())
    leaks = {(f.file.stem, f.twin.stem) for f in check.issues if f.kind == "leak" and f.twin}
    assert leaks == {
        ("j_37347f8043", "j_c386e3b3a8"),
        ("j_947668c3c1", "j_f235959251"),
        ("k_1d044217a7", "k_d7850e8ca8"),
    }
    assert check.errors == 3
