"""What `maskwatch.data` gives: a table of formats that can be extended, classes, and the former names."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

import maskwatch.data
from maskwatch import data
from maskwatch.data import DetectionSet, Split, find_splits, read_data, read_voc
from maskwatch.data.formats import FORMATS, format_named, search, write_data
from maskwatch.data.formats.base import Annotations, Format, Found, RawImage, RawObject
from maskwatch.data.formats.tree import Folder
from maskwatch.data.issues import Issue
from maskwatch.data.read import find_all_splits, found_classes, read_splits, written_classes
from maskwatch.errors import DataError, OptionError
from maskwatch.labels import ClassMap


def image(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (60, 40), (90, 120, 150)).save(path)
    return path


def coco(root: Path, names: list[str], boxes: list[int]) -> Path:
    """One image with boxes of the categories at these indices."""
    image(root / "a.png")
    rows = [
        {"id": number, "image_id": 1, "category_id": index, "bbox": [number, number, 9, 9]}
        for number, index in enumerate(boxes, start=1)
    ]
    categories = [{"id": index, "name": name} for index, name in enumerate(names)]
    document = {"images": [{"id": 1, "file_name": "a.png"}], "annotations": rows, "categories": categories}
    (root / "all.json").write_text(json.dumps(document))
    return root


# ---- A further format ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TableAnnotations(Annotations):
    """A made-up format: `faces.table` with lines of image, class and corners."""

    file: Path

    def read(self, issues: list[Issue], image_ids: Collection[str] | None = None) -> list[RawImage]:
        raws = []
        for number, line in enumerate(self.file.read_text().splitlines(), start=1):
            name, class_name, *corners = line.split()
            x0, y0, x1, y1 = map(float, corners)
            item = RawObject(f"line {number}", class_name, (x0, y0, x1, y1), f"box {corners}")
            raws.append(RawImage(self.file.parent / name, self.file, name, (item,), own_file=False))
        return raws


def find_table(folder: Folder) -> Found:
    files = folder.of_kind(".table")
    splits = [Split(file.stem, "table", file, TableAnnotations(file)) for file in files]
    return splits, folder.folders


def write_table(sets: Mapping[str, DetectionSet], root: Path) -> None:
    (root / "written").write_text(" ".join(sets))


TABLE = Format("table", write_table, find_table)


def test_a_further_format_is_one_object_in_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (search, maskwatch.data.formats):
        monkeypatch.setattr(module, "FORMATS", (*FORMATS, TABLE))
    for name in ("a.png", "b.png"):
        image(tmp_path / "set" / name)
    (tmp_path / "set" / "train.table").write_text("a.png mask 1 2 30 20\nb.png bare 1 2 3.5 20\n")
    (split,) = find_splits(tmp_path)
    assert (split.name, split.format, split.class_names()) == ("train", "table", ())
    found = read_data(tmp_path, image_ids=["b"], format="table")
    assert [(s.image_id, s.boxes_xyxy.tolist()) for s in found.samples] == [("b.png", [[1, 2, 3.5, 20]])]
    assert found.class_counts() == {"mask": 0, "no_mask": 1, "mask_incorrect": 0}
    (tmp_path / "set" / "train.table").write_text("a.png mask 100 2 130 20\n")
    with pytest.raises(DataError, match=r"train\.table: a\.png: line 1 \(mask\): box .* lies outside"):
        read_data(tmp_path)
    assert write_data({"train": found}, tmp_path / "out", "table") == []
    assert (tmp_path / "out" / "written").read_text() == "train"


def test_an_unknown_format_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="'pdf' is not one of voc, yolo, coco, tfrecord; choose one"):
        find_splits(tmp_path, "pdf")
    with pytest.raises(OptionError, match="--to 'pdf' is not one of"):
        format_named("pdf", "--to")


# ---- Classes ---------------------------------------------------------------------------------------------


def test_classes_keep_the_order_of_the_formats_own_list(tmp_path: Path) -> None:
    splits = find_splits(coco(tmp_path, ["head", "cap", "helmet"], [2, 2, 2, 0]))
    assert found_classes(splits).names == ("head", "helmet")
    assert written_classes(splits).names == ("head", "cap", "helmet")


def test_the_classes_of_masks_win_where_one_is_named(tmp_path: Path) -> None:
    assert found_classes(find_splits(coco(tmp_path, ["head", "bare"], [0, 1]))).names == ClassMap().names


def test_a_file_is_parsed_once_for_names_lists_and_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from maskwatch.data.formats import coco as module

    parsed = []
    read_json = module.read_json
    monkeypatch.setattr(module, "read_json", lambda path: parsed.append(path) or read_json(path))
    (split,) = find_splits(coco(tmp_path, ["mask"], [0]))
    assert split.class_names() == ("mask",)
    assert [name for name, _ in split.image_ids()] == ["a.png"]
    assert len(split.read([])) == 1
    assert parsed == [tmp_path / "all.json"]


def test_splits_of_one_name_are_merged(tmp_path: Path) -> None:
    coco(tmp_path / "one" / "train", ["mask"], [0])
    coco(tmp_path / "two" / "train", ["mask"], [0, 0])
    splits = find_all_splits([tmp_path / "one", tmp_path / "two" / "train"])
    sets = read_splits(splits, ClassMap())
    assert {name: a_set.class_counts()["mask"] for name, a_set in sets.items()} == {"train": 3}
    with pytest.raises(DataError) as error:
        find_all_splits([tmp_path / "none", tmp_path / "nor this"])
    assert len(error.value.problems) == 2


# ---- Former names ----------------------------------------------------------------------------------------


def test_former_names_warn_and_work(tmp_path: Path) -> None:
    coco(tmp_path, ["mask"], [0])
    with pytest.warns(DeprecationWarning, match="maskwatch.data.find_parts is now find_splits"):
        (split,) = data.find_parts(tmp_path)
    with pytest.warns(DeprecationWarning, match="Part is now Split"):
        assert isinstance(split, data.Part)
    with pytest.warns(DeprecationWarning, match="read_part is now read_split"):
        assert len(data.read_part(split)) == 1
    with pytest.warns(DeprecationWarning, match=r"Split\.split is now Split\.name"):
        assert split.split == ""
    with pytest.warns(DeprecationWarning, match="image_ids"):
        assert len(read_data(tmp_path, stems=["a"])) == 1
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = data.nothing


def test_the_former_keyword_of_read_voc(tmp_path: Path) -> None:
    image(tmp_path / "a.png")
    (tmp_path / "a.xml").write_text("<annotation></annotation>")
    with pytest.warns(DeprecationWarning, match="image_ids"):
        assert len(read_voc(tmp_path, stems=["a"])) == 1
