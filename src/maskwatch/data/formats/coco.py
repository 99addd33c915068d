"""COCO JSON: one file for all pictures (https://cocodataset.org/#format-data)."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from maskwatch.data.dataset import CROWD, DetectionSet
from maskwatch.data.formats.raw import NO_BOX, Entry, RawObject, RawPicture
from maskwatch.data.issues import Box, Fault
from maskwatch.data.names import in_words
from maskwatch.errors import DataError
from maskwatch.text import read_text, reason_of

# Keys of an annotation that are not the annotator's own words on the box.
_OWN_KEYS = frozenset(["id", "image_id", "category_id", "bbox", "area", "segmentation", "attributes"])
_DIFFICULT = "difficult"
# Lists that every file has, and the ids in them.
_IDS = {"images": ("id",), "annotations": ("id", "image_id", "category_id"), "categories": ("id",)}


def read_json(path: Path) -> dict[str, Any]:
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


def category_names(path: Path) -> tuple[str, ...]:
    """Names of the categories, in their order; without one that only holds others together.

    Exports of Roboflow begin with such a supercategory, of which there is no box.

    Raises:
        DataError: as `read_json`.
    """
    document = read_json(path)
    rows = document["categories"]
    used = {_id(row, "category_id") for row in document["annotations"]}
    above = {(str(row.get("supercategory")), str(row.get("name"))) for row in rows}
    holders = {group for group, name in above if group != name}
    return tuple(
        str(row.get("name", ""))
        for row in rows
        if _id(row, "id") in used or str(row.get("name")) not in holders
    )


def is_coco(path: Path) -> bool:
    """Whether a JSON file looks like COCO's, without parsing all of it where it is large."""
    try:
        with path.open("rb") as file:
            # UTF-16 and UTF-32 too are the same without their zeros.
            text = file.read(1 << 16).replace(b"\0", b"")
            if b'"images"' not in text:
                text += file.read().replace(b"\0", b"")
            return b'"images"' in text and (b'"annotations"' in text or b'"categories"' in text)
    except OSError:
        return False


def raw_coco(path: Path, find: Callable[[str], Sequence[Entry]], faults: list[Fault]) -> list[RawPicture]:
    """The annotations as written, in the order of `images`; what belongs to no picture goes to `faults`.

    Args:
        path: the JSON file.
        find: gives what a `file_name` means, see `coco_files`.
        faults: is added to.

    Raises:
        DataError: the file is no COCO detection file.
    """
    document = read_json(path)
    names = {_id(row, "id"): str(row.get("name", "")) for row in document["categories"]}
    objects = _objects(path, document, names, faults)
    pictures: list[RawPicture] = []
    seen: set[str] = set()
    taken: dict[Path, str] = {}
    for number, row in enumerate(document["images"], start=1):
        where, file_name = f"image {row.get('id', f'number {number}')}", str(row.get("file_name") or "")
        if _id(row, "id") in seen:
            text = f"the id of {file_name or 'this image'} is used twice"
            faults.append(Fault("picture-double", path, text, "give each image its own id", where))
            continue
        seen.add(_id(row, "id"))
        candidates = find(file_name)
        fault = _name_fault(candidates, file_name, taken)
        if fault is not None:
            kind, text, mend = fault
            faults.append(Fault(kind, path, text, mend, where))
            continue
        (entry,) = candidates
        assert entry.image is not None
        stated = (str(row.get("width") or 0), str(row.get("height") or 0))
        mine = tuple(objects.get(_id(row, "id"), ()))
        pictures.append(RawPicture(entry.image, path, entry.image_id, mine, stated, own_file=False))
    _note_orphans(path, objects, seen, faults)
    return pictures


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


def _id(row: Mapping[str, Any], key: str) -> str:
    """An id of a row as text: tools write 1, 1.0 and "1" for the same."""
    value = row.get(key)
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _objects(
    path: Path, document: Mapping[str, Any], names: Mapping[str, str], faults: list[Fault]
) -> dict[str, list[RawObject]]:
    """Objects by image id."""
    objects: dict[str, list[RawObject]] = defaultdict(list)
    for number, row in enumerate(document["annotations"], start=1):
        where = f"annotation {row.get('id', f'number {number}')}"
        if _id(row, "category_id") not in names:
            text = f"category_id {row.get('category_id')!r} is not among the categories"
            faults.append(Fault("class-unknown", path, text, "add the category or mend the id", where))
            continue
        box = row.get("bbox")
        notes, difficult = _notes(row)
        name = names[_id(row, "category_id")]
        shown = f"bbox {json.dumps(box)}"
        objects[_id(row, "image_id")].append(RawObject(where, name, _box(box), shown, difficult, notes))
    return objects


def _notes(row: Mapping[str, Any]) -> tuple[dict[str, str], bool]:
    """What else is said of a box, as texts, and whether it is difficult."""
    said = {key: value for key, value in row.items() if key not in _OWN_KEYS}
    attributes = row.get("attributes")
    said |= attributes if isinstance(attributes, dict) else {}
    notes = {str(k): str(v) for k, v in said.items() if isinstance(v, str | int | float) and k != CROWD}
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


def _name_fault(
    candidates: Sequence[Entry], file_name: str, taken: dict[Path, str]
) -> tuple[str, str, str] | None:
    """Kind, text and mend where it is not certain which picture is meant; None where it is.

    Args:
        taken: the names of pictures that were found before; is added to.
    """
    if not candidates:
        text = f"no picture {file_name or '(no file_name)'} in the folder of the data set"
        return "picture-missing", text, "add it or remove the entry"
    if len(candidates) > 1:
        text, _, mend = in_words(file_name, (str(entry.image) for entry in candidates)).rpartition("; ")
        return "picture-ambiguous", text, mend
    image = candidates[0].image
    assert image is not None
    before = taken.setdefault(image, file_name)
    if before == file_name:
        return None
    text = f"{file_name} can only be {image}, which is the picture of {before} already"
    return "picture-ambiguous", text, "add the missing picture or remove the entry"


def _note_orphans(
    path: Path, objects: Mapping[str, Sequence[RawObject]], image_ids: set[str], faults: list[Fault]
) -> None:
    for image_id, mine in objects.items():
        if image_id not in image_ids:
            text = f"{len(mine)} annotation{'s' if len(mine) > 1 else ''} of image_id {image_id}, which "
            text += "is not among the images"
            mend = "add the image or remove the annotations"
            faults.append(Fault("picture-missing", path, text, mend, mine[0].where))
