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
from maskwatch.data.raw import NO_BOX, Entry, RawObject, RawPicture
from maskwatch.errors import DataError

# Ten digits hold a float32 pixel of any picture to a millionth.
_DIGITS = 10
NAME_FILES = ("classes.txt", "obj.names", "labels.txt")


def read_yaml(path: Path) -> dict[str, Any]:
    """The document of a data.yaml.

    Raises:
        DataError: it cannot be read, or names neither classes nor pictures.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise DataError([f"{path}: not readable as YAML ({reason}); mend that line"]) from None
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
    """Names by number from classes.txt, obj.names or the like; empty where there is none."""
    for file in (*(folder / name for name in NAME_FILES), *sorted(folder.glob("*.names"))):
        if file.is_file():
            return read_names(file)
    return {}


def read_names(file: Path) -> dict[int, str]:
    """Names by number, one a line."""
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    return {number: line.strip() for number, line in enumerate(lines) if line.strip()}


def raw_yolo(entries: Sequence[Entry], names: Mapping[int, str], faults: list[Fault]) -> list[RawPicture]:
    """The annotations as written, in the order of the entries.

    A picture without a label file shows nothing to find, as YOLO has it.

    Args:
        entries: the pictures, see `yolo_files`.
        names: of the classes by number; a number without a name stands for itself.
        faults: is added to.
    """
    return [_picture(entry, names, faults) for entry in entries]


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


def _picture(entry: Entry, names: Mapping[int, str], faults: list[Fault]) -> RawPicture:
    picture, label = entry.image, entry.annotation
    assert picture is not None
    assert label is not None
    objects: list[RawObject] = []
    if label.is_file():
        try:
            lines = label.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            text = f"not readable as text: {error}"
            faults.append(Fault("annotation-unreadable", label, text, "write it again", picture=picture))
            lines = []
        objects = [_object(line, n, names) for n, line in enumerate(lines, start=1) if line.strip()]
    return RawPicture(picture, label, entry.image_id, tuple(objects), normalised=True)


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
