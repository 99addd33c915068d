"""One split of a data set: where its files lie, and their annotations as written."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Literal, get_args

from maskwatch.data.formats.coco import category_names, raw_coco
from maskwatch.data.formats.coco_files import CocoUnit
from maskwatch.data.formats.raw import Entry, RawPicture
from maskwatch.data.formats.tfrecord import label_names, raw_tfrecord
from maskwatch.data.formats.tfrecord_files import RecordUnit
from maskwatch.data.formats.tree import split_of
from maskwatch.data.formats.voc import raw_voc
from maskwatch.data.formats.yolo import raw_yolo
from maskwatch.data.issues import Fault
from maskwatch.data.names import in_order

Format = Literal["voc", "coco", "yolo", "tfrecord"]
FORMATS: tuple[Format, ...] = get_args(Format)


@dataclass(frozen=True)
class Part:
    """One split of a data set, or all of it.

    Attributes:
        split: "train", "val" or "test"; "" where the set is not split.
        format: of its annotations.
        path: the folder or file that a user would name.
        entries: VOC and YOLO: its pictures.
        names: YOLO: names by number.
        landmarks: YOLO: how many numbers follow each box; None where nothing says so.
        unit: COCO and TFRecord: its files.
        prefix: folders that come before the names of its pictures, where several data sets lie in one folder.
        faults: what was wrong with its files.
        unused: folders beside it with pictures that no annotation belongs to, and their number.
    """

    split: str
    format: Format
    path: Path
    entries: tuple[Entry, ...] = ()
    names: Mapping[int, str] = field(default_factory=lambda: MappingProxyType({}))
    landmarks: int | None = None
    unit: CocoUnit | RecordUnit | None = None
    prefix: str = ""
    faults: tuple[Fault, ...] = ()
    unused: tuple[tuple[Path, int], ...] = ()

    @property
    def title(self) -> str:
        """What to call it in tables."""
        said = not self.split or split_of(self.path.name) == self.split
        return str(self.path) if said else f"{self.path} [{self.split}]"

    def images(self) -> tuple[Path, ...]:
        """Pictures that it may be of; () for TFRecord, which has them in its own files."""
        if isinstance(self.unit, CocoUnit):
            return self.unit.pictures
        return tuple(entry.image for entry in self.entries if entry.image is not None)

    def raw(self, faults: list[Fault], image_ids: Collection[str] | None = None) -> list[RawPicture]:
        """The annotations as written, sorted by name; what belongs to no picture goes to `faults`.

        Args:
            image_ids: keep only these, of those that `known` gives.

        Raises:
            DataError: the part cannot be read at all.
        """
        if image_ids is None:
            faults += self.faults
        wanted = None if image_ids is None else {*image_ids}
        entries = [e for e in self.entries if wanted is None or self.prefix + e.image_id in wanted]
        if isinstance(self.unit, CocoUnit):
            pictures = raw_coco(self.path, self.unit.find, faults)
        elif isinstance(self.unit, RecordUnit):
            pictures = raw_tfrecord(self.unit, faults)
        elif self.format == "voc":
            pictures = raw_voc(entries, faults)
        else:
            pictures = raw_yolo(entries, self.names, faults, self.landmarks)
        pictures = [replace(one, image_id=self.prefix + one.image_id) for one in pictures]
        kept = [one for one in pictures if wanted is None or one.image_id in wanted]
        return sorted(kept, key=lambda picture: in_order(picture.image_id))

    def class_names(self) -> tuple[str, ...]:
        """The classes that the format lists, in its order, used or not; () for VOC, which has no list."""
        if self.format == "coco":
            return category_names(self.path)
        if isinstance(self.unit, RecordUnit):
            return tuple(label_names(self.unit).values())
        return tuple(self.names.values())

    def known(self) -> Iterator[tuple[str, tuple[Path, ...]]]:
        """The name of each picture that a list may name, and where its files lie."""
        if self.unit is None:
            yield from ((self.prefix + entry.image_id, entry.paths) for entry in self.entries)
            return
        for picture in self.raw([]):
            yield picture.image_id, (picture.image_path.absolute(),)
