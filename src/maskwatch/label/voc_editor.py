"""Reads and rewrites the Pascal VOC file of a picture; what other programs wrote into it stays.

`<maskwatch><state>proposed</state></maskwatch>` marks boxes that no one has looked at yet. A file
without <object> means that there is nothing to find.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from maskwatch.data.dataset import CROWD, Sample, is_crowd
from maskwatch.data.formats.base import RawObject, shortest
from maskwatch.data.formats.voc import CORNERS, read_object, voc_xml
from maskwatch.data.issues import Box
from maskwatch.data.validator import stated_size
from maskwatch.hard_cases import MARK
from maskwatch.label.annotation import (
    LabelBox,
    Mark,
    ReadBox,
    content_ids,
    shown_name,
    to_upright,
)
from maskwatch.labels import ClassMap
from maskwatch.media.formats import ImageMetadata
from maskwatch.text import decode_text, parse_xml

_DECLARATION = re.compile(r"\s*<\?xml[^>]*\?>\s*")
_ROOT = re.compile(r"<annotation[\s>/]")


class VocDocument:
    """The content of an XML file.

    Args:
        data: of the file; None for a picture without one.
        picture: the image file.
        metadata: of the image.
        classes: how written names map to classes.

    Raises:
        ValueError, xml.etree.ElementTree.ParseError: it is not an annotation.
    """

    def __init__(self, data: bytes | None, picture: Path, metadata: ImageMetadata, classes: ClassMap) -> None:
        self._metadata, self._classes = metadata, classes
        self._prolog = ""
        if data is None:
            data = _blank(picture, metadata)
        else:
            self._prolog = _prolog(decode_text(data))
        self._root = parse_xml(data, comments=True)
        if self._root.tag != "annotation":
            raise ValueError(f"holds <{self._root.tag}>, not <annotation>")
        self._turned = self._is_turned()
        self._data, self._text_before = data, _text(self._root)

    @property
    def mark(self) -> Mark:
        return "proposed" if self._root.findtext(f"{MARK}/state") == "proposed" else ""

    @property
    def notes(self) -> list[str]:
        """What is odd about the file as a whole."""
        stated, (height, width) = self._stated_wh(), self._metadata.size_hw
        if self._turned:
            return ["the boxes were drawn on the picture without its EXIF orientation; they are shown turned"]
        if stated is None or not all(stated) or stated == (width, height):
            return []
        says = f"<size> says {stated[0]} x {stated[1]}, the picture has {width} x {height}"
        return [f"{says}: check whether the boxes fit"]

    def boxes(self) -> list[ReadBox]:
        """Its objects, in the order of the file."""
        nodes = self._nodes()
        texts = [_text(node) for node in nodes]
        return [
            self._read(node, number, text, key)
            for number, (node, text, key) in enumerate(
                zip(nodes, texts, content_ids(texts), strict=True), start=1
            )
        ]

    def replace(self, boxes: Sequence[LabelBox], mark: Mark, attic: Mapping[str, str]) -> list[str]:
        """Makes these its boxes; returns the new id of each. Objects that are not shown stay.

        Args:
            boxes: with the id of the object that each was before, None for a new one.
            attic: id → text of objects that the file held before.
        """
        pairs = list(zip(self.boxes(), self._nodes(), strict=True))
        nodes = {one.box.id: node for one, node in pairs if one.box is not None}
        hidden = [node for one, node in pairs if one.box is None]
        written = [self._node_of(box, nodes, attic) for box in boxes]
        kept = {id(node) for node in (*written, *hidden)}
        for node in self._nodes():
            if id(node) not in kept:
                self._root.remove(node)
        present = {id(node) for node in self._nodes()}
        for node in written:
            if id(node) not in present:
                self._root.append(node)
        self._set_size()
        self._set_mark(mark)
        self._indent()
        keys = content_ids(map(_text, self._nodes()))
        by_node = {id(node): key for node, key in zip(self._nodes(), keys, strict=True)}
        return [by_node[id(node)] for node in written]

    def to_bytes(self) -> bytes:
        """The file, in UTF-8; byte for byte the old one if nothing in it has changed."""
        if _text(self._root) == self._text_before:
            return self._data
        return self._prolog.encode() + bytes(ET.tostring(self._root, encoding="utf-8")) + b"\n"

    def _nodes(self) -> list[ET.Element]:
        return self._root.findall("object")

    def _read(self, node: ET.Element, number: int, text: str, key: str) -> ReadBox:
        item = read_object(node, number)
        name = shown_name(self._classes, item.name)
        if name is None:
            return ReadBox(text, None)
        if item.box_xyxy[0] != item.box_xyxy[0]:  # not four numbers
            return ReadBox(text, None, f"{item.title} is not shown: its {item.shown}")
        crowd, score = is_crowd(item.notes), _score(item)
        box = LabelBox(self._shown(item.box_xyxy), name, key, item.difficult, crowd, score)
        return ReadBox(text, box, None if name in self._classes.names else f"unknown class {item.name!r}")

    def _shown(self, box_xyxy: Box) -> Box:
        return to_upright(box_xyxy, self._metadata) if self._turned else box_xyxy

    def _node_of(
        self, box: LabelBox, nodes: Mapping[str | None, ET.Element], attic: Mapping[str, str]
    ) -> ET.Element:
        """The object of a box: that of its id, with what has changed, or a new one."""
        node = nodes.get(box.id) if box.id is not None else None
        if node is None and box.id is not None and box.id in attic:
            node = ET.fromstring(attic[box.id])
        if node is None:
            node = ET.Element("object")
            for tag, text in (("name", ""), ("difficult", "0")):
                ET.SubElement(node, tag).text = text
            ET.SubElement(node, "bndbox")
        before = read_object(node, 0)
        if shown_name(self._classes, before.name) != box.name:
            _child(node, "name").text = box.name
        if self._turned or not LabelBox(before.box_xyxy, "").is_at(box.box_xyxy):
            for corner, value in zip(CORNERS, box.box_xyxy, strict=True):
                _child(_child(node, "bndbox"), corner).text = shortest(value)
        if (before.difficult, is_crowd(before.notes)) != (box.difficult, box.crowd):
            _set_flags(node, box)
        if box.score is not None and box.id is None:
            _child(node, "score").text = f"{box.score:.3f}"
        return node

    def _stated_wh(self) -> tuple[int, int] | None:
        width, height = (self._root.findtext(f"size/{side}") or "0" for side in ("width", "height"))
        return stated_size((width, height))

    def _is_turned(self) -> bool:
        """Whether the file states the size of the picture without its EXIF orientation."""
        height, width = self._metadata.size_hw
        return self._metadata.turned and width != height and self._stated_wh() == (height, width)

    def _set_size(self) -> None:
        height, width = self._metadata.size_hw
        if self._stated_wh() != (width, height):
            size = _child(self._root, "size")
            _child(size, "width").text, _child(size, "height").text = str(width), str(height)
        self._turned = False

    def _set_mark(self, mark: Mark) -> None:
        """Marks the boxes as proposed or not; the reason and time of a hard case stay beside the mark."""
        if mark == "proposed":
            _child(_child(self._root, MARK), "state").text = mark
            return
        for node in self._root.findall(MARK):
            for state in node.findall("state"):
                node.remove(state)
            if not len(node):
                self._root.remove(node)

    def _indent(self) -> None:
        """Lays out new objects as the file lays out its own."""
        space = re.search(r"\n([ \t]+)$", self._root.text or "")
        if space is not None:
            ET.indent(self._root, space[1])


def _blank(picture: Path, metadata: ImageMetadata) -> bytes:
    """The annotation of a picture without objects."""
    none = np.empty((0, 4), np.float32), np.empty(0, np.int64), np.empty(0, np.bool_)
    return voc_xml(Sample(picture, None, metadata.size_hw, *none), ())


def _prolog(text: str) -> str:
    """Declaration and comments before the root, with the encoding that is written."""
    root = _ROOT.search(text)
    before = text[: root.start()] if root else ""
    declared = _DECLARATION.match(before)
    if declared is None:
        return before
    return '<?xml version="1.0" encoding="utf-8"?>\n' + before[declared.end() :]


def _text(node: ET.Element) -> str:
    """An element as text, however it is laid out."""
    copy = ET.fromstring(ET.tostring(node))
    copy.tail = None
    ET.indent(copy)
    return ET.tostring(copy, encoding="unicode")


def _score(item: RawObject) -> float | None:
    try:
        return float(item.notes["score"])
    except (KeyError, ValueError):
        return None


def _child(node: ET.Element, tag: str) -> ET.Element:
    found = node.find(tag)
    return ET.SubElement(node, tag) if found is None else found


def _set_flags(node: ET.Element, box: LabelBox) -> None:
    """Pascal VOC marks both as difficult; a crowd has a note beside it."""
    _child(node, "difficult").text = str(int(box.difficult or box.crowd))
    for child in node.findall(CROWD):
        node.remove(child)
    for attributes in node.findall("attributes"):
        for attribute in attributes.findall("attribute"):
            if (attribute.findtext("name") or "").strip() == CROWD:
                attributes.remove(attribute)
    if box.crowd:
        ET.SubElement(node, CROWD).text = "1"
