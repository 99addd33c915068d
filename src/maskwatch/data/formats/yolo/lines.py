"""Reads YOLO's label files. A line is `class cx cy width height`, or `class x y x y x y …` of a polygon.

A box may be followed by landmarks (`x y` or `x y visibility` of each), a score or a track id.

Sources: https://docs.ultralytics.com/datasets/ (detect, segment, pose, obb), the label files of yolov5-face.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from maskwatch.data.formats.base import NO_BOX, Entry, EntryAnnotations, RawImage, RawObject
from maskwatch.data.formats.yolo.shape import Shape, box_corners, fits_box, shape_of
from maskwatch.data.issues import Box, Issue, Reason
from maskwatch.labels import find_class
from maskwatch.text import read_lines, reason_of

FORMAT = "yolo"

_BOX = "class cx cy width height"
_WAY_OUT = f"write {_BOX}, or state kpt_shape in the data.yaml if landmarks follow the box"


@dataclass(frozen=True)
class LabelLine:
    """One line: its number, the class, the words after it, and their values (NaN if not a number)."""

    number: int
    class_word: str
    words: tuple[str, ...]
    values: tuple[float, ...]


def parse_line(text: str, number: int) -> LabelLine | None:
    """Splits a line at blanks, commas or semicolons; None for a blank line or a comment."""
    text = text.partition("#")[0].strip()
    if not text:
        return None
    if "." not in text and re.search(r"\d,\d", text) and re.search(r"\d[\s;]+\d", text):
        text = re.sub(r"(?<=\d),(?=\d)", ".", text)  # decimal commas
    class_word, *words = re.split(r"[\s,;]+", text.strip(",; \t"))
    return LabelLine(number, class_word, tuple(words), tuple(map(_value, words)))


def _value(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        return math.nan


class LineReader:
    """Lines of one set → objects.

    Args:
        lines: all of the set; together they determine what follows a box.
        names: of the classes by number; a number without a name is its own name.
        landmarks: how many numbers follow each box; None if the set does not state it.
    """

    def __init__(
        self, lines: Sequence[LabelLine], names: Mapping[int, str], landmarks: int | None = None
    ) -> None:
        self.names, self._stated = names, landmarks is not None
        self.shape: Shape = "box" if self._stated else shape_of([line.values for line in lines])
        counts = Counter(len(line.values) for line in lines if len(line.values) > 5)
        # A score and a track id may follow stated landmarks.
        least = None if landmarks is None else 4 + landmarks
        self._counts = [n for n, _ in counts.most_common(1)] if least is None else [*range(least, least + 3)]
        # Polygons may end with a score; a few such lines among boxes are slips.
        self._scored = all(count % 2 for count in counts) and 2 * counts.total() > len(lines)

    def read(self, line: LabelLine) -> RawObject:
        where = f"line {line.number}"
        shown = "box " + (" ".join(line.words[:8]) + (" …" if len(line.words) > 8 else "") or "missing")
        name = _class_name(line.class_word, self.names)
        if name is None:
            known = ", ".join(f"{number} {name}" for number, name in list(self.names.items())[:8])
            text = f"has the class {line.class_word!r}, which is not the number of one"
            fix = f"write one of {known}" if known else "write a whole number from 0"
            return RawObject(where, "", NO_BOX, shown, problem=Reason("class-unknown", text, fix))
        problem = self._problem(line)
        if problem is not None:
            return RawObject(where, name, NO_BOX, shown, problem=Reason("box-invalid", *problem))
        return RawObject(where, name, self._box(line.values), shown)

    def _problem(self, line: LabelLine) -> tuple[str, str] | None:
        """Text and fix of what is wrong with the numbers of a line."""
        pairs = zip(line.words, line.values, strict=True)
        wrong, count = [word for word, value in pairs if not math.isfinite(value)], len(line.values)
        if wrong:
            return f"holds {wrong[0]!r}, which is not a number", f"write {_BOX}"
        if count < 4:
            return f"has {count} numbers after the class", f"write {_BOX}"
        if count == 4 or (count == 5 and self.shape != "polygon"):
            return None
        if not self._stated and _holds_several(line):
            return "is several boxes", "write one a line"
        if self.shape == "unknown":
            return f"has {count} numbers, of a box with landmarks or of a polygon", _WAY_OUT
        if self.shape == "polygon" and count % 2 and not self._scored:
            text = f"has {count} numbers, which do not pair up as points of a polygon"
            return text, "write x y of each of its points"
        if self.shape == "box" and count not in self._counts:
            expected = " or ".join(map(str, [4, *self._counts]))
            return f"has {count} numbers after the class, not {expected}", _WAY_OUT
        return None

    def _box(self, values: Sequence[float]) -> Box:
        """Corners as fractions, from centre and size, or around a polygon, which may end with a score."""
        if self.shape != "polygon" or len(values) == 4:
            return box_corners(values)
        xs, ys = zip(*zip(values[0::2], values[1::2], strict=False), strict=True)
        return min(xs), min(ys), max(xs), max(ys)


def _holds_several(line: LabelLine) -> bool:
    """Whether several boxes are on one line: a class follows each box."""
    starts = range(4, len(line.words), 5)
    boxes = [line.values[start + 1 : start + 5] for start in (-1, *starts)]
    return (
        len(line.words) % 5 == 4
        and all(line.words[start].isdecimal() for start in starts)
        and all(fits_box(box) for box in boxes)
    )


def _class_name(word: str, names: Mapping[int, str]) -> str | None:
    value = _value(word)
    if math.isfinite(value) and value.is_integer() and value >= 0:
        return names.get(int(value), str(int(value)))
    known = list(names.values())
    index = find_class(known, word)
    return None if index is None else known[index]


@dataclass(frozen=True)
class YoloAnnotations(EntryAnnotations):
    """Images and label files.

    names: of the classes by number; a number without a name is its own name.
    landmarks: how many numbers follow each box; None if unknown.
    """

    names: Mapping[int, str]
    landmarks: int | None = None

    def class_names(self) -> tuple[str, ...]:
        return tuple(self.names.values())

    def read(self, issues: list[Issue], image_ids: Collection[str] | None = None) -> list[RawImage]:
        """As in YOLO, an image without a label file has no objects."""
        entries = self.wanted(image_ids)
        lines = [_label_lines(entry.annotation, entry.image, issues) for entry in entries]
        every = [line for mine in lines for line in mine]
        reader = LineReader(every, self.names, self.landmarks)
        if reader.shape == "unknown":  # the other splits may decide
            labels = {entry.annotation for entry in entries if entry.annotation is not None}
            every += [line for label in _labels_around(labels) for line in _label_lines(label, None, [])]
            reader = LineReader(every, self.names, self.landmarks)
        return [_raw_image(entry, mine, reader) for entry, mine in zip(entries, lines, strict=True)]


def _raw_image(entry: Entry, lines: Sequence[LabelLine], reader: LineReader) -> RawImage:
    assert entry.image is not None
    assert entry.annotation is not None
    objects = tuple(map(reader.read, lines))
    return RawImage(entry.image, entry.annotation, entry.image_id, objects, normalized=True)


def _labels_around(labels: Iterable[Path]) -> list[Path]:
    """Label files of the other splits: below the same labels/, or in the labels/ of sibling folders."""
    folders = {folder for label in labels for folder in label.parents if folder.name.lower() == "labels"}
    around = {file for folder in folders for file in folder.rglob("*.txt")}
    around |= {file for folder in folders for file in folder.parent.parent.glob("*/labels/*.txt")}
    return sorted(around - set(labels))


def _label_lines(label: Path | None, image: Path | None, issues: list[Issue]) -> list[LabelLine]:
    if label is None or not label.is_file():
        return []
    try:
        texts = read_lines(label)
    except (OSError, UnicodeError) as error:
        text = f"not readable as text: {reason_of(error)}"
        issues.append(Issue("annotation-unreadable", label, text, "write it again", image=image))
        return []
    parsed = (parse_line(text, number) for number, text in enumerate(texts, start=1))
    return [line for line in parsed if line is not None]
