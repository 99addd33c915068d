"""YOLO: one text file a picture, `class cx cy width height` as shares of the picture, and a data.yaml
(https://docs.ultralytics.com/datasets/detect/)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from maskwatch.data.dataset import Sample
from maskwatch.data.faults import Box, Fault
from maskwatch.data.raw import NO_BOX, RawObject, RawPicture
from maskwatch.data.voc_files import PICTURE_SUFFIXES
from maskwatch.errors import DataError
from maskwatch.text import read_lines, read_text, reason_of

# Ten digits hold a float32 pixel of any picture to a millionth.
_DIGITS = 10
_NAME_FILES = ("classes.txt", "obj.names", "labels.txt")


def read_yaml(path: Path) -> dict[str, Any]:
    """The document of a data.yaml.

    Raises:
        DataError: it cannot be read, or names neither classes nor pictures.
    """
    try:
        document = yaml.safe_load(read_text(path))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise DataError([f"{path}: not readable as YAML ({reason_of(error)}); mend that line"]) from None
    if not isinstance(document, dict) or "names" not in document:
        raise DataError([f"{path}: has no 'names'; give the data.yaml of a YOLO data set"])
    return document


def class_names(document: Mapping[str, Any], path: Path) -> dict[int, str]:
    """Names by number, from a list or a mapping.

    Raises:
        DataError: neither of these.
    """
    names = document["names"]
    try:
        pairs = names.items() if isinstance(names, dict) else enumerate(names)
        return {int(number): str(name) for number, name in pairs}
    except (TypeError, ValueError):
        text = f"{path}: names {names!r} is neither a list nor numbers with names; write names: [a, b]"
        raise DataError([text]) from None


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
    written = [str(item) for item in (value if isinstance(value, list) else [value]) if item]
    here = yaml_path.parent
    base = here / str(document.get("path") or "")
    places, problems = [], []
    for text in written:
        # Exports of Roboflow say ../train/images and mean train/images.
        candidates = (base / text, here / text, here / text.removeprefix("../"))
        found = next((c for c in candidates if c.exists()), None)
        if found is None:
            problems.append(f"{yaml_path}: {key}: {text!r} is not there; correct the path")
        else:
            places.append(found)
    if problems:
        raise DataError(problems)
    return places


def raw_yolo(places: Sequence[Path], names: Mapping[int, str], faults: list[Fault]) -> list[RawPicture]:
    """The annotations as written, sorted by stem.

    A picture without a label file shows nothing to find, as YOLO has it.

    Args:
        places: folders of pictures, searched in depth, or text files that list pictures.
        names: of the classes by number; a number without a name stands for itself.
        faults: is added to, with label files that belong to no picture.
    """
    pictures = [picture for place in places for picture in _pictures(place, faults)]
    labels = {picture: _label_file(picture) for picture in pictures}
    found = [_picture(picture, labels[picture], names, faults) for picture in sorted(pictures)]
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
            if picture.is_file():
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


def _picture(picture: Path, label: Path, names: Mapping[int, str], faults: list[Fault]) -> RawPicture:
    objects: list[RawObject] = []
    if label.is_file():
        try:
            lines = read_lines(label)
        except (OSError, UnicodeError) as error:
            text = f"not readable as text: {reason_of(error)}"
            faults.append(Fault("annotation-unreadable", label, text, "write it again", picture=picture))
            lines = []
        objects = [_object(line, n, names) for n, line in enumerate(lines, start=1) if line.strip()]
    return RawPicture(picture, label, picture.stem, tuple(objects), normalised=True)


def _object(line: str, number: int, names: Mapping[int, str]) -> RawObject:
    words = line.split()
    shown = "box " + (" ".join(words[1:9]) + (" …" if len(words) > 9 else "") if words[1:] else "missing")
    class_name = names.get(int(words[0]), words[0]) if words[0].isdecimal() else words[0]
    try:
        values = [float(word) for word in words[1:]]
    except ValueError:
        values = []
    return RawObject(f"line {number}", class_name, _box(values), shown)


def _box(values: list[float]) -> Box:
    """Corners as shares, from centre and size, or around a polygon of at least three points."""
    if not all(map(math.isfinite, values)):
        return NO_BOX
    if len(values) == 4:
        cx, cy, width, height = values
        return cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2
    if len(values) >= 6 and len(values) % 2 == 0:
        xs, ys = values[0::2], values[1::2]
        return min(xs), min(ys), max(xs), max(ys)
    return NO_BOX
