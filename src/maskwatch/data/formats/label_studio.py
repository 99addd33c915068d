"""Label Studio's JSON: a list of tasks, as its exports "JSON" and "JSON-MIN" write it.

Sources: https://labelstud.io/guide/task_format and https://labelstud.io/guide/export. Boxes are percentages
of the image. Attributes of a box are results of their own (choices, text), linked by its id or its corners;
what has no control in the labelling interface stands in its `meta`.
"""

from __future__ import annotations

import json
import math
import re
import xml.etree.ElementTree as ET
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from maskwatch.data.dataset import CROWD, DetectionSet, Sample
from maskwatch.data.formats.base import (
    NO_BOX,
    Format,
    Found,
    RawImage,
    RawObject,
    Split,
    copy_images,
)
from maskwatch.data.formats.coco_files import JSON
from maskwatch.data.formats.index_files import (
    IndexAnnotations,
    IndexContent,
    IndexFile,
    find_files,
    homes,
    open_alone,
    read_json,
)
from maskwatch.data.formats.tree import Folder
from maskwatch.data.issues import Box, Reason
from maskwatch.errors import DataError
from maskwatch.labels import color_rgb
from maskwatch.media.formats import PICTURE_SUFFIXES
from maskwatch.text import xml_text

Json = Mapping[str, Any]

_DIFFICULT, _FLAGS = "difficult", "flags"
# What marks an ignore region, as a choice of a box or as a key of its meta.
_DIFFICULT_MARKS, _CROWD_MARKS = (_DIFFICULT, "ignore"), (CROWD, "crowd", "group_of")
_RECTANGLES = ("rectanglelabels", "rectangle")
_LABELS = "labels"  # the classes of a plain rectangle, in another result
# Types that are no shapes: attributes of a box, or of the whole picture. Value → key of the value.
_ATTRIBUTES = {
    **dict.fromkeys(("choices", "taxonomy", "rating", "number", "datetime"), ""),
    "textarea": "text",
}
_UPLOAD = "/data/upload/"
_UPLOAD_PREFIX = re.compile(r"[0-9a-f]{8}-(?=.)")
_NOT_KEPT_BY_UPLOADS = re.compile(r"[^-\w.]")
_CORNER_KEYS = ("x", "y", "width", "height", "rotation")


def find(folder: Folder) -> Found:
    """One split for each JSON file of a folder."""
    files, rest = find_files(folder, _files)
    return [Split(f.split, LABEL_STUDIO.name, f.path, IndexAnnotations(f, _Content)) for f in files], rest


def open_file(file: Path) -> list[Split] | None:
    """A single JSON file; its name does not determine the split."""
    if file.suffix.lower() != JSON or not _is_label_studio(file):
        return None
    return [Split("", LABEL_STUDIO.name, file, IndexAnnotations(open_alone(file, _files), _Content))]


def _files(folder: Folder) -> list[Path]:
    return [file for files in homes(folder, JSON) for file in files if _is_label_studio(file)]


def _is_label_studio(path: Path) -> bool:
    """Whether a JSON file looks like a list of tasks, without parsing it."""
    try:
        with path.open("rb") as file:
            text = file.read(1 << 16).replace(b"\0", b"")
            if not text.lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n").startswith(b"["):
                return False
            text += file.read().replace(b"\0", b"")
    except OSError:
        return False
    keys = (b'"annotations"', b'"completions"', b'"predictions"')
    return (b'"data"' in text and any(key in text for key in keys)) or b'"annotator"' in text


class _Content(IndexContent):
    def __init__(self, file: IndexFile) -> None:
        super().__init__(file)
        self._uploaded: dict[str, list[Path]] | None = None
        for number, task in enumerate(_tasks(file.path), start=1):
            image = self._raw_image(task, f"task {task.get('id', f'number {number}')}")
            if image is not None:
                self.images.append(image)

    def _raw_image(self, task: Json, where: str) -> RawImage | None:
        """The image of a task; None, with the issue noted, if it has none or no annotation to use."""
        name = _picture_name(task)
        if not name:
            text = "names no picture in its data"
            self.note(Reason("picture-missing", text, "add it or remove the task"), where)
            return None
        image = self.picture(name, where, self._find(name))
        results = self._results(task, where)
        if image is None or results is None:
            return None
        objects = tuple(self._objects(results, where))
        turned = next((turn for result in results if (turn := result.get("image_rotation"))), None)
        if turned is not None:
            text = f"was labelled on the picture turned by {turned}°"
            self.note(Reason("size-turned", text, "turn it back in Label Studio and export again"), where)
        return RawImage(
            image,
            self.file.path,
            self.file.image_id(image),
            objects,
            next((size for result in results if (size := _stated_wh(result))), None),
            normalized=True,
            own_file=False,
        )

    def _find(self, name: str) -> list[Path]:
        """The images that a task may mean: uploads lose folders, and get a prefix and a plainer name."""
        if _UPLOAD not in name:
            return next((found for place in _places(name) if (found := self.file.find(place))), [])
        for place in _places(name):
            last = place.rpartition("/")[2]
            bare = _UPLOAD_PREFIX.sub("", last, count=1)
            found = self.file.find(last) or self.file.find(bare) or self._plainer().get(bare, [])
            if found:
                return found
        return []

    def _plainer(self) -> dict[str, list[Path]]:
        """Images by the name that Label Studio gives an upload (Django's get_valid_filename)."""
        if self._uploaded is None:
            self._uploaded = defaultdict(list)
            for image in self.file.images:
                self._uploaded[_NOT_KEPT_BY_UPLOADS.sub("", image.name.replace(" ", "_"))].append(image)
        return self._uploaded

    def _results(self, task: Json, where: str) -> Sequence[Json] | None:
        """The results of the one annotation of a task; None, with the issue noted, if there is not one."""
        done = _dicts(task.get("annotations", task.get("completions")))
        valid = [annotation for annotation in done if not annotation.get("was_cancelled")]
        valid = [annotation for annotation in valid if annotation.get("ground_truth")] or valid
        if not valid and done:
            reason = Reason("annotation-missing", "was skipped by the annotator", "annotate it or remove it")
            self.note(reason, where, "warning")
            return None
        if not valid:
            count = len(_dicts(task.get("predictions")))
            text = f"has no annotation, only predictions ({count})" if count else "has no annotation"
            fix = "submit one in Label Studio, an empty one if there is nothing to find, and export again"
            self.note(Reason("annotation-missing", text, fix), where)
            return None
        different = {_essence(annotation) for annotation in valid}
        if len(different) > 1:
            names = ", ".join(map(_annotation_name, valid))
            fix = "mark one as ground truth, or remove the others"
            self.note(Reason("annotation-double", f"annotations differ: {names}", fix), where)
            return None
        results = valid[0].get("result")
        if not isinstance(results, list) or not all(_is_result(result) for result in results):
            text = f"the result of {_annotation_name(valid[0])} is not a list of objects with a value"
            self.note(Reason("annotation-unreadable", text, "export it again"), where)
            return None
        return results

    def _objects(self, results: Sequence[Json], task: str) -> Iterator[RawObject]:
        regions: dict[object, list[Json]] = defaultdict(list)
        for result in results:
            if result.get("type") == "relation":
                self._note_lost("relations between boxes", task)
            else:
                key = _region(result)
                if _is_shape(result) and any(map(_is_shape, regions[key])):
                    key = (key, len(regions))  # two boxes with the same corners, without ids
                regions[key].append(result)
        for number, region in enumerate(regions.values(), start=1):
            where = f"region {region[0].get('id') or number}"
            shapes = [result for result in region if _is_shape(result)]
            if shapes:
                yield self._object(shapes[0], region, where, task)
            elif any(result.get("type") == _LABELS for result in region):
                text, fix = "has a class but no shape", "draw it as a rectangle or remove it"
                yield RawObject(where, "", NO_BOX, "", problem=Reason("box-invalid", text, fix))
            else:
                self._note_lost(f"{region[0].get('from_name') or 'choices'} of the whole picture", task)

    def _note_lost(self, what: str, where: str) -> None:
        reason = Reason("shape-unsupported", f"{what}: not read", "keep the export if you need them")
        self.note(reason, where, "warning")

    def _object(self, shape: Json, region: Sequence[Json], where: str, task: str) -> RawObject:
        kind, value = str(shape.get("type") or "a region without a type"), shape["value"]
        names = [name for result in region for name in _class_names(result)]
        notes, difficult = _notes(region)
        name = names[0] if names else ""
        problem = None
        if kind not in _RECTANGLES:
            fix = "draw it as a rectangle in Label Studio, or remove it"
            return RawObject(
                where, name, NO_BOX, kind, problem=Reason("shape-unsupported", "is not a box", fix)
            )
        if len({*names}) > 1:
            text, fix = f"has several classes: {', '.join(names)}", "leave it one"
            problem = Reason("class-unknown", text, fix)
        shown = "box " + ", ".join(f"{key} {value.get(key, 'missing')}" for key in _CORNER_KEYS[:4]) + " (%)"
        rotation = _number(value.get("rotation"))
        if rotation % 90:
            text = f"is rotated by {rotation:g}°; the upright box around it is used"
            fix = "draw an upright one if that is too large"
            self.note(Reason("box-rotated", text, fix), f"{task}: {where}", "warning")
        return RawObject(where, name, _box(shape, rotation), shown, difficult, notes, problem)


def _tasks(path: Path) -> list[Json]:
    """The tasks of a file, those of JSON-MIN in the form of JSON; raises `DataError` for another document."""
    document = read_json(path)
    if not isinstance(document, list) or not all(isinstance(task, dict) for task in document):
        raise DataError([f"{path}: not a list of tasks; export JSON or JSON-MIN from Label Studio"])
    tasks: dict[object, dict[str, Any]] = {}
    for number, task in enumerate(document):
        if "data" in task or "annotations" in task:
            tasks[number] = task
            continue
        # JSON-MIN has one entry for each annotation.
        key = ("task", str(task.get("id", f"number {number}")))
        whole = tasks.setdefault(key, {"id": task.get("id", number + 1), "data": task, "annotations": []})
        results = [
            _from_min(name, value)
            for name, values in task.items()
            for value in _dicts(values)
            if _is_region(value)
        ]
        annotation = {
            "id": task.get("annotation_id"),
            "completed_by": task.get("annotator"),
            "result": results,
        }
        whole["annotations"].append(annotation)
    return list(tasks.values())


def _is_region(value: Json) -> bool:
    """Whether an entry of a list in JSON-MIN is the annotator's, and not a column of the data."""
    return "original_width" in value or any(key.endswith(_LABELS) for key in value)


def _from_min(name: str, value: Json) -> dict[str, Any]:
    """The result of JSON that an entry of JSON-MIN stands for."""
    labels = next((key for key in value if key.endswith(_LABELS)), None)
    attribute = next((kind for kind, key in _ATTRIBUTES.items() if (key or kind) in value), None)
    kind = labels or attribute or ("polygon" if "points" in value else "rectangle")
    size = {key: value[key] for key in ("original_width", "original_height") if key in value}
    return {"type": kind, "from_name": name, "value": value, **size}


def _dicts(values: object) -> list[Json]:
    return [value for value in values if isinstance(value, dict)] if isinstance(values, list) else []


def _is_result(result: object) -> bool:
    if not isinstance(result, dict):
        return False
    return isinstance(result.get("value"), dict) or result.get("type") == "relation"


def _picture_name(task: Json) -> str:
    """The address of the picture in the data of a task: its `image`, else the only one like a picture's."""
    data = task.get("data")
    texts = {key: text for key, text in (data if isinstance(data, dict) else {}).items() if type(text) is str}
    if texts.get("image"):
        return texts["image"]
    like = [
        text for text in texts.values() if any(p.lower().endswith(PICTURE_SUFFIXES) for p in _places(text))
    ]
    return like[0] if len(like) == 1 else ""


def _places(name: str) -> list[str]:
    """Paths that an address may mean: with and without %20 read as a space."""
    if "?d=" in name:
        place = name.partition("?d=")[2].partition("&")[0]
    elif "://" in name:
        try:
            place = urlsplit(name).path
        except ValueError:  # an invalid IPv6 address
            place = name
    else:
        return list(dict.fromkeys((name, unquote(name))))
    return list(dict.fromkeys((unquote(place), place)))


def _stated_wh(result: Json) -> tuple[str, str] | None:
    width, height = result.get("original_width"), result.get("original_height")
    return None if width is None or height is None else (str(width), str(height))


def _annotation_name(annotation: Json) -> str:
    who = annotation.get("completed_by")
    who = who.get("id") if isinstance(who, dict) else who
    return f"annotation {annotation.get('id')}" + (f" by user {who}" if who is not None else "")


def _essence(annotation: Json) -> str:
    """What two annotations of one picture must agree on: types and values, in any order."""
    values = ([result.get("type"), result.get("value")] for result in _dicts(annotation.get("result")))
    return json.dumps(sorted(json.dumps(value, sort_keys=True) for value in values))


def _region(result: Json) -> object:
    """What links the results of one region: its id, or its corners, which JSON-MIN repeats."""
    if isinstance(result.get("id"), str | int):
        return result["id"]
    value = result["value"]
    return tuple(str(value.get(key)) for key in _CORNER_KEYS) if "x" in value else id(result)


def _is_shape(result: Json) -> bool:
    return result.get("type") not in (*_ATTRIBUTES, _LABELS)


def _class_names(result: Json) -> list[str]:
    kind = str(result.get("type"))
    names = result["value"].get(kind) if kind.endswith(_LABELS) else None
    return [str(name) for name in names] if isinstance(names, list) else []


def _notes(region: Sequence[Json]) -> tuple[dict[str, str], bool]:
    """Attributes of a box as texts, a crowd among them, and whether it is difficult."""
    notes: dict[str, str] = {}
    marks: set[str] = set()
    for result in region:
        meta, kind = result.get("meta"), str(result.get("type"))
        for key, value in (meta if isinstance(meta, dict) else {}).items():
            texts = _texts(value)
            if key in (*_DIFFICULT_MARKS, *_CROWD_MARKS):
                marks |= {key} if texts and texts[0].lower() in ("1", "true") else set()
            elif texts:
                notes[key] = ", ".join(texts)
        if kind in _ATTRIBUTES:
            texts = _texts(result["value"].get(_ATTRIBUTES[kind] or kind))
            marks |= {text.strip().lower() for text in texts}
            rest = [t for t in texts if t.strip().lower() not in (*_DIFFICULT_MARKS, *_CROWD_MARKS)]
            if rest:
                notes[str(result.get("from_name") or kind)] = ", ".join(rest)
    crowd = not marks.isdisjoint(_CROWD_MARKS)
    # As in Pascal VOC: for a crowd, the crowd is the reason to ignore it.
    return notes | ({CROWD: "1"} if crowd else {}), not crowd and not marks.isdisjoint(_DIFFICULT_MARKS)


def _texts(value: object) -> list[str]:
    """A value of an attribute as texts; the path of a choice in a taxonomy as one."""
    if isinstance(value, list):
        return [" / ".join(map(str, v)) if isinstance(v, list) else str(v) for v in value]
    return [str(value)] if isinstance(value, str | int | float) else []


def _number(value: object) -> float:
    try:
        return float(value) if type(value) in (int, float) else 0.0  # type: ignore[arg-type]
    except OverflowError:
        return 0.0


def _box(result: Json, rotation: float) -> Box:
    """The upright box around a rectangle, fractions of the image; it is rotated about its top-left corner."""
    values = [result["value"].get(key) for key in _CORNER_KEYS[:4]]
    if not all(type(value) in (int, float) for value in values):
        return NO_BOX
    try:
        x, y, width, height = (float(value) / 100 for value in values)
    except OverflowError:  # of a whole number of hundreds of digits
        return NO_BOX
    if rotation:
        size = [_number(result.get(f"original_{side}")) for side in ("width", "height")]
        if not all(side > 0 for side in size) or not math.isfinite(rotation):
            return NO_BOX
        corners = [_rotated(dx, dy, rotation, size[0] / size[1]) for dx in (0, width) for dy in (0, height)]
        xs, ys = zip(*corners, strict=True)
        box = (x + min(xs), y + min(ys), x + max(xs), y + max(ys))
    else:
        box = (x, y, x + width, y + height)
    return box if all(map(math.isfinite, box)) else NO_BOX


def _rotated(dx: float, dy: float, degrees: float, aspect: float) -> tuple[float, float]:
    """A vector in fractions of an image of this width over height, rotated clockwise."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return dx * cos - dy / aspect * sin, dx * aspect * sin + dy * cos


def write(sets: Mapping[str, DetectionSet], root: Path) -> None:
    """`SPLIT.json` and its images in `SPLIT/`, and the labelling interface that shows them.

    The addresses are those of local files (LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT is this folder).
    """
    for split, detection_set in sets.items():
        folder = split or "images"
        names = copy_images(detection_set, root / folder)
        pairs = zip(detection_set.samples, names, strict=True)
        tasks = [
            _task(number, sample, detection_set.class_names, f"{folder}/{name}")
            for number, (sample, name) in enumerate(pairs, start=1)
        ]
        text = json.dumps(tasks, ensure_ascii=False, indent=1)
        (root / f"{split or 'tasks'}{JSON}").write_text(text + "\n", encoding="utf-8")
    names_of_all = next((a_set.class_names for a_set in sets.values()), ())
    (root / "label_config.xml").write_bytes(_interface(names_of_all))


def _task(number: int, sample: Sample, class_names: Sequence[str], path: str) -> dict[str, Any]:
    results = [
        result for index in range(len(sample)) for result in _box_results(number, sample, index, class_names)
    ]
    annotation = {"id": number, "was_cancelled": False, "ground_truth": False, "result": results}
    data = {"image": f"/data/local-files/?d={quote(path)}"}
    return {"id": number, "data": data, "annotations": [annotation], "predictions": []}


def _box_results(
    number: int, sample: Sample, index: int, class_names: Sequence[str]
) -> Iterable[dict[str, Any]]:
    """The rectangle of a box with its notes as meta, and its flags as choices."""
    height, width = sample.size_hw
    x0, y0, x1, y1 = map(float, sample.boxes_xyxy[index])
    value = {
        "x": x0 / width * 100,
        "y": y0 / height * 100,
        "width": (x1 - x0) / width * 100,
        "height": (y1 - y0) / height * 100,
        "rotation": 0,
    }
    notes = dict(sample.notes[index]) if sample.notes else {}
    notes.pop(CROWD, None)
    common = {
        "id": f"{number}-{index + 1}",
        "to_name": "image",
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
    }
    name = class_names[sample.class_ids[index]]
    labelled = {
        "type": "rectanglelabels",
        "from_name": "label",
        "value": {**value, "rectanglelabels": [name]},
    }
    yield {**common, **labelled, **({"meta": notes} if notes else {})}
    flags = [CROWD] if sample.crowds[index] else [_DIFFICULT] if sample.difficult[index] else []
    if flags:
        yield {**common, "type": "choices", "from_name": _FLAGS, "value": {**value, "choices": flags}}


def _interface(class_names: Sequence[str]) -> bytes:
    """The labelling interface of these classes, to paste into the settings of a project."""
    view = ET.Element("View")
    ET.SubElement(view, "Image", name="image", value="$image")
    labels = ET.SubElement(view, "RectangleLabels", name="label", toName="image")
    for class_id, name in enumerate(class_names):
        color = "#{:02x}{:02x}{:02x}".format(*color_rgb(class_id))
        ET.SubElement(labels, "Label", value=xml_text(name), background=color)
    choices = ET.SubElement(view, "Choices", name=_FLAGS, toName="image", perRegion="true", choice="multiple")
    for flag in (_DIFFICULT, CROWD):
        ET.SubElement(choices, "Choice", value=flag)
    ET.indent(view)
    return bytes(ET.tostring(view, encoding="utf-8")) + b"\n"


LABEL_STUDIO = Format("label-studio", write, find_index=find, open_file=open_file)
