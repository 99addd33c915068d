"""Reads and rewrites a COCO file picture by picture; what other programs wrote into it stays.

`"maskwatch"` in the row of a picture is "proposed" (boxes that no one has looked at yet) or "empty" (looked
at, nothing to find); a picture without annotations and without that mark is not labelled.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from maskwatch.data.dataset import CROWD, is_crowd
from maskwatch.data.formats.coco import DIFFICULT, read_document, row_box, row_id, row_notes
from maskwatch.data.formats.index_files import IndexFile
from maskwatch.label.annotation import LabelBox, Mark, ReadBox, shown_name, to_upright
from maskwatch.labels import ClassMap
from maskwatch.media.formats import ImageMetadata

_MARK_KEY = "maskwatch"
_ROWS = ("images", "annotations")
_NUMBERS = itertools.count()


class CocoDocument:
    """The content of a COCO file, which is parsed once and written whole, a row a line.

    Args:
        file: the JSON file and the images that it may name.
        classes: how written names map to classes.

    Attributes:
        number: of this document among all that were parsed.
        edits: how often the rows of each picture were replaced.

    Raises:
        DataError: it cannot be read.
    """

    def __init__(self, file: IndexFile, classes: ClassMap) -> None:
        self._file, self._classes = file, classes
        self.number = next(_NUMBERS)
        self.edits: Counter[Path] = Counter()
        self._document = read_document(file.path)
        self._texts: dict[int, str] = {}  # id() of a row → its JSON
        self._names = {row_id(row, "id"): str(row.get("name", "")) for row in self._document["categories"]}
        self._annotations: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for row in self._document["annotations"]:
            self._annotations[row_id(row, "image_id")].append(row)
        self._images: dict[Path, dict[str, Any]] = {}
        for row in self._document["images"]:
            found = file.find(str(row.get("file_name") or ""))
            if len(found) == 1:
                self._images.setdefault(found[0], row)
        self._last_id = max((_number(row.get("id")) for row in self._document["annotations"]), default=0)

    def mark(self, picture: Path) -> Mark:
        written = self._images.get(picture, {}).get(_MARK_KEY)
        return written if written in ("proposed", "empty") else ""

    def text_of(self, picture: Path) -> str:
        """The rows of a picture, by which changes are noticed; "" without any."""
        row = self._images.get(picture)
        if row is None:
            return ""
        return "\n".join(map(self._text, (row, *self._annotations.get(row_id(row, "id"), ()))))

    def notes(self, picture: Path, metadata: ImageMetadata) -> list[str]:
        """What is odd about the rows of a picture."""
        row, (height, width) = self._images.get(picture, {}), metadata.size_hw
        if self._is_turned(row, metadata):
            return ["the boxes were drawn on the picture without its EXIF orientation; they are shown turned"]
        stated = _number(row.get("width")), _number(row.get("height"))
        if not all(stated) or stated == (width, height):
            return []
        says = f"its width and height say {stated[0]:g} x {stated[1]:g}, the picture has {width} x {height}"
        return [f"{says}: check whether the boxes fit"]

    def boxes(self, picture: Path, metadata: ImageMetadata) -> list[ReadBox]:
        """The annotations of a picture, in the order of the file."""
        image = self._images.get(picture)
        rows = () if image is None else self._annotations.get(row_id(image, "id"), ())
        turned = image is not None and self._is_turned(image, metadata)
        return [self._read(row, metadata if turned else None) for row in rows]

    def replace(
        self,
        picture: Path,
        metadata: ImageMetadata,
        boxes: Sequence[LabelBox],
        mark: Mark,
        attic: Mapping[str, str],
    ) -> list[str]:
        """Makes these the boxes of a picture; returns the id of each. Rows that are not shown stay.

        Args:
            boxes: with the id of the annotation that each was before, None for a new one.
            attic: id → JSON of annotations that the file held before.
        """
        image = self._image_row(picture, metadata)
        mine = self._annotations[row_id(image, "id")]
        read = self.boxes(picture, metadata)
        rows = {one.box.id: row for one, row in zip(read, mine, strict=True) if one.box is not None}
        hidden = [row for one, row in zip(read, mine, strict=True) if one.box is None]
        turned = self._is_turned(image, metadata)
        written = [self._row_of(box, image, rows, attic, all_moved=turned) for box in boxes]
        kept = {id(row) for row in (*written, *hidden)}
        gone = {id(row) for row in mine if id(row) not in kept}
        before = {id(row) for row in mine}
        new = [row for row in written if id(row) not in before]
        every = self._document["annotations"]
        if gone:
            every[:] = [row for row in every if id(row) not in gone]
        every += new
        mine[:] = [*(row for row in mine if id(row) not in gone), *new]
        image.pop(_MARK_KEY, None)
        if mark:
            image[_MARK_KEY] = mark
        image["height"], image["width"] = metadata.size_hw
        for key in (id(image), *gone, *map(id, mine)):
            self._texts.pop(key, None)
        self.edits[picture] += 1
        return [row_id(row, "id") for row in written]

    def to_bytes(self) -> bytes:
        """The file, in UTF-8."""
        parts = []
        for key, value in self._document.items():
            if key in _ROWS:
                text = "[\n" + ",\n".join(map(self._text, value)) + "\n]" if value else "[]"
            else:
                text = json.dumps(value, ensure_ascii=False)
            parts.append(f"{json.dumps(key)}: {text}")
        return ("{" + ",\n".join(parts) + "}\n").encode("utf-8", "surrogatepass")

    def _text(self, row: dict[str, Any]) -> str:
        text = self._texts.get(id(row))
        if text is None:
            text = self._texts[id(row)] = json.dumps(row, ensure_ascii=False)
        return text

    def _read(self, row: dict[str, Any], turned: ImageMetadata | None) -> ReadBox:
        text, key = self._text(row), row_id(row, "id")
        written = self._names.get(row_id(row, "category_id"))
        if written is None:
            return ReadBox(text, None, f"annotation {key} is not shown: its category does not exist")
        name = shown_name(self._classes, written)
        if name is None:
            return ReadBox(text, None)
        box_xyxy = row_box(row.get("bbox"))
        if box_xyxy[0] != box_xyxy[0]:  # not four numbers
            return ReadBox(text, None, f"annotation {key} is not shown: bbox {json.dumps(row.get('bbox'))}")
        notes, difficult = row_notes(row)
        shown = box_xyxy if turned is None else to_upright(box_xyxy, turned)
        score = row.get("score")
        proposed = float(score) if isinstance(score, int | float) else None
        box = LabelBox(shown, name, key, difficult, is_crowd(notes), proposed)
        return ReadBox(text, box, None if name in self._classes.names else f"unknown class {written!r}")

    def _is_turned(self, row: Mapping[str, Any], metadata: ImageMetadata) -> bool:
        """Whether a row states the size of the picture without its EXIF orientation."""
        height, width = metadata.size_hw
        stated = _number(row.get("width")), _number(row.get("height"))
        return metadata.turned and width != height and stated == (height, width)

    def _image_row(self, picture: Path, metadata: ImageMetadata) -> dict[str, Any]:
        """The row of a picture, added if the file has none."""
        row = self._images.get(picture)
        if row is not None:
            return row
        images = self._document["images"]
        number = int(max((_number(one.get("id")) for one in images), default=0)) + 1
        name = self._file.image_id(picture)
        if self._file.find(name) != [picture]:
            name = picture.relative_to(self._file.root).as_posix()
        height, width = metadata.size_hw
        row = {"id": number, "file_name": name, "width": width, "height": height}
        images.append(row)
        self._images[picture] = row
        return row

    def _row_of(
        self,
        box: LabelBox,
        image: Mapping[str, Any],
        rows: Mapping[str | None, dict[str, Any]],
        attic: Mapping[str, str],
        *,
        all_moved: bool,
    ) -> dict[str, Any]:
        """The annotation of a box: that of its id, with what has changed, or a new one."""
        row = rows.get(box.id) if box.id is not None else None
        if row is None and box.id is not None and box.id in attic:
            row = json.loads(attic[box.id])
        if row is None:
            self._last_id = int(self._last_id) + 1
            row = {"id": self._last_id, "image_id": image["id"], "category_id": None, "segmentation": []}
            row |= {"area": 0.0, CROWD: 0}
        before = row_box(row.get("bbox"))
        if all_moved or not LabelBox(before, "").is_at(box.box_xyxy):
            x0, y0, x1, y1 = box.box_xyxy
            row["bbox"] = [x0, y0, round(x1 - x0, 3), round(y1 - y0, 3)]
            if not row.get("segmentation"):  # else the area is that of the outline
                row["area"] = round((x1 - x0) * (y1 - y0), 3)
        if shown_name(self._classes, self._names.get(row_id(row, "category_id"), "")) != box.name:
            row["category_id"] = self._category_id(box.name)
        notes, difficult = row_notes(row)
        if (difficult, is_crowd(notes)) != (box.difficult, box.crowd):
            _set_flags(row, box)
        if box.score is not None and box.id is None:
            row["score"] = round(box.score, 3)
        return row

    def _category_id(self, name: str) -> Any:
        """The id of the category of a class, which is added if the file has none."""
        rows = self._document["categories"]
        for row in rows:
            if shown_name(self._classes, str(row.get("name", ""))) == name:
                return row["id"]
        number = int(max((_number(row.get("id")) for row in rows), default=0)) + 1
        rows.append({"id": number, "name": name})
        self._names[str(number)] = name
        return number


def _number(value: object) -> float:
    """An id or a length as a number; 0 for what is none."""
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return 0


def _set_flags(row: dict[str, Any], box: LabelBox) -> None:
    """COCO marks both as a crowd; a difficult box has an attribute beside it."""
    row[CROWD] = int(box.difficult or box.crowd)
    row.pop(DIFFICULT, None)
    attributes = row.get("attributes")
    if isinstance(attributes, dict):
        attributes.pop(DIFFICULT, None)
    if box.difficult:
        row["attributes"] = {**(attributes if isinstance(attributes, dict) else {}), DIFFICULT: "1"}
