"""COCO JSON: one file for all pictures (https://cocodataset.org/#format-data)."""

from __future__ import annotations

import json
import math
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from maskwatch.data.dataset import DetectionSet
from maskwatch.data.faults import Box, Fault
from maskwatch.data.raw import NO_BOX, RawObject, RawPicture
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


def is_coco(path: Path) -> bool:
    """Whether a JSON file looks like COCO's, without parsing all of it where it is large."""
    try:
        with path.open("rb") as file:
            # UTF-16 and UTF-32 too are the same without their zeros.
            head = file.read(1 << 16).replace(b"\0", b"")
            if any(f'"{key}"'.encode() in head for key in _IDS):
                return True
            return b'"images"' in file.read().replace(b"\0", b"")
    except OSError:
        return False


def raw_coco(path: Path, image_folders: Sequence[Path], faults: list[Fault]) -> list[RawPicture]:
    """The annotations as written, in the order of `images`; what belongs to no picture goes to `faults`.

    Args:
        path: the JSON file.
        image_folders: where `file_name` may lie, looked through in turn.
        faults: is added to.

    Raises:
        DataError: the file is no COCO detection file.
    """
    document = read_json(path)
    names = {row.get("id"): str(row.get("name", "")) for row in document["categories"]}
    objects = _objects(path, document, names, faults)
    pictures = []
    seen: set[Any] = set()
    for number, row in enumerate(document["images"], start=1):
        where, file_name = f"image {row.get('id', f'number {number}')}", str(row.get("file_name") or "")
        if row.get("id") in seen:
            text = f"the id of {file_name or 'this image'} is used twice"
            faults.append(Fault("picture-double", path, text, "give each image its own id", where))
            continue
        seen.add(row.get("id"))
        found = _find(file_name, image_folders)
        if found is None:
            text = f"no picture {file_name or '(no file_name)'} in {_shown(image_folders)}"
            faults.append(Fault("picture-missing", path, text, "add it or remove the entry", where))
            continue
        stated = (str(row.get("width") or 0), str(row.get("height") or 0))
        mine = tuple(objects.get(row.get("id"), ()))
        pictures.append(RawPicture(found, path, Path(file_name).stem, mine, stated, own_file=False))
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
        images.append({"id": image_id, "file_name": file_name, "width": width, "height": height})
        for number, box_xyxy in enumerate(sample.boxes_xyxy):
            x0, y0, x1, y1 = (float(corner) for corner in box_xyxy)
            notes = dict(sample.notes[number]) if sample.notes else {}
            iscrowd = notes.pop("iscrowd", "0")
            if sample.difficult[number]:
                notes[_DIFFICULT] = "1"
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": int(sample.class_ids[number]) + 1,
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": (x1 - x0) * (y1 - y0),
                    "iscrowd": int(iscrowd) if iscrowd.isdecimal() else 0,
                    "segmentation": [],
                    **({"attributes": notes} if notes else {}),
                }
            )
    categories = [{"id": number, "name": name} for number, name in enumerate(detection_set.class_names, 1)]
    return {"images": images, "annotations": annotations, "categories": categories}


def _objects(
    path: Path, document: Mapping[str, Any], names: Mapping[Any, str], faults: list[Fault]
) -> dict[Any, list[RawObject]]:
    """Objects by image id."""
    objects: dict[Any, list[RawObject]] = defaultdict(list)
    for number, row in enumerate(document["annotations"], start=1):
        where = f"annotation {row.get('id', f'number {number}')}"
        if row.get("category_id") not in names:
            text = f"category_id {row.get('category_id')!r} is not among the categories"
            faults.append(Fault("class-unknown", path, text, "add the category or mend the id", where))
            continue
        box = row.get("bbox")
        notes, difficult = _notes(row)
        name = names[row["category_id"]]
        shown = f"bbox {json.dumps(box)}"
        objects[row.get("image_id")].append(RawObject(where, name, _box(box), shown, difficult, notes))
    return objects


def _notes(row: Mapping[str, Any]) -> tuple[dict[str, str], bool]:
    """What else is said of a box, as texts, and whether it is difficult."""
    said = {key: value for key, value in row.items() if key not in _OWN_KEYS}
    attributes = row.get("attributes")
    said |= attributes if isinstance(attributes, dict) else {}
    if not said.get("iscrowd"):
        said.pop("iscrowd", None)
    difficult = str(said.pop(_DIFFICULT, "0")).lower() in ("1", "true")
    return {str(k): str(v) for k, v in said.items() if isinstance(v, str | int | float)}, difficult


def _box(box: object) -> Box:
    if not isinstance(box, list) or len(box) != 4 or not all(type(v) in (int, float) for v in box):
        return NO_BOX
    try:
        x, y, width, height = map(float, box)
    except OverflowError:  # of a whole number of hundreds of digits
        return NO_BOX
    corners = (x, y, x + width, y + height)
    return corners if all(map(math.isfinite, corners)) else NO_BOX


def _find(file_name: str, folders: Sequence[Path]) -> Path | None:
    if not file_name:
        return None
    relative = Path(file_name.replace("\\", "/"))
    for folder in folders:
        for candidate in (folder / relative, folder / relative.name):
            if os.path.isfile(candidate):  # noqa: PTH113 (Path's own raises for names that no file can have)
                return candidate
    return None


def _shown(folders: Sequence[Path]) -> str:
    return ", ".join(str(folder) for folder in folders) or "any folder"


def _note_orphans(
    path: Path, objects: Mapping[Any, Sequence[RawObject]], image_ids: set[Any], faults: list[Fault]
) -> None:
    for image_id, mine in objects.items():
        if image_id not in image_ids:
            text = f"{len(mine)} annotation{'s' if len(mine) > 1 else ''} of image_id {image_id!r}, which "
            text += "is not among the images"
            mend = "add the image or remove the annotations"
            faults.append(Fault("picture-missing", path, text, mend, mine[0].where))
