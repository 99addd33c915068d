"""YOLO: one text file an image, `class cx cy width height` as shares of the image, and a data.yaml
(https://docs.ultralytics.com/datasets/detect/)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import yaml

from maskwatch.data.dataset import DetectionSet, Sample
from maskwatch.data.formats.base import Format, Found, Split, copy_images
from maskwatch.data.formats.tree import Folder
from maskwatch.data.formats.yolo.labels import find_folders
from maskwatch.data.formats.yolo.lines import FORMAT
from maskwatch.data.formats.yolo.lists import find_darknet, find_lists, find_yaml, splits_of_yaml
from maskwatch.data.formats.yolo.names import YAML
from maskwatch.data.names import without_suffix
from maskwatch.errors import DataError
from maskwatch.outputs import make_folder

# Ten digits hold a float32 pixel of any image to a millionth.
_DIGITS = 10


def find_index(folder: Folder) -> Found:
    """The splits that a data.yaml or an obj.data names."""
    file = find_yaml(folder)
    return (splits_of_yaml(file) if file else []) or find_darknet(folder), []


def find(folder: Folder) -> Found:
    """The splits of images with labels beside them or in labels/, or of lists of images."""
    listed, (splits, rest) = find_lists(folder), find_folders(folder)
    return (listed, []) if listed and not any(split.name for split in splits) else (splits, rest)


def open_file(file: Path) -> list[Split] | None:
    if file.suffix.lower() not in YAML:
        return None
    splits = splits_of_yaml(file)
    if not splits:
        raise DataError([f"{file}: names no pictures; write train: and val: into it, or give the folder"])
    return splits


def write(sets: Mapping[str, DetectionSet], root: Path) -> None:
    """`data.yaml`, `images/SPLIT/` and `labels/SPLIT/`; `classes.txt` for a set without splits."""
    class_names: tuple[str, ...] = ()
    for split, detection_set in sets.items():
        names = copy_images(detection_set, root / "images" / split)
        make_folder(root / "labels" / split)
        for sample, name in zip(detection_set.samples, names, strict=True):
            label = root / "labels" / split / f"{without_suffix(name)}.txt"
            make_folder(label.parent)
            label.write_text(_label_text(sample), encoding="utf-8")
        class_names = detection_set.class_names
    if "" in sets:  # a data.yaml must name splits
        lines = [" ".join(name.splitlines()) for name in class_names]
        (root / "classes.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    splits = {split: f"images/{split}" for split in sets if split}
    if splits:
        document = {**splits, "nc": len(class_names), "names": dict(enumerate(class_names))}
        text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
        (root / "data.yaml").write_text(text, encoding="utf-8")


def _label_text(sample: Sample) -> str:
    """The label file of a sample, without crowds, which the format cannot mark."""
    sample = sample.take(~sample.crowds)
    height, width = sample.size_hw
    lines = []
    for (x0, y0, x1, y1), class_id in zip(sample.boxes_xyxy.tolist(), sample.class_ids, strict=True):
        shares = ((x0 + x1) / 2 / width, (y0 + y1) / 2 / height, (x1 - x0) / width, (y1 - y0) / height)
        lines.append(" ".join([str(class_id), *(f"{share:.{_DIGITS}f}" for share in shares)]) + "\n")
    return "".join(lines)


YOLO = Format(FORMAT, write, find, find_index, open_file=open_file, writes_ignored=False, writes_notes=False)
