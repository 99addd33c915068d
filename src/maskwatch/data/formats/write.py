"""Writes a data set in another format: pictures are copied as they are, annotations written anew."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal, get_args

from maskwatch.data.dataset import CROWD, DetectionSet, file_names
from maskwatch.data.formats.coco import coco_document
from maskwatch.data.formats.voc import voc_xml
from maskwatch.data.formats.yolo import yolo_lines, yolo_yaml
from maskwatch.data.names import without_suffix
from maskwatch.outputs import make_folder, new_folder, output_errors

OutputFormat = Literal["voc", "coco", "yolo", "tfrecord"]
OUTPUT_FORMATS: tuple[OutputFormat, ...] = get_args(OutputFormat)

WHOLE = ""
"""The split of a set that is not split."""


def write_data(
    sets: Mapping[str, DetectionSet], target: Path, format: OutputFormat, *, force: bool = False
) -> list[str]:
    """Writes the splits of a data set into one folder, from where `find_parts` finds them again.

    Pictures keep their names, folders included (`cam1/0001.jpg`), below these places:

    - voc: `SPLIT/`, pictures and XML side by side, as in the TensorFlow tutorials.
    - coco: `annotations/instances_SPLIT.json`, pictures in `SPLIT/`.
    - yolo: `data.yaml`, `images/SPLIT/`, `labels/SPLIT/`.
    - tfrecord: `SPLIT.tfrecord`, and `label_map.pbtxt` with ids from 1; needs the extra tf.

    A set that is not split lies one folder higher. The folder appears when all of it is written.

    Args:
        sets: split → samples, all of the same classes; "" is the split of a set that has none.
        target: a folder that does not exist, or is empty.
        format: one of `OUTPUT_FORMATS`.
        force: replace what is there.

    Returns:
        What the format cannot hold and is lost, one line each.

    Raises:
        OutputError: the folder exists or cannot be written.
        MissingExtraError: TensorFlow is not installed.
    """
    if format == "tfrecord":
        from maskwatch.data.formats.tfrecord import write_tfrecords

        with new_folder(target, force=force) as folder:
            write_tfrecords(sets, folder)
    else:
        writers = {"voc": _write_voc, "coco": _write_coco, "yolo": _write_yolo}
        with new_folder(target, force=force) as folder, output_errors(target):
            writers[format](sets, folder)
    return _lost(sets.values(), format)


def _write_voc(sets: Mapping[str, DetectionSet], root: Path) -> None:
    for split, detection_set in sets.items():
        names = _copy(detection_set, root / split)
        for sample, name in zip(detection_set.samples, names, strict=True):
            xml = voc_xml(sample, detection_set.class_names, name)
            (root / split / f"{without_suffix(name)}.xml").write_bytes(xml)


def _write_coco(sets: Mapping[str, DetectionSet], root: Path) -> None:
    make_folder(root / "annotations")
    for split, detection_set in sets.items():
        names = _copy(detection_set, root / (split or "images"))
        text = json.dumps(coco_document(detection_set, names), ensure_ascii=False, indent=1)
        name = f"instances_{split}.json" if split else "instances.json"
        (root / "annotations" / name).write_text(text + "\n", encoding="utf-8")


def _write_yolo(sets: Mapping[str, DetectionSet], root: Path) -> None:
    class_names: tuple[str, ...] = ()
    for split, detection_set in sets.items():
        names = _copy(detection_set, root / "images" / split)
        make_folder(root / "labels" / split)
        for sample, name in zip(detection_set.samples, names, strict=True):
            label = root / "labels" / split / f"{without_suffix(name)}.txt"
            make_folder(label.parent)
            label.write_text(yolo_lines(sample), encoding="utf-8")
        class_names = detection_set.class_names
    if WHOLE in sets:  # a data.yaml has no word for a set that is not split
        lines = [" ".join(name.splitlines()) for name in class_names]
        (root / "classes.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    splits = {split: f"images/{split}" for split in sets if split}
    if splits:
        (root / "data.yaml").write_text(yolo_yaml(class_names, splits), encoding="utf-8")


def _copy(detection_set: DetectionSet, folder: Path) -> list[str]:
    make_folder(folder)
    names = file_names(detection_set)
    for sample, name in zip(detection_set.samples, names, strict=True):
        make_folder((folder / name).parent)
        shutil.copyfile(sample.image_path, folder / name)
    return names


def _lost(sets: Iterable[DetectionSet], format: OutputFormat) -> list[str]:
    samples = [sample for a_set in sets for sample in a_set.samples]
    difficult = sum(int(sample.difficult.sum()) for sample in samples)
    crowds = sum(int(sample.crowds.sum()) for sample in samples)
    noted = sum(bool(note.keys() - {CROWD}) for sample in samples for note in sample.notes)
    lost = []
    if (difficult or crowds) and format == "yolo":
        lost.append(
            f"{difficult + crowds} boxes are to be ignored, which {format} cannot say: {difficult} difficult "
            f"ones become boxes like all others, {crowds} crowds are left out"
        )
    if noted and format in ("yolo", "tfrecord"):
        lost.append(f"{noted} boxes have notes (truncated, pose, …), which {format} cannot hold")
    return lost
