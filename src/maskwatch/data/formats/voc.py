"""Pascal VOC: one XML file an image (Everingham et al., "The PASCAL VOC Challenge", IJCV 2010).

Coordinates are read unchanged, without the "−1" of VOC's own development kit: labelling tools write them
from 0, and the TF Object Detection API reads them so.
"""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from maskwatch.data.dataset import DetectionSet, Sample, is_crowd
from maskwatch.data.formats.base import (
    NO_BOX,
    Entry,
    EntryAnnotations,
    Format,
    Found,
    RawImage,
    RawObject,
    Split,
    copy_images,
    shortest,
)
from maskwatch.data.formats.tree import Folder, split_of
from maskwatch.data.formats.voc_files import pair_folder, read_xml, splits_by_list
from maskwatch.data.issues import Box, Issue
from maskwatch.data.names import path_parts, without_suffix
from maskwatch.text import xml_text

CORNERS = ("xmin", "ymin", "xmax", "ymax")
_OWN_TAGS = ("name", "difficult", "bndbox", "attributes")
_TAG = re.compile(r"(?!(?i:xml))[A-Za-z_][A-Za-z0-9_.-]*")


def find(folder: Folder, *, certain: bool = False) -> Found:
    """The splits of the images and XML files in a folder: those of its lists, else of its folders.

    Args:
        certain: the user named the format; the XML files are not checked.
    """
    entries, rest = pair_folder(folder, certain=certain)
    issues: list[Issue] = []
    by_split = splits_by_list(folder, entries, issues) or _splits_by_folder(entries)
    splits: list[Split] = []
    for name, mine in by_split.items():
        if mine:  # the first split has the issues of all lists
            found = () if splits else tuple(issues)
            splits.append(Split(name, VOC.name, folder.path, VocAnnotations(tuple(mine)), found))
    return splits, rest


def _splits_by_folder(entries: Sequence[Entry]) -> dict[str, list[Entry]]:
    """Entries by the split that the subfolder of the image folder names (JPEGImages/train)."""
    splits: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        first, slash, rest = entry.image_id.partition("/")
        split = split_of(first) if slash else ""
        splits[split].append(replace(entry, image_id=rest) if split else entry)
    return splits


class VocAnnotations(EntryAnnotations):
    def read(self, issues: list[Issue], image_ids: Collection[str] | None = None) -> list[RawImage]:
        found = (_read_entry(entry, issues) for entry in self.wanted(image_ids))
        return [raw for raw in found if raw is not None]


def _read_entry(entry: Entry, issues: list[Issue]) -> RawImage | None:
    """The annotation of one image; None, with the issue noted, if it cannot be used."""
    if entry.issue is not None:
        issues.append(entry.issue)
        return None
    if entry.annotation is None:
        issues.append(_no_annotation(entry))
        return None
    root = read_xml(entry.annotation, issues)
    if root is None:
        return None
    if entry.image is None:
        name = path_parts((root.findtext("filename") or "").strip() or "<filename>")[-1]
        text = f"no picture {entry.annotation.stem}.*, nor {name}"
        issues.append(Issue("picture-missing", entry.annotation, text, "add it or remove the XML"))
        return None
    width, height = ((root.findtext(f"size/{side}") or "0").strip() for side in ("width", "height"))
    objects = tuple(read_object(node, number) for number, node in enumerate(root.findall("object"), start=1))
    return RawImage(entry.image, entry.annotation, entry.image_id, objects, (width, height))


def _no_annotation(entry: Entry) -> Issue:
    assert entry.image is not None
    xml = f"{without_suffix(entry.image.name)}.xml"
    fix = f"annotate it, or if it shows nothing to find, write {xml} holding <annotation></annotation>"
    return Issue("annotation-missing", entry.image, "no XML file belongs to it", fix, image=entry.image)


def read_object(node: ET.Element, number: int) -> RawObject:
    """An <object>, the `number`th of its file, from 1."""
    texts = [(node.findtext(f"bndbox/{corner}") or "").strip() for corner in CORNERS]
    shown = "box " + ", ".join(f"{c} {t or 'missing'}" for c, t in zip(CORNERS, texts, strict=True))
    notes = {
        child.tag: child.text.strip()
        for child in node
        if child.tag not in _OWN_TAGS and child.text and not len(child)
    }
    for attribute in node.findall("attributes/attribute"):
        key, note = ((attribute.findtext(tag) or "").strip() for tag in ("name", "value"))
        if key and note:
            notes[key] = note
    # Pascal VOC's only mark for an ignore region; for a crowd, the crowd is the reason.
    difficult = (node.findtext("difficult") or "0").strip().lower() in ("1", "true") and not is_crowd(notes)
    name = (node.findtext("name") or "").strip()
    return RawObject(f"object {number}", name, _box(texts), shown, difficult, notes)


def _box(texts: list[str]) -> Box:
    try:
        x0, y0, x1, y1 = (float(text) for text in texts)
    except ValueError:
        return NO_BOX
    return (x0, y0, x1, y1) if all(map(math.isfinite, (x0, y0, x1, y1))) else NO_BOX


def write(sets: Mapping[str, DetectionSet], root: Path) -> None:
    """Images and XML side by side in a folder a split, as in the TensorFlow tutorials."""
    for split, detection_set in sets.items():
        names = copy_images(detection_set, root / split)
        for sample, name in zip(detection_set.samples, names, strict=True):
            xml = voc_xml(sample, detection_set.class_names, name)
            (root / split / f"{without_suffix(name)}.xml").write_bytes(xml)


def voc_xml(sample: Sample, class_names: Sequence[str], file_name: str | None = None) -> bytes:
    """An annotation as labelling tools write it; reading it returns the same sample.

    Args:
        file_name: of the image; None for the sample's own.
    """
    root = ET.Element("annotation")
    ET.SubElement(root, "folder").text = xml_text(sample.image_path.parent.name)
    ET.SubElement(root, "filename").text = xml_text(file_name or sample.image_path.name)
    size = ET.SubElement(root, "size")
    for name, value in zip(("width", "height", "depth"), (*sample.size_hw[::-1], 3), strict=True):
        ET.SubElement(size, name).text = str(value)
    ignore = sample.ignore
    for number, (box_xyxy, class_id) in enumerate(zip(sample.boxes_xyxy, sample.class_ids, strict=True)):
        node = ET.SubElement(root, "object")
        ET.SubElement(node, "name").text = xml_text(class_names[class_id])
        _write_notes(node, sample.notes[number] if sample.notes else {})
        ET.SubElement(node, "difficult").text = str(int(ignore[number]))
        corners = ET.SubElement(node, "bndbox")
        for name, corner in zip(CORNERS, box_xyxy, strict=True):
            ET.SubElement(corners, name).text = shortest(corner)
    ET.indent(root)
    return bytes(ET.tostring(root, encoding="utf-8")) + b"\n"


def _write_notes(node: ET.Element, notes: Mapping[str, str]) -> None:
    """Writes notes as elements; keys that are not element names go into CVAT's <attributes>."""
    others = {key: note for key, note in notes.items() if not _TAG.fullmatch(key) or key in _OWN_TAGS}
    for key, note in notes.items():
        if key not in others:
            ET.SubElement(node, key).text = xml_text(note)
    attributes = ET.SubElement(node, "attributes") if others else node
    for key, note in others.items():
        attribute = ET.SubElement(attributes, "attribute")
        for tag, text in (("name", key), ("value", note)):
            ET.SubElement(attribute, tag).text = xml_text(text)


VOC = Format("voc", write, find, find_named=lambda folder: find(folder, certain=True))
