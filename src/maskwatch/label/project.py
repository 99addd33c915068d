"""The project of a folder: its pictures, where the labels of each are or will be, and the classes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast

from maskwatch.data.formats.base import Entry, EntryAnnotations, Split
from maskwatch.data.formats.coco import COCO
from maskwatch.data.formats.index_files import IndexAnnotations, IndexFile
from maskwatch.data.formats.search import find_splits
from maskwatch.data.formats.tree import list_folder
from maskwatch.data.formats.yolo.lines import LabelLine, LineReader, YoloAnnotations, parse_line
from maskwatch.data.names import nfc, sort_key, without_suffix
from maskwatch.data.read import found_classes
from maskwatch.errors import DataError, SourceError
from maskwatch.labels import ClassMap
from maskwatch.media.formats import PICTURE_SUFFIXES
from maskwatch.text import read_lines

LabelFormat = Literal["voc", "coco", "yolo"]

HIDDEN_FOLDER = ".maskwatch-label"
"""In the folder that is labelled: originals, proposals and decisions. Data sets are found without it."""


@dataclass(frozen=True)
class LabelPicture:
    """A picture to label.

    Attributes:
        image_id: its path below the folder, with "/", NFC.
        path: the image file.
        annotation: the file of its labels, which may not exist yet.
        format: of that file.
        split: "" for none.
        coco: the COCO file that `annotation` is.
        lines: reads the lines of its YOLO data set.
        problem: why its labels cannot be written; None if they can.
    """

    image_id: str
    path: Path
    annotation: Path
    format: LabelFormat
    split: str = ""
    coco: IndexFile | None = field(default=None, repr=False)
    lines: LineReader | None = field(default=None, repr=False)
    problem: str | None = None


@dataclass(frozen=True)
class LabelProject:
    """A folder that is labelled.

    Attributes:
        pictures: sorted by name.
        format: that new labels are written in.
    """

    folder: Path
    pictures: tuple[LabelPicture, ...]
    format: LabelFormat
    classes: ClassMap

    @property
    def hidden(self) -> Path:
        """The folder of what is not labels."""
        return self.folder / HIDDEN_FOLDER


def open_project(folder: Path, classes: ClassMap | None = None) -> LabelProject:
    """Finds the pictures of a folder, its subfolders included, and their labels.

    Labels are read and written in the format that the folder has; pictures without any get Pascal VOC.

    Args:
        classes: to label; None for the mask classes, or those of the labels if they have none of these.

    Raises:
        SourceError: it is not a folder, or has no pictures.
        DataError: its labels cannot be read at all, or are in a format that cannot be edited.
    """
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise SourceError(f"{folder}: {what}; give the folder that holds the pictures")
    images = list_folder(folder).below(*PICTURE_SUFFIXES)
    if not images:
        kinds = " ".join(suffix[1:] for suffix in PICTURE_SUFFIXES)
        raise SourceError(f"{folder}: no pictures in it ({kinds}); give the folder that holds them")
    splits = find_splits(folder)
    found: dict[Path, LabelPicture] = {}
    named = {image for split in splits for image in _named_images(split)}
    for split in splits:
        mine = _named_images(split)
        for picture in _pictures_of(split, folder):
            if picture.path in mine or picture.path not in named:
                found.setdefault(picture.path, picture)
    rest = [image for image in images if image not in found]
    found |= {picture.path: picture for picture in _without_labels(rest, folder)}
    pictures = sorted(by_name(found.values()).values(), key=lambda picture: sort_key(picture.image_id))
    formats = [split.format for split in splits]
    return LabelProject(
        folder, tuple(pictures), cast(LabelFormat, formats[0]), classes or found_classes(splits)
    )


def _named_images(split: Split) -> set[Path]:
    """The images that a COCO file has rows of: each may be of one file only."""
    coco = _coco(split)
    return set() if coco is None else {raw.image_path for raw in coco.read([])}


def _coco(split: Split) -> IndexAnnotations | None:
    annotations = split.annotations
    if split.format != COCO.name or not isinstance(annotations, IndexAnnotations):
        return None
    return annotations


def _pictures_of(split: Split, folder: Path) -> list[LabelPicture]:
    annotations, coco = split.annotations, _coco(split)
    if coco is not None:
        file = coco.file
        return [
            LabelPicture(_name(image, folder), image, file.path, "coco", split.name, file)
            for image in file.images
        ]
    if not isinstance(annotations, EntryAnnotations):
        text = f"{split.path}: {split.format} cannot be labelled in place"
        raise DataError([f"{text}; write a copy first: maskwatch data convert {folder} --to voc -o COPY"])
    reader = _line_reader(annotations) if isinstance(annotations, YoloAnnotations) else None
    homes = _Homes(annotations.entries)
    return [
        _picture(entry, homes, reader, split, folder)
        for entry in annotations.entries
        if entry.image is not None
    ]


def _picture(
    entry: Entry, homes: _Homes, reader: LineReader | None, split: Split, folder: Path
) -> LabelPicture:
    assert entry.image is not None
    annotation = entry.annotation or homes.new_file(entry.image)
    problem = None if entry.issue is None else f"{entry.issue.text}; {entry.issue.fix}"
    others = [] if reader is None or entry.annotation is None else homes.images_of(entry.annotation)
    if len(others) > 1:
        names = ", ".join(sorted(image.name for image in others))
        problem = f"{annotation.name} belongs to several pictures ({names}); give each its own name"
    kind: LabelFormat = "voc" if reader is None else "yolo"
    name = _name(entry.image, folder)
    return LabelPicture(name, entry.image, annotation, kind, split.name, lines=reader, problem=problem)


def _name(image: Path, folder: Path) -> str:
    inside = image.is_relative_to(folder)
    name = (image.relative_to(folder) if inside else Path(*image.parts[-2:])).as_posix()
    # Bytes that are no UTF-8 are lone surrogates in Python, which neither JSON nor a browser can send.
    return nfc(name).encode("utf-8", "backslashreplace").decode()


def _line_reader(annotations: YoloAnnotations) -> LineReader:
    """Of all lines of a data set: together they tell boxes with landmarks from polygons."""
    lines: list[LabelLine] = []
    for entry in annotations.entries:
        try:
            texts = read_lines(entry.annotation) if entry.annotation and entry.annotation.is_file() else []
        except (OSError, UnicodeError):  # reported with the picture
            continue
        lines += [line for text in texts if (line := parse_line(text, 0)) is not None]
    return LineReader(lines, annotations.names, annotations.landmarks)


class _Homes:
    """Where the XML files of a data set are, so that new ones go to the same place."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._roots: dict[Path, Path] = {}  # of images → of annotations
        self._taken: set[Path] = set()
        self._images: dict[Path, list[Path]] = {}
        for entry in entries:
            if entry.image is not None and entry.annotation is not None:
                self._taken.add(entry.annotation)
                self._images.setdefault(entry.annotation, []).append(entry.image)
                self._roots.setdefault(*_roots(entry.image.parent, entry.annotation.parent))

    def images_of(self, annotation: Path) -> list[Path]:
        """The images that share a file of labels."""
        return self._images.get(annotation, [])

    def new_file(self, image: Path) -> Path:
        """The file for an image without one."""
        root = next((root for root in self._roots if image.is_relative_to(root)), None)
        home = image.parent
        if root is not None:
            home = self._roots[root] / image.parent.relative_to(root)
        return new_xml(image, home, self._taken)


def _roots(images: Path, annotations: Path) -> tuple[Path, Path]:
    """Two folders without the subfolders that they have in common (images/cam1, annotations/cam1)."""
    while images != annotations and images.name == annotations.name:
        images, annotations = images.parent, annotations.parent
    return images, annotations


def new_xml(image: Path, home: Path, taken: set[Path]) -> Path:
    """The name of a new XML file: a.xml, or a.png.xml beside a.jpg; adds it to `taken`."""
    path = home / f"{without_suffix(image.name)}.xml"
    if path in taken:
        path = home / f"{image.name}.xml"
    taken.add(path)
    return path


def _without_labels(images: Sequence[Path], folder: Path) -> Iterator[LabelPicture]:
    """Pictures that belong to no data set: their XML files go beside them."""
    taken: set[Path] = set()
    for image in images:
        path = new_xml(image, image.parent, taken)
        yield LabelPicture(_name(image, folder), image, path, "voc")


def by_name(pictures: Iterable[LabelPicture]) -> dict[str, LabelPicture]:
    """The pictures by name, each name once: on some systems "é" can be written in two ways side by side."""
    found: dict[str, LabelPicture] = {}
    for picture in pictures:
        found.setdefault(picture.image_id, picture)
    return found
