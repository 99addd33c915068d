"""Every layout of the common tools is found from its root, with its splits, names and boxes."""

from __future__ import annotations

import contextlib
import random
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from exports import (
    COCO,
    EXPORTS,
    VOC,
    Expected,
    World,
    check_set,
    pictures_of,
)
from maskwatch.data import find_splits, read_data, read_split
from maskwatch.data.formats import write_data
from maskwatch.errors import MaskwatchError
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


@pytest.mark.parametrize("names", [FLAT, NESTED], ids=["flat", "nested"])
@pytest.mark.parametrize("export", EXPORTS, ids=lambda export: export.__name__)
def test_splits_names_and_boxes(tmp_path: Path, export: Export, names: dict[str, list[str]]) -> None:
    world = World(names)
    expected = export(tmp_path / "set", world)
    splits = find_splits(tmp_path / "set")
    assert {split.format for split in splits} == {format_of(export)}
    pictures = pictures_of(world, tmp_path)
    found: Expected = {}
    for split in splits:
        data = read_split(split, CLASSES)
        check_set(data, pictures)
        ids = [sample.image_id for sample in data.samples]
        assert len(ids) == len(set(ids))
        found.setdefault(split.name, set()).update(ids)
    assert found == expected


@pytest.mark.parametrize(("disk", "text"), [("NFD", "NFC"), ("NFC", "NFD")])
@pytest.mark.parametrize("export", EXPORTS, ids=lambda export: export.__name__)
def test_names_match_in_either_form_of_unicode(tmp_path: Path, export: Export, disk: str, text: str) -> None:
    world = World({"train": ["Büro/é.jpg", "Büro/ガ.jpg"], "val": ["Café/é.jpg"]}, disk, text)
    expected = export(tmp_path / "set", world)
    pictures = pictures_of(world, tmp_path)
    found: Expected = {}
    for split in find_splits(tmp_path / "set"):
        data = read_split(split, CLASSES)
        check_set(data, pictures)
        found.setdefault(split.name, set()).update(sample.image_id for sample in data.samples)
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


GARBAGE = (b"", b"\0", b"{", b"[]", b"<annotation/>", b"train: 5\nnames: 3\n", b"= \n train =\n", b"1 2 3\n")


@pytest.mark.parametrize("seed", range(60))
def test_damaged_exports_are_read_or_refused(tmp_path: Path, seed: int) -> None:
    """Files deleted, cut, filled with something else, moved, copied, or folders in their place."""
    rng = random.Random(seed)
    root = tmp_path / "set"
    rng.choice(EXPORTS)(root, World({"train": ["cam1/0001.jpg", "cam2/0001.jpg"], "val": ["a b.jpg"]}))
    for _ in range(rng.randint(1, 4)):
        file = rng.choice([path for path in sorted(root.rglob("*")) if path.is_file()])
        data, action = file.read_bytes(), rng.randrange(6)
        if action != 5:
            file.unlink()
        if action == 1:
            file.write_bytes(rng.choice(GARBAGE))
        elif action == 2:
            file.write_bytes(data[: rng.randrange(len(data) + 1)])
        elif action == 3:
            names = (
                "train.txt",
                "labels.txt",
                "data.yaml",
                "obj.data",
                "a.json",
                "x-00000-of-00002",
                " s .xml",
            )
            file.with_name(rng.choice(names)).write_bytes(data)
        elif action == 4:
            file.mkdir()
        elif action == 5:
            (file.parent.parent / file.name).write_bytes(data)
    with contextlib.suppress(MaskwatchError):
        for split in find_splits(root):
            assert len({name for name, _ in split.image_ids()}) == len([*split.image_ids()])
            split.class_names()
            read_split(split, CLASSES)
