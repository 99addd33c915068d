"""What is found in a folder: records, cameras, lists, links, and what is said where nothing fits."""

from __future__ import annotations

import contextlib
import importlib.util
import json
from pathlib import Path

import pytest

from exports import (
    World,
    boxes_of,
    check_set,
    coco_roboflow,
    document,
    lines,
    pictures_of,
    put,
    say,
    voc_beside,
    voc_cvat,
    voc_images_of_tutorial,
    xml,
)
from maskwatch.cli.app import main
from maskwatch.data import find_splits, read_data
from maskwatch.data.formats import write_data
from maskwatch.data.formats.tree import split_of, splits_of
from maskwatch.data.issues import Issue
from maskwatch.data.quality.check import check_splits
from maskwatch.errors import DataError
from maskwatch.labels import ClassMap

CLASSES = ClassMap(["with_mask", "without_mask"])
# Not importorskip, which would load it before Triton.
needs_tensorflow = pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is None, reason="the extra tf is not installed"
)


# ---- TFRecord --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "count"),
    [
        (["train.record-00000-of-00002", "train.record-00001-of-00002", "val.record-00000-of-00001"], 2),
        (["faces_train_00000-of-00002.tfrecord", "faces_train_00001-of-00002.tfrecord"], 1),
        (["x-train.tfrecord-00000-of-00001", "x-validation.tfrecord-00000-of-00001"], 2),
        (["train-00000-of-00001", "val-00000-of-00001"], 2),
        (["coco_train2017.tfrec", "coco_val2017.tfrec"], 2),
        (["train/Faces.tfrecord", "valid/Faces.tfrecord"], 2),
        (["annotations/train.record", "annotations/test.record"], 2),
        (["train.record", "eval.record"], 2),
    ],
)
def test_records_are_known_by_their_names(tmp_path: Path, names: list[str], count: int) -> None:
    for name in names:
        say(tmp_path / name, "")
        say((tmp_path / name).parent / "Faces_label_map.pbtxt", "item { id: 1 name: 'with_mask' }")
    splits = find_splits(tmp_path)
    assert {split.format for split in splits} == {"tfrecord"}
    assert len(splits) == count
    assert splits[0].name == "train"
    assert all(split.name in ("val", "test") for split in splits[1:])
    assert all(split.class_names() == ("with_mask",) and not split.issues for split in splits)


@pytest.mark.parametrize(
    ("record", "label_map"),
    [
        ("train.record", "annotations/label_map.pbtxt"),
        ("data/train.record", "training/labelmap.pbtxt"),
        ("valid/Faces.tfrecord", "train/Faces_label_map.pbtxt"),
    ],
)
def test_a_label_map_lies_anywhere_in_the_set(tmp_path: Path, record: str, label_map: str) -> None:
    say(tmp_path / record, "")
    say(tmp_path / "training" / "graph.pbtxt", "node {}")
    say(tmp_path / label_map, "item { id: 1 name: 'with_mask' }")
    (split,) = find_splits(tmp_path)
    assert split.class_names() == ("with_mask",)


def test_a_missing_shard_is_told(tmp_path: Path) -> None:
    say(tmp_path / "train-00000-of-00003", "")
    say(tmp_path / "label_map.pbtxt", "item { id: 1 name: 'with_mask' }")
    (split,) = find_splits(tmp_path)
    assert [str(issue) for issue in split.issues] == [
        f"{tmp_path / 'train-00000-of-00003'}: 2 of its 3 shards are not there; "
        "put all shards into one folder"
    ]


def test_pictures_count_before_records_made_of_them(tmp_path: Path) -> None:
    """As in the tutorials of the TF Object Detection API."""
    expected = voc_images_of_tutorial(tmp_path, World({"train": ["a.jpg"], "val": ["b.jpg"]}))
    say(tmp_path / "annotations" / "train.record", "")
    splits = find_splits(tmp_path)
    assert [(split.name, split.format) for split in splits] == [(split, "voc") for split in expected]
    assert {split.format for split in find_splits(tmp_path, "tfrecord")} == {"tfrecord"}


@needs_tensorflow
@pytest.mark.slow
def test_shards_read_like_what_they_were_made_of(tmp_path: Path) -> None:
    world = World({"train": ["cam1/0001.jpg", "cam2/0001.jpg"], "val": ["cam1/0002.jpg"]})
    expected = voc_beside(tmp_path / "in", world)
    sets = {split: read_data(tmp_path / "in", CLASSES, split=split) for split in expected}
    write_data(sets, tmp_path / "out", "tfrecord")
    (tmp_path / "out" / "train.tfrecord").rename(tmp_path / "out" / "f_train_00000-of-00001.tfrecord")
    (tmp_path / "out" / "label_map.pbtxt").rename(tmp_path / "out" / "Faces_label_map.pbtxt")
    pictures = pictures_of(world, tmp_path)
    for split, names in expected.items():
        data = read_data(tmp_path / "out", CLASSES, split=split)
        check_set(data, pictures)
        assert {sample.image_id for sample in data.samples} == names


@needs_tensorflow
@pytest.mark.slow
def test_records_of_tensorflow_datasets(tmp_path: Path) -> None:
    import tensorflow as tf

    world = World({"train": ["a.jpg", "b.jpg"], "val": ["c.jpg"]})
    pictures = pictures_of(world, tmp_path)
    train = tf.train
    for split, names in world.pictures.items():
        shard = tmp_path / "set" / f"faces-{split}.tfrecord-00000-of-00001"
        shard.parent.mkdir(exist_ok=True)
        with tf.io.TFRecordWriter(str(shard)) as writer:
            for name in names:
                (data,) = (data for data, named in pictures.items() if named == (split, name))
                boxes = boxes_of(split, name)
                corners = [v for _, x0, y0, x1, y1 in boxes for v in (y0 / 80, x0 / 100, y1 / 80, x1 / 100)]
                features = {
                    "image": train.Feature(bytes_list=train.BytesList(value=[data])),
                    "image/filename": train.Feature(bytes_list=train.BytesList(value=[name.encode()])),
                    "objects/bbox": train.Feature(float_list=train.FloatList(value=corners)),
                    "objects/label": train.Feature(int64_list=train.Int64List(value=[b[0] for b in boxes])),
                }
                example = train.Example(features=train.Features(feature=features))
                writer.write(example.SerializeToString())
    say(tmp_path / "set" / "objects-label.labels.txt", "with_mask\nwithout_mask\n")
    for split, names in world.pictures.items():
        data = read_data(tmp_path / "set", CLASSES, split=split)
        check_set(data, pictures)
        assert [sample.image_id for sample in data.samples] == names


# ---- What lies about -------------------------------------------------------------------------------------


def one(root: Path, picture: str, annotation: str, filename: str = "") -> None:
    """A picture and its annotation."""
    put(root / picture, "", picture)
    if annotation.endswith(".xml"):
        say(root / annotation, xml("", picture, filename))
    else:
        say(root / annotation, lines("", picture))


def listing(root: Path) -> list[tuple[str, str, list[str]]]:
    """Split, format and names of each split."""
    splits = find_splits(root)
    return [(split.name, split.format, [raw.image_id for raw in split.read([])]) for split in splits]


@pytest.mark.parametrize(
    ("pictures", "annotations"),
    [
        (["cam1/images/1.jpg", "cam2/images/1.jpg"], ["cam1/annotations/1.xml", "cam2/annotations/1.xml"]),
        (["cam1/1.jpg", "cam2/1.jpg"], ["cam1/1.xml", "cam2/1.xml"]),
        (["cam1/1.jpg", "cam2/1.jpg"], ["cam1/1.txt", "cam2/1.txt"]),
        (["cam1/1.jpg", "cam2/1.jpg"], ["labels/cam1/1.xml", "labels/cam2/1.xml"]),
        (["cam1/1.jpg", "cam2/1.jpg"], ["cam1/labels/1.txt", "cam2/labels/1.txt"]),
    ],
)
def test_one_folder_a_camera(tmp_path: Path, pictures: list[str], annotations: list[str]) -> None:
    for picture, annotation in zip(pictures, annotations, strict=True):
        one(tmp_path, picture, annotation)
    say(tmp_path / "classes.txt", "with_mask\nwithout_mask\n")
    data = read_data(tmp_path, CLASSES)
    assert [sample.image_id for sample in data.samples] == ["cam1/1.jpg", "cam2/1.jpg"]
    check_set(data, {(tmp_path / picture).read_bytes(): ("", picture) for picture in pictures})


def test_a_link_to_a_folder_is_followed_and_a_circle_is_not(tmp_path: Path) -> None:
    one(tmp_path, "elsewhere/1.jpg", "set/labels/1.txt")
    (tmp_path / "set" / "images").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set" / "again").symlink_to(tmp_path / "set")
    assert listing(tmp_path / "set") == [("", "yolo", ["1.jpg"])]


def test_lists_with_paths_and_spaces(tmp_path: Path) -> None:
    for name in ("my photo 1", "my", "x"):
        one(tmp_path, f"JPEGImages/{name}.jpg", f"Annotations/{name}.xml")
    say(tmp_path / "train.txt", "JPEGImages/my photo 1.jpg Annotations/my photo 1.xml\n")
    say(tmp_path / "val.txt", "my  -1\nJPEGImages/gone.jpg Annotations/gone.xml\n")
    say(tmp_path / "test.txt", "A text that has nothing to do with it.\n")
    splits = find_splits(tmp_path)
    assert listing(tmp_path) == [
        ("train", "voc", ["my photo 1.jpg"]),
        ("val", "voc", ["my.jpg"]),
        ("", "voc", ["x.jpg"]),
    ]
    assert [issue.text for split in splits for issue in split.issues] == [
        "no picture named 'JPEGImages/gone.jpg'"
    ]


def test_an_unclear_file_name_of_coco_is_told(tmp_path: Path) -> None:
    for name in ("cam1/1.jpg", "cam2/1.jpg"):
        put(tmp_path / "images" / name, "", name)
    rows = [("", "cam1/1.jpg", "1.jpg"), ("", "cam2/1.jpg", "cam2/1.jpg"), ("", "z", "cam3/1.jpg")]
    say(tmp_path / "all.json", document(rows))
    issues: list[Issue] = []
    (split,) = find_splits(tmp_path)
    assert [raw.image_id for raw in split.read(issues)] == ["cam2/1.jpg"]
    first, second = issues
    assert first.text.startswith("'1.jpg' may be any of ")
    assert second.text == "no picture cam3/1.jpg in the folder of the data set"


def test_two_names_of_coco_for_one_picture_are_told(tmp_path: Path) -> None:
    put(tmp_path / "1.jpg", "", "a")
    say(tmp_path / "all.json", document([("", "a", "cam1/1.jpg"), ("", "b", "cam2/1.jpg")]))
    issues: list[Issue] = []
    (split,) = find_splits(tmp_path)
    assert len(split.read(issues)) == 1
    assert [issue.kind for issue in issues] == ["picture-ambiguous"]
    assert "which is the picture of cam1/1.jpg already" in issues[0].text


def test_subsets_of_coco_with_any_name(tmp_path: Path) -> None:
    for day in ("day1", "day2"):
        put(tmp_path / "images" / day / "1.jpg", "", f"{day}/1.jpg")
        say(tmp_path / "annotations" / f"instances_{day}.json", document([("", f"{day}/1.jpg", "1.jpg")]))
    data = read_data(tmp_path, CLASSES)
    assert [sample.image_id for sample in data.samples] == ["day1/1.jpg", "day2/1.jpg"]
    paths = {(tmp_path / "images" / s.image_id).read_bytes(): ("", s.image_id) for s in data.samples}
    check_set(data, paths)


def test_a_supercategory_without_boxes_is_no_class(tmp_path: Path) -> None:
    coco_roboflow(tmp_path, World({"train": ["a.jpg"]}))
    file = tmp_path / "train" / "_annotations.coco.json"
    content = json.loads(file.read_text())
    for category in content["categories"]:
        category["supercategory"] = "faces"
    content["categories"] = [{"id": 0, "name": "faces", "supercategory": "none"}, *content["categories"]]
    say(file, json.dumps(content))
    (split,) = find_splits(tmp_path)
    assert split.class_names() == ("with_mask", "without_mask")
    content["annotations"][0]["category_id"] = 0  # a box of it makes it a class
    say(file, json.dumps(content))
    (split,) = find_splits(tmp_path)
    assert split.class_names() == ("faces", "with_mask", "without_mask")


def test_flat_xml_of_two_cameras_is_told_apart_by_its_folder(tmp_path: Path) -> None:
    for camera in ("cam1", "cam2"):
        put(tmp_path / "JPEGImages" / camera / "1.jpg", "", camera)
    text = xml("", "cam2", "1.jpg")
    say(tmp_path / "Annotations" / "1.xml", text)
    issues: list[Issue] = []
    find_splits(tmp_path)[0].read(issues)
    assert "several pictures have its name: cam1/1.jpg, cam2/1.jpg" in issues[0].text
    say(tmp_path / "Annotations" / "1.xml", text.replace("<filename>", "<folder>cam2</folder><filename>"))
    issues = []
    (raw,) = find_splits(tmp_path)[0].read(issues)
    assert raw.image_id == "cam2/1.jpg"
    assert [issue.kind for issue in issues] == ["annotation-missing"]


@pytest.mark.parametrize("format", [None, "voc", "coco", "yolo", "tfrecord"])
def test_a_file_or_nothing_is_an_error_that_says_what_to_give(tmp_path: Path, format: str | None) -> None:
    put(tmp_path / "a.jpg", "", "a")
    with pytest.raises(DataError, match="is a file; give the folder that holds"):
        find_splits(tmp_path / "a.jpg", format)
    with pytest.raises(DataError, match="does not exist; give the folder that holds"):
        find_splits(tmp_path / "b", format)


def test_check_says_what_it_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    voc_cvat(tmp_path / "old", World({"": ["0001.jpg"]}))
    coco_roboflow(tmp_path / "new", World({"train": ["0001.jpg"], "val": ["2.jpg", "3.jpg"]}))
    with contextlib.suppress(SystemExit):
        main(["data", "check", str(tmp_path)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "format: coco, voc"
    counts = {line.split()[0]: int(line.split()[1]) for line in lines if line[:5].strip() in SPLIT_NAMES}
    assert counts == {"train": 1, "val": 2, "all": 1}


SPLIT_NAMES = ("train", "val", "all")


@pytest.mark.parametrize(
    "where",
    ["labels/train/classes.txt", "dataset.yaml", "labels/classes.txt", "Classes.TXT", "_darknet.labels"],
)
def test_names_of_classes_lie_where_tools_leave_them(tmp_path: Path, where: str) -> None:
    one(tmp_path, "images/train/1.jpg", "labels/train/1.txt")
    names = "with_mask\nwithout_mask\n"
    say(tmp_path / where, "names: [with_mask, without_mask]\n" if where.endswith(".yaml") else names)
    (split,) = find_splits(tmp_path)
    assert (split.name, split.class_names()) == ("train", ("with_mask", "without_mask"))


def test_annotations_without_pictures_are_one_fault(tmp_path: Path) -> None:
    """CVAT leaves the pictures out unless it is told to save them."""
    for number in range(9):
        say(tmp_path / "Annotations" / f"{number}.xml", xml("", "x", ""))
    (split,) = find_splits(tmp_path)
    issues: list[Issue] = []
    assert split.read(issues) == []
    assert issues[0].text.startswith("no pictures in it (jpg")
    assert len(issues) == 1


def test_pictures_that_nobody_annotated_are_a_warning(tmp_path: Path) -> None:
    for camera in ("cam1", "cam2"):
        one(tmp_path, f"{camera}/1.jpg", f"{camera}/1.xml")
    put(tmp_path / "cam3" / "1.jpg", "", "unlabelled")
    issues = [f for f in check_splits(find_splits(tmp_path), CLASSES, workers=1).issues if "unused" in f.kind]
    assert [(issue.file, issue.severity) for issue in issues] == [(tmp_path / "cam3", "warning")]
    assert "1 picture in it" in issues[0].text


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train", "train"),
        ("Validation", "val"),
        ("val2017", "val"),
        ("train_images", "train"),
        ("images_test", "test"),
        ("Train Set", "train"),
        ("testset", "test"),
        ("obj_valid_data", "val"),
        ("train_list", "train"),
        ("MAFA-train", ""),
        ("bus-train", ""),
        ("trainers", ""),
        ("train_val", ""),
        ("images", ""),
    ],
)
def test_a_name_is_that_of_a_split_if_it_says_nothing_else(name: str, split: str) -> None:
    assert split_of(name) == split


def test_only_the_split_tells_folders_apart() -> None:
    names = ["faces-train", "faces-test", "bus-train", "cam1-train", "cam2-test", "faces"]
    found = {name: split for name, split in splits_of(names).items() if split}
    assert found == {"faces-train": "train", "faces-test": "test"}


@pytest.mark.parametrize("folder", ["labels", "txt"])
def test_labels_that_belong_to_no_picture_are_told(tmp_path: Path, folder: str) -> None:
    one(tmp_path, "images/cam1/1.jpg", f"{folder}/cam1/1.txt")
    say(tmp_path / folder / "cam2" / "1.txt", "0 0.5 0.5 0.1 0.1\n")
    with pytest.raises(DataError, match=r"cam2/1\.txt: no picture belongs to this label file"):
        read_data(tmp_path, ClassMap(["0", "1"]))


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("train/_annotations.createml.json", '[{"image": "1.jpg", "annotations": []}]'),
        ("train/1.json", '{"version": "5.2.1", "shapes": []}'),
        ("annotations.xml", "<dataset><name>faces</name></dataset>"),
        ("_annotations.csv", "filename,width,height,class,xmin,ymin,xmax,ymax\n"),
    ],
)
def test_a_format_that_is_not_read_is_named(tmp_path: Path, file: str, text: str) -> None:
    for number in range(3):
        put(tmp_path / "train" / f"{number}.jpg", "", str(number))
    say(tmp_path / file, text)
    with pytest.raises(DataError) as error:
        read_data(tmp_path)
    (problem,) = error.value.problems
    text = "is not an annotation in a supported format, and there is no other"
    assert problem.startswith(f"{tmp_path / file}: {text}")
    assert problem.endswith("export Pascal VOC, COCO or YOLO from the program that wrote it")


def test_one_label_file_of_two_pictures_is_told(tmp_path: Path) -> None:
    one(tmp_path, "images/1.jpg", "labels/1.txt")
    put(tmp_path / "images" / "1.png", "", "another")
    with pytest.raises(
        DataError, match=r"labels/1\.txt: belongs to several pictures: .*/1\.jpg, .*/1\.png; keep"
    ):
        read_data(tmp_path, ClassMap(["0", "1"]))


@pytest.mark.parametrize("names", ["data.yaml", "classes.txt"])
def test_a_split_by_itself_has_the_names_beside_it(tmp_path: Path, names: str) -> None:
    one(tmp_path, "train/images/1.jpg", "train/labels/1.txt")
    listed = "\n".join(CLASSES.names) if names.endswith(".txt") else "names: [with_mask, without_mask]\n"
    say(tmp_path / names, listed)
    (split,) = find_splits(tmp_path / "train")
    assert split.class_names() == CLASSES.names


def test_lists_quote_names_with_spaces(tmp_path: Path) -> None:
    """As CVAT's VOC and YOLO have it."""
    for name in ("dir a/1 x", "dir b/1 x"):
        one(tmp_path / "voc", f"JPEGImages/{name}.jpg", f"Annotations/{name}.xml")
        one(tmp_path / "yolo", f"obj_train_data/{name}.jpg", f"obj_train_data/{name}.txt")
    lists = tmp_path / "voc" / "ImageSets" / "Main"
    say(lists / "train.txt", '"dir a/1 x"\n')
    say(lists / "mask_train.txt", '"dir a/1 x" -1\n')
    say(lists / "val.txt", '"dir b/1 x"  1\n')
    assert listing(tmp_path / "voc") == [
        ("train", "voc", ["dir a/1 x.jpg"]),
        ("val", "voc", ["dir b/1 x.jpg"]),
    ]
    say(tmp_path / "yolo" / "obj.data", "train = data/train.txt\nnames = data/obj.names\n")
    say(tmp_path / "yolo" / "obj.names", "with_mask\nwithout_mask\n")
    say(tmp_path / "yolo" / "train.txt", '"data/obj_train_data/dir a/1 x.jpg"\n')
    assert listing(tmp_path / "yolo") == [("train", "yolo", ["dir a/1 x.jpg"])]


def test_lists_of_paddle(tmp_path: Path) -> None:
    for name in ("1", "2"):
        one(tmp_path, f"JPEGImages/{name}.jpg", f"Annotations/{name}.xml")
    say(tmp_path / "train_list.txt", "JPEGImages/1.jpg Annotations/1.xml\n")
    say(tmp_path / "val_list.txt", "JPEGImages/2.jpg Annotations/2.xml\n")
    assert listing(tmp_path) == [("train", "voc", ["1.jpg"]), ("val", "voc", ["2.jpg"])]
