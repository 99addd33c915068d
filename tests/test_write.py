"""Data sets written in every format and read back."""

from __future__ import annotations

import importlib.util
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from maskwatch.data import DetectionSet, Sample, find_splits, read_data
from maskwatch.data.dataset import file_names
from maskwatch.data.formats import write_data
from maskwatch.data.quality.check import check_splits
from maskwatch.data.quality.repair import repair
from maskwatch.errors import DataError, OutputError
from maskwatch.labels import ClassMap
from maskwatch.media.images import read_image

NAMES = ("helm & hat", "kopf", "no head")
LOSSLESS = ("voc", "coco", "label-studio", "cvat")
FORMATS = (*LOSSLESS, "yolo")

# Not importorskip, which would load it before Triton.
needs_tensorflow = pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is None, reason="the extra tf is not installed"
)


def sample(path: Path, boxes: list[list[float]], ids: list[int], difficult: bool = False) -> Sample:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (100, 80), (90, 120, 150)).save(path)
    notes = tuple({"truncated": "1", "pose": "Left"} for _ in ids)
    return Sample(
        path,
        None,
        (80, 100),
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(ids, np.int64),
        np.array([difficult] * len(ids), np.bool_),
        notes,
    )


@pytest.fixture
def sets(tmp_path: Path) -> dict[str, DetectionSet]:
    train = (
        sample(tmp_path / "in" / "a.jpg", [[10, 20, 40.5, 60.25], [0, 0, 100, 80]], [2, 0]),
        sample(tmp_path / "in" / "deep" / "a.png", [[1 / 3, 2 / 3, 7.7, 9.1]], [1], difficult=True),
    )
    val = (sample(tmp_path / "in" / "c.jpg", [], []),)
    return {"train": DetectionSet(NAMES, train), "val": DetectionSet(NAMES, val)}


def same(one: DetectionSet, other: DetectionSet, atol: float = 0.0) -> None:
    assert one.class_names == other.class_names
    assert len(one) == len(other)
    for a, b in zip(one.samples, other.samples, strict=True):
        np.testing.assert_allclose(a.boxes_xyxy, b.boxes_xyxy, atol=atol, rtol=0)
        assert a.class_ids.tolist() == b.class_ids.tolist()
        assert a.size_hw == b.size_hw
        assert a.image_path.read_bytes() == b.image_path.read_bytes()


@pytest.mark.parametrize("format", FORMATS)
def test_what_is_written_reads_back(sets: dict[str, DetectionSet], tmp_path: Path, format: str) -> None:
    lost = write_data(sets, tmp_path / "out", format)  # type: ignore[arg-type]
    assert [split.name for split in find_splits(tmp_path / "out")] == ["train", "val"]
    assert {split.format for split in find_splits(tmp_path / "out")} == {format}
    classes = ClassMap(NAMES)
    for split, before in sets.items():
        after = read_data(tmp_path / "out", classes, split=split)
        same(before, after, 1e-4 if format == "yolo" else 0.0)
        if format != "yolo":
            assert [s.difficult.tolist() for s in after.samples] == [
                s.difficult.tolist() for s in before.samples
            ]
            assert [list(map(dict, s.notes)) for s in after.samples] == [
                list(map(dict, s.notes)) for s in before.samples
            ]
    assert [name for name in ("difficult", "notes") if any(name in line for line in lost)] == (
        ["difficult", "notes"] if format == "yolo" else []
    )


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("split", ["", "train"])
def test_names_of_any_script_stay_apart(tmp_path: Path, format: str, split: str) -> None:
    names = ("戴口罩", "未戴口罩", "C", "C++", "no", "маска", "éa, b=|", "007")
    boxes = [[10.0 * i, 5, 10 * i + 9, 60] for i in range(len(names))]
    whole = DetectionSet(names, (sample(tmp_path / "in" / "未.jpg", boxes, list(range(len(names)))),))
    write_data({split: whole}, tmp_path / "out", format)  # type: ignore[arg-type]
    (split,) = find_splits(tmp_path / "out")
    written = [item.name for picture in split.read([]) for item in picture.objects]
    assert written == list(names)
    same(whole, read_data(tmp_path / "out", ClassMap(names)), 1e-4)


@pytest.mark.parametrize("format", LOSSLESS)
def test_notes_of_any_name_are_kept(tmp_path: Path, format: str) -> None:
    notes = {"face quality": "good", "name": "Ann", "遮挡": "是", "pose": "Left", "1st": "a < b & c"}
    one = replace(sample(tmp_path / "in" / "a.jpg", [[10, 20, 40, 60]], [0]), notes=(notes,))
    write_data({"": DetectionSet(NAMES, (one,))}, tmp_path / "out", format)  # type: ignore[arg-type]
    (after,) = read_data(tmp_path / "out", ClassMap(NAMES)).samples
    assert after.notes == (notes,)


def test_what_xml_cannot_hold_is_left_out(tmp_path: Path) -> None:
    one = sample(tmp_path / "in" / "a.jpg", [[10, 20, 40, 60]], [0])
    odd = DetectionSet(("a\x00\x0b\ufffeb",), (replace(one, notes=({"pose": "x\x01y"},)),))
    write_data({"": odd}, tmp_path / "out", "voc")
    (after,) = read_data(tmp_path / "out", ClassMap(["ab"])).samples
    assert after.notes == ({"pose": "xy"},)


@pytest.mark.skipif(os.name == "nt", reason="the system allows none of these names")
@pytest.mark.parametrize("format", FORMATS)
def test_pictures_have_names_that_every_format_holds(tmp_path: Path, format: str) -> None:
    names = ("a\x01.png", "<b> & 'c'.png", "d#%20.png", "戴.png")
    odd = tuple(sample(tmp_path / "in" / name, [[10, 20, 40, 60]], [0]) for name in names)
    write_data({"": DetectionSet(NAMES, odd)}, tmp_path / "out", format)  # type: ignore[arg-type]
    found = {one.image_id for one in read_data(tmp_path / "out", ClassMap(NAMES)).samples}
    assert found == {"a.png", *names[1:]}


@pytest.mark.parametrize("format", FORMATS)
def test_a_set_without_splits_stays_whole(sets: dict[str, DetectionSet], tmp_path: Path, format: str) -> None:
    write_data({"": sets["train"]}, tmp_path / "out", format)  # type: ignore[arg-type]
    (split,) = find_splits(tmp_path / "out")
    assert (split.name, split.format) == ("", format)
    same(sets["train"], read_data(tmp_path / "out", ClassMap(NAMES)), 1e-4)


def test_files_of_one_name_get_numbers(sets: dict[str, DetectionSet]) -> None:
    assert file_names(sets["train"]) == ["a.jpg", "a-2.png"]


def test_a_folder_that_is_there_is_kept(sets: dict[str, DetectionSet], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep")
    with pytest.raises(OutputError, match="exists already"):
        write_data(sets, tmp_path / "out", "coco")
    with pytest.raises(OutputError, match="was not made by maskwatch, so --force does not replace it"):
        write_data(sets, tmp_path / "out", "coco", force=True)
    assert (tmp_path / "out" / "mine.txt").read_text() == "keep"
    (tmp_path / "out" / "mine.txt").unlink()
    write_data(sets, tmp_path / "out", "voc")
    with pytest.raises(OutputError, match="exists already"):
        write_data(sets, tmp_path / "out", "coco")
    write_data(sets, tmp_path / "out", "coco", force=True)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        ".maskwatch", "annotations", "train", "val",
    ]  # fmt: skip
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "out"]  # nothing half written is left


def test_a_failure_leaves_the_old_folder(sets: dict[str, DetectionSet], tmp_path: Path) -> None:
    write_data(sets, tmp_path / "out", "voc")
    sets["val"].samples[0].image_path.unlink()
    with pytest.raises(OutputError, match="cannot be written"):
        write_data(sets, tmp_path / "out", "yolo", force=True)
    assert len(read_data(tmp_path / "out", ClassMap(NAMES), split="train")) == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "out"]


corner = st.floats(0, 99, width=32)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(corner, corner, st.floats(0.5, 90, width=32), st.integers(0, 2)), max_size=4))
def test_any_boxes_come_back(tmp_path: Path, boxes: list[tuple[float, float, float, int]]) -> None:
    rows = [[x, min(y, 79), min(x + side, 100), min(min(y, 79) + side, 80)] for x, y, side, _ in boxes]
    before = DetectionSet(NAMES, (sample(tmp_path / "in.png", rows, [b[3] for b in boxes]),))
    for format in FORMATS:
        write_data({"": before}, tmp_path / format, format, force=True)  # type: ignore[arg-type]
        same(before, read_data(tmp_path / format, ClassMap(NAMES)), 1e-4)


def test_coco_areas_and_ids(sets: dict[str, DetectionSet], tmp_path: Path) -> None:
    write_data(sets, tmp_path / "out", "coco")
    document = json.loads((tmp_path / "out" / "annotations" / "instances_train.json").read_text())
    first = document["annotations"][0]
    assert first == {
        "id": 1,
        "image_id": 1,
        "category_id": 3,
        "bbox": [10.0, 20.0, 30.5, 40.25],
        "area": 30.5 * 40.25,
        "iscrowd": 0,
        "segmentation": [],
        "attributes": {"truncated": "1", "pose": "Left"},
    }


# ---- TFRecord --------------------------------------------------------------------------------------------


@needs_tensorflow
@pytest.mark.slow
def test_faults_of_packed_pictures_name_the_record_file(tmp_path: Path) -> None:
    """Not the temporary copy, which is gone when somebody reads the message."""
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    boxes, none = np.array([[2, 3, 30, 35]], np.float32), np.zeros(1, np.bool_)
    samples = []
    for name in ("a.png", "b.png"):
        Image.fromarray(noise).save(tmp_path / name)
        samples.append(Sample(tmp_path / name, None, (40, 60), boxes, np.zeros(1, np.int64), none))
    write_data({"": DetectionSet(NAMES, tuple(samples))}, tmp_path / "out", "tfrecord")
    checked = check_splits(find_splits(tmp_path / "out"), ClassMap(NAMES), workers=1)
    (twice,) = (issue for issue in checked.issues if issue.kind == "picture-twice")
    record = tmp_path / "out" / "data.tfrecord"
    assert twice.file == record / "b.png"
    assert twice.text == f"is the same picture as {record / 'a.png'}"
    assert repair(checked).changes[0].startswith(f"{record / 'b.png'}: left out: ")


@needs_tensorflow
@pytest.mark.slow
def test_tfrecords_read_back(sets: dict[str, DetectionSet], tmp_path: Path) -> None:
    lost = write_data(sets, tmp_path / "out", "tfrecord")
    assert len(lost) == 1
    assert "notes" in lost[0]
    assert (tmp_path / "out" / "label_map.pbtxt").is_file()
    splits = find_splits(tmp_path / "out")
    assert [(split.name, split.format) for split in splits] == [("train", "tfrecord"), ("val", "tfrecord")]
    for split, before in sets.items():
        again = read_data(tmp_path / "out", ClassMap(NAMES), split=split)
        same(before, again, 1e-4)
        assert [s.difficult.tolist() for s in again.samples] == [s.difficult.tolist() for s in before.samples]
        assert [s.image_id for s in again.samples] == file_names(before)
    (tmp_path / "out" / "val.tfrecord").write_bytes(b"no record at all, surely")
    with pytest.raises(DataError, match="record 1: cannot be read"):
        read_data(tmp_path / "out", ClassMap(NAMES), split="val")
    (tmp_path / "out" / "label_map.pbtxt").unlink()
    with pytest.raises(DataError, match="no label map"):
        read_data(tmp_path / "out", ClassMap(NAMES), split="val")


@needs_tensorflow
@pytest.mark.slow
def test_a_turned_picture_stands_upright_in_a_tfrecord(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (80, 100), (9, 9, 9)).save(tmp_path / "t.jpg", exif=exif)  # shown at 100 x 80
    turned = Sample(
        tmp_path / "t.jpg",
        None,
        (80, 100),
        np.array([[50, 10, 100, 20]], np.float32),
        np.array([0]),
        np.array([False]),
    )
    write_data({"": DetectionSet(NAMES, (turned,))}, tmp_path / "out", "tfrecord")
    (again,) = read_data(tmp_path / "out", ClassMap(NAMES)).samples
    assert again.size_hw == (80, 100)
    with Image.open(again.image_path) as image:
        assert image.size == (100, 80)
    np.testing.assert_allclose(again.boxes_xyxy, [[50, 10, 100, 20]], atol=1e-4)


@needs_tensorflow
@pytest.mark.slow
def test_what_tensorflow_reads_of_a_tfrecord_is_what_we_read(tmp_path: Path) -> None:
    """Its own decoder gets the same pixels, whatever the files were."""
    import tensorflow as tf

    drawn = np.random.default_rng(0).integers(0, 255, (40, 60, 4), np.uint8)
    drawn[:, :30, 3] = 255
    image, half = Image.fromarray(drawn[..., :3]), Image.fromarray(drawn)
    image.save(tmp_path / "phone.JPG", "MPO", save_all=True, append_images=[Image.new("RGB", (9, 9))])
    image.save(tmp_path / "plain.png")
    half.save(tmp_path / "half.png")
    image.save(tmp_path / "a.webp", lossless=True)
    image.save(tmp_path / "b.bmp")
    image.save(tmp_path / "c.tif")
    image.save(tmp_path / "d.avif")
    paths = sorted(tmp_path.iterdir())
    one = {"boxes_xyxy": np.array([[1, 2, 30, 40]], np.float32), "class_ids": np.array([0])}
    samples = tuple(Sample(p, None, (40, 60), **one, difficult=np.array([False])) for p in paths)
    write_data({"": DetectionSet(NAMES, samples)}, tmp_path / "out", "tfrecord")
    records = tf.data.TFRecordDataset(str(tmp_path / "out" / "data.tfrecord")).as_numpy_iterator()
    features = [tf.train.Example.FromString(record).features.feature for record in records]
    assert len(features) == len(paths) == 7
    for path, feature in zip(paths, features, strict=True):
        encoded = feature["image/encoded"].bytes_list.value[0]
        assert feature["image/format"].bytes_list.value[0] == (b"jpeg" if path.suffix == ".JPG" else b"png")
        decoded = tf.io.decode_image(encoded, channels=3).numpy()
        tolerance = 4 if path.suffix == ".JPG" else 0  # two JPEG decoders
        np.testing.assert_allclose(decoded.astype(int), read_image(path).astype(int), atol=tolerance)
    kept = features[paths.index(tmp_path / "phone.JPG")]["image/encoded"].bytes_list.value[0]
    assert kept == (tmp_path / "phone.JPG").read_bytes()
