"""Pascal VOC: one XML file a picture (Everingham et al., "The PASCAL VOC Challenge", IJCV 2010).

Coordinates are taken as they stand, without the "−1" of VOC's own development kit, because the tools that
people draw boxes with write them from 0 and the TF Object Detection API reads them so.
"""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence

from maskwatch.data.dataset import Sample, is_crowd
from maskwatch.data.formats.numbers import shortest
from maskwatch.data.formats.raw import NO_BOX, Entry, RawObject, RawPicture
from maskwatch.data.formats.voc_files import read_xml
from maskwatch.data.issues import Box, Fault
from maskwatch.data.names import path_parts, without_suffix

_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_OWN_TAGS = ("name", "difficult", "bndbox", "attributes")
_TAG = re.compile(r"(?!(?i:xml))[A-Za-z_][A-Za-z0-9_.-]*")
# Characters that XML cannot hold (XML 1.0, section 2.2).
_NO_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def raw_voc(entries: Sequence[Entry], faults: list[Fault]) -> list[RawPicture]:
    """The annotations as written, in the order of the entries; what belongs to no picture goes to `faults`.

    The XML lies beside the pictures or in a folder of its own, see `voc_files`. The picture of an XML file is
    the one of its name, otherwise the one its <filename> names.
    """
    found = (_picture(entry, faults) for entry in entries)
    return [picture for picture in found if picture is not None]


def voc_xml(sample: Sample, class_names: Sequence[str], file_name: str | None = None) -> bytes:
    """An annotation as the tools that people draw with write it; reading gives the same sample again.

    Args:
        file_name: of the picture, where it is not the sample's own.
    """
    root = ET.Element("annotation")
    ET.SubElement(root, "folder").text = sample.image_path.parent.name
    ET.SubElement(root, "filename").text = file_name or sample.image_path.name
    size = ET.SubElement(root, "size")
    for name, value in zip(("width", "height", "depth"), (*sample.size_hw[::-1], 3), strict=True):
        ET.SubElement(size, name).text = str(value)
    ignore = sample.ignore
    for number, (box_xyxy, class_id) in enumerate(zip(sample.boxes_xyxy, sample.class_ids, strict=True)):
        node = ET.SubElement(root, "object")
        ET.SubElement(node, "name").text = _NO_XML.sub("", class_names[class_id])
        _write_notes(node, sample.notes[number] if sample.notes else {})
        ET.SubElement(node, "difficult").text = str(int(ignore[number]))
        corners = ET.SubElement(node, "bndbox")
        for name, corner in zip(_CORNERS, box_xyxy, strict=True):
            ET.SubElement(corners, name).text = shortest(corner)
    ET.indent(root)
    return bytes(ET.tostring(root, encoding="utf-8")) + b"\n"


def _write_notes(node: ET.Element, notes: Mapping[str, str]) -> None:
    """Notes as elements of their names; those that are no such name as CVAT's <attributes>."""
    odd = {key: note for key, note in notes.items() if not _TAG.fullmatch(key) or key in _OWN_TAGS}
    for key, note in notes.items():
        if key not in odd:
            ET.SubElement(node, key).text = _NO_XML.sub("", note)
    attributes = ET.SubElement(node, "attributes") if odd else node
    for key, note in odd.items():
        attribute = ET.SubElement(attributes, "attribute")
        for tag, text in (("name", key), ("value", note)):
            ET.SubElement(attribute, tag).text = _NO_XML.sub("", text)


def _picture(entry: Entry, faults: list[Fault]) -> RawPicture | None:
    """The annotation of one picture; None, with the fault noted, where it cannot be used."""
    if entry.fault is not None:
        faults.append(entry.fault)
        return None
    if entry.annotation is None:
        faults.append(_no_annotation(entry))
        return None
    root = read_xml(entry.annotation, faults)
    if root is None:
        return None
    if entry.image is None:
        name = path_parts((root.findtext("filename") or "").strip() or "<filename>")[-1]
        text = f"no picture {entry.annotation.stem}.*, nor {name}"
        faults.append(Fault("picture-missing", entry.annotation, text, "add it or remove the XML"))
        return None
    width, height = ((root.findtext(f"size/{side}") or "0").strip() for side in ("width", "height"))
    objects = tuple(_object(node, number) for number, node in enumerate(root.findall("object"), start=1))
    return RawPicture(entry.image, entry.annotation, entry.image_id, objects, (width, height))


def _no_annotation(entry: Entry) -> Fault:
    assert entry.image is not None
    mend = (
        f"annotate it, or if it shows nothing to find, write {without_suffix(entry.image.name)}.xml holding "
        "<annotation></annotation>"
    )
    return Fault("annotation-missing", entry.image, "no XML file belongs to it", mend, picture=entry.image)


def _object(node: ET.Element, number: int) -> RawObject:
    texts = [(node.findtext(f"bndbox/{corner}") or "").strip() for corner in _CORNERS]
    shown = "box " + ", ".join(f"{c} {t or 'missing'}" for c, t in zip(_CORNERS, texts, strict=True))
    notes = {
        child.tag: child.text.strip()
        for child in node
        if child.tag not in _OWN_TAGS and child.text and not len(child)
    }
    for attribute in node.findall("attributes/attribute"):
        key, note = ((attribute.findtext(tag) or "").strip() for tag in ("name", "value"))
        if key and note:
            notes[key] = note
    # Pascal VOC's only mark of what is to be ignored; where the box is a crowd that is the reason.
    difficult = (node.findtext("difficult") or "0").strip().lower() in ("1", "true") and not is_crowd(notes)
    return RawObject(
        f"object {number}",
        (node.findtext("name") or "").strip(),
        _box(texts),
        shown,
        difficult,
        notes,
    )


def _box(texts: list[str]) -> Box:
    try:
        x0, y0, x1, y1 = (float(text) for text in texts)
    except ValueError:
        return NO_BOX
    return (x0, y0, x1, y1) if all(map(math.isfinite, (x0, y0, x1, y1))) else NO_BOX
