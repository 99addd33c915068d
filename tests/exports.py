"""Data sets in the layouts that the common tools export: the same pictures and boxes in each of them.

Every writer takes a folder and a `World`, writes the world there, and returns split → names of its pictures.
"""

from __future__ import annotations

import json
import unicodedata
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from xml.sax.saxutils import escape

import numpy as np
from PIL import Image

from maskwatch.data import DetectionSet

SIZE_WH = (100, 80)
CLASSES = ("with_mask", "without_mask")
Box = tuple[int, float, float, float, float]  # class, corners in pixels
Expected = dict[str, set[str]]


@dataclass
class World:
    """Split → name of each picture, and how names are spelt on the disk and in annotations."""

    pictures: dict[str, list[str]]
    disk: str = "NFC"
    text: str = "NFC"

    def each(self) -> Iterator[tuple[str, str]]:
        for split, names in self.pictures.items():
            yield from ((split, name) for name in names)

    def on_disk(self, name: str) -> str:
        return unicodedata.normalize(self.disk, name)

    def in_text(self, name: str) -> str:
        return unicodedata.normalize(self.text, name)

    def fill(self, pattern: str, split: str, name: str) -> str:
        """A path with {split} and {stem} in it, or {beside}, for a file in the folder of the picture."""
        folder, slash, last = stem(name).rpartition("/")
        beside = self.on_disk(folder) + slash + self.in_text(last)
        return pattern.format(split=split, stem=self.in_text(stem(name)), beside=beside)

    def expected(self, prefix: str = "", *, whole: bool = False) -> Expected:
        found: Expected = {}
        for split, name in self.each():
            found.setdefault("" if whole else split, set()).add(prefix + name)
        return found


def seed_of(split: str, name: str) -> int:
    return zlib.crc32(f"{split}|{name}".encode())


def boxes_of(split: str, name: str) -> list[Box]:
    """One to three boxes, other ones for each picture."""
    rng = np.random.default_rng(seed_of(split, name))
    boxes = []
    for _ in range(1 + int(rng.integers(3))):
        x, y = int(rng.integers(60)), int(rng.integers(40))
        boxes.append(
            (int(rng.integers(2)), x, y, x + 5 + int(rng.integers(30)), y + 5 + int(rng.integers(30)))
        )
    return boxes


def put(path: Path, split: str, name: str) -> None:
    """Writes the picture, unlike every other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed_of(split, name)).integers(0, 256, (8, 10, 3), dtype=np.uint8)
    kind = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG"}[path.suffix.lower()]
    Image.fromarray(coarse).resize(SIZE_WH, Image.Resampling.BICUBIC).save(path, kind)


def say(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def stem(name: str) -> str:
    return str(PurePosixPath(name).with_suffix(""))


def xml(split: str, name: str, filename: str) -> str:
    objects = "".join(
        f"<object><name>{CLASSES[c]}</name><bndbox><xmin>{x0}</xmin><ymin>{y0}</ymin>"
        f"<xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>"
        for c, x0, y0, x1, y1 in boxes_of(split, name)
    )
    return f"<annotation><filename>{escape(filename)}</filename>{objects}</annotation>"


def lines(split: str, name: str) -> str:
    rows = []
    for c, x0, y0, x1, y1 in boxes_of(split, name):
        shares = ((x0 + x1) / 200, (y0 + y1) / 160, (x1 - x0) / 100, (y1 - y0) / 80)
        rows.append(" ".join([str(c), *(f"{share:.8f}" for share in shares)]))
    return "\n".join(rows) + "\n"


def document(pictures: list[tuple[str, str, str]]) -> str:
    """COCO; pictures: split, name, and the `file_name` to write."""
    images, annotations = [], []
    for number, (split, name, written) in enumerate(pictures, start=1):
        images.append({"id": number, "file_name": written, "width": 100, "height": 80})
        for c, x0, y0, x1, y1 in boxes_of(split, name):
            box = [x0, y0, x1 - x0, y1 - y0]
            annotations.append(
                {"id": len(annotations) + 1, "image_id": number, "category_id": c + 1, "bbox": box}
            )
    categories = [{"id": number, "name": name} for number, name in enumerate(CLASSES, start=1)]
    return json.dumps({"images": images, "annotations": annotations, "categories": categories})


def pictures_of(world: World, folder: Path) -> dict[bytes, tuple[str, str]]:
    """Bytes of each picture → its split and name."""
    found = {}
    for split, name in world.each():
        path = folder / f"x{Path(name).suffix}"
        put(path, split, name)
        found[path.read_bytes()] = (split, name)
    return found


def check_set(data: DetectionSet, pictures: dict[bytes, tuple[str, str]]) -> None:
    """Holds the boxes of each sample against those of the picture whose bytes it has."""
    for sample in data.samples:
        truth = boxes_of(*pictures[sample.image_path.read_bytes()])
        assert sample.class_ids.tolist() == [c for c, *_ in truth]
        np.testing.assert_allclose(sample.boxes_xyxy, [box[1:] for box in truth], atol=1e-4)


# ---- Pascal VOC ------------------------------------------------------------------------------------------


def _voc(
    root: Path, world: World, picture: str, annotation: str, filename: Callable[[str], str] = lambda n: n
) -> None:
    for split, name in world.each():
        put(root / picture.format(split=split, name=world.on_disk(name)), split, name)
        say(root / world.fill(annotation, split, name), xml(split, name, filename(world.in_text(name))))


def voc_beside(root: Path, world: World) -> Expected:
    """LabelImg, TensorFlow tutorials: side by side in a folder a split, cameras in folders of their own."""
    _voc(root, world, "{split}/{name}", "{split}/{beside}.xml", lambda n: f"C:\\photos\\{n}")
    return world.expected()


def voc_images_of_tutorial(root: Path, world: World) -> Expected:
    """images/train and images/test, as the tutorials of the TF Object Detection API have it."""
    _voc(root, world, "images/{split}/{name}", "images/{split}/{beside}.xml")
    say(root / "annotations" / "label_map.pbtxt", "item { id: 1 name: 'with_mask' }")
    return world.expected()


def voc_archive(root: Path, world: World) -> Expected:
    """VOCdevkit/VOC2007 from above, with lists, also of classes, and masks of the same names."""
    home = root / "VOCdevkit" / "VOC2007"
    _voc(home, world, "JPEGImages/{name}", "Annotations/{stem}.xml")
    for split, names in world.pictures.items():
        say(home / "ImageSets" / "Main" / f"{split}.txt", "\n".join(map(stem, map(world.in_text, names))))
        signs = "\n".join(f"{stem(world.in_text(name))}  {1 - 2 * (n % 2)}" for n, name in enumerate(names))
        say(home / "ImageSets" / "Main" / f"mask_{split}.txt", signs)
    for split, name in world.each():
        put(home / "SegmentationClass" / f"{world.on_disk(stem(name))}.png", split, f"{name} mask")
    return world.expected()


def voc_class_lists(root: Path, world: World) -> Expected:
    """Lists of classes only."""
    _voc(root, world, "JPEGImages/{name}", "Annotations/{stem}.xml")
    for split, names in world.pictures.items():
        for sign, label in ((1, "mask"), (-1, "bare")):
            signs = "".join(f"{stem(world.in_text(name))} {sign: d}\n" for name in names)
            say(root / "ImageSets" / "Main" / f"{label}_{split}.txt", signs)
    return world.expected()


def voc_cvat(root: Path, world: World) -> Expected:
    """CVAT: no split, one list of paths, folders below JPEGImages and Annotations; shadows of macOS."""
    _voc(root, world, "JPEGImages/{name}", "Annotations/{stem}.xml", lambda n: f"share/{n}")
    listed = "\n".join(stem(world.in_text(name)) for _, name in world.each())
    say(root / "ImageSets" / "Main" / "default.txt", listed)
    say(root / "labelmap.txt", "# label:color_rgb:parts:actions\nwith_mask:::\n")
    say(root / "__MACOSX" / "Annotations" / "._a.xml", "\0\5\26\7")
    say(root / "Annotations" / "._a.xml", "\0\5\26\7")
    say(root / "JPEGImages" / "Thumbs.db", "\0")
    return world.expected(whole=True)


def voc_xmls(root: Path, world: World) -> Expected:
    """images with annotations/xmls, as the Oxford pets have it."""
    _voc(root, world, "images/{name}", "annotations/xmls/{stem}.xml")
    return world.expected(whole=True)


def voc_img_ann(root: Path, world: World) -> Expected:
    _voc(root, world, "{split}/img/{name}", "{split}/ann/{stem}.xml")
    return world.expected()


def voc_split_inside(root: Path, world: World) -> Expected:
    _voc(root, world, "images/{split}/{name}", "annotations/{split}/{stem}.xml")
    return world.expected()


def voc_flat_xml(root: Path, world: World) -> Expected:
    """All XML in one folder under other names; <filename> tells the picture."""
    for number, (split, name) in enumerate(world.each()):
        put(root / "pics" / world.on_disk(name), split, name)
        say(root / "boxes" / f"note{number}.xml", xml(split, name, world.in_text(name).replace("/", "\\")))
    return world.expected(whole=True)


def voc_split_folders(root: Path, world: World) -> Expected:
    """A folder a split and kind; LabelImg says that somebody has looked at each."""
    for split, name in world.each():
        put(root / f"{split}_images" / world.on_disk(name), split, name)
        text = xml(split, name, name).replace("<annotation>", '<annotation verified="yes">')
        say(root / world.fill("{split}_annotations/{stem}.xml", split, name), text)
    return world.expected()


def voc_of_a_name(root: Path, world: World) -> Expected:
    """Splits in names that say more, as in WIDER_train and WIDER_val."""
    _voc(root, world, "faces-{split}/{name}", "faces-{split}/{beside}.xml")
    return {split: {f"faces-{split}/{name}" for name in names} for split, names in world.pictures.items()}


# ---- COCO ------------------------------------------------------------------------------------------------


def _coco(root: Path, world: World, picture: str, file: str, written: Callable[[str], str]) -> None:
    documents: dict[str, list[tuple[str, str, str]]] = {}
    for split, name in world.each():
        put(root / picture.format(split=split, name=world.on_disk(name)), split, name)
        row = (split, name, written(world.in_text(name)))
        documents.setdefault(file.format(split=split), []).append(row)
    for path, rows in documents.items():
        say(root / path, document(rows))


def coco_cvat(root: Path, world: World) -> Expected:
    """CVAT, whose subsets may be written Train and Validation."""
    spelt = {"train": "Train", "val": "Validation", "test": "test"}
    for split, name in world.each():
        put(root / "images" / spelt[split] / world.on_disk(name), split, name)
    for split, names in world.pictures.items():
        rows = [(split, name, world.in_text(name)) for name in names]
        say(root / "annotations" / f"instances_{spelt[split]}.json", document(rows))
    return world.expected()


def coco_default(root: Path, world: World) -> Expected:
    _coco(root, world, "images/default/{name}", "annotations/instances_default.json", lambda n: n)
    return world.expected(whole=True)


def coco_2017(root: Path, world: World) -> Expected:
    _coco(root, world, "{split}2017/{name}", "annotations/instances_{split}2017.json", lambda n: n)
    say(root / "annotations" / "captions_train2017.json", '{"images": [], "annotations": []}')
    return world.expected()


def coco_roboflow(root: Path, world: World) -> Expected:
    _coco(root, world, "{split}/{name}", "{split}/_annotations.coco.json", lambda n: n)
    say(root / "README.roboflow.txt", "exported")
    return world.expected()


def coco_label_studio(root: Path, world: World) -> Expected:
    _coco(root, world, "images/{name}", "result.json", lambda n: f"upload/1/{n}")
    return world.expected(whole=True)


def coco_windows(root: Path, world: World) -> Expected:
    _coco(root, world, "{split}/{name}", "{split}.json", lambda n: "..\\images\\" + n.replace("/", "\\"))
    return world.expected()


# ---- YOLO ------------------------------------------------------------------------------------------------


def _yolo(root: Path, world: World, picture: str, label: str) -> None:
    for split, name in world.each():
        put(root / picture.format(split=split, name=world.on_disk(name)), split, name)
        say(root / world.fill(label, split, name), lines(split, name))


def _yaml(root: Path, world: World, place: str, **more: str) -> None:
    splits = {split: place.format(split=split) for split in world.pictures}
    say(root / "data.yaml", json.dumps({**more, **splits, "names": dict(enumerate(CLASSES))}))


def yolo_ultralytics(root: Path, world: World) -> Expected:
    _yolo(root, world, "images/{split}/{name}", "labels/{split}/{stem}.txt")
    _yaml(root, world, "images/{split}", path="../datasets/somewhere/else")
    say(root / "docker-compose.yml", "services: {}\n")
    return world.expected()


def yolo_moved(root: Path, world: World) -> Expected:
    """A data.yaml with paths of another machine."""
    _yolo(root, world, "images/{split}/{name}", "labels/{split}/{stem}.txt")
    _yaml(root, world, "/content/drive/My Drive/set/images/{split}")
    return world.expected()


def _lists(root: Path, world: World, line: str) -> None:
    for split, names in world.pictures.items():
        rows = [line.format(split=split, name=world.in_text(name)) for name in names]
        say(root / f"{split}.txt", "\r\n".join(rows) + "\r\n")


def yolo_cvat_ultralytics(root: Path, world: World) -> Expected:
    """CVAT's "Ultralytics YOLO Detection 1.0"."""
    _yolo(root, world, "images/{split}/{name}", "labels/{split}/{stem}.txt")
    _lists(root, world, "data/images/{split}/{name}")
    _yaml(root, world, "{split}.txt", path=".")
    return world.expected()


def yolo_darknet(root: Path, world: World) -> Expected:
    """CVAT's "YOLO 1.1" and darknet."""
    _yolo(root, world, "obj_{split}_data/{name}", "obj_{split}_data/{stem}.txt")
    _lists(root, world, "data/obj_{split}_data/{name}")
    keys = "".join(f"{split} = data/{split}.txt\n" for split in world.pictures)
    say(root / "obj.data", f"classes = 2\n{keys}names = data/obj.names\nbackup = backup/\n")
    say(root / "obj.names", "".join(f"{name}\n" for name in CLASSES))
    return world.expected()


def yolo_lists(root: Path, world: World) -> Expected:
    """Lists of absolute paths of another machine, and a file of names, without obj.data."""
    _yolo(root, world, "pics/{split}/{name}", "pics/{split}/{stem}.txt")
    _lists(root, world, "/home/me/set/pics/{split}/{name}")
    say(root / "faces.names", "".join(f"{name}\n" for name in CLASSES))
    return world.expected()


def yolo_roboflow(root: Path, world: World) -> Expected:
    _yolo(root, world, "{split}/images/{name}", "{split}/labels/{stem}.txt")
    _yaml(root, world, "../{split}/images")
    say(root / "README.dataset.txt", "faces > 2024")
    return world.expected()


def yolo_roboflow_without_yaml(root: Path, world: World) -> Expected:
    _yolo(root, world, "{split}/images/{name}", "{split}/labels/{stem}.txt")
    say(root / "classes.txt", "".join(f"{name}\n" for name in CLASSES))
    return world.expected()


def yolo_label_studio(root: Path, world: World) -> Expected:
    _yolo(root, world, "images/{name}", "labels/{stem}.txt")
    say(root / "classes.txt", "".join(f"{name}\n" for name in CLASSES))
    say(root / "notes.json", '{"categories": []}')
    return world.expected(whole=True)


def yolo_beside(root: Path, world: World) -> Expected:
    """Labels beside the pictures, in a folder called Images."""
    _yolo(root, world, "Images/{name}", "Images/{beside}.txt")
    say(root / "Images" / "classes.txt", "".join(f"{name}\n" for name in CLASSES))
    say(root / "Images" / "README.txt", "My photographs.")
    return world.expected(whole=True)


def yolo_beside_deep(root: Path, world: World) -> Expected:
    _yolo(root, world, "images/set/{split}/{name}", "images/set/{split}/{beside}.txt")
    say(root / "images" / "classes.txt", "".join(f"{name}\n" for name in CLASSES))
    return world.expected("set/")


def yolo_darknet_of_roboflow(root: Path, world: World) -> Expected:
    _yolo(root, world, "{split}/{name}", "{split}/{beside}.txt")
    for split in world.pictures:
        say(root / split / "_darknet.labels", "".join(f"{name}\n" for name in CLASSES))
    return world.expected()


def yolo_makesense(root: Path, world: World) -> Expected:
    """makesense.ai: labels in a folder that is named after project and time."""
    _yolo(root, world, "images/{name}", "labels_my-project_2024-01-02-03-04-05/{stem}.txt")
    say(root / "labels.txt", "".join(f"{name}\n" for name in CLASSES))
    return world.expected(whole=True)


def yolo_split_folders(root: Path, world: World) -> Expected:
    _yolo(root, world, "{split}_images/{name}", "{split}_labels/{stem}.txt")
    say(root / "classes.txt", "".join(f"{name}\n" for name in CLASSES))
    return world.expected()


def yolo_of_another_case(root: Path, world: World) -> Expected:
    """Made where the case of names does not count."""
    for split, name in world.each():
        put(root / "Images" / split.title() / world.on_disk(name), split, name)
        say(root / world.fill("LABELS/{split}/{stem}.txt", split, name), lines(split, name))
    say(root / "classes.txt", "".join(f"{name}\n" for name in CLASSES))
    return world.expected()


VOC = (
    voc_beside,
    voc_images_of_tutorial,
    voc_archive,
    voc_class_lists,
    voc_cvat,
    voc_xmls,
    voc_img_ann,
    voc_split_inside,
    voc_flat_xml,
    voc_split_folders,
    voc_of_a_name,
)
COCO = (coco_cvat, coco_default, coco_2017, coco_roboflow, coco_label_studio, coco_windows)
YOLO = (
    yolo_ultralytics,
    yolo_moved,
    yolo_cvat_ultralytics,
    yolo_darknet,
    yolo_lists,
    yolo_roboflow,
    yolo_roboflow_without_yaml,
    yolo_label_studio,
    yolo_beside,
    yolo_beside_deep,
    yolo_darknet_of_roboflow,
    yolo_makesense,
    yolo_split_folders,
    yolo_of_another_case,
)
EXPORTS = (*VOC, *COCO, *YOLO)
