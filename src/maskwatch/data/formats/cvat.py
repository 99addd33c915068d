"""CVAT's own XML, "CVAT for images 1.1" and "CVAT for video 1.1": one file for all images.

Source: https://docs.cvat.ai/docs/dataset_management/formats/format-cvat/ and
https://docs.cvat.ai/docs/dataset_management/formats/xml_format/.
"""

from __future__ import annotations

import html
import json
import math
import re
import xml.etree.ElementTree as ET
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from maskwatch.data.dataset import CROWD, DetectionSet, Sample
from maskwatch.data.formats.base import (
    NO_BOX,
    Format,
    Found,
    RawImage,
    RawObject,
    Split,
    copy_images,
    shortest,
)
from maskwatch.data.formats.index_files import (
    IndexAnnotations,
    IndexContent,
    IndexFile,
    find_files,
    homes,
    open_alone,
)
from maskwatch.data.formats.tree import Folder, split_of
from maskwatch.data.formats.voc_files import is_annotation
from maskwatch.data.issues import Box, Reason
from maskwatch.errors import DataError
from maskwatch.labels import color_rgb
from maskwatch.outputs import make_folder
from maskwatch.text import parse_xml, read_text, reason_of, xml_text

XML = ".xml"
_ROOT = re.compile(rb"<annotations[\s>]")
_SUBSET = re.compile(r"""<image\s[^>]*?\ssubset=["']([^"']*)["']""")
_FRAME = re.compile(r"frame_(\d+)")
_FRAME_STEP = re.compile(r"step\s*=\s*([1-9]\d{0,5})", re.ASCII)
_CORNERS = ("xtl", "ytl", "xbr", "ybr")
# Attributes of a box in XML that become notes, with the value that means nothing.
_OWN = {"occluded": "0", "z_order": "0", "source": "manual", "group_id": ""}
_OWN_VALUES = {
    "occluded": re.compile("1"),
    "z_order": re.compile(r"-?[1-9]\d{0,8}", re.ASCII),
    "source": re.compile("auto|semi-auto|file|consensus"),
    "group_id": re.compile(r"[1-9]\d{0,8}", re.ASCII),
}
_DIFFICULT = "difficult"
_FLAGS = (_DIFFICULT, CROWD)
_MOST_SHOWN = 3


def find(folder: Folder) -> Found:
    """The splits of each XML file of a folder: those of its subsets."""
    files, rest = find_files(folder, _files)
    return [split for file in files for split in _splits(file)], rest


def open_file(file: Path) -> list[Split] | None:
    if file.suffix.lower() != XML or not _is_cvat(file):
        return None
    return _splits(replace(open_alone(file, _files), split=""))


def _files(folder: Folder) -> list[Path]:
    found = []
    for files in homes(folder, XML):
        for file in files:
            if is_annotation(file):  # Pascal VOC: thousands of them, and none of CVAT's
                return []
            if _is_cvat(file):
                found.append(file)
    return found


def _is_cvat(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return _ROOT.search(file.read(1 << 12).replace(b"\0", b"")) is not None
    except OSError:
        return False


def _splits(file: IndexFile) -> list[Split]:
    """One split for each subset that names one (in exports of a project), and one of the other images."""
    try:
        subsets = {html.unescape(name) for name in _SUBSET.findall(read_text(file.path))}
    except (OSError, ValueError):  # `read` reports it
        subsets = set()
    named = {split_of(name) for name in subsets} - {""}
    if file.split or not named:
        return [Split(file.split, CVAT.name, file.path, IndexAnnotations(file, _Content))]
    splits = []
    for split in sorted(named | {""}):
        folders = {name.lower() for name in subsets if split_of(name) == split}
        own = {
            p for p in file.images if not folders.isdisjoint(map(str.lower, p.relative_to(file.root).parts))
        }
        mine = replace(file, split=split, own=frozenset(own) or file.own)
        reader = partial(_Content, named=frozenset(named))
        splits.append(Split(split, CVAT.name, file.path, IndexAnnotations(mine, reader)))
    return splits


class _Content(IndexContent):
    """See `IndexContent`.

    Args:
        named: the splits that subsets of the file name; empty reads all images as one split.
    """

    def __init__(self, file: IndexFile, named: frozenset[str] = frozenset()) -> None:
        super().__init__(file)
        root = _read_root(file.path)
        labels = (label for label in root.iterfind("meta//labels/label") if not label.findtext("parent"))
        self.class_names = tuple((label.findtext("name") or "").strip() for label in labels)
        for number, node in enumerate(root.iterfind("image")):
            split = split_of(node.get("subset", ""))
            if not named or file.split == (split if split in named else ""):
                self._add_image(node, f"image {node.get('id', f'number {number}')}")
        if root.find("track") is not None:
            self._add_frames(root)

    def _add_image(self, node: ET.Element, where: str) -> None:
        image = self.picture(node.get("name", ""), where)
        objects = tuple(self._objects(node, where))
        if image is not None:
            self._add(image, objects, (node.get("width", "0"), node.get("height", "0")))

    def _add(self, image: Path, objects: tuple[RawObject, ...], stated_wh: tuple[str, str]) -> None:
        image_id = self.file.image_id(image)
        self.images.append(RawImage(image, self.file.path, image_id, objects, stated_wh, own_file=False))

    def _objects(self, image: ET.Element, where: str) -> Iterator[RawObject]:
        counts: Counter[str] = Counter()
        for node in image:
            counts[node.tag] += 1
            if node.tag == "tag":
                text = f"tag {node.get('label')!r} of the whole picture: not read"
                reason = Reason("shape-unsupported", text, "keep the export if you need it")
                self.note(reason, where, "warning")
            else:
                yield self._object(node, f"{node.tag} {counts[node.tag]}", node.get("label", ""), where)

    def _object(self, node: ET.Element, where: str, name: str, image: str, **notes: str) -> RawObject:
        """A shape; what is not a box has a problem."""
        if node.tag != "box":
            fix = "draw it as a rectangle in CVAT, or remove it"
            return RawObject(
                where, name, NO_BOX, node.tag, problem=Reason("shape-unsupported", "is not a box", fix)
            )
        shown = "box " + ", ".join(f"{corner} {node.get(corner, 'missing')}" for corner in _CORNERS)
        rotation = _number(node.get("rotation", "0"))
        if rotation % 90:
            text = f"is rotated by {rotation:g}°; the upright box around it is used"
            fix = "draw an upright one if that is too large"
            self.note(Reason("box-rotated", text, fix), f"{image}: {where}", "warning")
        notes |= {key: value for key, plain in _OWN.items() if (value := node.get(key, plain)) != plain}
        notes |= {(a.get("name") or "").strip(): (a.text or "").strip() for a in node.iterfind("attribute")}
        marks = {flag for flag in _FLAGS if notes.pop(flag, "").lower() in ("1", "true")}
        kept = {key: note for key, note in notes.items() if key and note} | (
            {CROWD: "1"} if CROWD in marks else {}
        )
        # As in Pascal VOC: for a crowd, the crowd is the reason to ignore it.
        return RawObject(where, name, _box(node, rotation), shown, marks == {_DIFFICULT}, kept)

    def _add_frames(self, root: ET.Element) -> None:
        """The frames of a video: images that CVAT names frame_000012.png."""
        paths: dict[int, list[Path]] = defaultdict(list)
        for path in self.file.images:
            if found := _FRAME.fullmatch(path.stem):
                paths[int(found[1])].append(path)
        frames: dict[int, list[RawObject]] = {number: [] for number in paths}
        if not frames:
            text = "no picture frame_000000.png or the like: the boxes are of a video"
            fix = "export it from CVAT with images, or write its frames under these names"
            self.note(Reason("picture-missing", text, fix), "tracks")
            return
        step = _FRAME_STEP.search(root.findtext("meta//frame_filter") or "")
        for track in root.iterfind("track"):
            self._add_track(track, int(step[1]) if step else 1, frames)
        size = [(root.findtext(f"meta//original_size/{side}") or "0").strip() for side in ("width", "height")]
        for number, objects in sorted(frames.items()):
            name = f"frame_{number:06d}"
            image = self.picture(name, objects[0].where if objects else name, paths.get(number, []))
            if image is not None:
                self._add(image, tuple(objects), (size[0], size[1]))

    def _add_track(self, track: ET.Element, step: int, frames: dict[int, list[RawObject]]) -> None:
        where, name = f"track {track.get('id', '')}".rstrip(), track.get("label", "")
        group = {"group_id": track.get("group_id", "")}
        last: int | None = None
        missing: list[str] = []
        for node in track:
            text = node.get("frame", "")
            if not text.isdecimal() or len(text) > 9:
                reason = Reason("annotation-unreadable", f"frame {text!r} is not a number", "export it again")
                self.note(reason, where)
                continue
            frame, here = int(text), f"{where} frame {text}"
            if last is not None and frame > last + step:
                missing.append(f"{last + step} to {frame - step}")
            last = frame
            if node.get("outside") == "1":
                last = None
            else:
                frames.setdefault(frame, []).append(self._object(node, here, name, where, **group))
        if missing:
            more = f" and {len(missing) - _MOST_SHOWN} more gaps" if len(missing) > _MOST_SHOWN else ""
            text = (
                f"has no boxes in frames {', '.join(missing[:_MOST_SHOWN])}{more}, yet does not leave there"
            )
            fix = "export CVAT for video 1.1, which writes every frame of a track"
            self.note(Reason("annotation-missing", text, fix), where)


def _read_root(path: Path) -> ET.Element:
    """The root element; raises `DataError` if it cannot be read or is not CVAT's."""
    try:
        root = parse_xml(path.read_bytes())
    except (OSError, ET.ParseError, ValueError) as error:
        raise DataError([f"{path}: not readable as XML ({reason_of(error)}); get a complete copy"]) from None
    if root.tag != "annotations" or (root.find("image") is None and root.find("track") is None):
        text = f"holds <{root.tag}> without <image> or <track>"
        raise DataError([f"{path}: {text}; export CVAT for images 1.1 from CVAT"])
    return root


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        return math.nan
    return number if math.isfinite(number) else math.nan


def _box(node: ET.Element, rotation: float) -> Box:
    """The upright box around a box, pixels; CVAT rotates about the centre, clockwise, in degrees."""
    x0, y0, x1, y1 = (_number(node.get(corner, "")) for corner in _CORNERS)
    box = (x0, y0, x1, y1)
    if rotation:
        cos, sin = abs(math.cos(math.radians(rotation))), abs(math.sin(math.radians(rotation)))
        half_w, half_h = (x1 - x0) / 2 * cos + (y1 - y0) / 2 * sin, (x1 - x0) / 2 * sin + (y1 - y0) / 2 * cos
        center_x, center_y = (x0 + x1) / 2, (y0 + y1) / 2
        box = (center_x - half_w, center_y - half_h, center_x + half_w, center_y + half_h)
    return box if all(map(math.isfinite, box)) else NO_BOX


def write(sets: Mapping[str, DetectionSet], root: Path) -> None:
    """A task in a folder a split (`annotations.xml`, `images/`), and `labels.json` for CVAT's constructor."""
    keys: dict[str, None] = {}
    for split, detection_set in sets.items():
        make_folder(root / split)
        names = copy_images(detection_set, root / split / "images")
        tree = _document(detection_set, names, split)
        ET.indent(tree)
        text = ET.tostring(tree, encoding="utf-8", xml_declaration=True)
        (root / split / f"annotations{XML}").write_bytes(bytes(text) + b"\n")
        keys |= dict.fromkeys(_note_keys(detection_set))
    class_names = next((a_set.class_names for a_set in sets.values()), ())
    labels = [
        {**label, "attributes": [_definition(key) for key in (*_FLAGS, *keys)]}
        for label in _labels(class_names)
    ]
    text_of_labels = json.dumps(labels, ensure_ascii=False, indent=1)
    (root / "labels.json").write_text(text_of_labels + "\n", encoding="utf-8")


def _labels(class_names: Sequence[str]) -> Iterator[dict[str, str]]:
    for class_id, name in enumerate(class_names):
        color = "#{:02x}{:02x}{:02x}".format(*color_rgb(class_id))
        yield {"name": xml_text(name), "color": color, "type": "rectangle"}


def _definition(key: str) -> dict[str, Any]:
    """An attribute, as the label constructor and the file define it."""
    default = "false" if key in _FLAGS else ""
    kind = "checkbox" if key in _FLAGS else "text"
    return {
        "name": xml_text(key),
        "mutable": True,
        "input_type": kind,
        "default_value": default,
        "values": [default],
    }


def _note_keys(detection_set: DetectionSet) -> Iterator[str]:
    """The notes that become attributes of boxes, each as often as it occurs."""
    for sample in detection_set.samples:
        for note in sample.notes:
            yield from _attributes(note)


def _document(detection_set: DetectionSet, file_names: Sequence[str], name: str) -> ET.Element:
    root = ET.Element("annotations")
    ET.SubElement(root, "version").text = "1.1"
    task = ET.SubElement(ET.SubElement(root, "meta"), "task")
    for tag, text in (
        ("name", name or "maskwatch"),
        ("size", str(len(detection_set))),
        ("mode", "annotation"),
    ):
        ET.SubElement(task, tag).text = text
    labels = ET.SubElement(task, "labels")
    keys = dict.fromkeys((*_FLAGS, *_note_keys(detection_set)))
    for one in _labels(detection_set.class_names):
        label = ET.SubElement(labels, "label")
        for tag, text in one.items():
            ET.SubElement(label, tag).text = text
        definitions = ET.SubElement(label, "attributes")
        for key in keys:
            attribute = ET.SubElement(definitions, "attribute")
            for tag, value in _definition(key).items():
                ET.SubElement(attribute, tag).text = value[0] if isinstance(value, list) else str(value)
    for number, (sample, file_name) in enumerate(zip(detection_set.samples, file_names, strict=True)):
        height, width = sample.size_hw
        image = ET.SubElement(
            root, "image", id=str(number), name=xml_text(file_name), width=str(width), height=str(height)
        )
        for index in range(len(sample)):
            _write_box(image, sample, index, detection_set.class_names)
    return root


def _write_box(image: ET.Element, sample: Sample, index: int, class_names: Sequence[str]) -> None:
    notes = sample.notes[index] if sample.notes else {}
    attributes = _attributes(notes)
    own = {k: notes[k] if k in notes and k not in attributes else plain for k, plain in _OWN.items()}
    box = ET.SubElement(
        image, "box", label=xml_text(class_names[sample.class_ids[index]]), source=own["source"]
    )
    box.set("occluded", own["occluded"])
    for corner, value in zip(_CORNERS, sample.boxes_xyxy[index], strict=True):
        box.set(corner, shortest(value))
    box.set("z_order", own["z_order"])
    if own["group_id"]:
        box.set("group_id", own["group_id"])
    flags = {_DIFFICULT: sample.difficult[index], CROWD: sample.crowds[index]}
    texts = {**attributes, **{flag: str(bool(is_set)).lower() for flag, is_set in flags.items()}}
    for key, text in texts.items():
        ET.SubElement(box, "attribute", name=xml_text(key)).text = xml_text(text)


def _attributes(notes: Mapping[str, str]) -> dict[str, str]:
    """The notes that are attributes of their own: those that CVAT does not hold in the box itself."""
    return {
        key: note
        for key, note in notes.items()
        if key not in _FLAGS and not (key in _OWN_VALUES and _OWN_VALUES[key].fullmatch(note))
    }


CVAT = Format("cvat", write, find_index=find, open_file=open_file)
