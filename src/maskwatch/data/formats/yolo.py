"""YOLO: one text file a picture, `class cx cy width height` as shares of the picture, and a data.yaml
(https://docs.ultralytics.com/datasets/detect/)."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from maskwatch.data.dataset import Sample
from maskwatch.data.formats.raw import Entry, RawPicture
from maskwatch.data.formats.yolo_lines import Line, LineReader, parse_line
from maskwatch.data.issues import Fault
from maskwatch.errors import DataError
from maskwatch.text import read_lines, read_text, reading, reason_of

# Ten digits hold a float32 pixel of any picture to a millionth.
_DIGITS = 10
# What YAML writes where there is no value.
_NOTHING = ("", "~", "null", "Null", "NULL")
NAME_FILES = ("classes.txt", "obj.names", "labels.txt")
NAME_SUFFIXES = (".names", ".labels")  # the latter is Roboflow's _darknet.labels


def read_yaml(path: Path) -> dict[str, Any]:
    """The document of a data.yaml, all values as texts; without the keys that have none.

    Raises:
        DataError: it cannot be read, or names neither classes nor pictures.
    """
    try:
        # All values stay texts: as YAML has it, the name "no" would be False and "007" the number 7.
        document = yaml.load(read_text(path), Loader=yaml.BaseLoader)  # which makes no objects either
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise DataError([f"{path}: not readable as YAML ({reason_of(error)}); mend that line"]) from None
    rows = document.items() if isinstance(document, dict) else ()
    said = {key: value for key, value in rows if value not in _NOTHING}
    if "names" not in said:
        raise DataError([f"{path}: has no 'names'; give the data.yaml of a YOLO data set"])
    return said


def class_names(document: Mapping[str, Any], path: Path) -> dict[int, str]:
    """Names by number, from a list or a mapping.

    Raises:
        DataError: neither of these.
    """
    names = document["names"]
    pairs = dict(enumerate(names)) if isinstance(names, list) else names
    try:
        if all(isinstance(name, str) for name in pairs.values()):
            return {int(number): name for number, name in pairs.items()}
    except (AttributeError, TypeError, ValueError):
        pass
    shown = reprlib.repr(names)
    text = f"{path}: names {shown} is neither a list nor numbers with names; write names: [a, b]"
    raise DataError([text])


def landmark_values(document: Mapping[str, Any], path: Path) -> int | None:
    """How many numbers follow each box, as `kpt_shape` says; None where it says nothing.

    Raises:
        DataError: it is not the number of landmarks and 2 or 3.
    """
    shape = document.get("kpt_shape")
    if shape is None:
        return None
    words = [word for word in shape if isinstance(word, str)] if isinstance(shape, list) else []
    if len(words) != 2 or not words[0].isdecimal() or words[1] not in ("2", "3"):
        text = f"{path}: kpt_shape {reprlib.repr(shape)} is no number of landmarks and of values (2 or 3)"
        raise DataError([f"{text}; write for example kpt_shape: [5, 2]"])
    return int(words[0]) * int(words[1])


def names_beside(folder: Path) -> dict[int, str]:
    """Names by number from classes.txt, obj.names or the like; empty where there is none."""
    names = {file: file.name.lower() for file in folder.iterdir() if not file.name.startswith(".")}
    listed = [file for wanted in NAME_FILES for file, name in names.items() if name == wanted]
    for ending in NAME_SUFFIXES:
        listed += sorted(file for file, name in names.items() if name.endswith(ending))
    return next((read_names(file) for file in listed if file.is_file()), {})


def read_names(file: Path) -> dict[int, str]:
    """Names by number, one a line."""
    with reading(file, DataError, "write it again"):
        lines = read_lines(file)
    return {number: line.strip() for number, line in enumerate(lines) if line.strip()}


def raw_yolo(
    entries: Sequence[Entry], names: Mapping[int, str], faults: list[Fault], landmarks: int | None = None
) -> list[RawPicture]:
    """The annotations as written, in the order of the entries.

    A picture without a label file shows nothing to find, as YOLO has it.

    Args:
        entries: the pictures, see `yolo_files`.
        names: of the classes by number; a number without a name stands for itself.
        faults: is added to.
        landmarks: how many numbers follow each box, where the set states it.
    """
    lines = [_label_lines(entry, faults) for entry in entries]
    every = [line for mine in lines for line in mine]
    reader = LineReader(every, names, landmarks)
    if reader.shape == "unknown":  # the other splits may tell
        labels = {entry.annotation for entry in entries if entry.annotation is not None}
        around = [Entry(label.name, None, label) for label in _labels_around(labels)]
        every += [line for entry in around for line in _label_lines(entry, [])]
        reader = LineReader(every, names, landmarks)
    return [_picture(entry, mine, reader) for entry, mine in zip(entries, lines, strict=True)]


def yolo_lines(sample: Sample) -> str:
    """The label file of a sample, without its crowds: they are no object, and the format cannot say so."""
    sample = sample.take(~sample.crowds)
    height, width = sample.size_hw
    lines = []
    for (x0, y0, x1, y1), class_id in zip(sample.boxes_xyxy.tolist(), sample.class_ids, strict=True):
        shares = ((x0 + x1) / 2 / width, (y0 + y1) / 2 / height, (x1 - x0) / width, (y1 - y0) / height)
        lines.append(" ".join([str(class_id), *(f"{share:.{_DIGITS}f}" for share in shares)]) + "\n")
    return "".join(lines)


def yolo_yaml(class_names: Sequence[str], splits: Mapping[str, str]) -> str:
    """A data.yaml; splits: split → folder of its pictures, relative to the file."""
    document = {**splits, "nc": len(class_names), "names": dict(enumerate(class_names))}
    return str(yaml.safe_dump(document, sort_keys=False, allow_unicode=True))


def _picture(entry: Entry, lines: Sequence[Line], reader: LineReader) -> RawPicture:
    assert entry.image is not None
    assert entry.annotation is not None
    objects = tuple(map(reader.read, lines))
    return RawPicture(entry.image, entry.annotation, entry.image_id, objects, normalised=True)


def _labels_around(labels: Iterable[Path]) -> list[Path]:
    """Label files of the other splits: below the same labels/, and in the labels/ beside (train/, valid/)."""
    folders = {folder for label in labels for folder in label.parents if folder.name.lower() == "labels"}
    around = {file for folder in folders for file in folder.rglob("*.txt")}
    around |= {file for folder in folders for file in folder.parent.parent.glob("*/labels/*.txt")}
    return sorted(around - set(labels))


def _label_lines(entry: Entry, faults: list[Fault]) -> list[Line]:
    label = entry.annotation
    if label is None or not label.is_file():
        return []
    try:
        texts = read_lines(label)
    except (OSError, UnicodeError) as error:
        text = f"not readable as text: {reason_of(error)}"
        faults.append(Fault("annotation-unreadable", label, text, "write it again", picture=entry.image))
        return []
    parsed = (parse_line(text, number) for number, text in enumerate(texts, start=1))
    return [line for line in parsed if line is not None]
