"""COCO JSON: one file for all pictures (https://cocodataset.org/#format-data)."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from maskwatch.data.dataset import CROWD, DetectionSet
from maskwatch.data.formats.base import (
    NO_BOX,
    Annotations,
    Entry,
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
from maskwatch.data.names import ambiguous_name
from maskwatch.errors import DataError
from maskwatch.outputs import make_folder
from maskwatch.text import read_text, reason_of

# Keys of an annotation that are not the annotator's own words on the box.
_OWN_KEYS = frozenset(["id", "image_id", "category_id", "bbox", "area", "segmentation", "attributes"])
_DIFFICULT = "difficult"
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


class _Content(NamedTuple):
    images: list[RawImage]
    issues: list[Issue]
    class_names: tuple[str, ...]


@dataclass(frozen=True)
class CocoAnnotations(Annotations):
    """A JSON file and the images it names; it is parsed once."""

    file: CocoFile

    @cached_property
    def _content(self) -> _Content:
        document, issues = _read_json(self.file.path), list[Issue]()
        images = _raw_images(self.file, document, issues)
        return _Content(images, issues, _category_names(document))

    def images(self) -> tuple[Path, ...]:
        return self.file.images

    def class_names(self) -> tuple[str, ...]:
        return self._content.class_names

    def read(self, issues: list[Issue], image_ids: Collection[str] | None = None) -> list[RawImage]:
        issues += self._content.issues
        return self._content.images


def _read_json(path: Path) -> dict[str, Any]:
    """The document of a COCO file.

    Raises:
        DataError: it cannot be read, or is no COCO detection file.
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
        f"{path}: {key} number {number}: {field} {row[field]!r} is no number; write one"
        for key, fields in _IDS.items()
        for number, row in enumerate(document[key], start=1)
        for field in fields
        if isinstance(row.get(field), dict | list)
    ]
    if problems:
        raise DataError(problems)
    return dict(document)


def _category_names(document: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the categories, in their order; without one that only holds others together.

    Exports of Roboflow begin with such a supercategory, of which there is no box.
    """
    rows = document["categories"]
    used = {_id(row, "category_id") for row in document["annotations"]}
    above = {(str(row.get("supercategory")), str(row.get("name"))) for row in rows}
    holders = {group for group, name in above if group != name}
    return tuple(
        str(row.get("name", ""))
        for row in rows
        if _id(row, "id") in used or str(row.get("name")) not in holders
    )


def _raw_images(file: CocoFile, document: Mapping[str, Any], issues: list[Issue]) -> list[RawImage]:
    """The annotations in the order of `images`; what belongs to no image goes to `issues`."""
    names = {_id(row, "id"): str(row.get("name", "")) for row in document["categories"]}
    objects = _objects(file.path, document, names, issues)
    images: list[RawImage] = []
    seen: set[str] = set()
    taken: dict[Path, str] = {}
    for number, row in enumerate(document["images"], start=1):
        where, file_name = f"image {row.get('id', f'number {number}')}", str(row.get("file_name") or "")
        if _id(row, "id") in seen:
            text = f"the id of {file_name or 'this image'} is used twice"
            issues.append(Issue("picture-double", file.path, text, "give each image its own id", where))
            continue
        seen.add(_id(row, "id"))
        candidates = file.find(file_name)
        problem = _name_problem(candidates, file_name, taken)
        if problem is not None:
            kind, text, fix = problem
            issues.append(Issue(kind, file.path, text, fix, where))
            continue
        (entry,) = candidates
        assert entry.image is not None
        stated = (str(row.get("width") or 0), str(row.get("height") or 0))
        mine = tuple(objects.get(_id(row, "id"), ()))
        images.append(RawImage(entry.image, file.path, entry.image_id, mine, stated, own_file=False))
    _note_orphans(file.path, objects, seen, issues)
    return images


def _id(row: Mapping[str, Any], key: str) -> str:
    """An id of a row as text: tools write 1, 1.0 and "1" for the same."""
    value = row.get(key)
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _objects(
    path: Path, document: Mapping[str, Any], names: Mapping[str, str], issues: list[Issue]
) -> dict[str, list[RawObject]]:
    """Objects by image id."""
    objects: dict[str, list[RawObject]] = defaultdict(list)
    for number, row in enumerate(document["annotations"], start=1):
        where = f"annotation {row.get('id', f'number {number}')}"
        if _id(row, "category_id") not in names:
            text = f"category_id {row.get('category_id')!r} is not among the categories"
            issues.append(Issue("class-unknown", path, text, "add the category or fix the id", where))
            continue
        box = row.get("bbox")
        notes, difficult = _notes(row)
        name = names[_id(row, "category_id")]
        shown = f"bbox {json.dumps(box)}"
        objects[_id(row, "image_id")].append(RawObject(where, name, _box(box), shown, difficult, notes))
    return objects


def _notes(row: Mapping[str, Any]) -> tuple[dict[str, str], bool]:
    """What else a row holds on its box, as texts, and whether the box is difficult."""
    extra = {key: value for key, value in row.items() if key not in _OWN_KEYS}
    attributes = row.get("attributes")
    extra |= attributes if isinstance(attributes, dict) else {}
    notes = {str(k): str(v) for k, v in extra.items() if isinstance(v, str | int | float) and k != CROWD}
    difficult = notes.pop(_DIFFICULT, "0").lower() in ("1", "true")
    # COCO's only mark of what is to be ignored; where the box is difficult that is the reason.
    if _is_set(row.get(CROWD)) and not difficult:
        notes[CROWD] = "1"
    return notes, difficult


def _is_set(flag: object) -> bool:
    """A flag as tools write it: 1, true, 1.0, or one of these as text."""
    try:
        return float(flag) != 0  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return str(flag).lower() == "true"


def _box(box: object) -> Box:
    if not isinstance(box, list) or len(box) != 4 or not all(type(v) in (int, float) for v in box):
        return NO_BOX
    try:
        x, y, width, height = map(float, box)
    except OverflowError:  # of a whole number of hundreds of digits
        return NO_BOX
    corners = (x, y, x + width, y + height)
    return corners if all(map(math.isfinite, corners)) else NO_BOX


def _name_problem(candidates: Sequence[Entry], file_name: str, taken: dict[Path, str]) -> Reason | None:
    """Why it is not certain which image is meant; None where it is.

    Args:
        taken: the names of images that were found before; is added to.
    """
    if not candidates:
        text = f"no picture {file_name or '(no file_name)'} in the folder of the data set"
        return Reason("picture-missing", text, "add it or remove the entry")
    if len(candidates) > 1:
        text, _, fix = ambiguous_name(file_name, (str(entry.image) for entry in candidates)).rpartition("; ")
        return Reason("picture-ambiguous", text, fix)
    image = candidates[0].image
    assert image is not None
    before = taken.setdefault(image, file_name)
    if before == file_name:
        return None
    text = f"{file_name} can only be {image}, which is the picture of {before} already"
    return Reason("picture-ambiguous", text, "add the missing picture or remove the entry")


def _note_orphans(
    path: Path, objects: Mapping[str, Sequence[RawObject]], image_ids: set[str], issues: list[Issue]
) -> None:
    for image_id, mine in objects.items():
        if image_id not in image_ids:
            text = f"{len(mine)} annotation{'s' if len(mine) > 1 else ''} of image_id {image_id}, which "
            text += "is not among the images"
            fix = "add the image or remove the annotations"
            issues.append(Issue("picture-missing", path, text, fix, mine[0].where))


def write(sets: Mapping[str, DetectionSet], root: Path) -> None:
    """`annotations/instances_SPLIT.json`, and the images in a folder a split."""
    make_folder(root / "annotations")
    for split, detection_set in sets.items():
        names = copy_images(detection_set, root / (split or "images"))
        text = json.dumps(coco_document(detection_set, names), ensure_ascii=False, indent=1)
        name = f"instances_{split}.json" if split else "instances.json"
        (root / "annotations" / name).write_text(text + "\n", encoding="utf-8")


def coco_document(detection_set: DetectionSet, file_names: Sequence[str]) -> dict[str, Any]:
    """A COCO document of a set; ids count from 1, as COCO's own do.

    Args:
        file_names: of the pictures, one for each sample.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, (sample, file_name) in enumerate(
        zip(detection_set.samples, file_names, strict=True), start=1
    ):
        height, width = sample.size_hw
        ignore = sample.ignore
        images.append({"id": image_id, "file_name": file_name, "width": width, "height": height})
        for number, box_xyxy in enumerate(sample.boxes_xyxy):
            x0, y0, x1, y1 = (float(corner) for corner in box_xyxy)
            notes = dict(sample.notes[number]) if sample.notes else {}
            notes.pop(CROWD, None)
            if sample.difficult[number]:
                notes[_DIFFICULT] = "1"
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": int(sample.class_ids[number]) + 1,
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": (x1 - x0) * (y1 - y0),
                    "iscrowd": int(ignore[number]),
                    "segmentation": [],
                    **({"attributes": notes} if notes else {}),
                }
            )
    categories = [{"id": number, "name": name} for number, name in enumerate(detection_set.class_names, 1)]
    return {"images": images, "annotations": annotations, "categories": categories}


COCO = Format("coco", write, find_index=find, open_file=open_file)
