"""Pascal VOC: one XML file a picture (Everingham et al., "The PASCAL VOC Challenge", IJCV 2010).

Coordinates are taken as they stand, without the "−1" of VOC's own development kit, because the tools that
people draw boxes with write them from 0 and the TF Object Detection API reads them so.
"""

from __future__ import annotations

import math
import os
import re
import xml.etree.ElementTree as ET
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from maskwatch.data.dataset import DetectionSet, Sample
from maskwatch.data.faults import Box, Fault
from maskwatch.data.judge import Judge
from maskwatch.data.numbers import shortest
from maskwatch.data.raw import NO_BOX, RawObject, RawPicture
from maskwatch.data.voc_files import Pair, pair_files, split_stems
from maskwatch.errors import DataError
from maskwatch.labels import ClassMap

_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_OWN_TAGS = ("name", "difficult", "bndbox", "attributes")
_TAG = re.compile(r"(?!(?i:xml))[A-Za-z_][A-Za-z0-9_.-]*")
# Characters that XML cannot hold (XML 1.0, section 2.2).
_NO_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def read_voc(
    path: str | os.PathLike[str],
    classes: ClassMap | None = None,
    stems: Collection[str] | None = None,
    split: str | None = None,
) -> DetectionSet:
    """Reads a folder of pictures and Pascal VOC XML, sorted by stem.

    The XML lies beside the pictures, or in `Annotations/` with the pictures in `JPEGImages/` (or `images/`).
    The picture of an XML file is the one with its stem, otherwise the one its <filename> names. Only the
    headers of pictures are read. Boxes of up to 2 px or 1 % of the side beyond the border are clipped.

    Args:
        path: the folder.
        classes: how annotated names map to classes; None means the mask classes.
        stems: keep only these; each must be there.
        split: keep only the stems that `ImageSets/Main/<split>.txt` lists.

    Raises:
        DataError: holds every fault found, each with file, object, value and how to mend it.
    """
    judge = Judge(ClassMap() if classes is None else classes)
    return judge.detection_set(raw_voc(Path(path), judge.faults, stems, split))


def raw_voc(
    root: Path, faults: list[Fault], stems: Collection[str] | None = None, split: str | None = None
) -> list[RawPicture]:
    """The annotations as written; arguments as for `read_voc`, what belongs to no picture goes to `faults`.

    Raises:
        DataError: there is no such folder or split.
    """
    if not root.is_dir():
        reason = "is a file" if root.exists() else "does not exist"
        raise DataError([f"{root}: {reason}; give the folder that holds the pictures and the XML files"])
    wanted = None if stems is None else set(stems)
    if split is not None:
        listed = split_stems(root, split)
        wanted = listed if wanted is None else wanted & listed
    return [_picture(pair) for pair in pair_files(root, wanted, faults)]


def voc_xml(sample: Sample, class_names: Sequence[str], file_name: str | None = None) -> bytes:
    """An annotation as the tools that people draw with write it; `read_voc` gives the same sample again.

    Args:
        file_name: of the picture, where it is not the sample's own.
    """
    root = ET.Element("annotation")
    ET.SubElement(root, "folder").text = sample.image_path.parent.name
    ET.SubElement(root, "filename").text = file_name or sample.image_path.name
    size = ET.SubElement(root, "size")
    for name, value in zip(("width", "height", "depth"), (*sample.size_hw[::-1], 3), strict=True):
        ET.SubElement(size, name).text = str(value)
    for number, (box_xyxy, class_id) in enumerate(zip(sample.boxes_xyxy, sample.class_ids, strict=True)):
        node = ET.SubElement(root, "object")
        ET.SubElement(node, "name").text = _NO_XML.sub("", class_names[class_id])
        _write_notes(node, sample.notes[number] if sample.notes else {})
        ET.SubElement(node, "difficult").text = str(int(sample.difficult[number]))
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


def _picture(pair: Pair) -> RawPicture:
    xml, root, image_path = pair
    width, height = ((root.findtext(f"size/{side}") or "0").strip() for side in ("width", "height"))
    objects = tuple(_object(node, number) for number, node in enumerate(root.findall("object"), start=1))
    return RawPicture(image_path, xml, xml.stem, objects, (width, height))


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
    return RawObject(
        f"object {number}",
        (node.findtext("name") or "").strip(),
        _box(texts),
        shown,
        (node.findtext("difficult") or "0").strip().lower() in ("1", "true"),
        notes,
    )


def _box(texts: list[str]) -> Box:
    try:
        x0, y0, x1, y1 = (float(text) for text in texts)
    except ValueError:
        return NO_BOX
    return (x0, y0, x1, y1) if all(map(math.isfinite, (x0, y0, x1, y1))) else NO_BOX
