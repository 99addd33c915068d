"""YOLO: one text file a picture, `class cx cy width height` as shares of the picture, and a data.yaml
(https://docs.ultralytics.com/datasets/detect/)."""

from __future__ import annotations

import os
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from maskwatch.data.dataset import Sample
from maskwatch.data.faults import Fault
from maskwatch.data.raw import RawPicture
from maskwatch.data.voc_files import PICTURE_SUFFIXES
from maskwatch.data.yolo_lines import Line, LineReader, parse_line
from maskwatch.errors import DataError
from maskwatch.text import read_lines, read_text, reason_of

# Ten digits hold a float32 pixel of any picture to a millionth.
_DIGITS = 10
# What YAML writes where there is no value.
_NOTHING = ("", "~", "null", "Null", "NULL")
_NAME_FILES = ("classes.txt", "obj.names", "labels.txt")


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
    """Names by number from classes.txt or the like; empty where there is none."""
    for name in _NAME_FILES:
        if (folder / name).is_file():
            lines = _lines(folder / name)
            return {number: line.strip() for number, line in enumerate(lines) if line.strip()}
    return {}


def split_places(document: Mapping[str, Any], yaml_path: Path, key: str) -> list[Path]:
    """Folders and list files that a data.yaml names for a split, resolved.

    Raises:
        DataError: one of them is not there.
    """
    value = document.get(key)
    here, above = yaml_path.parent, document.get("path")
    base = here / above if isinstance(above, str) else here
    places, problems = [], []
    for text in value if isinstance(value, list) else [value]:
        if not isinstance(text, str):
            problems.append(f"{yaml_path}: {key}: {reprlib.repr(text)} is no path; write one")
            continue
        # Exports of Roboflow say ../train/images and mean train/images.
        candidates = (base / text, here / text, here / text.removeprefix("../"))
        # Path's own raises for names that no file can have.
        found = next((c for c in candidates if os.path.exists(c)), None)  # noqa: PTH110
        if found is None:
            problems.append(f"{yaml_path}: {key}: {text!r} is not there; correct the path")
        else:
            places.append(found)
    if problems:
        raise DataError(problems)
    return places


def raw_yolo(
    places: Sequence[Path], names: Mapping[int, str], faults: list[Fault], landmarks: int | None = None
) -> list[RawPicture]:
    """The annotations as written, sorted by stem.

    A picture without a label file shows nothing to find, as YOLO has it.

    Args:
        places: folders of pictures, searched in depth, or text files that list pictures.
        names: of the classes by number; a number without a name stands for itself.
        faults: is added to, with label files that belong to no picture.
        landmarks: how many numbers follow each box, where the set states it.
    """
    pictures = [picture for place in places for picture in _pictures(place, faults)]
    labels = {picture: _label_file(picture) for picture in pictures}
    lines = {picture: _label_lines(picture, labels[picture], faults) for picture in sorted(pictures)}
    every = [line for mine in lines.values() for line in mine]
    reader = LineReader(every, names, landmarks)
    if reader.shape == "unknown":  # the other splits may tell
        around = _labels_around(labels.values())
        every += [line for label in around for line in _label_lines(label, label, [])]
        reader = LineReader(every, names, landmarks)
    found = [
        RawPicture(picture, labels[picture], picture.stem, tuple(map(reader.read, mine)), normalised=True)
        for picture, mine in lines.items()
    ]
    for folder in sorted({label.parent for label in labels.values()}):
        orphans = set(folder.glob("*.txt")) - set(labels.values()) if folder.is_dir() else set()
        for label in sorted(orphans):
            listed = any(place.is_file() for place in places)  # a list may leave pictures out on purpose
            if label.name not in _NAME_FILES and not listed:
                text, mend = "no picture belongs to this label file", "add the picture or remove the file"
                faults.append(Fault("picture-missing", label, text, mend))
    return sorted(found, key=lambda picture: picture.stem)


def yolo_lines(sample: Sample) -> str:
    """The label file of a sample."""
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


def _lines(path: Path) -> list[str]:
    try:
        return read_lines(path)
    except (OSError, UnicodeError) as error:
        raise DataError([f"{path}: cannot be read ({reason_of(error)}); write it again"]) from None


def _pictures(place: Path, faults: list[Fault]) -> list[Path]:
    if place.is_dir():
        files = (file for file in place.rglob("*") if file.suffix.lower() in PICTURE_SUFFIXES)
        return [file for file in files if not file.name.startswith(".") and file.is_file()]
    lines = _lines(place)
    pictures = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            picture = place.parent / line.strip()
            if os.path.isfile(picture):  # noqa: PTH113 (Path's own raises for names that no file can have)
                pictures.append(picture)
            else:
                text = f"no picture {line.strip()}"
                faults.append(
                    Fault("picture-missing", place, text, "add it or remove the line", f"line {number}")
                )
    return pictures


def _label_file(picture: Path) -> Path:
    """Where the labels of a picture lie: the last folder "images" becomes "labels", or else beside it."""
    parts = list(picture.parts)
    for at in range(len(parts) - 2, -1, -1):
        if parts[at].lower() == "images":
            return Path(*parts[:at], "labels", *parts[at + 1 :]).with_suffix(".txt")
    return picture.with_suffix(".txt")


def _labels_around(labels: Iterable[Path]) -> list[Path]:
    """Label files of the other splits: below the same labels/, and in the labels/ beside (train/, valid/)."""
    folders = {folder for label in labels for folder in label.parents if folder.name.lower() == "labels"}
    around = {file for folder in folders for file in folder.rglob("*.txt")}
    around |= {file for folder in folders for file in folder.parent.parent.glob("*/labels/*.txt")}
    return sorted(around - set(labels))


def _label_lines(picture: Path, label: Path, faults: list[Fault]) -> list[Line]:
    if not label.is_file():
        return []
    try:
        texts = read_lines(label)
    except (OSError, UnicodeError) as error:
        text = f"not readable as text: {reason_of(error)}"
        faults.append(Fault("annotation-unreadable", label, text, "write it again", picture=picture))
        return []
    parsed = (parse_line(text, number) for number, text in enumerate(texts, start=1))
    return [line for line in parsed if line is not None]
