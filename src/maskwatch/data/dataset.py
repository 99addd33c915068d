"""A data set for detection: images with annotated boxes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from maskwatch.data.names import NameIndex, nfc, without_suffix
from maskwatch.errors import DataError, LabelError
from maskwatch.labels import ClassMap
from maskwatch.text import xml_text

CROWD = "iscrowd"
"""The note that marks a box as a region of many objects, after COCO's key."""


def is_crowd(notes: Mapping[str, str]) -> bool:
    return notes.get(CROWD, "").strip().lower() in ("1", "true")


@dataclass(frozen=True, eq=False)
class Sample:
    """One image and its ground truth.

    Attributes:
        image_path: the pixels are not loaded.
        annotation_path: the file that the boxes were read from; None if the format has one file for all.
        size_hw: height and width of the image as shown (EXIF orientation applied), pixels.
        boxes_xyxy: (G, 4) float32, pixels of the image as shown, continuous corners counted from 0.
        class_ids: (G,) int64, index into `DetectionSet.class_names`.
        difficult: (G,) bool, marked as hard to recognise.
        crowds: (G,) bool, marked as a region of many objects.
        ignore: (G,) bool, difficult or a crowd: excluded from training, neither a miss nor a false positive.
        notes: other attributes of each box, G mappings of texts; () if there are none.
        image_id: path of the image relative to the image folder, with "/", NFC; default: the file name.
            Lists and corrections name images by it, or by a part of it.
        dataset_index: position of its data set among those that were read together, from 0.
    """

    image_path: Path
    annotation_path: Path | None
    size_hw: tuple[int, int]
    boxes_xyxy: npt.NDArray[np.float32]
    class_ids: npt.NDArray[np.int64]
    difficult: npt.NDArray[np.bool_]
    notes: tuple[Mapping[str, str], ...] = ()
    image_id: str = ""
    dataset_index: int = 0

    def __post_init__(self) -> None:
        if not self.image_id:
            object.__setattr__(self, "image_id", nfc(self.image_path.name))

    @property
    def stem(self) -> str:
        """The file name without suffix, of the annotation, or of the image if there is none."""
        return (self.annotation_path or self.image_path).stem

    @property
    def crowds(self) -> npt.NDArray[np.bool_]:
        return np.array([is_crowd(note) for note in self.notes] or [False] * len(self), np.bool_)

    @property
    def ignore(self) -> npt.NDArray[np.bool_]:
        return self.difficult | self.crowds

    def take(self, rows: npt.NDArray[np.bool_]) -> Sample:
        """The image with the boxes of a mask (G,) only."""
        return replace(
            self,
            boxes_xyxy=self.boxes_xyxy[rows],
            class_ids=self.class_ids[rows],
            difficult=self.difficult[rows],
            notes=tuple(note for note, kept in zip(self.notes, rows, strict=False) if kept),
        )

    def counted(self) -> Sample:
        """The image without its ignore regions: the boxes to find."""
        ignore = self.ignore
        return self.take(~ignore) if ignore.any() else self

    def __len__(self) -> int:
        return len(self.class_ids)


@dataclass(frozen=True, eq=False)
class DetectionSet:
    """Samples that share one list of classes.

    Raises:
        DataError: the arrays of a sample do not belong together, or a class id has no name.
    """

    class_names: tuple[str, ...]
    samples: tuple[Sample, ...]

    def __post_init__(self) -> None:
        problems = [] if self.class_names else ["the data set has no class; give it at least one name"]
        for sample in self.samples:
            if problem := _problem(sample, len(self.class_names)):
                problems.append(f"{sample.image_path}: {problem}")
        if problems:
            raise DataError(problems)

    def __len__(self) -> int:
        return len(self.samples)

    def class_counts(self) -> dict[str, int]:
        """Number of boxes to find of every class, in the order of the ids."""
        ids = [sample.class_ids[~sample.ignore] for sample in self.samples]
        counts = np.bincount(np.concatenate([np.empty(0, np.int64), *ids]), minlength=len(self.class_names))
        return {name: int(count) for name, count in zip(self.class_names, counts, strict=True)}

    def ignored(self) -> int:
        """Number of ignore regions: difficult boxes and crowds, which `class_counts` leaves out."""
        return sum(int(sample.ignore.sum()) for sample in self.samples)

    def subset(self, chosen: Collection[int] | Collection[str]) -> DetectionSet:
        """The samples of the given indices (in the order given) or names (in the order of the set).

        Names are those of `Sample.image_id`, with or without suffix, or a unique end of the path.

        Raises:
            DataError: a name is not in the set, or fits several images.
            IndexError: an index is out of range.
        """
        names = {item for item in chosen if isinstance(item, str)}
        if not names:
            return DetectionSet(self.class_names, tuple(self.samples[int(index)] for index in chosen))
        found, missing, ambiguous = name_index([self]).find_all(sorted(names))
        problems = [f"no picture named {name!r} in this set; check the list" for name in missing]
        if problems or ambiguous:
            raise DataError([*problems, *ambiguous])
        kept = {sample.image_path for sample in found}
        return DetectionSet(self.class_names, tuple(s for s in self.samples if s.image_path in kept))


def name_index(sets: Sequence[DetectionSet]) -> NameIndex[Sample]:
    """Finds the samples that a list names, each image once."""
    samples = {s.image_path.absolute(): s for a_set in sets for s in a_set.samples}
    return NameIndex(
        (s, s.image_id, [path] if s.annotation_path is None else [path, s.annotation_path.absolute()])
        for path, s in samples.items()
    )


def file_names(detection_set: DetectionSet) -> list[str]:
    """A relative path for a copy of each image: its id; "-2" and so on make equal stems unique.

    Characters that annotations cannot hold, in XML above all, are left out.
    """
    taken: Counter[str] = Counter()
    names = []
    for sample in detection_set.samples:
        stem = xml_text(without_suffix(sample.image_id)) or "picture"
        suffix = xml_text(sample.image_path.suffix)
        name = stem
        while taken[name.casefold()]:
            taken[stem.casefold()] += 1
            name = f"{stem}-{taken[stem.casefold()]}"
        taken[name.casefold()] = max(1, taken[name.casefold()])
        names.append(name + suffix)
    return names


def rename(detection_set: DetectionSet, classes: ClassMap) -> DetectionSet:
    """The set with its classes renamed, merged or, if the map ignores them, left out.

    Raises:
        DataError: names every class that is not in the map.
    """
    problems, ids = [], []
    for name in detection_set.class_names:
        try:
            ids.append(-1 if classes.ignores(name) else classes.id_of(name))
        except LabelError as error:
            problems.append(str(error))
    if problems:
        raise DataError(problems)
    table = np.array(ids, np.int64)
    samples = []
    for sample in detection_set.samples:
        new = table[sample.class_ids]
        kept = new >= 0
        samples.append(replace(sample.take(kept), class_ids=new[kept]))
    return DetectionSet(classes.names, tuple(samples))


def merge(sets: Sequence[DetectionSet], dataset_indices: Sequence[int] | None = None) -> DetectionSet:
    """One set of all samples, in the order given.

    Args:
        sets: of the same classes.
        dataset_indices: `Sample.dataset_index` for the samples of each set; None numbers the sets from 0.

    Raises:
        DataError: there is no set, or their classes differ.
    """
    names = {a_set.class_names for a_set in sets}
    if len(names) != 1:
        text = f"sets with different classes {sorted(names)} cannot be merged; read them with one class map"
        raise DataError([text])
    numbered = zip(range(len(sets)) if dataset_indices is None else dataset_indices, sets, strict=True)
    samples = (replace(sample, dataset_index=index) for index, a_set in numbered for sample in a_set.samples)
    return DetectionSet(names.pop(), tuple(samples))


def _problem(sample: Sample, num_classes: int) -> str:
    count = len(sample.class_ids)
    shapes = (sample.boxes_xyxy.shape, sample.class_ids.shape, sample.difficult.shape)
    if shapes != ((count, 4), (count,), (count,)):
        return f"array shapes {shapes}; give boxes (G, 4), class ids (G,), difficult (G,)"
    if sample.notes and len(sample.notes) != count:
        return f"{len(sample.notes)} notes for {count} boxes; give one for each"
    if count and not 0 <= sample.class_ids.min() <= sample.class_ids.max() < num_classes:
        return f"class ids {sample.class_ids.tolist()}; keep them in 0…{num_classes - 1}"
    return ""
