"""Every layout of the common tools is found from its root, with its splits, names and boxes."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from exports import COCO, EXPORTS, VOC, Expected, World, boxes_of, put
from maskwatch.data import DetectionSet, find_parts, read_data, read_part
from maskwatch.data.write import write_data
from maskwatch.labels import ClassMap

Export = Callable[[Path, World], Expected]
CLASSES = ClassMap(["with_mask", "without_mask"])
FLAT = {
    "train": ["a.jpg", "my photo 1.png", "photo.v2.jpg", "Büro é ガ.JPG"],
    "val": ["b.jpeg", "ü.rf.0f3a.jpg"],
}
NESTED = {
    "train": ["cam1/0001.jpg", "cam2/0001.jpg", "cam 3/day.1/0001.png"],
    "val": ["cam1/0002.jpg", "cam2/0003.jpg"],
}


def format_of(export: Export) -> str:
    return "voc" if export in VOC else "coco" if export in COCO else "yolo"


def pictures_of(world: World, folder: Path) -> dict[bytes, tuple[str, str]]:
    """Bytes of each picture → its split and name."""
    found = {}
    for split, name in world.each():
        path = folder / f"x{Path(name).suffix}"
        put(path, split, name)
        found[path.read_bytes()] = (split, name)
    return found


def check_set(data: DetectionSet, pictures: dict[bytes, tuple[str, str]]) -> None:
    """Holds the boxes of each sample against those of the picture whose bytes it has."""
    for sample in data.samples:
        truth = boxes_of(*pictures[sample.image_path.read_bytes()])
        assert sample.class_ids.tolist() == [c for c, *_ in truth]
        np.testing.assert_allclose(sample.boxes_xyxy, [box[1:] for box in truth], atol=1e-4)


@pytest.mark.parametrize("names", [FLAT, NESTED], ids=["flat", "nested"])
@pytest.mark.parametrize("export", EXPORTS, ids=lambda export: export.__name__)
def test_splits_names_and_boxes(tmp_path: Path, export: Export, names: dict[str, list[str]]) -> None:
    world = World(names)
    expected = export(tmp_path / "set", world)
    parts = find_parts(tmp_path / "set")
    assert {part.format for part in parts} == {format_of(export)}
    pictures = pictures_of(world, tmp_path)
    found: Expected = {}
    for part in parts:
        data = read_part(part, CLASSES)
        check_set(data, pictures)
        ids = [sample.image_id for sample in data.samples]
        assert len(ids) == len(set(ids))
        found.setdefault(part.split, set()).update(ids)
    assert found == expected


@pytest.mark.parametrize(("disk", "text"), [("NFD", "NFC"), ("NFC", "NFD")])
@pytest.mark.parametrize("export", EXPORTS, ids=lambda export: export.__name__)
def test_names_match_in_either_form_of_unicode(tmp_path: Path, export: Export, disk: str, text: str) -> None:
    world = World({"train": ["Büro/é.jpg", "Büro/ガ.jpg"], "val": ["Café/é.jpg"]}, disk, text)
    expected = export(tmp_path / "set", world)
    pictures = pictures_of(world, tmp_path)
    found: Expected = {}
    for part in find_parts(tmp_path / "set"):
        data = read_part(part, CLASSES)
        check_set(data, pictures)
        found.setdefault(part.split, set()).update(sample.image_id for sample in data.samples)
    assert found == {s: {unicodedata.normalize("NFC", n) for n in ns} for s, ns in expected.items()}


@pytest.mark.parametrize("target", ["voc", "coco", "yolo"])
@pytest.mark.parametrize("export", EXPORTS, ids=lambda export: export.__name__)
def test_copies_keep_names_and_boxes(tmp_path: Path, export: Export, target: str) -> None:
    world = World(NESTED)
    expected = export(tmp_path / "set", world)
    sets = {split: read_data(tmp_path / "set", CLASSES, split=split or None) for split in expected}
    write_data(sets, tmp_path / "copy", target)  # type: ignore[arg-type]
    pictures = pictures_of(world, tmp_path)
    for split, names in expected.items():
        again = read_data(tmp_path / "copy", CLASSES, split=split or None)
        check_set(again, pictures)
        assert {sample.image_id for sample in again.samples} == names
