"""Label Studio's JSON and CVAT's XML, as the two programs write them, and there and back again."""

from __future__ import annotations

import contextlib
import json
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from maskwatch.data import DetectionSet, Sample, find_splits, read_data, read_split
from maskwatch.data.formats import write_data
from maskwatch.data.issues import Issue
from maskwatch.data.quality.check import check_splits
from maskwatch.errors import DataError
from maskwatch.labels import ClassMap

NAMES = ("mask", "no_mask", "mask & \"visor\" <'é'>")
CLASSES = ClassMap(NAMES)


def picture(path: Path, size: tuple[int, int] = (200, 100)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (90, 120, 150)).save(path)
    return path


def write(path: Path, content: str | list[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")


def issues_of(root: Path) -> list[Issue]:
    found: list[Issue] = []
    for split in find_splits(root):
        split.read(found)
    return found


def problems_of(root: Path) -> list[str]:
    with pytest.raises(DataError) as error:
        read_data(root, CLASSES)
    return [problem.removeprefix(f"{root}/") for problem in error.value.problems]


# ---- There and back ----------------------------------------------------------------------------------------

corner = st.floats(0, 150, width=32)
note_text = st.text("abc é<&\"'>未", min_size=1, max_size=6).map(str.strip).filter(bool)
note_key = st.sampled_from(
    ["occluded", "truncated", "pose", "z_order", "source", "group_id", "face quality", "text"]
)
notes_of = st.dictionaries(
    note_key, note_text | st.sampled_from(["0", "1", "-3", "auto", "manual"]), max_size=4
)
box_of = st.tuples(
    corner,
    corner,
    st.floats(1, 90, width=32),
    st.integers(0, 2),
    st.sampled_from(["", "difficult", "crowd"]),
    notes_of,
)


def sample_of(path: Path, rows: list[Any]) -> Sample:
    boxes, notes = [], []
    for x, y, side, _, flag, note in rows:
        y0 = min(y, 90)
        boxes.append([x, y0, min(x + side, 200), min(y0 + side, 100)])
        notes.append({**note, **({"iscrowd": "1"} if flag == "crowd" else {})})
    return Sample(
        path,
        None,
        (100, 200),
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array([row[3] for row in rows], np.int64),
        np.array([row[4] == "difficult" for row in rows], np.bool_),
        tuple(notes),
        "cam 1/a+b%20é.png",
    )


def assert_same(one: DetectionSet, other: DetectionSet) -> None:
    assert one.class_names == other.class_names
    assert len(one) == len(other)
    for a, b in zip(one.samples, other.samples, strict=True):
        assert a.image_id == b.image_id
        assert a.size_hw == b.size_hw
        assert a.boxes_xyxy.tolist() == b.boxes_xyxy.tolist()  # to the last digit
        assert a.class_ids.tolist() == b.class_ids.tolist()
        assert a.difficult.tolist() == b.difficult.tolist()
        assert a.crowds.tolist() == b.crowds.tolist()
        assert [dict(note) for note in a.notes] == [dict(note) for note in b.notes]


@pytest.mark.parametrize("program", ["label-studio", "cvat"])
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(box_of, max_size=4))
def test_voc_goes_there_and_comes_back(tmp_path: Path, program: str, rows: list[Any]) -> None:
    shutil.rmtree(tmp_path)
    samples = (sample_of(picture(tmp_path / "in.png"), rows),)
    write_data({"val": DetectionSet(NAMES, samples)}, tmp_path / "voc", "voc")
    before = read_data(tmp_path / "voc", CLASSES)
    assert write_data({"val": before}, tmp_path / "there", program) == []
    (there,) = find_splits(tmp_path / "there")
    assert (there.name, there.format) == ("val", program)
    write_data({"val": read_split(there, CLASSES)}, tmp_path / "back", "voc")
    assert_same(before, read_data(tmp_path / "back", CLASSES))


@pytest.mark.parametrize("program", ["label-studio", "cvat"])
def test_a_set_of_all_splits_is_one_folder(tmp_path: Path, program: str) -> None:
    sets = {}
    for split in ("train", "val", "test", ""):
        (one,) = (sample_of(picture(tmp_path / split / "in.png"), [(1.0, 2.0, 9.0, 1, "", {})]),)
        sets[split] = DetectionSet(NAMES, (one,))
    whole = sets.pop("")
    write_data(sets, tmp_path / "split", program)
    assert [split.name for split in find_splits(tmp_path / "split")] == ["train", "val", "test"]
    for split, before in sets.items():
        assert_same(before, read_data(tmp_path / "split", CLASSES, split=split))
    write_data({"": whole}, tmp_path / "whole", program)
    assert_same(whole, read_data(tmp_path / "whole", CLASSES))


def test_the_labelling_interface_has_the_classes_and_flags(tmp_path: Path) -> None:
    one = sample_of(picture(tmp_path / "in.png"), [(1.0, 2.0, 9.0, 1, "difficult", {"pose": "Left"})])
    write_data({"": DetectionSet(NAMES, (one,))}, tmp_path / "ls", "label-studio")
    view = ET.parse(tmp_path / "ls" / "label_config.xml").getroot()
    assert [node.get("value") for node in view.iter("Label")] == list(NAMES)
    assert [node.get("value") for node in view.iter("Choice")] == ["difficult", "iscrowd"]
    (task,) = json.loads((tmp_path / "ls" / "tasks.json").read_text())
    assert task["data"] == {"image": "/data/local-files/?d=images/cam%201/a%2Bb%2520%C3%A9.png"}
    box, flags = task["annotations"][0]["result"]
    assert box["value"] == {
        "x": 0.5, "y": 2.0, "width": 4.5, "height": 9.0, "rotation": 0, "rectanglelabels": ["no_mask"],
    }  # fmt: skip
    assert (box["original_width"], box["original_height"], box["meta"]) == (200, 100, {"pose": "Left"})
    assert (flags["type"], flags["value"]["choices"]) == ("choices", ["difficult"])
    assert flags["id"] == box["id"]


def test_the_labels_of_cvat_define_the_attributes(tmp_path: Path) -> None:
    one = sample_of(
        picture(tmp_path / "in.png"), [(1.0, 2.0, 9.0, 1, "crowd", {"pose": "Left", "occluded": "1"})]
    )
    write_data({"": DetectionSet(NAMES, (one,))}, tmp_path / "cvat", "cvat")
    labels = json.loads((tmp_path / "cvat" / "labels.json").read_text())
    assert [label["name"] for label in labels] == list(NAMES)
    assert [a["name"] for a in labels[0]["attributes"]] == ["difficult", "iscrowd", "pose"]
    box = ET.parse(tmp_path / "cvat" / "annotations.xml").getroot().find("image/box")
    assert box is not None
    assert (box.get("occluded"), box.get("xtl"), box.get("xbr")) == ("1", "1", "10")
    values = {node.get("name"): node.text for node in box}
    assert values == {"pose": "Left", "difficult": "false", "iscrowd": "true"}


# ---- Label Studio ------------------------------------------------------------------------------------------


def region(number: int, **changes: Any) -> dict[str, Any]:
    """A rectangle as Label Studio exports it: pixels 20, 10 to 60, 50."""
    value = {"x": 10, "y": 10, "width": 20, "height": 40, "rotation": 0, "rectanglelabels": ["mask"]}
    return {
        "original_width": 200,
        "original_height": 100,
        "image_rotation": 0,
        "value": {**value, **changes.pop("value", {})},
        "id": f"Dx_aB9{number}",
        "from_name": "label",
        "to_name": "image",
        "type": "rectanglelabels",
        "origin": "manual",
        **changes,
    }


def task_of(image: str, *results: list[Any], number: int = 1, **changes: Any) -> dict[str, Any]:
    """A task with one annotation for each list of results."""
    annotations = [
        {
            "id": 100 * number + n,
            "completed_by": n + 1,
            "result": result,
            "was_cancelled": False,
            "ground_truth": False,
            "created_at": "2026-01-09T22:16:08.728353Z",
            "draft_created_at": None,
            "lead_time": 4.288,
            "prediction": {},
            "result_count": len(result),
            "unique_id": f"a{n}",
            "last_action": None,
            "task": number,
            "project": 83,
        }
        for n, result in enumerate(results)
    ]
    return {
        "id": number,
        "annotations": annotations,
        "file_upload": image.rpartition("/")[2],
        "drafts": [],
        "predictions": [],
        "data": {"image": image},
        "meta": {},
        "inner_id": number,
        "total_annotations": len(results),
        "comment_authors": [],
        **changes,
    }


@pytest.mark.parametrize(
    ("address", "file"),
    [
        ("/data/local-files/?d=set/cam1/a%20b.jpg", "cam1/a b.jpg"),
        ("/data/upload/3/0a1b2c3d-a.jpg", "a.jpg"),
        ("/data/upload/3/0a1b2c3d-a.jpg", "images/0a1b2c3d-a.jpg"),
        ("/data/upload/3/0a1b2c3d-my_photo_1.jpg", "cam2/my photo (1).jpg"),
        ("s3://bucket/folder/cam1/a.jpg", "cam1/a.jpg"),
        ("https://example.org:8080/photos/cam1/a%C3%A9.jpg?size=1", "images/cam1/aé.jpg"),
        ("C:\\photos\\cam1\\a.jpg", "cam1/a.jpg"),
    ],
)
def test_addresses_of_pictures(tmp_path: Path, address: str, file: str) -> None:
    picture(tmp_path / file)
    picture(tmp_path / "other.jpg")
    write(tmp_path / "project-1.json", [task_of(address, [region(1)])])
    (sample,) = read_data(tmp_path).samples
    assert sample.image_path == tmp_path / file
    assert sample.boxes_xyxy.tolist() == [[20, 10, 60, 50]]


def test_the_same_in_json_and_json_min(tmp_path: Path) -> None:
    """A crowd and a difficult box by choices, a note by a text, one by the meta of the region."""
    corners = {"x": 50, "y": 0, "width": 50, "height": 100, "rotation": 0}
    size = {"original_width": 200, "original_height": 100}
    second = region(2, value={**corners, "rectanglelabels": ["no_mask"]}, meta={"text": ["seen from behind"]})
    choices = {
        **region(2),
        "type": "choices",
        "from_name": "flags",
        "value": {**corners, "choices": ["crowd"]},
    }
    text = {**region(2), "type": "textarea", "from_name": "pose", "value": {**corners, "text": ["Left"]}}
    picture(tmp_path / "json" / "a.jpg")
    write(
        tmp_path / "json" / "p.json",
        [task_of("/data/upload/1/12345678-a.jpg", [region(1), second, choices, text])],
    )
    (full,) = read_data(tmp_path / "json").samples
    picture(tmp_path / "min" / "a.jpg")
    entry = {
        "image": "/data/upload/1/12345678-a.jpg",
        "id": 1,
        "label": [{**region(1)["value"], **size}, {**corners, "rectanglelabels": ["no_mask"], **size}],
        "flags": [{**corners, "choices": ["crowd"], **size}],
        "pose": [{**corners, "text": ["Left"], **size}],
        "camera": [{"name": "a column of the data"}],
        "annotator": 1,
        "annotation_id": 7,
        "created_at": "2026-01-09T22:16:08.728353Z",
        "updated_at": "2026-01-09T22:16:08.728353Z",
        "lead_time": 4.288,
    }
    write(tmp_path / "min" / "p.json", [entry])
    (short,) = read_data(tmp_path / "min").samples
    for sample in (full, short):
        assert sample.boxes_xyxy.tolist() == [[20, 10, 60, 50], [100, 0, 200, 100]]
        assert sample.class_ids.tolist() == [0, 1]
        assert sample.crowds.tolist() == [False, True]
    assert dict(full.notes[1]) == {"text": "seen from behind", "pose": "Left", "iscrowd": "1"}
    assert dict(short.notes[1]) == {"pose": "Left", "iscrowd": "1"}


def test_a_rectangle_with_labels_of_its_own(tmp_path: Path) -> None:
    """<Rectangle> and <Labels> as two controls."""
    picture(tmp_path / "a.jpg")
    box = region(1, type="rectangle", from_name="box")
    del box["value"]["rectanglelabels"]
    labels = {**region(1), "type": "labels", "value": {"labels": ["no_mask"]}}
    write(tmp_path / "p.json", [task_of("a.jpg", [box, labels])])
    (sample,) = read_data(tmp_path).samples
    assert sample.class_ids.tolist() == [1]


def test_two_boxes_with_the_same_corners_stay_two(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    value = {**region(1)["value"], "original_width": 200, "original_height": 100}
    write(tmp_path / "p.json", [{"image": "a.jpg", "id": 4, "label": [value, value], "annotator": 1}])
    assert len(read_data(tmp_path).samples[0]) == 2


@pytest.mark.parametrize("odd", [["x"], {"a": 1}, None, 7, ""])
@pytest.mark.parametrize("key", ["type", "id", "meta", "image_rotation", "original_width", "from_name"])
def test_values_of_another_kind(tmp_path: Path, key: str, odd: object) -> None:
    picture(tmp_path / "a.jpg")
    results = [region(1, value={"rotation": 30}), {**region(1), "type": "choices", "value": {"choices": [1]}}]
    results[0][key] = results[1][key] = odd
    write(tmp_path / "p.json", [task_of("a.jpg", results)])
    with contextlib.suppress(DataError):
        read_data(tmp_path)


def test_rotated_boxes_become_the_upright_ones_around_them(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    right = region(1, value={"x": 50, "y": 20, "width": 10, "height": 10, "rotation": 90})
    skew = region(2, value={"x": 50, "y": 20, "width": 10, "height": 20, "rotation": 45})
    write(tmp_path / "p.json", [task_of("a.jpg", [right, skew])])
    (sample,) = read_data(tmp_path).samples
    # About the corner 100, 20: 20 px across and 10 px down become 10 px to the left and 20 px down.
    half = 20 / 2**0.5
    expected = [[90, 20, 100, 40], [100 - half, 20, 100 + half, 20 + 2 * half]]
    np.testing.assert_allclose(sample.boxes_xyxy, expected, atol=1e-4)
    (warning,) = issues_of(tmp_path)
    assert (warning.kind, warning.severity, warning.where) == (
        "box-rotated",
        "warning",
        "task 1: region Dx_aB92",
    )


def test_what_people_did_with_a_task(tmp_path: Path) -> None:
    for name in "abcdefg":
        picture(tmp_path / f"{name}.jpg")
    tasks = [
        task_of("a.jpg", [], number=1),
        task_of("b.jpg", [region(1)], number=2),
        task_of("c.jpg", [region(1)], [region(1), region(2)], number=3),
        task_of("d.jpg", [region(1)], [], number=4),
        task_of("e.jpg", [region(1)], [region(9)], number=5),
        task_of("f.jpg", number=6, predictions=[{"result": [region(1)], "score": 0.9}]),
        task_of("g.jpg", [region(1)], number=7),
    ]
    tasks[2]["annotations"][1]["ground_truth"] = True
    tasks[3]["annotations"][0]["was_cancelled"] = True
    tasks[6]["annotations"][0]["was_cancelled"] = True
    write(tmp_path / "p.json", tasks)
    assert problems_of(tmp_path) == [
        "p.json: task 6: has no annotation, only predictions (1); submit one in Label Studio, an empty one "
        "if there is nothing to find, and export again"
    ]
    (skipped,) = (issue for issue in issues_of(tmp_path) if issue.severity == "warning")
    assert (skipped.kind, skipped.where) == ("annotation-missing", "task 7")
    write(tmp_path / "p.json", [task for task in tasks if task["id"] != 6])
    counts = {sample.image_id: len(sample) for sample in read_data(tmp_path).samples}
    assert counts == {"a.jpg": 0, "b.jpg": 1, "c.jpg": 2, "d.jpg": 0, "e.jpg": 1}


def test_all_that_is_wrong_is_reported_at_once(tmp_path: Path) -> None:
    for name in "abcdef":
        picture(tmp_path / f"{name}.jpg")
    points = {"points": [[1, 1], [9, 9], [1, 9]], "polygonlabels": ["mask"]}
    tasks = [
        task_of("a.jpg", [region(1)], [region(1, value={"x": 11})], number=1),
        task_of("missing.jpg", [region(1)], number=2),
        task_of(
            "b.jpg", [region(1, type="polygonlabels", value=points), region(2, type="brushlabels")], number=3
        ),
        task_of(
            "c.jpg", [region(1, value={"rectanglelabels": ["hat"]}), region(2, value={"x": "ten"})], number=4
        ),
        task_of("d.jpg", [region(1, value={"rectanglelabels": ["mask", "no_mask"]})], number=5),
        task_of("e.jpg", [region(1, original_width=640)], number=6),
        task_of("f.jpg", [region(1, image_rotation=90)], number=7),
        {"id": 8, "data": {}, "annotations": []},
        task_of("a.jpg", [region(1)], number=9),
    ]
    write(tmp_path / "p.json", tasks)
    found = problems_of(tmp_path)
    fix = "draw it as a rectangle in Label Studio, or remove it"
    for line in (
        "p.json: task 1: annotations differ: annotation 100 by user 1, annotation 101 by user 2; mark one as "
        "ground truth, or remove the others",
        "p.json: task 2: no picture missing.jpg in the folder of the data set; add it or remove the entry",
        "p.json: task 7: was labelled on the picture turned by 90°; turn it back in Label Studio and export "
        "again",
        "p.json: task 8: names no picture in its data; add it or remove the task",
        f"p.json: b.jpg: region Dx_aB91 (mask): polygonlabels is not a box; {fix}",
        f"p.json: b.jpg: region Dx_aB92: brushlabels is not a box; {fix}",
        "p.json: c.jpg: region Dx_aB92 (mask): box x ten, y 10, width 20, height 40 (%) is not made of four "
        "numbers; write them",
        "p.json: d.jpg: region Dx_aB91 (mask): box x 10, y 10, width 20, height 40 (%) has several classes: "
        "mask, no_mask; leave it one",
    ):
        assert line in found
    assert any(line.startswith("p.json: c.jpg: region Dx_aB91: unknown class 'hat'") for line in found)
    assert any(line.startswith("p.json: e.jpg: <size> says 640 x 100") for line in found)


def test_one_task_twice_in_json_min(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    value = {**region(1)["value"], "original_width": 200, "original_height": 100}
    entry = {"image": "a.jpg", "id": 4, "label": [value], "annotator": 1, "annotation_id": 8}
    other = {**entry, "label": [], "annotator": 2, "annotation_id": 9}
    write(tmp_path / "p.json", [entry, other])
    assert problems_of(tmp_path) == [
        "p.json: task 4: annotations differ: annotation 8 by user 1, annotation 9 by user 2; mark one as "
        "ground truth, or remove the others"
    ]
    write(tmp_path / "p.json", [entry, {**entry, "annotator": 2, "annotation_id": 9}])
    assert len(read_data(tmp_path)) == 1


def test_what_is_of_the_whole_picture_is_a_warning(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    choice = {
        "id": "c1",
        "type": "choices",
        "from_name": "light",
        "to_name": "image",
        "value": {"choices": ["dark"]},
    }
    relation = {"type": "relation", "from_id": "a", "to_id": "b", "direction": "right"}
    write(tmp_path / "p.json", [task_of("a.jpg", [choice, region(1), relation])])
    assert len(read_data(tmp_path).samples[0]) == 1
    assert {(issue.kind, issue.severity) for issue in issues_of(tmp_path)} == {
        ("shape-unsupported", "warning")
    }
    shown = sorted(issue.text for issue in issues_of(tmp_path))
    assert shown == ["light of the whole picture: not read", "relations between boxes: not read"]


@pytest.mark.parametrize(
    "text", ["[1]", '["annotator"', '[{"data": 3, "annotations": 7}]', '[{"annotator": null}]']
)
def test_files_that_are_not_label_studios(tmp_path: Path, text: str) -> None:
    picture(tmp_path / "a.jpg")
    write(tmp_path / "p.json", text)
    with pytest.raises(DataError, match=r"p\.json"):
        read_data(tmp_path, format="label-studio") if "annot" in text else read_data(tmp_path)


def test_the_file_alone(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.jpg")
    write(tmp_path / "export" / "p.json", [task_of("a.jpg", [region(1)])])
    (split,) = find_splits(tmp_path / "export" / "p.json")
    assert (split.format, len(read_split(split))) == ("label-studio", 1)


# ---- CVAT --------------------------------------------------------------------------------------------------

META = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta>
    <task>
      <id>7</id><name>door</name><size>2</size><mode>annotation</mode><overlap>0</overlap><bugtracker></bugtracker>
      <labels>
        <label><name>mask</name><color>#33ddff</color><type>any</type>
          <attributes><attribute><name>pose</name><mutable>False</mutable><input_type>text</input_type>
            <default_value></default_value><values></values></attribute></attributes></label>
        <label><name>no_mask</name><color>#fa3253</color><type>any</type><attributes></attributes></label>
      </labels>
      <original_size><width>200</width><height>100</height></original_size>
    </task>
    <dumped>2026-01-09 22:16:08.728353+00:00</dumped>
  </meta>
"""


def cvat(body: str) -> str:
    return f"{META}{body}\n</annotations>\n"


def box_text(more: str = "", inner: str = "", label: str = "mask") -> str:
    corners = 'xtl="20.00" ytl="10.00" xbr="60.00" ybr="50.00"'
    return f'<box label="{label}" source="manual" occluded="0" {corners} z_order="0" {more}>{inner}</box>'


def test_an_export_of_a_task(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "cam1" / "a.jpg")
    picture(tmp_path / "images" / "b.jpg")
    difficult = '<attribute name="difficult">true</attribute><attribute name="pose">Left</attribute>'
    crowd = '<attribute name="iscrowd">true</attribute><attribute name="pose"></attribute>'
    body = f"""
      <image id="0" name="cam1/a.jpg" width="200" height="100">
        {box_text()} {box_text(inner=difficult, label="no_mask")} {box_text(inner=crowd)}
        <box label="mask" source="auto" occluded="1" xtl="1.5" ytl="2" xbr="3.25" ybr="9" z_order="2"
          group_id="4"/>
      </image>
      <image id="1" name="b.jpg" width="200" height="100"></image>"""
    write(tmp_path / "annotations.xml", cvat(body))
    (split,) = find_splits(tmp_path)
    assert (split.format, split.class_names()) == ("cvat", ("mask", "no_mask"))
    one, empty = sorted(read_split(split).samples, key=len, reverse=True)
    assert (one.image_id, empty.image_id, len(empty)) == ("cam1/a.jpg", "b.jpg", 0)
    assert one.boxes_xyxy.tolist() == [[20, 10, 60, 50]] * 3 + [[1.5, 2, 3.25, 9]]
    assert one.class_ids.tolist() == [0, 1, 0, 0]
    assert one.difficult.tolist() == [False, True, False, False]
    assert one.crowds.tolist() == [False, False, True, False]
    assert [dict(note) for note in one.notes] == [
        {},
        {"pose": "Left"},
        {"iscrowd": "1"},
        {"occluded": "1", "z_order": "2", "source": "auto", "group_id": "4"},
    ]


def test_an_export_of_a_project_has_subsets(tmp_path: Path) -> None:
    for subset in ("Train", "Validation"):
        picture(tmp_path / "images" / subset / "a.jpg")
    images = [f'<image id="{n}" name="a.jpg" subset="{subset}" width="200" height="100">{box_text()}</image>'
              for n, subset in enumerate(("Train", "Validation"))]  # fmt: skip
    write(tmp_path / "annotations.xml", cvat("".join(images)))
    for split, subset in (("train", "Train"), ("val", "Validation")):
        (sample,) = read_data(tmp_path, split=split).samples
        assert sample.image_path == tmp_path / "images" / subset / "a.jpg"
        assert sample.image_id == "a.jpg"


def test_images_of_no_known_subset_are_not_lost(tmp_path: Path) -> None:
    for name in "abc":
        picture(tmp_path / "images" / f"{name}.jpg")
    sizes = 'width="200" height="100"'
    body = f"""<image id="0" name="a.jpg" subset="train" {sizes}/>
      <image id="1" name="b.jpg" subset="odd" {sizes}/>
      <image id="2" name="c.jpg" {sizes}/>"""
    write(tmp_path / "annotations.xml", cvat(body))
    found = {split.name: {s.image_id for s in read_split(split).samples} for split in find_splits(tmp_path)}
    assert found == {"train": {"a.jpg"}, "": {"b.jpg", "c.jpg"}}


def test_a_rotated_box_of_cvat(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    boxes = box_text('rotation="90.00"') + box_text('rotation="45.00"')
    write(
        tmp_path / "annotations.xml",
        cvat(f'<image id="0" name="a.jpg" width="200" height="100">{boxes}</image>'),
    )
    (sample,) = read_data(tmp_path).samples
    reach = 20 * 2**0.5  # of a square of 40 px about its centre 40, 30
    expected = [[20, 10, 60, 50], [40 - reach, 30 - reach, 40 + reach, 30 + reach]]
    np.testing.assert_allclose(sample.boxes_xyxy, expected, atol=1e-4)
    (warning,) = issues_of(tmp_path)
    assert (warning.kind, warning.where) == ("box-rotated", "image 0: box 2")


def track(number: int, *boxes: tuple[int, int]) -> str:
    """A track of "CVAT for video 1.1": frame and outside of each box."""
    corners = 'occluded="0" xtl="20" ytl="10" xbr="60" ybr="50" z_order="0"'
    lines = [
        f'<box frame="{f}" keyframe="{int(f == 0)}" outside="{out}" {corners}></box>' for f, out in boxes
    ]
    return f'<track id="{number}" label="mask" source="manual">{"".join(lines)}</track>'


def test_tracks_of_a_video_lie_on_its_frames(tmp_path: Path) -> None:
    for frame in range(5):
        picture(tmp_path / "images" / f"frame_{frame:06d}.png")
    write(tmp_path / "annotations.xml", cvat(track(0, (0, 0), (1, 0), (2, 1), (4, 0)) + track(1, (1, 0))))
    counts = [len(sample) for sample in read_data(tmp_path).samples]
    assert counts == [1, 2, 0, 0, 1]


def test_a_video_that_cannot_be_read(tmp_path: Path) -> None:
    picture(tmp_path / "other.png")
    write(tmp_path / "annotations.xml", cvat(track(0, (0, 0), (1, 0))))
    (problem,) = problems_of(tmp_path)
    assert problem.startswith("annotations.xml: tracks: no picture frame_000000.png or the like")
    picture(tmp_path / "frame_000000.png")
    body = track(0, (0, 0), (5, 0)) + track(1, (0, 0), (1, 0)).replace('frame="0"', 'frame="x"')
    write(tmp_path / "annotations.xml", cvat(body))
    assert problems_of(tmp_path) == [
        "annotations.xml: track 0: has no boxes in frames 1 to 4, yet does not leave there; export CVAT for "
        "video 1.1, which writes every frame of a track",
        "annotations.xml: track 1: frame 'x' is not a number; export it again",
        "annotations.xml: track 1 frame 1: no picture frame_000001 in the folder of the data set; add it or "
        "remove the entry",
        "annotations.xml: track 0 frame 5: no picture frame_000005 in the folder of the data set; add it or "
        "remove the entry",
    ]


def test_all_that_is_wrong_in_cvats_file(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    body = f"""
      <image id="0" name="a.jpg" width="640" height="480">
        <polygon label="mask" source="manual" occluded="0" points="1,1;9,9;1,9" z_order="0"></polygon>
        <mask label="mask" source="manual" occluded="0" rle="3, 4" left="1" top="1" width="2" height="2"/>
        <box label="hat" occluded="0" xtl="1" ytl="2" xbr="9" ybr="9" z_order="0"></box>
        <box label="mask" occluded="0" xtl="1" ytl="two" xbr="9" z_order="0"></box>
        <tag label="mask" source="manual"></tag>
      </image>
      <image id="1" name="missing.jpg" width="200" height="100">{box_text()}</image>"""
    write(tmp_path / "annotations.xml", cvat(body))
    found = problems_of(tmp_path)
    fix = "draw it as a rectangle in CVAT, or remove it"
    for line in (
        "annotations.xml: image 1: no picture missing.jpg in the folder of the data set; add it or remove "
        "the entry",
        f"annotations.xml: a.jpg: polygon 1 (mask): polygon is not a box; {fix}",
        f"annotations.xml: a.jpg: mask 1 (mask): mask is not a box; {fix}",
        "annotations.xml: a.jpg: box 2 (mask): box xtl 1, ytl two, xbr 9, ybr missing is not made of four "
        "numbers; write them",
    ):
        assert line in found
    assert any(line.startswith("annotations.xml: a.jpg: box 1: unknown class 'hat'") for line in found)
    assert any(line.startswith("annotations.xml: a.jpg: <size> says 640 x 480") for line in found)
    (tag,) = (issue for issue in issues_of(tmp_path) if issue.severity == "warning")
    assert (tag.where, tag.text) == ("image 0", "tag 'mask' of the whole picture: not read")


@pytest.mark.parametrize(
    "text",
    [
        '<!DOCTYPE a [<!ENTITY b "&c;&c;"><!ENTITY c "cc">]><annotations><image name="&b;"/></annotations>',
        '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/hosts">]><annotations><image id="&b;"/></annotations>',
    ],
)
def test_entities_are_refused(tmp_path: Path, text: str) -> None:
    picture(tmp_path / "a.jpg")
    write(tmp_path / "annotations.xml", text)
    (problem,) = problems_of(tmp_path)
    assert problem.startswith("annotations.xml: not readable as XML (has a DOCTYPE")


def test_broken_and_empty_files_of_cvat(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    write(tmp_path / "annotations.xml", META)
    (problem,) = problems_of(tmp_path)
    assert problem.startswith("annotations.xml: not readable as XML (no element found")
    write(tmp_path / "annotations.xml", cvat(""))
    (problem,) = problems_of(tmp_path)
    assert problem.startswith("annotations.xml: holds <annotations> without <image> or <track>")


def test_the_check_reads_and_repairs_both(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for program in ("label-studio", "cvat"):
        samples = []
        for name in ("a.png", "b.png"):
            path = tmp_path / program / name
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(rng.integers(0, 255, (100, 200, 3), np.uint8)).save(path)
            samples.append(sample_of(path, [(1.0, 2.0, 50.0, 0, "", {})]))
        write_data({"": DetectionSet(NAMES, tuple(samples))}, tmp_path / f"{program}-set", program)
        checked = check_splits(find_splits(tmp_path / f"{program}-set"), CLASSES, workers=1)
        assert checked.errors == 0
