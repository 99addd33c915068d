"""Reads and rewrites the YOLO label file of a picture; lines of boxes that stay keep their other columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from maskwatch.data.formats.yolo.lines import LabelLine, LineReader, parse_line
from maskwatch.data.issues import Box
from maskwatch.label.annotation import LabelBox, ReadBox, content_ids, shown_name
from maskwatch.label.errors import LabelInputError
from maskwatch.labels import ClassMap
from maskwatch.text import decode_text

_DIGITS = 10  # hold a float32 pixel of any picture to a millionth, as the writer of data sets has it
_BOX_NUMBERS = 4


class YoloDocument:
    """The content of a label file.

    Args:
        data: of the file; None for a picture without one.
        reader: of the lines of the whole data set, which together tell boxes from polygons.
        size_hw: of the picture as shown.
        classes: how written names map to classes.

    Raises:
        UnicodeError: it is not text.
    """

    def __init__(
        self, data: bytes | None, reader: LineReader, size_hw: tuple[int, int], classes: ClassMap
    ) -> None:
        self._reader, self._size_hw, self._classes = reader, size_hw, classes
        self._end = "\r\n" if data and b"\r\n" in data else "\n"
        text = decode_text(data or b"")
        self._lines = text.removesuffix("\n").split("\n") if text else []

    def boxes(self) -> list[ReadBox]:
        """Its lines with a box, in the order of the file."""
        texts = [text for text in self._lines if parse_line(text, 0) is not None]
        return [self._read(text, key) for text, key in zip(texts, content_ids(texts), strict=True)]

    def replace(self, boxes: Sequence[LabelBox], attic: Mapping[str, str]) -> list[str]:
        """Makes these its boxes; returns the new id of each. Lines that are not shown stay.

        Raises:
            LabelInputError: the format cannot hold one of them.
        """
        read = self.boxes()
        raws = {one.box.id: one.raw for one in read if one.box is not None and one.box.id is not None}
        known = {**attic, **raws}
        texts = [self._text_of(box, known.get(box.id or "")) for box in boxes]
        hidden = [
            text
            for text in self._lines
            if parse_line(text, 0) is None or any(one.raw == text and one.box is None for one in read)
        ]
        order = {raw: place for place, raw in enumerate(raws.values())}
        # Lines stay in their order; those of new boxes follow.
        sources = [order.get(raws.get(box.id or "", ""), len(order) + n) for n, box in enumerate(boxes)]
        places = sorted(range(len(boxes)), key=lambda n: sources[n])
        lines = [texts[n] for n in places]
        self._lines = [*hidden, *lines]
        keys = content_ids(text for text in self._lines if parse_line(text, 0) is not None)
        by_place = dict(zip(places, keys[len(keys) - len(places) :], strict=True))
        return [by_place[n] for n in range(len(boxes))]

    def to_bytes(self) -> bytes:
        """The file, in UTF-8."""
        return "".join(line + self._end for line in self._lines).encode()

    def _read(self, text: str, key: str) -> ReadBox:
        line = parse_line(text, 0)
        assert line is not None
        item = self._reader.read(line)
        name = shown_name(self._classes, item.name)
        if item.problem is not None:
            return ReadBox(text, None, f"a line is not shown: {item.shown} {item.problem.text}")
        if name is None:
            return ReadBox(text, None)
        box = LabelBox(self._pixels(item.box_xyxy), name, key)
        return ReadBox(text, box, None if name in self._classes.names else f"unknown class {item.name!r}")

    def _pixels(self, fractions: Box) -> Box:
        height, width = self._size_hw
        x0, y0, x1, y1 = fractions
        return x0 * width, y0 * height, x1 * width, y1 * height

    def _text_of(self, box: LabelBox, raw: str | None) -> str:
        """The line of a box: that of its id, with what has changed, or a new one."""
        if box.difficult or box.crowd:
            raise LabelInputError(
                "YOLO cannot mark a box as difficult or as an ignore region; leave the mark out, or convert "
                "the data set to VOC or COCO"
            )
        line = parse_line(raw, 0) if raw is not None else None
        if line is None:
            return " ".join([self._class_word(box.name), *self._numbers(box.box_xyxy)])
        before = self._reader.read(line)
        moved = not LabelBox(self._pixels(before.box_xyxy), "").is_at(box.box_xyxy)
        renamed = shown_name(self._classes, before.name) != box.name
        if raw is not None and not moved and not renamed:
            return raw
        word = self._class_word(box.name) if renamed else line.class_word
        words = self._moved_words(line, before.box_xyxy, box.box_xyxy) if moved else list(line.words)
        return " ".join([word, *words])

    def _moved_words(self, line: LabelLine, before: Box, box_xyxy: Box) -> list[str]:
        """The numbers of a line whose box has moved; a polygon is stretched with its box."""
        if self._reader.shape != "polygon" or len(line.values) == _BOX_NUMBERS:
            return [*self._numbers(box_xyxy), *line.words[_BOX_NUMBERS:]]
        height, width = self._size_hw
        x0, y0, x1, y1 = before
        new = box_xyxy[0] / width, box_xyxy[1] / height, box_xyxy[2] / width, box_xyxy[3] / height
        scale_x, scale_y = (new[2] - new[0]) / ((x1 - x0) or 1), (new[3] - new[1]) / ((y1 - y0) or 1)
        words = []
        for number, value in enumerate(line.values[: len(line.values) // 2 * 2]):
            at = new[1] + (value - y0) * scale_y if number % 2 else new[0] + (value - x0) * scale_x
            words.append(f"{at:.{_DIGITS}f}")
        return [*words, *line.words[len(words) :]]  # a score may stand at the end

    def _numbers(self, box_xyxy: Box) -> list[str]:
        height, width = self._size_hw
        x0, y0, x1, y1 = box_xyxy
        shares = ((x0 + x1) / 2 / width, (y0 + y1) / 2 / height, (x1 - x0) / width, (y1 - y0) / height)
        return [f"{share:.{_DIGITS}f}" for share in shares]

    def _class_word(self, name: str) -> str:
        """The number of a class."""
        names = self._reader.names
        for number, written in names.items():
            if shown_name(self._classes, written) == name:
                return str(number)
        if name.isdecimal() and int(name) not in names:
            return name
        known = ", ".join(f"{number} {written}" for number, written in list(names.items())[:8])
        raise LabelInputError(
            f"class {name!r} has no number in this YOLO data set (it has {known or 'no list of names'}); add "
            "it to names in its data.yaml or to its classes.txt, and start again"
        )
