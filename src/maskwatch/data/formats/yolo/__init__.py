"""YOLO: one text file an image, `class cx cy width height` as shares of the image, and a data.yaml
(https://docs.ultralytics.com/datasets/detect/)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from maskwatch.data.dataset import DetectionSet, Sample
from maskwatch.data.formats.base import Entry, EntryAnnotations, Format, Found, RawImage, Split, copy_images
from maskwatch.data.formats.tree import Folder
from maskwatch.data.formats.yolo.labels import SplitFiles, find_folders
from maskwatch.data.formats.yolo.lines import Line, LineReader, parse_line
from maskwatch.data.formats.yolo.lists import find_darknet, find_lists, find_yaml, splits_of_yaml
from maskwatch.data.formats.yolo.names import YAML
from maskwatch.data.issues import Issue
from maskwatch.data.names import without_suffix
from maskwatch.errors import DataError
from maskwatch.outputs import make_folder
from maskwatch.text import read_lines, reason_of

# Ten digits hold a float32 pixel of any image to a millionth.
_DIGITS = 10


def find_index(folder: Folder) -> Found:
    """The splits that a data.yaml or an obj.data names."""
    file = find_yaml(folder)
    splits = [] if file is None else splits_of_yaml(file)
    return [_split(files) for files in splits or find_darknet(folder)], []


def find(folder: Folder) -> Found:
    """The splits of images with labels beside them or in labels/, or of lists of images."""
    listed, (splits, rest) = find_lists(folder), find_folders(folder)
    if listed and not any(files.split for files in splits):
        splits, rest = listed, []
    return [_split(files) for files in splits], rest


def open_file(file: Path) -> list[Split] | None:
    """A single data.yaml."""
    if file.suffix.lower() not in YAML:
        return None
    splits = splits_of_yaml(file)
    if not splits:
        raise DataError([f"{file}: names no pictures; write train: and val: into it, or give the folder"])
    return [_split(files) for files in splits]


def _split(files: SplitFiles) -> Split:
    annotations = YoloAnnotations(tuple(files.entries), files.class_names, files.landmarks)
    return Split(files.split, YOLO.name, files.path, annotations, tuple(files.issues))


@dataclass(frozen=True)
class YoloAnnotations(EntryAnnotations):
    """Images and label files.

    names: of the classes by number; a number without a name is its own name.
    landmarks: how many numbers follow each box; None if unknown.
    """

    names: Mapping[int, str]
    landmarks: int | None = None

    def class_names(self) -> tuple[str, ...]:
        return tuple(self.names.values())

    def read(self, issues: list[Issue], image_ids: Collection[str] | None = None) -> list[RawImage]:
        """As in YOLO, an image without a label file has no objects."""
        entries = self.wanted(image_ids)
        lines = [_label_lines(entry.annotation, entry.image, issues) for entry in entries]
        every = [line for mine in lines for line in mine]
        reader = LineReader(every, self.names, self.landmarks)
        if reader.shape == "unknown":  # the other splits may decide
            labels = {entry.annotation for entry in entries if entry.annotation is not None}
            every += [line for label in _labels_around(labels) for line in _label_lines(label, None, [])]
            reader = LineReader(every, self.names, self.landmarks)
        return [_raw_image(entry, mine, reader) for entry, mine in zip(entries, lines, strict=True)]


def _raw_image(entry: Entry, lines: Sequence[Line], reader: LineReader) -> RawImage:
    assert entry.image is not None
    assert entry.annotation is not None
    objects = tuple(map(reader.read, lines))
    return RawImage(entry.image, entry.annotation, entry.image_id, objects, normalised=True)


def _labels_around(labels: Iterable[Path]) -> list[Path]:
    """Label files of the other splits: below the same labels/, or in the labels/ of sibling folders."""
    folders = {folder for label in labels for folder in label.parents if folder.name.lower() == "labels"}
    around = {file for folder in folders for file in folder.rglob("*.txt")}
    around |= {file for folder in folders for file in folder.parent.parent.glob("*/labels/*.txt")}
    return sorted(around - set(labels))


def _label_lines(label: Path | None, image: Path | None, issues: list[Issue]) -> list[Line]:
    if label is None or not label.is_file():
        return []
    try:
        texts = read_lines(label)
    except (OSError, UnicodeError) as error:
        text = f"not readable as text: {reason_of(error)}"
        issues.append(Issue("annotation-unreadable", label, text, "write it again", image=image))
        return []
    parsed = (parse_line(text, number) for number, text in enumerate(texts, start=1))
    return [line for line in parsed if line is not None]


def write(sets: Mapping[str, DetectionSet], root: Path) -> None:
    """`data.yaml`, `images/SPLIT/` and `labels/SPLIT/`; `classes.txt` for a set without splits."""
    class_names: tuple[str, ...] = ()
    for split, detection_set in sets.items():
        names = copy_images(detection_set, root / "images" / split)
        make_folder(root / "labels" / split)
        for sample, name in zip(detection_set.samples, names, strict=True):
            label = root / "labels" / split / f"{without_suffix(name)}.txt"
            make_folder(label.parent)
            label.write_text(_label_text(sample), encoding="utf-8")
        class_names = detection_set.class_names
    if "" in sets:  # a data.yaml must name splits
        lines = [" ".join(name.splitlines()) for name in class_names]
        (root / "classes.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    splits = {split: f"images/{split}" for split in sets if split}
    if splits:
        document = {**splits, "nc": len(class_names), "names": dict(enumerate(class_names))}
        text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
        (root / "data.yaml").write_text(text, encoding="utf-8")


def _label_text(sample: Sample) -> str:
    """The label file of a sample, without crowds, which the format cannot mark."""
    sample = sample.take(~sample.crowds)
    height, width = sample.size_hw
    lines = []
    for (x0, y0, x1, y1), class_id in zip(sample.boxes_xyxy.tolist(), sample.class_ids, strict=True):
        shares = ((x0 + x1) / 2 / width, (y0 + y1) / 2 / height, (x1 - x0) / width, (y1 - y0) / height)
        lines.append(" ".join([str(class_id), *(f"{share:.{_DIGITS}f}" for share in shares)]) + "\n")
    return "".join(lines)


YOLO = Format("yolo", write, find, find_index, open_file=open_file, writes_ignored=False, writes_notes=False)
