"""The store of labels: what it reads, what it keeps of other programs, and that nothing gets lost."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from label_data import (
    FOLDERS,
    HEIGHT,
    VOC_XML,
    WIDTH,
    coco_document,
    coco_folder,
    draw,
    voc_folder,
    yolo_folder,
)
from maskwatch.data.read import read_data
from maskwatch.errors import DataError, SourceError
from maskwatch.label.annotation import LabelBox
from maskwatch.label.errors import ConflictError, DiskFullError, LabelInputError, ReadOnlyError
from maskwatch.label.project import LabelPicture, open_project
from maskwatch.label.store import LabelStore
from maskwatch.labels import ClassMap

NEW = LabelBox((5.0, 6.0, 25.5, 30.25), "mask_incorrect")


def opened(folder: Path, classes: str | None = None) -> tuple[LabelStore, dict[str, LabelPicture]]:
    project = open_project(folder, None if classes is None else ClassMap.parse(classes))
    return LabelStore(project), {Path(p.image_id).stem: p for p in project.pictures}


def states(folder: Path) -> dict[str, str]:
    store, pictures = opened(folder)
    return {name: store.read(picture).state for name, picture in pictures.items()}


@pytest.fixture(params=FOLDERS)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return FOLDERS[request.param](tmp_path / request.param)


# ---- What is there, in every format ----------------------------------------------------------------------


def test_reads_boxes_of_the_format(folder: Path) -> None:
    store, pictures = opened(folder)
    assert store.project.format == folder.name
    annotation = store.read(pictures["a"])
    assert annotation.state == "labelled"
    assert [box.name for box in annotation.boxes] == ["mask", "no_mask"]
    assert store.read(pictures["b"]).state == "unlabelled"


def test_saving_the_same_changes_nothing(folder: Path) -> None:
    store, pictures = opened(folder)
    before = store.read(pictures["a"])
    content = pictures["a"].annotation.read_bytes()
    after, ids = store.save(pictures["a"], before.boxes, before.revision)
    assert (after, ids) == (before, [box.id for box in before.boxes])
    if folder.name != "coco":  # whose layout changes, a row a line
        assert pictures["a"].annotation.read_bytes() == content


def test_what_is_saved_is_what_the_reader_of_data_sets_reads(folder: Path) -> None:
    store, pictures = opened(folder)
    before = store.read(pictures["a"])
    new = NEW if folder.name != "yolo" else replace(NEW, name="no_mask")
    moved = replace(before.boxes[0], box_xyxy=(2.0, 2.0, 33.25, 44.0), name="no_mask")
    after, ids = store.save(pictures["a"], [new, moved], before.revision)
    assert {box.id for box in after.boxes} == {*ids}
    assert after.revision != before.revision
    (sample,) = (s for s in read_data(folder, image_ids=["a"]).samples)
    found = {tuple(round(v, 3) for v in box) for box in sample.boxes_xyxy.tolist()}
    assert found == {new.box_xyxy, moved.box_xyxy}


def test_empty_is_not_unlabelled_and_can_be_undone(folder: Path) -> None:
    store, pictures = opened(folder)
    empty, _ = store.save(pictures["b"], [], store.read(pictures["b"]).revision, mark="empty")
    assert empty.state == "empty"
    assert states(folder)["b"] == "empty"
    store.save(pictures["b"], [], empty.revision)
    assert states(folder)["b"] == "unlabelled"


def test_proposals_are_not_labels_until_they_are_saved(folder: Path) -> None:
    store, pictures = opened(folder)
    box = LabelBox((5.0, 6.0, 25.0, 30.0), "no_mask", score=0.75)
    written, _ = store.save(pictures["b"], [box], store.read(pictures["b"]).revision, mark="proposed")
    assert (written.state, written.boxes) == ("unlabelled", ())
    again, pictures = opened(folder)  # what another process sees
    seen = again.read(pictures["b"])
    assert [(p.name, p.score) for p in seen.proposals] == [("no_mask", 0.75)]
    accepted = [replace(one, id=None, score=None) for one in seen.proposals]
    saved, _ = again.save(pictures["b"], accepted, seen.revision)
    assert (saved.state, len(saved.boxes), saved.proposals) == ("labelled", 1, ())
    assert states(folder)["b"] == "labelled"


def test_a_box_that_comes_back_brings_all_of_it(folder: Path) -> None:
    """Undoing a deletion: the file is as it was."""
    store, pictures = opened(folder)
    before = store.read(pictures["a"])
    first, _ = store.save(pictures["a"], [replace(box, name="mask") for box in before.boxes], before.revision)
    text = pictures["a"].annotation.read_text("utf-8")
    gone, _ = store.save(pictures["a"], first.boxes[1:], first.revision)
    assert len(gone.boxes) == 1
    store.save(pictures["a"], [*gone.boxes, first.boxes[0]], gone.revision)
    now = pictures["a"].annotation.read_text("utf-8")
    assert sorted(re.findall(r"\w+", now)) == sorted(re.findall(r"\w+", text))


def test_the_original_is_kept_once(folder: Path) -> None:
    store, pictures = opened(folder)
    path = pictures["a"].annotation
    original = path.read_bytes()
    for name in ("no_mask", "mask"):
        seen = store.read(pictures["a"])
        store.save(pictures["a"], [replace(seen.boxes[0], name=name)], seen.revision)
    assert (folder / ".maskwatch-label" / "originals" / path.relative_to(folder)).read_bytes() == original
    assert len(read_data(folder, image_ids=["a"])) == 1  # the hidden folder is not part of the data set


# ---- What other programs wrote ---------------------------------------------------------------------------


def test_voc_keeps_what_other_programs_wrote(tmp_path: Path) -> None:
    store, pictures = opened(voc_folder(tmp_path / "set"))
    before = store.read(pictures["a"])
    boxes = [replace(before.boxes[0], box_xyxy=(2.0, 2.0, 33.25, 44.0)), NEW]
    store.save(pictures["a"], boxes, before.revision)
    text = pictures["a"].annotation.read_text("utf-8")
    assert text.startswith('<?xml version="1.0" encoding="utf-8"?>\n<!-- drawn by André -->')
    for kept in ("<!-- a note -->", '<annotation verified="yes">', "shop 7", "<segmented>0</segmented>"):
        assert kept in text
    first, second = ET.fromstring(text).findall("object")
    old = ET.fromstring(VOC_XML.partition("?>")[2]).find("object")
    assert old is not None
    assert first.attrib == {"id": "7"}
    for tag in ("name", "pose", "truncated", "part/name", "part/bndbox/xmax"):  # the spelling stays, too
        assert first.findtext(tag) == old.findtext(tag)
    assert first.findtext("bndbox/xmax") == "33.25"
    assert second.findtext("name") == "mask_incorrect"
    assert "\n\t<object>\n\t\t<name>" in text  # laid out as the rest


def test_voc_marks_difficult_boxes_and_crowds(tmp_path: Path) -> None:
    store, pictures = opened(voc_folder(tmp_path / "set"))
    seen = store.read(pictures["a"])
    boxes = [replace(seen.boxes[0], difficult=True), replace(seen.boxes[1], crowd=True)]
    saved, _ = store.save(pictures["a"], boxes, seen.revision)
    assert [(box.difficult, box.crowd) for box in saved.boxes] == [(True, False), (False, True)]
    (sample,) = read_data(store.project.folder, image_ids=["a"]).samples
    assert (sample.difficult.tolist(), sample.crowds.tolist()) == ([True, False], [False, True])
    back, _ = store.save(
        pictures["a"], [replace(b, difficult=False, crowd=False) for b in saved.boxes], saved.revision
    )
    assert not any(box.difficult or box.crowd for box in back.boxes)


def test_yolo_keeps_other_columns_and_lines(tmp_path: Path) -> None:
    store, pictures = opened(yolo_folder(tmp_path / "set"))
    seen = store.read(pictures["a"])
    store.save(
        pictures["a"], [replace(seen.boxes[0], box_xyxy=(0.0, 0.0, 50.0, 30.0)), seen.boxes[1]], seen.revision
    )
    lines = pictures["a"].annotation.read_bytes().split(b"\r\n")
    assert lines == [
        b"0 0.2500000000 0.2500000000 0.5000000000 0.5000000000 0.9",
        b"1 0.25 0.25 0.1 0.1",
        b"",
    ]


def test_yolo_stretches_a_polygon_with_its_box(tmp_path: Path) -> None:
    draw(tmp_path / "images", "a.jpg")
    (tmp_path / "labels").mkdir()
    (tmp_path / "classes.txt").write_text("mask\n")
    (tmp_path / "labels" / "a.txt").write_text(
        "0 0.1 0.1 0.5 0.1 0.5 0.5 0.1 0.5\n0 0.1 0.1 0.2 0.1 0.2 0.2 0.1 0.2\n"
    )
    store, pictures = opened(tmp_path)
    seen = store.read(pictures["a"])
    assert [round(v, 6) for v in seen.boxes[0].box_xyxy] == [10, 6, 50, 30]
    saved, _ = store.save(
        pictures["a"],
        [replace(seen.boxes[0], box_xyxy=(20.0, 6.0, 100.0, 30.0)), seen.boxes[1]],
        seen.revision,
    )
    assert [round(v, 6) for v in saved.boxes[0].box_xyxy] == [20, 6, 100, 30]
    words = pictures["a"].annotation.read_text().split("\n")[0].split()
    assert [float(word) for word in words[1:]] == [0.2, 0.1, 1, 0.1, 1, 0.5, 0.2, 0.5]


def test_yolo_says_what_it_cannot_hold(tmp_path: Path) -> None:
    store, pictures = opened(yolo_folder(tmp_path / "set"))
    seen = store.read(pictures["a"])
    with pytest.raises(LabelInputError, match="cannot mark a box as difficult"):
        store.save(pictures["a"], [replace(seen.boxes[0], difficult=True)], seen.revision)
    with pytest.raises(LabelInputError, match=r"'mask_incorrect' has no number .* classes.txt"):
        store.save(pictures["a"], [NEW], seen.revision)
    assert store.read(pictures["a"]) == seen


def test_coco_keeps_what_other_programs_wrote(tmp_path: Path) -> None:
    store, pictures = opened(coco_folder(tmp_path / "set"))
    seen = store.read(pictures["a"])
    store.save(pictures["a"], [replace(seen.boxes[0], name="no_mask"), NEW], seen.revision)
    new, old = json.loads(pictures["a"].annotation.read_text("utf-8")), coco_document()
    assert new["info"] == old["info"]
    assert new["images"] == old["images"]
    changed, added = new["annotations"]
    assert changed == old["annotations"][0] | {"category_id": 6}  # type: ignore[index]
    assert (added["id"], added["image_id"], added["bbox"]) == (13, 1, [5.0, 6.0, 20.5, 24.25])
    assert new["categories"] == [*old["categories"], {"id": 7, "name": "mask_incorrect"}]  # type: ignore[misc]
    assert added["category_id"] == 7


def test_coco_takes_a_picture_that_it_did_not_name(tmp_path: Path) -> None:
    store, pictures = opened(coco_folder(tmp_path / "set"))
    store.save(pictures["c"], [replace(NEW, difficult=True)], "none")
    (sample,) = read_data(store.project.folder, image_ids=["c"]).samples
    assert (sample.size_hw, sample.difficult.tolist()) == ((HEIGHT, WIDTH), [True])


def test_coco_with_thousands_of_images_before_its_annotations_is_recognised(tmp_path: Path) -> None:
    draw(tmp_path, "a.jpg")
    rows = [{"id": n, "file_name": f"{n}.jpg", "width": 9, "height": 9} for n in range(2000)]
    document = {"images": [{"id": -1, "file_name": "a.jpg"}, *rows], "annotations": [], "categories": []}
    (tmp_path / "instances.json").write_text(json.dumps(document))
    assert open_project(tmp_path).format == "coco"


def test_an_object_that_cannot_be_shown_stays(tmp_path: Path) -> None:
    draw(tmp_path, "a.jpg")
    box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
    objects = "".join(
        f"<object><name>{name}</name>{inside}</object>"
        for name, inside in (("dog", box), ("mask", ""), ("person", box))
    )
    (tmp_path / "a.xml").write_text(f"<annotation>{objects}</annotation>")
    store, pictures = opened(tmp_path, "mask,no_mask,=person")
    seen = store.read(pictures["a"])
    assert [box.name for box in seen.boxes] == ["dog"]
    assert "unknown class 'dog'" in seen.notes
    assert any("object 2 (mask) is not shown" in note for note in seen.notes)
    saved, _ = store.save(pictures["a"], seen.boxes, seen.revision)  # an unknown class may stay
    assert saved.boxes == seen.boxes
    seen = saved
    with pytest.raises(LabelInputError, match="'dog' is none of mask, no_mask"):
        store.save(pictures["a"], [replace(seen.boxes[0], id=None)], seen.revision)
    store.save(pictures["a"], [], seen.revision, mark="empty")
    left = [node.findtext("name") for node in ET.parse(tmp_path / "a.xml").getroot().findall("object")]
    assert left == ["mask", "person"]


# ---- Layouts ---------------------------------------------------------------------------------------------


def test_a_folder_without_annotations_gets_pascal_voc_beside_the_pictures(tmp_path: Path) -> None:
    draw(tmp_path, "a.jpg", "a.png")
    draw(tmp_path / "day 2", "b.jpg")
    store, _ = opened(tmp_path)
    pictures = {p.image_id: p for p in store.project.pictures}
    assert set(pictures) == {"a.jpg", "a.png", "day 2/b.jpg"}
    for picture in pictures.values():
        store.save(picture, [NEW], "none")
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("[!.]*.xml")) == [
        "a.jpg.xml" if (tmp_path / "a.jpg.xml").exists() else "a.png.xml", "a.xml", "day 2/b.xml"
    ]  # fmt: skip
    again, _ = opened(tmp_path)
    assert {p.image_id: again.read(p).state for p in again.project.pictures} == dict.fromkeys(
        pictures, "labelled"
    )


def test_new_files_go_where_the_others_are(tmp_path: Path) -> None:
    _, pictures = opened(voc_folder(tmp_path / "set"))
    assert pictures["b"].annotation == tmp_path / "set" / "Annotations" / "b.xml"


def test_classes_of_other_data_are_taken_from_it(tmp_path: Path) -> None:
    draw(tmp_path, "a.jpg")
    box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
    (tmp_path / "a.xml").write_text(f"<annotation><object><name>helmet</name>{box}</object></annotation>")
    assert open_project(tmp_path).classes.names == ("helmet",)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_are_those_of_the_upright_picture(tmp_path: Path, orientation: int) -> None:
    """Also where another program drew them on the picture without its EXIF orientation, and said so."""
    raw = Image.new("RGB", (WIDTH, HEIGHT), "white")
    raw.paste("red", (10, 20, 40, 30))
    exif = Image.Exif()
    exif[0x0112] = orientation
    raw.save(tmp_path / "a.png", exif=exif)
    size = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height></size>"
    box = "<bndbox><xmin>10</xmin><ymin>20</ymin><xmax>40</xmax><ymax>30</ymax></bndbox>"
    (tmp_path / "a.xml").write_text(f"<annotation>{size}<object><name>mask</name>{box}</object></annotation>")
    store, pictures = opened(tmp_path)
    seen = store.read(pictures["a"])
    if orientation < 5:  # nothing in the file tells: the boxes are those of the upright picture
        assert seen.boxes[0].box_xyxy == (10, 20, 40, 30)
        return
    from maskwatch.media.images import read_image

    image = read_image(tmp_path / "a.png")
    x0, y0, x1, y1 = (int(value) for value in seen.boxes[0].box_xyxy)
    red = (image == (255, 0, 0)).all(-1)
    assert red[y0:y1, x0:x1].all()
    assert red.sum() == (y1 - y0) * (x1 - x0)
    store.save(pictures["a"], seen.boxes, seen.revision)
    (sample,) = read_data(tmp_path).samples  # which refuses a file of the wrong size
    assert sample.boxes_xyxy.tolist() == [[x0, y0, x1, y1]]


# ---- Nothing gets lost -----------------------------------------------------------------------------------


def test_a_change_of_another_program_is_a_conflict(folder: Path) -> None:
    store, pictures = opened(folder)
    seen = store.read(pictures["a"])
    path = pictures["a"].annotation
    changed = {"yolo": path.read_bytes() + b"0 0.1 0.1 0.1 0.1\n"}.get(
        folder.name, path.read_bytes().replace(b"40", b"39").replace(b"38", b"37")
    )
    path.write_bytes(changed)
    with pytest.raises(ConflictError, match="look at both"):
        store.save(pictures["a"], seen.boxes, seen.revision)
    assert path.read_bytes() == changed
    now = store.read(pictures["a"])
    store.save(pictures["a"], [*now.boxes[1:]], now.revision)


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file(folder: Path, call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store, pictures = opened(folder)
    seen = store.read(pictures["a"])
    store.save(pictures["a"], seen.boxes, seen.revision)
    seen, before = store.read(pictures["a"]), pictures["a"].annotation.read_bytes()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(*((os, "fsync") if call == "fsync" else (Path, "replace")), full)
        with pytest.raises(DiskFullError, match="no room on the disk"):
            store.save(pictures["a"], [seen.boxes[0]], seen.revision)
    assert pictures["a"].annotation.read_bytes() == before
    assert store.read(pictures["a"]) == seen
    assert not list(folder.rglob(".*.part"))
    saved, _ = store.save(pictures["a"], [seen.boxes[0]], seen.revision)
    assert len(saved.boxes) == 1


def add_boxes(folder: Path, row: float) -> None:
    """Adds six boxes to b.jpg one by one, again wherever another process was faster."""
    store, pictures = opened(folder)
    for number in range(6):
        while True:
            seen = store.read(pictures["b"])
            new = LabelBox((float(number), row, number + 10.0, 50.0), "no_mask")
            with contextlib.suppress(ConflictError):
                store.save(pictures["b"], [*seen.boxes, new], seen.revision)
                break


@pytest.mark.parametrize("kind", ["voc", "coco"])
def test_two_processes_lose_nothing(tmp_path: Path, kind: str) -> None:
    folder = FOLDERS[kind](tmp_path)
    code = f"import sys, pathlib, test_label_store as t; t.add_boxes(pathlib.Path({str(folder)!r}), 1.0)"
    with subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parent) as other:
        add_boxes(folder, 2.0)
        assert other.wait(120) == 0
    store, pictures = opened(folder)
    corners = {box.box_xyxy[:2] for box in store.read(pictures["b"]).boxes}
    assert corners == {(float(number), row) for number in range(6) for row in (1.0, 2.0)}


# ---- Bad input -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ((5, 5, 5, 20), "has no area"),
        ((200, 5, 300, 20), "has no area in the picture of 100 x 60"),
        ((20, 5, 10, 20), "has no area"),
        ((float("nan"), 5, 10, 20), "not made of four numbers"),
        ((float("inf"), 5, 10, 20), "not made of four numbers"),
    ],
)
def test_a_bad_box_is_refused(tmp_path: Path, box: tuple[float, float, float, float], message: str) -> None:
    store, pictures = opened(voc_folder(tmp_path / "set"))
    with pytest.raises(LabelInputError, match=message):
        store.save(pictures["b"], [LabelBox(box, "mask")], "none")


def test_a_box_is_clipped_to_the_picture(tmp_path: Path) -> None:
    store, pictures = opened(voc_folder(tmp_path / "set"))
    saved, _ = store.save(pictures["b"], [LabelBox((-5, -5, 500, 20.12345), "mask")], "none")
    assert saved.boxes[0].box_xyxy == (0, 0, 100, 20.123)


def test_one_id_for_two_boxes_is_refused(tmp_path: Path) -> None:
    store, pictures = opened(voc_folder(tmp_path / "set"))
    seen = store.read(pictures["a"])
    with pytest.raises(LabelInputError, match="two boxes have the id"):
        store.save(pictures["a"], [seen.boxes[0], seen.boxes[0]], seen.revision)


@pytest.mark.parametrize("content", ["<annotation><object>", "", "<html></html>", "\0\0"])
def test_a_broken_file_is_reported_and_kept(tmp_path: Path, content: str) -> None:
    store, pictures = opened(voc_folder(tmp_path / "set"))
    pictures["a"].annotation.write_text(content)
    seen = store.read(pictures["a"])
    assert "a.xml cannot be read" in str(seen.problem)
    with pytest.raises(ReadOnlyError, match="repair it"):
        store.save(pictures["a"], [NEW], seen.revision)
    assert pictures["a"].annotation.read_text() == content


def test_a_broken_picture_is_reported(tmp_path: Path) -> None:
    draw(tmp_path, "a.jpg")
    (tmp_path / "b.jpg").write_bytes(b"no picture")
    store, pictures = opened(tmp_path)
    assert "not a picture that can be read" in str(store.read(pictures["b"]).problem)
    with pytest.raises(ReadOnlyError):
        store.save(pictures["b"], [NEW], "none")


def test_a_folder_that_cannot_be_labelled(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="does not exist"):
        open_project(tmp_path / "nowhere")
    with pytest.raises(SourceError, match="no pictures in it"):
        open_project(tmp_path)
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(SourceError, match="is a file"):
        open_project(tmp_path / "a.txt")
    coco = coco_folder(tmp_path / "coco")
    (coco / "instances.json").write_text('{"images": [], "annotations": []')
    with pytest.raises(DataError, match="not readable as JSON"):
        open_project(coco)
