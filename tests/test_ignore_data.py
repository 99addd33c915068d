"""Ignore regions in data sets: read, counted, checked, shown, and kept from format to format."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskwatch.cli.app import main
from maskwatch.data import DetectionSet, Sample, read_data, rename
from maskwatch.data.contact_sheet import draw_sample
from maskwatch.data.formats import write_data
from maskwatch.data.formats.search import find_splits
from maskwatch.data.quality.check import check_splits
from maskwatch.data.split import split_groups
from maskwatch.data.stats import collect_stats
from maskwatch.html.crops import GREY, crop
from maskwatch.labels import ClassMap
from test_write import needs_tensorflow

NAMES = ("mask", "no_mask")
FACE, HARD, REGION = (10, 10, 40, 40), (50, 10, 60, 22), (0, 40, 100, 80)


@pytest.fixture
def crowded(tmp_path: Path) -> Path:
    """COCO as pycocotools' own data has it: the crowd's outline is run-length encoded."""
    folder = tmp_path / "crowded"
    folder.mkdir()
    Image.effect_noise((100, 80), 80).convert("RGB").save(folder / "a.png")

    def row(number: int, box: tuple[int, ...], crowd: object, **more: object) -> dict[str, object]:
        x0, y0, x1, y1 = box
        bbox = [x0, y0, x1 - x0, y1 - y0]
        return {
            "id": number,
            "image_id": 1,
            "category_id": 1,
            "bbox": bbox,
            "area": 1,
            "iscrowd": crowd,
        } | more

    rle = {"counts": [0, 8000], "size": [80, 100]}
    document = {
        "images": [{"id": 1, "file_name": "a.png", "width": 100, "height": 80}],
        "categories": [{"id": 1, "name": "mask"}, {"id": 2, "name": "no_mask"}],
        "annotations": [
            row(1, FACE, 0, segmentation=[]),
            row(2, REGION, 1, segmentation=rle),
            row(3, HARD, 0, attributes={"difficult": True, "pose": "Left"}),
        ],
    }
    (folder / "annotations.json").write_text(json.dumps(document))
    return folder


def marks(sample: Sample) -> list[tuple[bool, bool, bool]]:
    return list(zip(sample.difficult.tolist(), sample.crowds.tolist(), sample.ignore.tolist(), strict=True))


MARKS = [(False, False, False), (False, True, True), (True, False, True)]


def test_a_crowd_is_read_with_its_run_length_outline(crowded: Path) -> None:
    data = read_data(crowded)
    (sample,) = data.samples
    assert marks(sample) == MARKS
    assert sample.notes[1] == {"iscrowd": "1"}
    assert data.class_counts() == {"mask": 1, "no_mask": 0, "mask_incorrect": 0}
    assert (data.ignored(), len(sample), len(sample.counted())) == (2, 3, 1)
    assert sample.counted().boxes_xyxy.tolist() == [list(FACE)]
    renamed = rename(data, ClassMap(["face"], {"mask": "face", "no_mask": "", "mask_incorrect": ""}))
    assert marks(renamed.samples[0]) == MARKS


@pytest.mark.parametrize(
    ("flag", "crowd"),
    [(1, True), (True, True), (1.0, True), ("1", True), ("true", True), (0, False), ("0", False),
     (False, False), (None, False), ("", False)],
)  # fmt: skip
def test_the_flag_is_read_as_tools_write_it(crowded: Path, flag: object, crowd: bool) -> None:
    path = crowded / "annotations.json"
    document = json.loads(path.read_text())
    document["annotations"][0]["iscrowd"] = flag
    path.write_text(json.dumps(document))
    assert read_data(crowded).samples[0].crowds[0] == crowd


FORMATS = ("voc", "coco", pytest.param("tfrecord", marks=needs_tensorflow))


@pytest.mark.parametrize("format", FORMATS)
def test_both_marks_survive_a_format(crowded: Path, tmp_path: Path, format: str) -> None:
    """And come back the same by way of COCO, whose one mark is for both."""
    data = read_data(crowded, ClassMap(NAMES))
    lost = write_data({"": data}, tmp_path / "there", format)  # type: ignore[arg-type]
    assert not any("ignored" in line for line in lost)
    again = read_data(tmp_path / "there", ClassMap(NAMES))
    assert marks(again.samples[0]) == MARKS
    write_data({"": again}, tmp_path / "back", "coco")
    (document,) = (tmp_path / "back" / "annotations").glob("*.json")
    rows = json.loads(document.read_text())["annotations"]
    assert [row["iscrowd"] for row in rows] == [0, 1, 1]
    difficult = [row.get("attributes", {}).get("difficult") for row in rows]
    assert difficult == [None, None, "1"]
    assert marks(read_data(tmp_path / "back", ClassMap(NAMES)).samples[0]) == MARKS


def test_other_tools_see_one_mark(crowded: Path, tmp_path: Path) -> None:
    data = read_data(crowded, ClassMap(NAMES))
    write_data({"": data}, tmp_path / "voc", "voc")
    text = (tmp_path / "voc" / "a.xml").read_text()
    assert text.count("<difficult>1</difficult>") == 2
    assert text.count("<iscrowd>1</iscrowd>") == 1


def test_yolo_says_once_what_it_cannot_hold(
    crowded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["data", "convert", str(crowded), "--to", "yolo", "-o", str(tmp_path / "yolo")])
    err = capsys.readouterr().err
    told = [line for line in err.splitlines() if "ignored" in line]
    assert len(told) == 1
    assert "2 boxes are to be ignored, which yolo cannot mark: 1 difficult ones" in told[0]
    assert "1 crowds are left out" in told[0]
    assert len((tmp_path / "yolo" / "labels" / "a.txt").read_text().splitlines()) == 2


def test_the_check_leaves_regions_alone(tmp_path: Path) -> None:
    """Tiny, whole, doubled, beyond the border: each is an issue of a box, and none of a region."""
    Image.effect_noise((100, 80), 80).convert("RGB").save(tmp_path / "a.png")
    boxes = [
        (10, 10, 40, 40),
        (10, 10, 40, 40),
        (5, 5, 6, 6),
        (0, 0, 100, 80),
        (-30, 20, 90, 90),
        (70, 70, 74, 74),
    ]

    def kinds(difficult: int) -> set[str]:
        objects = ""
        for number, box in enumerate(boxes):
            corners = "".join(
                f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
            )
            mark = difficult if number else 0
            objects += (
                f"<object><name>mask</name><difficult>{mark}</difficult><bndbox>{corners}</bndbox></object>"
            )
        (tmp_path / "a.xml").write_text(f"<annotation>{objects}</annotation>")
        found = check_splits(find_splits(tmp_path), ClassMap(["mask"]), workers=1)
        if difficult:
            assert found.counts() == {"": {"mask": 1}}
            assert found.ignored() == {"": 5}
        return {issue.kind for issue in found.issues}

    assert kinds(0) == {"box-double", "box-tiny", "box-whole", "box-beyond"}
    assert kinds(1) == set()
    (sample,) = read_data(tmp_path).samples
    assert sample.boxes_xyxy[4].tolist() == [0, 20, 90, 80], "clipped to the picture"


def test_a_region_that_is_no_box_is_still_a_fault(crowded: Path) -> None:
    path = crowded / "annotations.json"
    document = json.loads(path.read_text())
    for number, bbox in enumerate(([10, 10, -5, 5], [200, 200, 5, 5], None), start=1):
        document["annotations"][number - 1] |= {"bbox": bbox, "iscrowd": 1}
    path.write_text(json.dumps(document))
    found = check_splits(find_splits(crowded), workers=1)
    assert {issue.kind for issue in found.issues if issue.severity == "error"} == {
        "box-inverted", "box-outside", "box-invalid",
    }  # fmt: skip


def test_statistics_and_splits_count_what_is_to_be_found(crowded: Path) -> None:
    data = read_data(crowded, ClassMap(NAMES))
    found = collect_stats({"train": data}, 100)
    assert found.boxes == {"train": {"mask": 1, "no_mask": 0}}
    assert found.ignored == found.as_dict()["ignored"] == {"train": 2}
    assert found.sides.tolist() == [30]
    both = DetectionSet(NAMES, data.samples * 2)
    assert split_groups(both, [[0], [1]], {"train": 1, "val": 1})


def test_commands_have_a_column_of_them(
    crowded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in ("check", "stats"):
        with pytest.raises(SystemExit):
            main(["data", command, str(crowded), "--json", str(tmp_path / f"{command}.json")])
        printed = capsys.readouterr().out.splitlines()
        head, line = printed[command == "check" :][:2]  # which says first what the folder holds
        assert head.split()[-1] == "ignored"
        assert line.split()[-4:] == ["1", "0", "0", "2"]
        counts = json.loads((tmp_path / f"{command}.json").read_text())["ignored"]
        assert list(counts.values()) == [2]
    with pytest.raises(SystemExit):
        main(["data", "show", str(crowded), "-o", str(tmp_path / "sheet.png")])
    assert "1 of 1 pictures, 2 ignored boxes in grey dashes" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["data", "check", str(crowded), "--html", str(tmp_path / "page.html")])
    assert "2 ignored (difficult, crowds)" in (tmp_path / "page.html").read_text()


def test_regions_are_drawn_in_dashes(crowded: Path) -> None:
    (sample,) = read_data(crowded).samples
    blank = np.zeros((80, 100, 3), np.uint8)
    picture = draw_sample(blank, sample, ("mask", "no_mask", "mask_incorrect"), (1, 1))
    edge = (picture[10, 50:60] == GREY).all(1)
    assert edge.any()
    assert not edge.all(), "dashes"
    assert not (draw_sample(blank, sample.counted(), ("mask",), (1, 1)) == GREY).all(2).any()
    with_regions = crop(sample.image_path, [(FACE, (255, 0, 0))], sample.boxes_xyxy[sample.ignore].tolist())
    assert (with_regions != crop(sample.image_path, [(FACE, (255, 0, 0))])).any()


def test_a_diagnosis_knows_them(crowded: Path) -> None:
    from maskwatch.diagnosis import raw_dataset

    found = raw_dataset.read_raw_dataset([crowded], ClassMap())
    assert marks(found.detection_set.samples[0]) == MARKS
    assert sum(found.detection_set.class_counts().values()) == 1
    assert not found.issues
