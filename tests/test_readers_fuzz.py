"""Exports of all tools, damaged in thousands of ways: a clean result, or an error meant for people."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import random
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from maskwatch.cli.datasets import read_stems
from maskwatch.cli.train import TrainArguments, plan_training
from maskwatch.data import find_splits, read_corrections, read_data, read_split
from maskwatch.data.formats import write_data
from maskwatch.data.quality.check import check_splits
from maskwatch.data.quality.repair import repair
from maskwatch.errors import MaskwatchError
from maskwatch.evaluation.slices import read_sources
from maskwatch.labels import ClassMap
from maskwatch.live.tracking.zones_file import read_zones
from maskwatch.tf_compat.label_map import read_label_map
from maskwatch.tf_compat.tensorflow import load_tensorflow
from maskwatch.training.recipe import load_recipe
from test_pipeline import CONFIG

SECONDS = 1.0
"""How long each kind of file is damaged over and over; the seeds begin at 0 in every run."""

NAMES = ("with_mask", "未戴口罩")
WILD = (
    *("nan", "inf", "-inf", "-1", "0", "2", "1e308", "1e-320", "-0.0", "1" * 400, "1" * 5000, "0x10", "1_0"),
    *("", " ", ",", ";", "#", "%", "\\", "/", "..", "null", "true", "[]", "{}", "<a>", "&b;", "\u2028", "é"),
)
VALUES: tuple[Any, ...] = (
    *(
        None,
        True,
        -1,
        0,
        2**70,
        1.5,
        float("nan"),
        float("inf"),
        "",
        "x",
        "\u0000",
        "../../a",
        "/",
        "é" * 300,
    ),
    *([], [1], [[1, 2]], {}, {"id": 1}, ["1", 2, None, 4], [1e308] * 4, 10**400),
)
CODECS = ("utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "gb18030", "latin-1", "cp1251", "cp037")


# ---- What tools export -------------------------------------------------------------------------------------


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = random.Random(str(path)[-20:]).randbytes(20 * 30)  # pictures that are not alike
    Image.frombytes("L", (30, 20), noise).resize((60, 40)).convert("RGB").save(path)


def write(path: Path, text: str, codec: str = "utf-8") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(codec))


def voc_text(name: str, declared: str = "") -> str:
    boxes = "".join(
        f"<object><name>{label}</name><pose>Left</pose><difficult>{n}</difficult><bndbox><xmin>{2 + n}</xmin>"
        f"<ymin>3</ymin><xmax>{20 + n}.5</xmax><ymax>30</ymax></bndbox></object>\n"
        for n, label in enumerate(NAMES)
    )
    size = "<size><width>60</width><height>40</height><depth>3</depth></size>"
    return f"{declared}<annotation>\n<filename>{name}.jpg</filename>\n{size}\n{boxes}</annotation>\n"


def labelimg(root: Path) -> None:
    for name in ("a", "b"):
        picture(root / f"{name}.jpg")
        write(root / f"{name}.xml", voc_text(name))


def chinese_voc(root: Path) -> None:
    picture(root / "JPEGImages" / "a.jpg")
    declared = '<?xml version="1.0" encoding="GB2312"?>\n'
    write(root / "Annotations" / "a.xml", voc_text("a", declared), "gb2312")
    write(root / "ImageSets" / "Main" / "train.txt", "a 1\n")
    write(root / "labelmap.txt", "# label:color_rgb:parts:actions\nwith_mask:1,2,3::\n")


def coco_document() -> dict[str, Any]:
    boxes = [[2, 3, 18.5, 27], [10, 10, 20, 20]]
    return {
        "info": {"description": "x"},
        "images": [{"id": 1, "file_name": "a.jpg", "width": 60, "height": 40, "license": 0}],
        "annotations": [
            {
                "id": number,
                "image_id": 1,
                "category_id": number,
                "bbox": box,
                "area": 100.0,
                "iscrowd": number - 1,
                "segmentation": [[1, 2, 3, 4, 5, 6]],
                "attributes": {"occluded": False, "note": "y"},
            }
            for number, box in enumerate(boxes, start=1)
        ],
        "categories": [
            {"id": number, "name": name, "supercategory": ""} for number, name in enumerate(NAMES, 1)
        ],
    }


def cvat_coco(root: Path) -> None:
    picture(root / "images" / "a.jpg")
    write(root / "annotations" / "instances_default.json", json.dumps(coco_document(), indent=1))


def roboflow_coco(root: Path) -> None:
    for split in ("train", "valid"):
        picture(root / split / "a.jpg")
        write(root / split / "_annotations.coco.json", json.dumps(coco_document()), "utf-8-sig")


def yolo(lines: str, more: str = "") -> Callable[[Path], None]:
    def export(root: Path) -> None:
        for split in ("train", "val"):
            picture(root / "images" / split / "a.jpg")
            write(root / "labels" / split / "a.txt", lines)
        write(
            root / "data.yaml", f"train: images/train\nval: images/val\nnames: [with_mask, 未戴口罩]\n{more}"
        )

    return export


def listed_yolo(root: Path) -> None:
    picture(root / "images" / "a.jpg")
    write(root / "labels" / "a.txt", "0,0.5,0.5,0.2,0.2\n1,0.3,0.5,0.2,0.2\n")
    write(root / "train.txt", "images/a.jpg\n")
    write(root / "data.yaml", "path: .\ntrain: train.txt\nval:\nnames:\n  0: with_mask\n  1: 未戴口罩\n")


def plain_yolo(root: Path) -> None:
    picture(root / "a.jpg")
    write(root / "a.txt", "0.0e+00 0.5 0.5 0.2 0.2 0.9 7\n1 0.3 0.5 0.2 0.2 0.8 1\n")
    write(root / "classes.txt", "with_mask\n未戴口罩\n", "utf-16")


def label_studio(root: Path) -> None:
    picture(root / "images" / "a.jpg")
    corners = [{"x": 5.0 + n, "y": 5, "width": 40.5, "height": 60, "rotation": 0} for n in range(len(NAMES))]
    common = {"original_width": 60, "original_height": 40, "image_rotation": 0, "to_name": "image"}
    results: list[dict[str, Any]] = [
        {"id": f"r{n}", **common, "type": "rectanglelabels", "value": {**box, "rectanglelabels": [name]}}
        for n, (name, box) in enumerate(zip(NAMES, corners, strict=True))
    ]
    flags = {"id": "r1", **common, "type": "choices", "from_name": "flags"}
    results.append({**flags, "value": {**corners[1], "choices": ["difficult"]}})
    annotation = {"id": 7, "completed_by": 1, "was_cancelled": False, "result": results}
    task = {"id": 1, "data": {"image": "/data/upload/1/0a1b2c3d-a.jpg"}, "annotations": [annotation]}
    write(root / "project-1.json", json.dumps([task], indent=1))


def label_studio_min(root: Path) -> None:
    picture(root / "a.jpg")
    box = {"x": 70, "y": 5, "width": 40, "height": 60, "rotation": 90, "rectanglelabels": [NAMES[0]]}
    size = {"original_width": 60, "original_height": 40}
    entry = {"image": "/data/local-files/?d=set/a.jpg", "id": 1, "label": [{**box, **size}], "annotator": 1}
    write(root / "p.json", json.dumps([entry]))


def cvat(root: Path) -> None:
    picture(root / "images" / "a.jpg")
    boxes = "".join(
        f'<box label="{name}" occluded="0" xtl="{2 + n}" ytl="3" xbr="20.5" ybr="30" rotation="{n}">'
        f'<attribute name="difficult">true</attribute></box>\n'
        for n, name in enumerate(NAMES)
    )
    labels = "".join(f"<label><name>{name}</name></label>" for name in NAMES)
    meta = f"<meta><task><labels>{labels}</labels></task></meta>"
    image = f'<image id="0" name="a.jpg" subset="train" width="60" height="40">\n{boxes}</image>'
    write(root / "annotations.xml", f"<annotations>\n{meta}\n{image}\n</annotations>\n")


def cvat_video(root: Path) -> None:
    picture(root / "images" / "frame_000000.jpg")
    box = 'outside="0" occluded="0" xtl="2" ytl="3" xbr="20.5" ybr="30" z_order="0"'
    track = f'<track id="0" label="{NAMES[0]}"><box frame="0" {box}></box></track>'
    write(root / "annotations.xml", f"<annotations>\n<meta/>\n{track}\n</annotations>\n")


FACE = "0.5 0.5 0.4 0.4 0.42 0.45 0.58 0.45 0.5 0.52 0.45 0.6 0.55 0.6"
EXPORTS: dict[str, Callable[[Path], None]] = {
    "labelImg": labelimg,
    "VOC in GB2312": chinese_voc,
    "CVAT COCO": cvat_coco,
    "Roboflow COCO": roboflow_coco,
    "Label Studio JSON": label_studio,
    "Label Studio JSON-MIN": label_studio_min,
    "CVAT for images": cvat,
    "CVAT for video": cvat_video,
    "YOLO": yolo("0 0.5 0.5 0.2 0.2\n1 0.3 0.5 0.2 0.2\n"),
    "YOLO faces": yolo(f"0 {FACE}\n1 0.3 0.5 0.2 0.2{' -1' * 10}\n"),
    "YOLO pose": yolo(f"0 0.5 0.5 0.4 0.4 {'0.4 0.5 2 ' * 5}\n", "kpt_shape: [5, 3]\n"),
    "YOLO polygons": yolo("0 0.1 0.1 0.3 0.1 0.3 0.4 0.2 0.5 0.1 0.4\n1 0.7 0.7 0.9 0.7 0.8 0.9\n"),
    "YOLO by lists": listed_yolo,
    "YOLO without yaml": plain_yolo,
}


# ---- Single files ------------------------------------------------------------------------------------------

ZONES = """format = "maskwatch.zones/1"
only_zones = true
[[zone]]
name = "door"
points = [[0.1, 0.2], [0.9, 0.2], [0.5, 0.9]]
alert = false
[[line]]
name = "gate"
source = "0"
points = [[0.1, 0.2], [0.9, 0.2]]
"""
LABEL_MAP = "item {\n  id: 1\n  name: 'with_mask'\n}\nitem { id: 2 name: '\\346\\234\\252' }\n"
CORRECTIONS = (
    "picture,fault,class,xmin,ymin,xmax,ymax\na,class,no_mask,1,2,3,4\nb,no_face,,1,2,3,4\n"
    '"c, d",missing,mask,1.5,2,30,40\n'
)
FILES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "stems": ("a\nb c\n未\n", read_stems),
    "label map": (LABEL_MAP, read_label_map),
    "corrections": (CORRECTIONS, read_corrections),
    "sources": ("stem,source\na,kaggle\nb,web\n", read_sources),
    "zones": (ZONES, read_zones),
    "recipe": ('steps = 100\nsize = 320\ntrain_sizes = [320, 256]\naugment = "scale"\n', load_recipe),
    "pipeline.config": (
        CONFIG,
        lambda path: plan_training(TrainArguments([Path("set")], pipeline_config=path, classes="a,b")),
    ),
}


# ---- Damage ------------------------------------------------------------------------------------------------


def damaged(data: bytes, rng: random.Random) -> bytes:
    kind = rng.randrange(10)
    at, end = sorted((rng.randrange(len(data) + 1), rng.randrange(len(data) + 1)))
    if kind == 0:
        return data[:at]
    if kind == 1:
        return data[:at] + data[end:]
    if kind == 2:
        return data[:at] + rng.randbytes(rng.randrange(1, 4)) + data[at:]
    if kind == 3:
        return bytes(byte ^ (1 << rng.randrange(8)) if rng.random() < 0.01 else byte for byte in data)
    if kind == 4:
        return data.decode("utf-8", "replace").encode(rng.choice(CODECS), "replace")
    if kind == 5:
        return b"\xef\xbb\xbf\xff\xfe\0"[: rng.randrange(7)] + data
    if kind == 6:
        return wild_numbers(data, rng)
    if kind == 7 and (changed := wild_json(data, rng)) is not None:
        return changed
    lines = data.split(b"\n")
    line = rng.randrange(len(lines))
    if kind == 8:
        rng.shuffle(lines)
    elif rng.random() < 0.5:
        lines.insert(line, rng.choice(lines))
    else:
        lines[line] = rng.choice(WILD).encode()
    return rng.choice((b"\n", b"\r\n", b"\r")).join(lines)


def wild_numbers(data: bytes, rng: random.Random) -> bytes:
    numbers = list(re.finditer(rb"-?\d[\d.e+-]*|\b\w+\b", data))
    if not numbers:
        return rng.choice(WILD).encode()
    one = rng.choice(numbers)
    return data[: one.start()] + rng.choice(WILD).encode() + data[one.end() :]


def wild_json(data: bytes, rng: random.Random) -> bytes | None:
    """A JSON document with a value of another kind somewhere; None for what is no JSON."""
    try:
        document = json.loads(data)
    except ValueError:
        return None
    at = document
    while isinstance(at, dict | list) and at:
        key = rng.choice(list(at)) if isinstance(at, dict) else rng.randrange(len(at))
        if not isinstance(at[key], dict | list) or not at[key] or rng.random() < 0.15:  # type: ignore[call-overload]
            at[key] = rng.choice(VALUES)  # type: ignore[call-overload]
            break
        at = at[key]  # type: ignore[call-overload]
    return json.dumps(document).encode("utf-8", "replace")


def damage_folder(root: Path, rng: random.Random) -> None:
    """Damages some of the files that lie in a folder, pictures seldom."""
    files = sorted(path for path in root.rglob("*") if path.is_file())
    for path in rng.sample(files, rng.randint(1, min(3, len(files)))):
        if path.suffix == ".jpg" and rng.random() < 0.7:
            continue
        with contextlib.suppress(OSError):  # a folder may be in the way by now
            damage_file(path, rng)


def damage_file(path: Path, rng: random.Random) -> None:
    kind = rng.random()
    if kind < 0.85:
        path.write_bytes(damaged(path.read_bytes(), rng))
    elif kind < 0.9:
        path.unlink()
    elif kind < 0.94:
        path.unlink()
        path.mkdir()
    elif kind < 0.97:
        inner = path.parent / rng.choice(("images", "labels", "Annotations", "train", "x y", "é"))
        inner.mkdir(exist_ok=True)
        path.rename(inner / path.name)
    else:
        suffix = rng.choice((".xml", ".txt", ".json", ".yaml", ".JPG", ".bak"))
        shutil.copyfile(path, path.with_name(path.stem + "b" * (path.suffix == suffix) + suffix))


# ---- The tests ---------------------------------------------------------------------------------------------


def read_everything(root: Path, out: Path, thorough: bool) -> None:
    """All that the commands do with a data set."""
    splits = find_splits(root)
    for split in splits:
        split.class_names()
        list(split.image_ids())
    if thorough:
        found = check_splits(splits, workers=1)
        repaired = repair(found).sets
        write_data(repaired, out, "voc")
        for split, a_set in repaired.items():
            if len(a_set):  # a copy is whole, whatever it was made of
                assert len(read_data(out, ClassMap(found.class_names), split=split or None)) == len(a_set)
    for split in splits:
        read_split(split, ClassMap(NAMES))


def survives(call: Callable[[], object]) -> None:
    with contextlib.suppress(MaskwatchError):
        call()


@pytest.mark.parametrize("export", EXPORTS.values(), ids=EXPORTS)
def test_damaged_exports_are_read_or_refused(export: Callable[[Path], None], tmp_path: Path) -> None:
    export(tmp_path / "whole")
    read_everything(tmp_path / "whole", tmp_path / "out", thorough=True)
    until, seed = time.monotonic() + SECONDS, 0
    while time.monotonic() < until:
        root = tmp_path / str(seed)
        shutil.copytree(tmp_path / "whole", root)
        damage_folder(root, random.Random(seed))
        survives(lambda root=root: read_everything(root, root / "out", root.name.endswith("0")))  # type: ignore[misc]
        shutil.rmtree(root)
        seed += 1


@pytest.mark.parametrize(("text", "read"), FILES.values(), ids=FILES)
def test_damaged_files_are_read_or_refused(text: str, read: Callable[[Path], object], tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text(text, encoding="utf-8")
    read(path)
    until, seed = time.monotonic() + SECONDS, 0
    while time.monotonic() < until:
        rng = random.Random(seed)
        data = text.encode()
        for _ in range(rng.randint(1, 3)):
            data = damaged(data, rng)
        path.write_bytes(data)
        survives(lambda: read(path))
        seed += 1


# Not importorskip, which would load it before Triton.
@pytest.mark.skipif(importlib.util.find_spec("tensorflow") is None, reason="the extra tf is not installed")
@pytest.mark.slow
def test_damaged_records_are_read_or_refused(tmp_path: Path) -> None:
    tf = load_tensorflow("the test")
    labelimg(tmp_path / "whole")
    folder = tmp_path / "records"
    write_data({"train": read_data(tmp_path / "whole", ClassMap(NAMES))}, folder, "tfrecord")
    (path,) = folder.glob("*.tfrecord")
    records = list(tf.data.TFRecordDataset(str(path)).as_numpy_iterator())
    until, seed = time.monotonic() + 2 * SECONDS, 0
    while time.monotonic() < until:
        rng = random.Random(seed)
        with tf.io.TFRecordWriter(str(path)) as writer:
            for record in records:
                writer.write(damaged(record, rng))
        if seed % 4 == 0:
            path.write_bytes(damaged(path.read_bytes(), rng))
        survives(lambda: read_data(folder, ClassMap(NAMES), "train"))
        seed += 1
