"""TFRecord of the TF Object Detection API: pictures and boxes in one file (using_your_own_dataset.md there).

Boxes are shares of the picture there; ids count from 1, by the label map that lies beside.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from maskwatch.data.dataset import DetectionSet, Sample
from maskwatch.data.header import read_header
from maskwatch.data.label_map import read_label_map, write_label_map
from maskwatch.data.layout import split_of
from maskwatch.data.tensorflow_module import load_tensorflow
from maskwatch.errors import DataError
from maskwatch.images import read_image
from maskwatch.labels import find_class
from maskwatch.outputs import writing

LABEL_MAP = "label_map.pbtxt"
SUFFIXES = (".tfrecord", ".tfrecords", ".record")

_JPEG, _PNG = b"\xff\xd8", b"\x89PNG"  # all that the API's decoder can read
_OBJECT = "image/object/"
_BBOX = tuple(f"{_OBJECT}bbox/{corner}" for corner in ("xmin", "ymin", "xmax", "ymax"))


def write_tfrecords(sets: Mapping[str, DetectionSet], folder: Path) -> None:
    """One file a split, named after it (`data.tfrecord` for a set without), and the label map.

    Raises:
        DataError: a picture is neither JPEG nor PNG, which are all that the API reads.
        MissingExtraError: TensorFlow is not installed.
    """
    tf = load_tensorflow("TFRecord")
    problems = [
        f"{sample.image_path}: TFRecord holds JPEG and PNG only; save the picture as one of these"
        for a_set in sets.values()
        for sample in a_set.samples
        if not _readable(sample.image_path)
    ]
    if problems:
        raise DataError(problems)
    for split, detection_set in sets.items():
        path = folder / f"{split or 'data'}.tfrecord"
        with writing(path), tf.io.TFRecordWriter(str(path)) as writer:
            for sample in detection_set.samples:
                writer.write(_example(tf, sample, detection_set.class_names).SerializeToString())
        names = dict(enumerate(detection_set.class_names, start=1))
    write_label_map(folder / LABEL_MAP, names)


def find_tfrecords(path: Path) -> dict[str, list[Path]]:
    """Split → files, several where it is sharded (`train.record-00000-of-00010`); empty for none."""
    files = [path] if path.is_file() else sorted(path.iterdir()) if path.is_dir() else []
    found: dict[str, list[Path]] = {}
    for file in files:
        name = file.name.split("-")[0] if "-of-" in file.name else file.name
        if Path(name).suffix.lower() in SUFFIXES and file.is_file():
            words = Path(name).stem.lower().replace("-", "_").split("_")
            split = next((split for word in words if (split := split_of(word))), "")
            found.setdefault(split, []).append(file)
    return found


def read_tfrecords(path: Path, folder: Path) -> dict[str, DetectionSet]:
    """Unpacks pictures into `folder/SPLIT/` and reads the boxes; class names are those of the label map.

    Args:
        path: a file, or the folder of the files; `label_map.pbtxt` lies beside them.
        folder: an empty one.

    Raises:
        DataError: holds every fault of every record.
        MissingExtraError: TensorFlow is not installed.
    """
    tf = load_tensorflow("TFRecord")
    files = find_tfrecords(path)
    if not files:
        raise DataError([f"{path}: no TFRecord in it ({', '.join(SUFFIXES)}); give the folder of the files"])
    home = path if path.is_dir() else path.parent
    maps = [home / LABEL_MAP] if (home / LABEL_MAP).is_file() else sorted(home.glob("*.pbtxt"))
    if len(maps) != 1:
        found = f"{len(maps)} .pbtxt files" if maps else "no label map"
        raise DataError([f"{home}: {found}; put one {LABEL_MAP} beside the records"])
    names = read_label_map(maps[0])
    sets, problems = {}, []
    for split, parts in files.items():
        reader = _Reader(tf, names, folder / split)
        samples = [sample for part in parts for sample in reader.samples(part)]
        problems += reader.problems
        if not reader.problems:
            sets[split] = DetectionSet(tuple(names.values()), tuple(samples))
    if problems:
        raise DataError(problems)
    return sets


class _Reader:
    """Records of one split → samples whose pictures lie in a folder."""

    def __init__(self, tf: Any, names: Mapping[int, str], folder: Path) -> None:
        self.tf, self.folder = tf, folder
        self.ids = {label: number for number, label in enumerate(names)}
        self.names = tuple(names.values())
        self.problems: list[str] = []
        folder.mkdir(parents=True, exist_ok=True)

    def samples(self, file: Path) -> Iterator[Sample]:
        records = self.tf.data.TFRecordDataset(str(file)).as_numpy_iterator()
        number = 0
        while True:
            number += 1
            try:
                example = self.tf.train.Example.FromString(next(records))
            except StopIteration:
                return
            except Exception as error:  # TensorFlow's and protobuf's own kinds
                reason = str(error).splitlines()[0]
                self.problems.append(f"{file}: record {number}: cannot be read ({reason}); write it again")
                return
            try:
                yield self._sample(example, number)
            except ValueError as error:
                self.problems.append(f"{file}: record {number}: {error}")

    def _sample(self, example: Any, number: int) -> Sample:
        features = example.features.feature
        path = self._save(features, number)
        try:
            height, width = read_header(path).size_hw
        except ValueError as error:
            raise ValueError(f"{error}; write the picture again") from None
        corners = [np.asarray(features[key].float_list.value, np.float64) for key in _BBOX]
        ids = self._class_ids(features)
        if len({len(ids), *map(len, corners)}) != 1:
            counts = ", ".join(str(len(values)) for values in corners)
            raise ValueError(f"{counts} corners for {len(ids)} classes; write one of each for a box")
        boxes_xyxy = np.stack(corners, axis=1) * [width, height, width, height]  # (G, 4)
        if not np.isfinite(boxes_xyxy).all() or (boxes_xyxy[:, 2:] <= boxes_xyxy[:, :2]).any():
            raise ValueError("a box has no area; write corners with xmin < xmax and ymin < ymax")
        boxes_xyxy = boxes_xyxy.clip(0, [width, height, width, height])
        difficult = np.zeros(len(ids), np.bool_)
        marks = features[f"{_OBJECT}difficult"].int64_list.value
        difficult[: len(marks)] = np.asarray(marks[: len(ids)], np.bool_)
        return Sample(path, None, (height, width), boxes_xyxy.astype(np.float32), ids, difficult)

    def _save(self, features: Any, number: int) -> Path:
        encoded = features["image/encoded"].bytes_list.value
        if not encoded:
            raise ValueError("no image/encoded; write the picture into it")
        named = features["image/filename"].bytes_list.value
        stem = Path(named[0].decode("utf-8", "replace").replace("\\", "/")).stem if named else ""
        suffix = ".png" if encoded[0].startswith(_PNG) else ".jpg"
        path = self.folder / f"{stem or number}{suffix}"
        if path.exists():
            path = self.folder / f"{stem or number}-{number}{suffix}"
        path.write_bytes(encoded[0])
        return path

    def _class_ids(self, features: Any) -> np.ndarray[Any, np.dtype[np.int64]]:
        labels = list(features[f"{_OBJECT}class/label"].int64_list.value)
        if not labels:  # the names alone will do
            texts = [t.decode("utf-8", "replace") for t in features[f"{_OBJECT}class/text"].bytes_list.value]
            found = [find_class(self.names, text) for text in texts]
            unknown = [text for text, number in zip(texts, found, strict=True) if number is None]
            ids = [number or 0 for number in found]
        else:
            unknown = [str(label) for label in labels if label not in self.ids]
            ids = [self.ids.get(label, 0) for label in labels]
        if unknown:
            raise ValueError(f"class {unknown[0]!r} is not in the label map; add it there")
        return np.asarray(ids, np.int64)


def _readable(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_PNG)).startswith((_JPEG, _PNG))


def _encoded(path: Path) -> bytes:
    """The file as it is; redrawn where EXIF turns it, which the API's decoder would not see."""
    if read_header(path).orientation == 1:
        return path.read_bytes()
    buffer = BytesIO()
    Image.fromarray(read_image(path)).save(buffer, "PNG")
    return buffer.getvalue()


def _example(tf: Any, sample: Sample, class_names: tuple[str, ...]) -> Any:
    height, width = sample.size_hw
    shares = sample.boxes_xyxy.astype(np.float64) / [width, height, width, height]
    encoded, name = _encoded(sample.image_path), sample.image_path.name.encode()
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
        f"{_OBJECT}difficult": sample.difficult.astype(np.int64),
    }
    real = {key: shares[:, corner] for corner, key in enumerate(_BBOX)}
    train = tf.train
    features = {key: train.Feature(bytes_list=train.BytesList(value=v)) for key, v in texts.items()}
    features |= {key: train.Feature(int64_list=train.Int64List(value=v)) for key, v in whole.items()}
    features |= {key: train.Feature(float_list=train.FloatList(value=v)) for key, v in real.items()}
    return train.Example(features=train.Features(feature=features))
