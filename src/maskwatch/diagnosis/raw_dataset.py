"""A data set as it is written, with its errors, so that a model can be compared with it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from maskwatch.data import DetectionSet, Sample, find_splits
from maskwatch.data.formats.base import RawImage
from maskwatch.data.issues import Issue
from maskwatch.data.validator import make_sample, to_pixels
from maskwatch.errors import DataError, ImageError
from maskwatch.labels import ClassMap, find_class
from maskwatch.media.formats import ImageMetadata, read_metadata

# A box without a larger number is not in pixels.
LARGEST_SHARE = 1.5


@dataclass(frozen=True)
class RawDataset:
    """A data set as it is written.

    Attributes:
        detection_set: pictures that can be read, with their boxes as written, neither clipped nor validated.
            Its classes are the requested ones, then the unknown ones.
        unknown: names that no class has, with the number of their boxes.
        issues: a line for each thing that cannot be read.
    """

    detection_set: DetectionSet
    unknown: dict[str, int]
    issues: tuple[str, ...]

    def sample(self, count: int, seed: int) -> DetectionSet:
        """At most `count` pictures with boxes to be found, chosen at random, in the order of the set."""
        samples = self.detection_set.samples
        boxed = [index for index, sample in enumerate(samples) if len(sample.counted())]
        chosen = np.random.default_rng(seed).permutation(boxed)[:count]
        return self.detection_set.subset(sorted(int(index) for index in chosen))


def read_raw_dataset(paths: Sequence[Path], classes: ClassMap) -> RawDataset:
    """Reads data sets with their errors, which a diagnosis looks for.

    Args:
        paths: data sets; all splits of each are read.
        classes: how annotated names map to classes; each unknown name becomes a class.

    Raises:
        DataError: there is no data set, or no picture with a box.
    """
    faults: list[Issue] = []
    raw = [picture for path in paths for split in find_splits(path) for picture in split.read(faults)]
    written = Counter(name for picture in raw for name in _unknown(picture, classes))
    unknown: Counter[str] = Counter()
    for name, count in written.most_common():  # the most frequent spelling of a name stands for all
        known = find_class(list(unknown), name)
        unknown[name if known is None else list(unknown)[known]] += count
    names = [*classes.names, *(name for name, _ in unknown.most_common())]
    samples, lines = [], [str(fault) for fault in faults]
    for picture in raw:
        try:
            metadata = read_metadata(picture.image_path)
        except ImageError as error:
            lines.append(str(error))
            continue
        samples.append(_sample(picture, metadata, classes, names))
    if not any(len(sample.counted()) for sample in samples):
        raise DataError(lines or [f"{paths[0]}: no picture with a box; check the path"])
    return RawDataset(DetectionSet(tuple(names), tuple(samples)), dict(unknown), tuple(lines))


def _unknown(picture: RawImage, classes: ClassMap) -> Iterator[str]:
    for item in picture.objects:
        if not classes.ignores(item.name) and classes.find(item.name) is None:
            yield item.name or "(no name)"


def _sample(picture: RawImage, metadata: ImageMetadata, classes: ClassMap, names: Sequence[str]) -> Sample:
    boxes, ids, kept = [], [], []
    for item in picture.objects:
        box_xyxy = to_pixels(item.box_xyxy, picture, metadata)
        if classes.ignores(item.name) or not all(map(math.isfinite, box_xyxy)):
            continue
        class_id = classes.find(item.name)
        if class_id is None:
            class_id = find_class(names, item.name or "(no name)")
        assert class_id is not None  # `names` holds every name of the data
        boxes.append(box_xyxy)
        kept.append(item)
        ids.append(class_id)
    return make_sample(picture, metadata, kept, boxes, ids)
