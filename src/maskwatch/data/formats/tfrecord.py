"""TFRecord of the TF Object Detection API: images and boxes in one file (using_your_own_dataset.md there).

Boxes are fractions of the image; the label map beside the records has the class ids, from 1.
"""

from __future__ import annotations

import atexit
import itertools
import math
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from maskwatch.data.dataset import CROWD, DetectionSet, Sample, file_names
from maskwatch.data.formats.base import (
    NO_BOX,
    Annotations,
    Format,
    Found,
    RawImage,
    RawObject,
    Split,
    read_class_list,
)
from maskwatch.data.formats.tree import Folder, split_in, split_of
from maskwatch.data.issues import Issue
from maskwatch.data.names import path_parts, without_suffix
from maskwatch.errors import DataError
from maskwatch.media.formats import MAX_PIXELS, open_picture
from maskwatch.media.images import read_image
from maskwatch.outputs import output_errors
from maskwatch.text import first_line
from maskwatch.tf_compat.label_map import read_label_map, write_label_map
from maskwatch.tf_compat.tensorflow import load_tensorflow

_SUFFIXES = (".tfrecord", ".tfrecords", ".tfrec", ".record", ".records")
LABEL_MAP = "label_map.pbtxt"

# train.record-00000-of-00010 (TF Object Detection API, TFDS), faces_train_00000-of-00002.tfrecord,
# train-00000-of-00001
_SHARD = re.compile(r"[-_.]?(?P<number>\d+)-of-(?P<count>\d+)")
_PNG = b"\x89PNG"
_FORMATS = ("JPEG", "PNG")  # all that the API's decoder can read
_OBJECT = "image/object/"
_DIFFICULT = f"{_OBJECT}difficult"
# The API's own for COCO and for Open Images; a crowd is marked difficult as well, which more tools know.
_CROWDS = (f"{_OBJECT}is_crowd", f"{_OBJECT}group_of")
_BBOX = tuple(f"{_OBJECT}bbox/{corner}" for corner in ("xmin", "ymin", "xmax", "ymax"))


def find(folder: Folder) -> Found:
    """The records of a folder by split; its subfolders are still to search."""
    files = [file for file in folder.files if _is_record(file)]
    *_, top = folder.upwards()
    return _splits(folder.path, files, _label_maps(folder.path, top) if files else []), folder.folders


def open_file(file: Path) -> list[Split] | None:
    return _splits(file, [file], _label_maps(file.parent)) if _is_record(file) else None


def _splits(path: Path, files: Sequence[Path], maps: Sequence[Path]) -> list[Split]:
    """The records by the split that the name of the file, else of its folder, states."""
    by_name: dict[str, list[Path]] = {}
    for file in files:
        name = split_in(_SHARD.sub("", file.name)) or split_of(file.parent.name)
        by_name.setdefault(name, []).append(file)
    return [
        Split(name, TFRECORD.name, path, TFRecordAnnotations(tuple(mine), tuple(maps)), _missing_shards(mine))
        for name, mine in by_name.items()
    ]


def _is_record(file: Path) -> bool:
    rest = _SHARD.sub("", file.name)
    return file.suffix.lower() in _SUFFIXES or (
        rest != file.name and (Path(rest).suffix.lower() in _SUFFIXES or "." not in rest)
    )


def _missing_shards(files: Sequence[Path]) -> tuple[Issue, ...]:
    """Issues of records in several files, whose names state how many there are."""
    shards: dict[tuple[str, int], dict[int, Path]] = {}
    for file in files:
        if shard := _SHARD.search(file.name):
            key = (_SHARD.sub("", file.name), int(shard["count"]))
            shards.setdefault(key, {})[int(shard["number"])] = file
    issues = []
    for (_, count), there in shards.items():
        missing = count - len(there)
        if missing > 0:
            text = f"{missing} of its {count} shards {'is' if missing == 1 else 'are'} not there"
            fix = "put all shards into one folder"
            issues.append(Issue("annotation-missing", [*there.values()][-1], text, fix))
    return tuple(issues)


def _label_maps(path: Path, top: Folder | None = None) -> list[Path]:
    """The label maps that may belong to the records in a folder: beside them, else one folder higher.

    Args:
        top: searched in depth if there are none so near (training/).
    """
    for home in (path, path.parent):
        # The latter is that of TensorFlow Datasets: names one a line, ids from 0.
        found = sorted(home.glob("*.pbtxt")) or sorted(home.glob("*label.labels.txt"))
        if found:
            return _likeliest(found)
    return [] if top is None else _likeliest(top.below(".pbtxt"))


def _likeliest(maps: Sequence[Path]) -> list[Path]:
    """Files named label_map.pbtxt, else with "label" in the name, else all: graphs are .pbtxt as well."""
    named = [file for file in maps if file.name == LABEL_MAP]
    return named or [file for file in maps if "label" in file.stem.lower()] or [*maps]


@dataclass(frozen=True)
class TFRecordAnnotations(Annotations):
    """Records in the order of their names, and their possible label maps, the nearest first.

    Images are unpacked once, into a folder that is deleted at exit.
    """

    files: tuple[Path, ...]
    label_maps: tuple[Path, ...]

    def class_names(self) -> tuple[str, ...]:
        return tuple(self._names_by_id().values())

    def read(self, issues: list[Issue], image_ids: Collection[str] | None = None) -> list[RawImage]:
        """The annotations in the order of the records.

        Raises:
            DataError: the label map is missing or wrong.
            MissingExtraError: TensorFlow is not installed.
        """
        names = self._names_by_id()
        state = ((file, file.stat().st_mtime_ns, file.stat().st_size) for file in self.files)
        key = (*names.items(), *state)
        if key not in _unpacked:
            folder = tempfile.mkdtemp(prefix="maskwatch-")
            atexit.register(shutil.rmtree, folder, ignore_errors=True)
            reader = _Reader(load_tensorflow("TFRecord"), names, Path(folder))
            images = [image for file in self.files for image in reader.images(file)]
            _unpacked[key] = (images, reader.issues)
        images, found = _unpacked[key]
        issues += found
        return images

    def _names_by_id(self) -> dict[int, str]:
        if len(self.label_maps) != 1:
            found = f"{len(self.label_maps)} label maps" if self.label_maps else "no label map"
            folder = self.files[0].parent
            raise DataError([f"{folder}: {found}; put one {LABEL_MAP} beside the records"])
        (file,) = self.label_maps
        return read_class_list(file) if file.suffix == ".txt" else read_label_map(file)


_unpacked: dict[object, tuple[list[RawImage], list[Issue]]] = {}


Fields = dict[str, list[Any]]
"""The features of a record, by their names in the TF Object Detection API."""


def _fields(example: Any) -> Fields:
    fields: Fields = {}
    for key, feature in example.features.feature.items():
        kind = feature.WhichOneof("kind")
        fields[key] = list(getattr(feature, kind).value) if kind else []
    if "image" not in fields or "image/encoded" in fields:
        return fields
    # TensorFlow Datasets: boxes are ymin, xmin, ymax, xmax in one list.
    fields["image/encoded"] = fields["image"]
    fields[f"{_OBJECT}class/label"] = fields.get("objects/label", [])
    fields[f"{_OBJECT}difficult"] = fields.get("objects/is_difficult", [])
    for at, corner in enumerate(("ymin", "xmin", "ymax", "xmax")):
        fields[f"{_OBJECT}bbox/{corner}"] = fields.get("objects/bbox", [])[at::4]
    return fields


class _Reader:
    """Records of one split → annotations whose images lie in a folder."""

    def __init__(self, tf: Any, names: Mapping[int, str], folder: Path) -> None:
        self.tf, self.names, self.folder = tf, names, folder
        self.issues: list[Issue] = []
        self.taken: Counter[str] = Counter()

    def images(self, file: Path) -> Iterator[RawImage]:
        records = self.tf.data.TFRecordDataset(str(file)).as_numpy_iterator()
        for number in itertools.count(1):
            where = f"record {number}"
            try:
                example = self.tf.train.Example.FromString(next(records))
            except StopIteration:
                return
            except Exception as error:  # TensorFlow's and protobuf's own kinds
                text = f"cannot be read ({first_line(error)})"
                self.issues.append(Issue("annotation-unreadable", file, text, "write it again", where))
                return
            try:
                yield self._raw_image(_fields(example), file, number)
            except (ValueError, OSError) as error:
                text, _, fix = str(error).rpartition("; ")
                text, fix = (text, fix) if text else (fix, "write the record again")
                self.issues.append(Issue("annotation-unreadable", file, text, fix, where))

    def _raw_image(self, fields: Fields, file: Path, number: int) -> RawImage:
        image_id, path = self._save(fields)
        corners = [fields.get(key, []) for key in _BBOX]
        names = self._class_names(fields)
        if len({len(names), *map(len, corners)}) != 1:
            counts = ", ".join(str(len(values)) for values in corners)
            raise ValueError(f"{counts} corners for {len(names)} classes; write one of each for a box")
        crowds, crowds_too, difficult = (_marks(fields, key, len(names)) for key in (*_CROWDS, _DIFFICULT))
        objects = []
        for at, (name, box) in enumerate(zip(names, zip(*corners, strict=True), strict=True)):
            x0, y0, x1, y1 = box
            box_xyxy = (x0, y0, x1, y1) if all(map(math.isfinite, box)) else NO_BOX
            shown = "box " + ", ".join(f"{share:.4g}" for share in box)
            where = f"record {number} box {at + 1}"
            crowd = crowds[at] or crowds_too[at]
            notes = {CROWD: "1"} if crowd else {}
            objects.append(RawObject(where, name, box_xyxy, shown, difficult[at] and not crowd, notes))
        return RawImage(path, file, image_id, tuple(objects), normalized=True, own_file=False, packed=True)

    def _save(self, fields: Fields) -> tuple[str, Path]:
        """Id and path of the unpacked image, which is named by the record."""
        encoded = fields.get("image/encoded")
        if not encoded:
            raise ValueError("no image/encoded; write the picture into it")
        named = fields.get("image/filename") or [b""]
        text = named[0].decode("utf-8", "replace")
        written = path_parts(text)[-1:] if Path(text).is_absolute() else path_parts(text)
        suffix = ".png" if encoded[0].startswith(_PNG) else ".jpg"
        stem = without_suffix("/".join(written)) or str(sum(self.taken.values()) + 1)
        self.taken[stem.casefold()] += 1
        if self.taken[stem.casefold()] > 1:  # the name is taken
            stem = f"{stem}-{self.taken[stem.casefold()]}"
        path = self.folder / (stem + suffix)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded[0])
        return stem + suffix, path

    def _class_names(self, fields: Fields) -> list[str]:
        labels = fields.get(f"{_OBJECT}class/label")
        if not labels:
            texts = fields.get(f"{_OBJECT}class/text", ())
            return [text.decode("utf-8", "replace") for text in texts]
        unknown = [label for label in labels if label not in self.names]
        if unknown:
            raise ValueError(f"class {str(unknown[0])!r} is not in the label map; add it there")
        return [self.names[label] for label in labels]


def _marks(fields: Fields, key: str, count: int) -> list[bool]:
    """Flags of the boxes; False where the record has none."""
    return [bool(mark) for mark in [*fields.get(key, ()), *([0] * count)][:count]]


def write(sets: Mapping[str, DetectionSet], root: Path) -> None:
    """One file a split, named after it (`data.tfrecord` for a set without), and the label map.

    The API reads only JPEG and PNG; other images become PNG.

    Raises:
        MissingExtraError: TensorFlow is not installed.
    """
    tf = load_tensorflow("TFRecord")
    for split, detection_set in sets.items():
        path = root / f"{split or 'data'}.tfrecord"
        with output_errors(path), tf.io.TFRecordWriter(str(path)) as writer:
            for sample, name in zip(detection_set.samples, file_names(detection_set), strict=True):
                example = _example(tf, sample, detection_set.class_names, name)
                writer.write(example.SerializeToString())
        names = dict(enumerate(detection_set.class_names, start=1))
    write_label_map(root / LABEL_MAP, names)


def _encoded(path: Path) -> bytes:
    """The file, or a PNG of it if the API's decoder would show another picture: it reads only JPEG and PNG,
    ignores orientation, and shows the colours below transparency."""
    with open_picture(path, None, MAX_PIXELS) as (_, image, metadata):
        same = image.format in _FORMATS and metadata.orientation == 1 and not image.has_transparency_data
    if same:
        return path.read_bytes()
    buffer = BytesIO()
    Image.fromarray(read_image(path)).save(buffer, "PNG")
    return buffer.getvalue()


def _example(tf: Any, sample: Sample, class_names: tuple[str, ...], file_name: str) -> Any:
    height, width = sample.size_hw
    shares = sample.boxes_xyxy.astype(np.float64) / [width, height, width, height]
    encoded, name = _encoded(sample.image_path), file_name.encode()
    texts = {
        "image/encoded": [encoded],
        "image/format": [b"png" if encoded.startswith(_PNG) else b"jpeg"],
        "image/filename": [name],
        "image/source_id": [name],
        f"{_OBJECT}class/text": [class_names[number].encode() for number in sample.class_ids],
    }
    whole = {
        "image/height": [height],
        "image/width": [width],
        f"{_OBJECT}class/label": sample.class_ids + 1,
        _DIFFICULT: sample.ignore.astype(np.int64),
        _CROWDS[0]: sample.crowds.astype(np.int64),
    }
    real = {key: shares[:, corner] for corner, key in enumerate(_BBOX)}
    train = tf.train
    features = {key: train.Feature(bytes_list=train.BytesList(value=v)) for key, v in texts.items()}
    features |= {key: train.Feature(int64_list=train.Int64List(value=v)) for key, v in whole.items()}
    features |= {key: train.Feature(float_list=train.FloatList(value=v)) for key, v in real.items()}
    return train.Example(features=train.Features(feature=features))


TFRECORD = Format("tfrecord", write, find, open_file=open_file, last=True, writes_notes=False)
