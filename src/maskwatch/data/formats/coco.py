"""COCO JSON: one file for all pictures (https://cocodataset.org/#format-data)."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from maskwatch.data.dataset import CROWD, DetectionSet
from maskwatch.data.formats.base import (
    NO_BOX,
    Annotations,
    Format,
    Found,
    RawImage,
    RawObject,
    Split,
    copy_images,
)
from maskwatch.data.formats.coco_files import JSON, CocoFile, find_files, open_alone
from maskwatch.data.formats.tree import Folder
from maskwatch.data.issues import Box, Issue, Reason
from maskwatch.data.names import ambiguity
from maskwatch.errors import DataError
from maskwatch.outputs import make_folder
from maskwatch.text import plural, read_text, reason_of

# Keys of an annotation that are not notes.
_OWN_KEYS = frozenset(["id", "image_id", "category_id", "bbox", "area", "segmentation", "attributes"])
DIFFICULT = "difficult"
# Lists that every file has, and the ids in them.
_IDS = {"images": ("id",), "annotations": ("id", "image_id", "category_id"), "categories": ("id",)}


def find(folder: Folder) -> Found:
    """One split for each JSON file of a folder."""
    files, rest = find_files(folder)
    return [Split(file.split, COCO.name, file.path, CocoAnnotations(file)) for file in files], rest


def open_file(file: Path) -> list[Split] | None:
    """A single JSON file; its name does not determine the split."""
    if file.suffix.lower() != JSON:
        return None
    return [Split("", COCO.name, file, CocoAnnotations(open_alone(file)))]


@dataclass(frozen=True)
class CocoAnnotations(Annotations):
    """A JSON file and the images it names; it is parsed once."""

    file: CocoFile

    @cached_property
    def _content(self) -> _Content:
        return _Content(self.file)

    def images(self) -> tuple[Path, ...]:
        return self.file.images

    def class_names(self) -> tuple[str, ...]:
        return self._content.class_names

    def read(self, issues: list[Issue], image_ids: Collection[str] | None = None) -> list[RawImage]:
        issues += self._content.issues
        return self._content.images


def read_json(path: Path) -> dict[str, Any]:
    """The document of a COCO file.

    Raises:
        DataError: it cannot be read, or is not a COCO detection file.
    """
    try:
        document = json.loads(read_text(path))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError([f"{path}: not readable as JSON ({reason_of(error)}); get a complete copy"]) from None
    for key in _IDS:
        rows = document.get(key) if isinstance(document, dict) else None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            text = f"{path}: no list of {key!r} in it; give the file of a COCO detection data set"
            raise DataError([text])
    problems = [
        f"{path}: {key} number {number}: {field} {row[field]!r} is not a number; write one"
        for key, fields in _IDS.items()
        for number, row in enumerate(document[key], start=1)
        for field in fields
        if isinstance(row.get(field), dict | list)
    ]
    if problems:
        raise DataError(problems)
    return dict(document)


def _category_names(document: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the categories, in their order; without Roboflow's supercategory, which has no box."""
    rows = document["categories"]
    used = {row_id(row, "category_id") for row in document["annotations"]}
    above = {(str(row.get("supercategory")), str(row.get("name"))) for row in rows}
    holders = {group for group, name in above if group != name}
    return tuple(
        str(row.get("name", ""))
        for row in rows
        if row_id(row, "id") in used or str(row.get("name")) not in holders
    )


class _Content:
    """What a JSON file holds: images in the order of the file, class names, and issues."""

    def __init__(self, file: CocoFile) -> None:
        self.file = file
        self.issues: list[Issue] = []
        document = read_json(file.path)
        self.class_names = _category_names(document)
        self.images = list(self._raw_images(document["images"], self._objects(document)))

    def _note(self, kind: str, text: str, fix: str, where: str) -> None:
        self.issues.append(Issue(kind, self.file.path, text, fix, where))

    def _objects(self, document: Mapping[str, Any]) -> dict[str, list[RawObject]]:
        names = {row_id(row, "id"): str(row.get("name", "")) for row in document["categories"]}
        objects: dict[str, list[RawObject]] = defaultdict(list)
        for number, row in enumerate(document["annotations"], start=1):
            where = f"annotation {row.get('id', f'number {number}')}"
            name = names.get(row_id(row, "category_id"))
            if name is None:
                text = f"category_id {row.get('category_id')!r} is not among the categories"
                self._note("class-unknown", text, "add the category or fix the id", where)
                continue
            box, shown = row_box(row.get("bbox")), f"bbox {json.dumps(row.get('bbox'))}"
            notes, difficult = row_notes(row)
            objects[row_id(row, "image_id")].append(RawObject(where, name, box, shown, difficult, notes))
        return objects

    def _raw_images(
        self, rows: Sequence[Mapping[str, Any]], objects: Mapping[str, Sequence[RawObject]]
    ) -> Iterator[RawImage]:
        seen: set[str] = set()
        taken: dict[Path, str] = {}
        for number, row in enumerate(rows, start=1):
            where, file_name = f"image {row.get('id', f'number {number}')}", str(row.get("file_name") or "")
            number_id = row_id(row, "id")
            if number_id in seen:
                text = f"the id of {file_name or 'this image'} is used twice"
                self._note("picture-double", text, "give each image its own id", where)
                continue
            seen.add(number_id)
            found = self.file.find(file_name)
            problem = name_problem(found, file_name, taken)
            if problem is not None:
                self._note(*problem, where)
                continue
            stated = (str(row.get("width") or 0), str(row.get("height") or 0))
            items, image_id = tuple(objects.get(number_id, ())), self.file.image_id(found[0])
            yield RawImage(found[0], self.file.path, image_id, items, stated, own_file=False)
        for number_id, mine in objects.items():
            if number_id in seen:
                continue
            text = f"{plural(len(mine), 'annotation')} of image_id {number_id}, which is not among the images"
            self._note("picture-missing", text, "add the image or remove the annotations", mine[0].where)


def row_id(row: Mapping[str, Any], key: str) -> str:
    """An id of a row as text: tools write 1, 1.0 and "1" for the same."""
    value = row.get(key)
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def row_notes(row: Mapping[str, Any]) -> tuple[dict[str, str], bool]:
    """Other attributes of a row as texts, and whether the box is difficult."""
    extra = {key: value for key, value in row.items() if key not in _OWN_KEYS}
    attributes = row.get("attributes")
    extra |= attributes if isinstance(attributes, dict) else {}
    notes = {str(k): str(v) for k, v in extra.items() if isinstance(v, str | int | float) and k != CROWD}
    difficult = notes.pop(DIFFICULT, "0").lower() in ("1", "true")
    # COCO's only mark for an ignore region; for a difficult box, that is the reason.
    if _is_set(row.get(CROWD)) and not difficult:
        notes[CROWD] = "1"
    return notes, difficult


def _is_set(flag: object) -> bool:
    """A flag as tools write it: 1, true, 1.0, or one of these as text."""
    try:
        return float(flag) != 0  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return str(flag).lower() == "true"


def row_box(box: object) -> Box:
    """Corners of a `bbox`; NaN for what is not one."""
    if not isinstance(box, list) or len(box) != 4 or not all(type(v) in (int, float) for v in box):
        return NO_BOX
    try:
        x, y, width, height = map(float, box)
    except OverflowError:  # of a whole number of hundreds of digits
        return NO_BOX
    corners = (x, y, x + width, y + height)
    return corners if all(map(math.isfinite, corners)) else NO_BOX


def name_problem(found: Sequence[Path], file_name: str, taken: dict[Path, str]) -> Reason | None:
    """Why a name does not identify one image; adds to `taken`, the images named before."""
    if not found:
        text = f"no picture {file_name or '(no file_name)'} in the folder of the data set"
        return Reason("picture-missing", text, "add it or remove the entry")
    if len(found) > 1:
        return Reason("picture-ambiguous", *ambiguity(file_name, map(str, found)))
    before = taken.setdefault(found[0], file_name)
    if before == file_name:
        return None
    text = f"{file_name} can only be {found[0]}, which is the picture of {before} already"
    return Reason("picture-ambiguous", text, "add the missing picture or remove the entry")


def write(sets: Mapping[str, DetectionSet], root: Path) -> None:
    """`annotations/instances_SPLIT.json`, and the images in a folder a split."""
    make_folder(root / "annotations")
    for split, detection_set in sets.items():
        names = copy_images(detection_set, root / (split or "images"))
        text = json.dumps(_document(detection_set, names), ensure_ascii=False, indent=1)
        name = f"instances_{split}.json" if split else "instances.json"
        (root / "annotations" / name).write_text(text + "\n", encoding="utf-8")


def _document(detection_set: DetectionSet, file_names: Sequence[str]) -> dict[str, Any]:
    """The COCO document of a set; ids count from 1. `file_names` are of the images."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, (sample, name) in enumerate(zip(detection_set.samples, file_names, strict=True), start=1):
        height, width = sample.size_hw
        images.append({"id": image_id, "file_name": name, "width": width, "height": height})
        for number, (x0, y0, x1, y1) in enumerate(sample.boxes_xyxy.tolist()):
            notes = dict(sample.notes[number]) if sample.notes else {}
            notes.pop(CROWD, None)
            if sample.difficult[number]:
                notes[DIFFICULT] = "1"
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": int(sample.class_ids[number]) + 1,
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": (x1 - x0) * (y1 - y0),
                    "iscrowd": int(sample.ignore[number]),
                    "segmentation": [],
                    **({"attributes": notes} if notes else {}),
                }
            )
    categories = [{"id": number, "name": name} for number, name in enumerate(detection_set.class_names, 1)]
    return {"images": images, "annotations": annotations, "categories": categories}


COCO = Format("coco", write, find_index=find, open_file=open_file)
