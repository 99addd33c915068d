"""Folders of pictures to label, in each format, with what other programs write beside the boxes."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

WIDTH, HEIGHT = 100, 60

VOC_XML = """<?xml version="1.0" encoding="ISO-8859-1"?>
<!-- drawn by André -->
<annotation verified="yes">
\t<folder>x</folder><!-- a note -->
\t<filename>a.jpg</filename>
\t<owner><name>shop 7</name></owner>
\t<size><width>100</width><height>60</height><depth>3</depth></size>
\t<object id="7">
\t\t<name>with_mask</name><pose>Left</pose><truncated>1</truncated><difficult>0</difficult>
\t\t<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>30</xmax><ymax>40</ymax></bndbox>
\t\t<part><name>head</name><bndbox><xmin>5</xmin><ymin>5</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></part>
\t</object>
\t<object><name>No Mask</name>
\t\t<bndbox><xmin>50</xmin><ymin>2</ymin><xmax>70</xmax><ymax>40</ymax></bndbox></object>
\t<segmented>0</segmented>
</annotation>
"""


def draw(folder: Path, *names: str) -> None:
    """Plain pictures of WIDTH × HEIGHT."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.new("RGB", (WIDTH, HEIGHT), "grey").save(folder / name)


def voc_folder(folder: Path) -> Path:
    """a.jpg is labelled, b.jpg is not; pictures and XML in a folder each."""
    draw(folder / "JPEGImages", "a.jpg", "b.jpg")
    (folder / "Annotations").mkdir()
    (folder / "Annotations" / "a.xml").write_text(VOC_XML, encoding="latin-1")
    return folder


def yolo_folder(folder: Path) -> Path:
    """a.jpg is labelled, with a score behind one box; b.jpg is not."""
    draw(folder / "images", "a.jpg", "b.jpg")
    (folder / "labels").mkdir()
    (folder / "classes.txt").write_text("with_mask\nno mask\n")
    (folder / "labels" / "a.txt").write_text("0 0.5 0.5 0.2 0.4 0.9\r\n1 0.25 0.25 0.1 0.1\r\n")
    return folder


def coco_document() -> dict[str, object]:
    images = [
        {"id": 1, "file_name": "a.jpg", "width": WIDTH, "height": HEIGHT, "license": 3, "flickr_url": "é"},
        {"id": 2, "file_name": "b.jpg", "width": WIDTH, "height": HEIGHT},
    ]
    rows = [
        {"id": 11, "image_id": 1, "category_id": 5, "bbox": [1, 2, 29, 38], "area": 700.5, "iscrowd": 0}
        | {"segmentation": [[1, 2, 30, 2, 30, 40]], "keypoints": [1, 2, 3], "attributes": {"blur": "yes"}},
        {"id": 12, "image_id": 1, "category_id": 6, "bbox": [50.5, 2, 20, 38], "area": 760, "iscrowd": 0},
    ]
    categories = [{"id": 5, "name": "with_mask", "supercategory": "face"}, {"id": 6, "name": "no_mask"}]
    return {"info": {"year": 2026}, "images": images, "annotations": rows, "categories": categories}


def coco_folder(folder: Path) -> Path:
    """a.jpg is labelled, b.jpg is in the file without a box, c.jpg is not in it."""
    draw(folder / "images", "a.jpg", "b.jpg", "c.jpg")
    (folder / "instances.json").write_text(json.dumps(coco_document(), indent=2))
    return folder


FOLDERS = {"voc": voc_folder, "yolo": yolo_folder, "coco": coco_folder}
