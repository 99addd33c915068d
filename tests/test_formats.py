"""COCO and YOLO as written by others: what is read, and what is said of issues."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from maskwatch.data import find_splits, read_data
from maskwatch.data.quality.check import check_splits
from maskwatch.errors import DataError
from maskwatch.labels import ClassMap


def picture(path: Path, width: int = 100, height: int = 80) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), (90, 120, 150)).save(path)
    return path


def coco(path: Path, **changes: Any) -> Path:
    """One picture of 100 x 80 with two boxes."""
    document = {
        "images": [{"id": 7, "file_name": "a.jpg", "width": 100, "height": 80}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 3, "bbox": [10, 20, 30, 40], "iscrowd": 0},
            {"id": 2, "image_id": 7, "category_id": 5, "bbox": [0.5, 1.5, 8, 9], "iscrowd": 0},
        ],
        "categories": [{"id": 3, "name": "with_mask"}, {"id": 5, "name": "No Mask"}],
    } | changes
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))
    return path


def problems(path: Path, **options: Any) -> list[str]:
    with pytest.raises(DataError) as error:
        read_data(path, **options)
    return list(error.value.problems)


# ---- COCO ------------------------------------------------------------------------------------------------


def test_coco_boxes_are_corner_and_size(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    data = read_data(coco(tmp_path / "all.json"))
    (sample,) = data.samples
    assert sample.boxes_xyxy.tolist() == [[10, 20, 40, 60], [0.5, 1.5, 8.5, 10.5]]
    assert sample.class_ids.tolist() == [0, 1]
    assert sample.size_hw == (80, 100)
    assert sample.stem == "a"
    assert sample.annotation_path is None


@pytest.mark.parametrize(
    ("json_path", "image"),
    [
        ("annotations/instances_train2017.json", "train2017/a.jpg"),
        ("annotations/instances.json", "images/a.jpg"),
        ("train/_annotations.coco.json", "train/a.jpg"),
        ("labels.json", "JPEGImages/a.jpg"),
    ],
)
def test_pictures_of_coco_lie_in_the_usual_places(tmp_path: Path, json_path: str, image: str) -> None:
    picture(tmp_path / image)
    coco(tmp_path / json_path)
    (split,) = find_splits(tmp_path)
    assert split.format == "coco"
    assert split.name == ("train" if "train" in json_path else "")
    assert len(read_data(tmp_path)) == 1


def test_coco_faults_come_at_once_with_their_ids(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    rows = [
        {"id": 11, "image_id": 7, "category_id": 9, "bbox": [1, 1, 5, 5]},
        {"id": 12, "image_id": 8, "category_id": 3, "bbox": [1, 1, 5, 5]},
        {"id": 13, "image_id": 7, "category_id": 3, "bbox": [1, 1, -5, 5]},
        {"id": 14, "image_id": 7, "category_id": 3, "bbox": [1, "x", 5, 5]},
        {"id": 15, "image_id": 7, "category_id": 3, "bbox": [90, 1, 50, 5]},
    ]
    images = [
        {"id": 7, "file_name": "a.jpg", "width": 100, "height": 81},
        {"id": 9, "file_name": "gone.jpg", "width": 100, "height": 80},
        {"id": 7, "file_name": "a.jpg"},
    ]
    texts = "\n".join(problems(coco(tmp_path / "all.json", annotations=rows, images=images)))
    for piece in (
        "annotation 11: category_id 9 is not among the categories",
        "annotation 12: 1 annotation of image_id 8",
        "a.jpg: annotation 13 (with_mask): bbox [1, 1, -5, 5] is inverted; swap its corners",
        'annotation 14 (with_mask): bbox [1, "x", 5, 5] is not made of four numbers',
        "image 9: no picture gone.jpg",
        "image 7: the id of a.jpg is used twice",
        "a.jpg: <size> says 100 x 81, the picture is shown at 100 x 80",
    ):
        assert piece in texts
    assert "annotation 15" not in texts  # a wrong size leaves the border unknown


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"images": 3, "annotations": [], "categories": []}'])
def test_a_broken_coco_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "all.json").write_text(text)
    (problem,) = problems(tmp_path / "all.json")
    assert problem.startswith(f"{tmp_path / 'all.json'}: ")


@pytest.mark.parametrize("written", [str, float])
def test_one_id_in_two_spellings_is_one(tmp_path: Path, written: Any) -> None:
    """VIA writes texts, tables that were NumPy's write 1.0."""
    picture(tmp_path / "a.jpg")
    document = json.loads(coco(tmp_path / "all.json").read_text())
    for row in document["annotations"]:
        row |= {"image_id": written(7), "category_id": written(row["category_id"])}
    (sample,) = read_data(coco(tmp_path / "all.json", annotations=document["annotations"])).samples
    assert sample.class_ids.tolist() == [0, 1]


def test_files_of_other_tasks_are_no_second_set(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.jpg")
    for task in ("instances", "labels", "image_info", "person_keypoints", "captions", "panoptic", "stuff"):
        coco(tmp_path / "annotations" / f"{task}_default.json")
    (split,) = find_splits(tmp_path)
    assert split.path.name == "instances_default.json"
    assert len(read_data(tmp_path)) == 1


def test_labels_of_makesense_are_boxes(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    coco(tmp_path / "labels_my-project_2024-01-02-03-04-05.json")
    assert read_data(tmp_path).class_counts()["mask"] == 1


# ---- YOLO ------------------------------------------------------------------------------------------------


def yolo(root: Path, lines: str = "0 0.25 0.5 0.3 0.5\n1 0.05 0.075 0.08 0.1\n", **keys: Any) -> Path:
    picture(root / "images" / "train" / "a.jpg")
    picture(root / "images" / "val" / "b.jpg")
    (root / "labels" / "train").mkdir(parents=True)
    (root / "labels" / "train" / "a.txt").write_text(lines)
    document = {"train": "images/train", "val": "images/val", "names": ["with_mask", "no mask"]} | keys
    (root / "data.yaml").write_text(json.dumps(document))  # JSON is YAML
    return root


def test_yolo_boxes_are_centre_and_size_as_shares(tmp_path: Path) -> None:
    data = read_data(yolo(tmp_path), split="train")
    (sample,) = data.samples
    np.testing.assert_allclose(sample.boxes_xyxy, [[10, 20, 40, 60], [1, 2, 9, 10]], atol=1e-5)
    assert sample.class_ids.tolist() == [0, 1]
    assert sample.annotation_path == tmp_path / "labels" / "train" / "a.txt"


def test_a_picture_without_labels_shows_nothing(tmp_path: Path) -> None:
    data = read_data(yolo(tmp_path), split="val")
    assert [len(sample) for sample in data.samples] == [0]


def test_a_set_without_any_label_file_is_told(tmp_path: Path) -> None:
    root = yolo(tmp_path)
    (root / "labels").rename(root / "notes")
    for split in ("train", "val"):
        (problem,) = problems(root, split=split)
        assert problem.startswith(f"{root / 'data.yaml'}: none of its 1 pictures has a label file"), split


def test_polygons_become_the_boxes_around_them(tmp_path: Path) -> None:
    data = read_data(yolo(tmp_path, "1 0.1 0.1 0.3 0.2 0.2 0.5\n"), split="train")
    np.testing.assert_allclose(data.samples[0].boxes_xyxy, [[10, 8, 30, 40]], atol=1e-5)


def test_a_split_set_wants_a_split(tmp_path: Path) -> None:
    (problem,) = problems(yolo(tmp_path))
    assert "holds the splits train, val; name one with --split" in problem
    (problem,) = problems(tmp_path, split="test")
    assert "no split 'test', it has train, val" in problem


def test_names_may_be_numbered_and_unnamed_numbers_are_mapped(tmp_path: Path) -> None:
    yolo(tmp_path, names={1: "with_mask"})
    (problem,) = problems(tmp_path, split="train")
    assert "line 1: unknown class '0'" in problem
    data = read_data(tmp_path, ClassMap.parse("mask=0,no_mask=with_mask"), split="train")
    assert data.samples[0].class_ids.tolist() == [0, 1]


def test_yolo_faults_come_at_once_with_their_lines(tmp_path: Path) -> None:
    lines = "0 0.5 0.5 0.1 0\n0 0.5 0.5 0.1\n0 1.5 0.5 0.1 0.1\n0 0.5 x 0.1 0.1\n0 0.98 0.5 0.2 0.1\n"
    root = yolo(tmp_path, lines)
    (root / "labels" / "train" / "z.txt").write_text("")
    texts = problems(root, split="train")
    places = [text.removeprefix(f"{root}/labels/train/") for text in texts]
    assert places == [
        "z.txt: no picture belongs to this label file; add the picture or remove the file",
        "a.txt: line 1 (with_mask): box 0.5 0.5 0.1 0 has no area; draw it again or remove it",
        "a.txt: line 2 (with_mask): box 0.5 0.5 0.1 has 3 numbers after the class; "
        "write class cx cy width height",
        "a.txt: line 3 (with_mask): box 1.5 0.5 0.1 0.1 lies outside the picture of 100 x 80; "
        "draw it again or remove it",
        "a.txt: line 4 (with_mask): box 0.5 x 0.1 0.1 holds 'x', which is not a number; "
        "write class cx cy width height",
        "a.txt: line 5 (with_mask): box 0.98 0.5 0.2 0.1 sticks out of the picture of 100 x 80; "
        "draw it again",
    ]


def test_a_list_of_pictures_and_a_missing_folder(tmp_path: Path) -> None:
    root = yolo(tmp_path, train="train.txt", val="images/gone")
    (root / "train.txt").write_text("images/train/a.jpg\nimages/train/none.jpg\n")
    (problem,) = problems(root / "data.yaml", split="train")
    assert "val: 'images/gone' is not there" in problem
    (root / "data.yaml").write_text(json.dumps({"train": "train.txt", "names": ["with_mask", "bare"]}))
    (problem,) = problems(root, split="train")
    assert problem.startswith(f"{root / 'train.txt'}: line 2: no picture named 'images/train/none.jpg'")


def test_a_test_split_that_an_export_names_and_lacks_is_a_warning(tmp_path: Path) -> None:
    root = yolo(tmp_path, train="images/train", test="../test/images")
    assert len(read_data(root, split="train").samples) == 1
    (issue,) = [f for f in check_splits(find_splits(root), workers=1).issues if f.kind == "split-missing"]
    assert (issue.severity, issue.text) == ("warning", "test: '../test/images' is not there")
    (problem,) = problems(root, split="test")
    assert "no split 'test', it has train, val" in problem


@pytest.mark.parametrize("path", ["../datasets/faces", "/content/datasets/faces", "D:\\my\\datasets\\faces"])
def test_the_path_of_a_data_yaml_may_be_of_elsewhere(tmp_path: Path, path: str) -> None:
    root = yolo(tmp_path / "datasets" / "faces")
    document = {"path": path, "train": "images/train", "names": ["with_mask", "bare"]}
    (root / "data.yaml").unlink()
    (tmp_path / "faces.yaml").write_text(json.dumps(document))
    assert [len([*split.image_ids()]) for split in find_splits(tmp_path)] == [1]


def test_the_paths_of_roboflow_exports(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        picture(tmp_path / split / "images" / "a.jpg")
        (tmp_path / split / "labels").mkdir()
        (tmp_path / split / "labels" / "a.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    document = {"train": "../train/images", "val": "../valid/images", "nc": 1, "names": ["with_mask"]}
    (tmp_path / "data.yaml").write_text(json.dumps(document))
    assert [split.name for split in find_splits(tmp_path)] == ["train", "val"]
    assert read_data(tmp_path, split="val").class_counts()["mask"] == 1


@pytest.mark.parametrize("text", ["names: [a", "- 1", "train: images", "names: 3"])
def test_a_broken_data_yaml_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "data.yaml").write_text(text)
    (problem,) = problems(tmp_path / "data.yaml")
    assert problem.startswith(f"{tmp_path / 'data.yaml'}: ")


def test_yolo_without_a_yaml(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.jpg")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text("1 0.5 0.5 0.2 0.2\n")
    (tmp_path / "classes.txt").write_text("with_mask\nwithout_mask\n")
    assert read_data(tmp_path).class_counts() == {"mask": 0, "no_mask": 1, "mask_incorrect": 0}


# ---- Recognition -----------------------------------------------------------------------------------------


def test_the_lists_of_voc_are_its_splits(tmp_path: Path) -> None:
    xml = "<annotation/>"
    for stem in "abc":
        picture(tmp_path / "JPEGImages" / f"{stem}.jpg")
        (tmp_path / "Annotations").mkdir(exist_ok=True)
        (tmp_path / "Annotations" / f"{stem}.xml").write_text(xml)
    (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
    (tmp_path / "ImageSets" / "Main" / "train.txt").write_text("a\n")
    (tmp_path / "ImageSets" / "Main" / "val.txt").write_text("b\n")
    splits = find_splits(tmp_path)
    assert [(split.name, sorted(name for name, _ in split.image_ids())) for split in splits] == [
        ("train", ["a.jpg"]),
        ("val", ["b.jpg"]),
        ("", ["c.jpg"]),
    ]
    assert [sample.stem for sample in read_data(tmp_path, split="val").samples] == ["b"]


def test_a_wrong_format_or_path_is_named(tmp_path: Path) -> None:
    yolo(tmp_path)
    with pytest.raises(DataError, match="no COCO annotations in it"):
        find_splits(tmp_path, "coco")
    with pytest.raises(DataError, match="does not exist"):
        find_splits(tmp_path / "nowhere")
    with pytest.raises(DataError, match="is a file; give the folder"):
        find_splits(picture(tmp_path / "x.jpg"))


def test_the_shared_folder_has_three_splits(shared: Path) -> None:
    splits = find_splits(shared / "data" / "masks")
    assert [(split.name, split.format) for split in splits] == [
        ("train", "voc"),
        ("val", "voc"),
        ("test", "voc"),
    ]
    assert len(read_data(shared / "data" / "masks", split="val")) == 238


def test_train_takes_the_splits_of_any_format(tmp_path: Path) -> None:
    from maskwatch.cli.train import TrainArguments, plan_training, read_training_data

    yolo(tmp_path)
    (tmp_path / "labels" / "val").mkdir()
    (tmp_path / "labels" / "val" / "b.txt").write_text("1 0.5 0.5 0.2 0.2\n")
    plan = plan_training(TrainArguments([tmp_path / "data.yaml"]))
    training, validation, named = read_training_data(plan, None, None)
    assert (training.samples[0].stem, validation.samples[0].stem) == ("a", "b")
    assert named.endswith("data.yaml/train (1 pictures)")


def _training(*paths: Path, val: Path | None = None) -> tuple[list[str], list[str]]:
    """Names of the pictures that `train` takes for training and for validation."""
    from maskwatch.cli.train import TrainArguments, plan_training, read_training_data

    plan = plan_training(TrainArguments(list(paths), val=None if val is None else [val]))
    training, validation, _ = read_training_data(plan, None, None)
    return [s.image_id for s in training.samples], [s.image_id for s in validation.samples]


def test_train_takes_no_other_split_for_train(tmp_path: Path) -> None:
    voc(tmp_path / "set", "val/a.jpg", "val/b.jpg", "val/c.jpg")
    with pytest.raises(DataError, match="no split 'train', it has val"):
        _training(tmp_path / "set")
    voc(tmp_path / "set", "train/d.jpg", "test/e.jpg")
    assert _training(tmp_path / "set") == (["d.jpg"], ["a.jpg", "b.jpg", "c.jpg"])
    voc(tmp_path / "other", "val/f.jpg", "train/g.jpg")
    assert _training(tmp_path / "set", val=tmp_path / "other") == (["d.jpg"], ["f.jpg"])
    assert _training(tmp_path / "set", tmp_path / "other")[0] == ["d.jpg", "g.jpg"]
    assert _training(tmp_path / "set" / "val", val=tmp_path / "set" / "test")[1] == ["e.jpg"]


def voc(root: Path, *pictures: str) -> None:
    """One box in each."""
    for name in pictures:
        picture(root / name)
        box = "<xmin>1</xmin><ymin>2</ymin><xmax>30</xmax><ymax>40</ymax>"
        node = f"<object><name>with_mask</name><bndbox>{box}</bndbox></object>"
        (root / name).with_suffix(".xml").write_text(f"<annotation>{node}</annotation>")


# ---- Encodings -------------------------------------------------------------------------------------------

CODECS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32")


def encode(path: Path, codec: str, ends: str = "\n") -> None:
    """Writes a file of UTF-8 anew."""
    path.write_bytes(path.read_text("utf-8").replace("\n", ends).encode(codec))


@pytest.mark.parametrize("codec", CODECS)
def test_coco_is_read_in_every_unicode_encoding(tmp_path: Path, codec: str) -> None:
    picture(tmp_path / "未.jpg")
    images = [{"id": 7, "file_name": "未.jpg", "width": 100, "height": 80}]
    path = coco(tmp_path / "all.json", images=images)
    encode(path, codec)
    (split,) = find_splits(tmp_path)  # which has to see what the file is
    assert split.format == "coco"
    assert read_data(tmp_path).samples[0].class_ids.tolist() == [0, 1]


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("codec", CODECS)
def test_yolo_is_read_in_every_unicode_encoding(tmp_path: Path, codec: str, ends: str) -> None:
    yolo(tmp_path)
    (tmp_path / "data.yaml").write_text("train: train.txt\nnames:\n  0: 戴口罩\n  1: bare\n", "utf-8")
    (tmp_path / "train.txt").write_text("images/train/a.jpg\n")
    for path in ("data.yaml", "train.txt", "labels/train/a.txt"):
        encode(tmp_path / path, codec, ends)
    data = read_data(tmp_path, ClassMap(["戴口罩", "bare"]))
    assert data.samples[0].class_ids.tolist() == [0, 1]


@pytest.mark.parametrize("codec", CODECS)
def test_names_beside_yolo_are_read_in_every_unicode_encoding(tmp_path: Path, codec: str) -> None:
    yolo(tmp_path)
    (tmp_path / "data.yaml").unlink()
    (tmp_path / "classes.txt").write_bytes("with_mask\r\n未戴口罩\r\n".encode(codec))
    assert find_splits(tmp_path)[0].class_names() == ("with_mask", "未戴口罩")


def test_what_is_in_no_encoding_is_named(tmp_path: Path) -> None:
    yolo(tmp_path)
    path = tmp_path / "data.yaml"
    path.write_bytes("train: images/train\nnames: [戴口罩, 未戴口罩]".encode("gbk"))
    with pytest.raises(DataError, match=r"data\.yaml: .*0xB4 in line 2 is not UTF-8; .* save it as UTF-8"):
        find_splits(tmp_path)
