"""Two cameras have pictures of the same file name: nothing that is meant for one reaches the other."""

from __future__ import annotations

import csv
import json
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from exports import CLASSES as WRITTEN
from exports import World, boxes_of, coco_roboflow, put, say, voc_beside, voc_cvat, xml, yolo_ultralytics
from maskwatch.cli.app import main
from maskwatch.data import DetectionSet, correct, correct_all, find_splits, read_corrections, read_data
from maskwatch.data.dataset import file_names
from maskwatch.errors import DataError
from maskwatch.labels import ClassMap

CLASSES = ClassMap(WRITTEN)
NAMES = ["cam1/0001.jpg", "cam2/0001.jpg", "cam2/0002.jpg"]
HEAD = "picture,fault,class,xmin,ymin,xmax,ymax\n"


@pytest.fixture
def cameras(tmp_path: Path) -> Path:
    voc_cvat(tmp_path / "set", World({"": NAMES}))
    return tmp_path / "set"


def run(*arguments: object) -> int:
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def label(name: str, number: int = 0) -> str:
    """Corners of a label, for a line of a file of corrections."""
    return ",".join(str(corner) for corner in boxes_of("", name)[number][1:])


def corrected(data: DetectionSet, folder: Path, *lines: str) -> dict[str, list[int]]:
    say(folder / "c.csv", HEAD + "\n".join(lines) + "\n")
    after = correct(data, read_corrections(folder / "c.csv", CLASSES))
    return {sample.image_id: sample.class_ids.tolist() for sample in after.samples}


@pytest.mark.parametrize("written", ["cam2/0001", "cam2\\0001.JPG", "JPEGImages/cam2/0001.jpg"])
def test_a_correction_reaches_its_picture_alone(cameras: Path, tmp_path: Path, written: str) -> None:
    data = read_data(cameras, CLASSES)
    before = {sample.image_id: sample.class_ids.tolist() for sample in data.samples}
    right = 1 - before["cam2/0001.jpg"][0]
    after = corrected(data, tmp_path, f"{written},class,{WRITTEN[right]},{label('cam2/0001.jpg')}")
    assert after == before | {"cam2/0001.jpg": [right, *before["cam2/0001.jpg"][1:]]}


def test_a_correction_of_an_unclear_picture_is_refused(cameras: Path, tmp_path: Path) -> None:
    data = read_data(cameras, CLASSES)
    with pytest.raises(DataError, match=r"c\.csv:2: '0001' may be any of cam1/0001\.jpg, cam2/0001\.jpg"):
        corrected(data, tmp_path, "0001,missing,with_mask,1,1,9,9")
    assert len(corrected(data, tmp_path, "0002,missing,with_mask,1,1,9,9")["cam2/0002.jpg"]) == 1 + len(
        boxes_of("", "cam2/0002.jpg")
    )
    # Of a camera that is not there: passed over, not taken for another's.
    before = {sample.image_id: sample.class_ids.tolist() for sample in data.samples}
    assert corrected(data, tmp_path, "cam3/0001,missing,with_mask,1,1,9,9") == before


def test_corrections_of_sets_that_are_read_together(tmp_path: Path) -> None:
    voc_beside(tmp_path / "set", World({"train": ["a.jpg"], "val": ["a.jpg"]}))
    sets = [read_data(tmp_path / "set", CLASSES, split=split) for split in ("train", "val")]
    say(tmp_path / "c.csv", f"{HEAD}a,missing,with_mask,1,1,9,9\n")
    with pytest.raises(DataError, match=r"'a' may be any of .*train/a\.jpg, .*val/a\.jpg"):
        correct_all(sets, read_corrections(tmp_path / "c.csv", CLASSES))
    say(tmp_path / "c.csv", f"{HEAD}val/a,missing,with_mask,1,1,9,9\n")
    train, val = correct_all(sets, read_corrections(tmp_path / "c.csv", CLASSES))
    assert len(train.samples[0]) == len(boxes_of("train", "a.jpg"))
    assert len(val.samples[0]) == len(boxes_of("val", "a.jpg")) + 1


def test_stems_choose_one_of_two(cameras: Path) -> None:
    def chosen(*stems: str) -> list[str]:
        return [sample.image_id for sample in read_data(cameras, CLASSES, stems).samples]

    assert chosen("cam1/0001") == ["cam1/0001.jpg"]
    assert chosen("0002", "cam1\\0001.jpg") == ["cam1/0001.jpg", "cam2/0002.jpg"]
    with pytest.raises(DataError, match=r"'0001' may be any of cam1/0001\.jpg, cam2/0001\.jpg; write more"):
        chosen("0001")
    with pytest.raises(DataError, match="no picture named 'cam3/0001'; check the list"):
        chosen("cam3/0001")


def test_stems_of_several_folders(tmp_path: Path) -> None:
    folders = []
    for name in ("one", "two"):
        voc_beside(tmp_path / name, World({"train": ["0001.jpg", f"{name}.jpg"]}))
        folders.append(tmp_path / name / "train")
    assert [s.image_path.stem for s in read_data(folders, CLASSES, ["one", "two"]).samples] == ["one", "two"]
    with pytest.raises(DataError, match=r"'0001' may be any of .*one/train/0001\.jpg, .*two/train/0001\.jpg"):
        read_data(folders, CLASSES, ["0001"])
    (sample,) = read_data(folders, CLASSES, ["two/train/0001"]).samples
    assert sample.image_path == tmp_path / "two" / "train" / "0001.jpg"


def test_stems_on_the_command_line(
    tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pycocotools", reason="evaluating needs it")
    voc_beside(tmp_path / "set", World({"test": ["cam1/my photo.jpg", "cam2/my photo.jpg", "b.jpg"]}))
    arguments = (
        "evaluate",
        tiny_model,
        tmp_path / "set",
        "--classes",
        "mask=with_mask,no_mask=without_mask,mask_incorrect",
    )
    say(tmp_path / "list.txt", "cam1/my photo\nb\n")
    code = run(*arguments, "--stems", tmp_path / "list.txt", "--json", "-")
    captured = capsys.readouterr()
    assert code == 0, captured.err
    assert json.loads(captured.out)["results"][0]["pictures"] == 2
    say(tmp_path / "list.txt", "my photo\n")
    assert run(*arguments, "--stems", tmp_path / "list.txt") == 2
    assert "'my photo' may be any of cam1/my photo.jpg, cam2/my photo.jpg" in capsys.readouterr().err


def test_a_subset_takes_one_of_two(cameras: Path) -> None:
    data = read_data(cameras, CLASSES)
    assert [s.image_id for s in data.subset(["cam2/0001"]).samples] == ["cam2/0001.jpg"]
    with pytest.raises(DataError, match=r"'0001' may be any of cam1/0001\.jpg, cam2/0001\.jpg"):
        data.subset(["0001"])


def test_suspects_name_their_picture(cameras: Path, tmp_path: Path) -> None:
    from maskwatch.evaluation.suspects import Suspect, write_suspects

    data = read_data(cameras, CLASSES)
    number = [sample.image_id for sample in data.samples].index("cam2/0001.jpg")
    found = [
        Suspect(number, "missing", "with_mask", "", (1, 1, 9, 9), 0.9),
        Suspect(number - 1, "missing", "without_mask", "", (2, 2, 8, 8), 0.9),
    ]
    write_suspects(data, found, tmp_path / "s.csv", force=False)
    rows = list(csv.reader((tmp_path / "s.csv").read_text("utf-8").splitlines()))
    assert [row[0] for row in rows[1:]] == ["cam2/0001", "cam1/0001"]
    after = correct(data, read_corrections(tmp_path / "s.csv", CLASSES))
    assert after.samples[number].boxes_xyxy[-1].tolist() == [1, 1, 9, 9]
    assert after.samples[number - 1].boxes_xyxy[-1].tolist() == [2, 2, 8, 8]
    assert len(after.samples[number + 1]) == len(data.samples[number + 1])
    write_suspects(data, found, tmp_path / "voc", force=False)
    written = sorted(
        path.relative_to(tmp_path / "voc").as_posix() for path in (tmp_path / "voc").rglob("*.xml")
    )
    assert written == ["cam1/0001.xml", "cam2/0001.xml"]


def test_sources_are_told_apart(cameras: Path) -> None:
    from maskwatch.evaluation.slices import _sources_of

    data = read_data(cameras, CLASSES)
    assert _sources_of(data, {"cam1/0001": "door", "0002": "hall"}) == ["door", "(unknown)", "hall"]
    with pytest.raises(DataError, match="'0001' may be any of"):
        _sources_of(data, {"0001": "door"})


@pytest.mark.parametrize("export", [voc_beside, coco_roboflow, yolo_ultralytics])
@pytest.mark.parametrize("target", ["voc", "coco", "yolo"])
def test_convert_keeps_two_cameras_apart(tmp_path: Path, export: object, target: str) -> None:
    world = World({"train": NAMES, "val": ["cam1/0001.jpg"]})
    export(tmp_path / "in", world)  # type: ignore[operator]
    assert run("data", "convert", tmp_path / "in", "--to", target, "-o", tmp_path / "out") == 0
    for split, names in world.pictures.items():
        again = read_data(tmp_path / "out", CLASSES, split=split)
        assert {sample.image_id for sample in again.samples} == set(names)
        for sample in again.samples:
            put(tmp_path / "x.jpg", split, sample.image_id)
            assert sample.image_path.read_bytes() == (tmp_path / "x.jpg").read_bytes()
            truth = boxes_of(split, sample.image_id)
            np.testing.assert_allclose(sample.boxes_xyxy, [box[1:] for box in truth], atol=1e-4)


def test_split_and_mending_keep_all_pictures(tmp_path: Path) -> None:
    world = World({"": [f"cam{camera}/{number}.jpg" for camera in (1, 2) for number in range(6)]})
    voc_cvat(tmp_path / "in", world)
    assert run("data", "split", tmp_path / "in", "-o", tmp_path / "out", "--shares", "50,50") == 0
    found = [
        s.image_id for split in ("train", "val") for s in read_data(tmp_path / "out", split=split).samples
    ]
    assert sorted(found) == sorted(world.pictures[""])
    (bad,) = (tmp_path / "in" / "Annotations" / "cam2").glob("3.xml")
    say(bad, xml("", "cam2/3.jpg", "").replace("<xmin>", "<xmin>-90"))
    assert run("data", "check", tmp_path / "in", "--fix", tmp_path / "repaired") == 1
    assert {s.image_id for s in read_data(tmp_path / "repaired").samples} == set(world.pictures[""])


def test_two_data_sets_in_one_folder(tmp_path: Path) -> None:
    voc_cvat(tmp_path / "both" / "old", World({"": ["0001.jpg"]}))
    coco_roboflow(tmp_path / "both" / "new", World({"train": ["0001.jpg"]}))
    splits = find_splits(tmp_path / "both")
    assert [(split.name, split.format) for split in splits] == [("train", "coco"), ("", "voc")]
    assert [raw.image_id for split in splits for raw in split.read([])] == ["new/0001.jpg", "old/0001.jpg"]


def test_pictures_of_one_name_in_a_merged_set_get_names_of_their_own(tmp_path: Path) -> None:
    for name in ("one", "two"):
        voc_beside(tmp_path / name, World({"train": ["cam/a.jpg"]}))
    data = read_data([tmp_path / "one", tmp_path / "two"], CLASSES, split="train")
    assert file_names(data) == ["cam/a.jpg", "cam/a-2.jpg"]


@pytest.mark.parametrize(("disk", "text"), [("NFD", "NFC"), ("NFC", "NFD")])
def test_lists_and_corrections_in_either_form_of_unicode(tmp_path: Path, disk: str, text: str) -> None:
    world = World({"": ["Büro/é 1.jpg", "Café/é 1.jpg"]}, disk, disk)
    voc_cvat(tmp_path / "set", world)
    name = unicodedata.normalize(text, "Büro/é 1")
    (sample,) = read_data(tmp_path / "set", CLASSES, [name]).samples
    assert sample.image_id == "Büro/é 1.jpg"
    data = read_data(tmp_path / "set", CLASSES)
    assert [s.image_id for s in data.subset([name]).samples] == ["Büro/é 1.jpg"]
    before = {s.image_id: s.class_ids.tolist() for s in data.samples}
    after = corrected(data, tmp_path, f"{name},missing,with_mask,1,1,9,9")
    assert after == before | {"Büro/é 1.jpg": [*before["Büro/é 1.jpg"], 0]}
