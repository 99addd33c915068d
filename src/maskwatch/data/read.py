"""Paths of data sets → their splits, classes and samples."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from maskwatch.data.dataset import DetectionSet, merge
from maskwatch.data.formats.base import RawImage, Split
from maskwatch.data.formats.search import find_splits
from maskwatch.data.formats.tree import split_of
from maskwatch.data.names import NameIndex
from maskwatch.data.remote import local_path
from maskwatch.data.validator import Validator
from maskwatch.errors import DataError
from maskwatch.labels import ClassMap, normalize

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


def read_data(
    path: Paths,
    classes: ClassMap | None = None,
    image_ids: Collection[str] | None = None,
    split: str | None = None,
    format: str | None = None,
    *,
    stems: Collection[str] | None = None,
) -> DetectionSet:
    """Reads a data set, or several as one, in any format of `formats.FORMATS` (see `find_splits`).

    Args:
        path: a folder, or the one file of COCO, Label Studio, CVAT or YOLO (data.yaml), or a list of these,
            merged in order; or the address of a folder, `s3://bucket/folder` (see `local_path`).
        classes: how annotated names map to classes; None means the mask classes.
        image_ids: keep only these images: names or unique ends of paths, with or without suffix; each must be
            in one of the sets.
        split: "train", "val" or "test"; required for a set that is split.
        format: "voc", "coco", "yolo", "tfrecord", "label-studio" or "cvat"; None detects it.
        stems: the former name of `image_ids`.

    Raises:
        DataError: holds every issue of every set.
        MissingExtraError, SourceError, OutputError: as `local_path`.
    """
    if stems is not None:
        warnings.warn("read_data(stems=…) is now image_ids=…", DeprecationWarning, stacklevel=2)
        image_ids = stems
    paths = [local_path(one) for one in ([path] if isinstance(path, str | os.PathLike) else path)]
    problems: list[str] = [] if paths else ["no folder given; name at least one data set"]
    splits: list[Split] = []
    others: list[Split] = []
    owners: list[int] = []  # index of the data set of each split
    for index, one in enumerate(paths):
        with collecting(problems):
            found = find_splits(one, format)
            splits += choose_splits(one, found, split)
            owners += [index] * (len(splits) - len(owners))
            others += found
    chosen: dict[int, set[str]] | None = None
    if image_ids is not None:
        where = f"{paths[0]}: no picture named" if len(paths) == 1 else "in none of the folders is a picture"
        chosen = _chosen_images(splits, others, image_ids, where, problems)
    sets: dict[int, DetectionSet] = {}
    for number, one_split in enumerate(splits):
        if chosen is None or number in chosen:
            with collecting(problems):
                wanted = None if chosen is None else chosen[number]
                sets[number] = read_split(one_split, classes, wanted)
    if problems:
        raise DataError(problems)
    return merge(list(sets.values()), [owners[number] for number in sets])


@contextlib.contextmanager
def collecting(problems: list[str]) -> Iterator[None]:
    """Adds the problems of a `DataError` in its block, so that one run reports those of all data sets."""
    try:
        yield
    except DataError as error:
        problems += error.problems


def _chosen_images(
    splits: Sequence[Split], others: Sequence[Split], names: Collection[str], where: str, problems: list[str]
) -> dict[int, set[str]]:
    """The ids of images by index of their split; names that no split has become `problems`, after `where`."""
    chosen, missing = _find_images(splits, names, problems)
    if missing:  # a list may also name images of other splits
        _, missing = _find_images(others, missing, [])
    problems += [f"{where} {name!r}; check the list" for name in missing]
    return chosen


def _find_images(
    splits: Sequence[Split], names: Collection[str], problems: list[str]
) -> tuple[dict[int, set[str]], list[str]]:
    """The ids of images by index of their split, and the names without an image; adds to `problems`."""
    if not names:
        problems.append("the list of pictures is empty; name at least one")
    known = [(number, name, files) for number, one in enumerate(splits) for name, files in one.image_ids()]
    index = NameIndex(((number, name), name, files) for number, name, files in known)
    found, missing, ambiguous = index.find_all(sorted({*names}))
    problems += ambiguous
    chosen: dict[int, set[str]] = {}
    for number, name in found:
        chosen.setdefault(number, set()).add(name)
    return chosen, missing


def read_voc(
    path: str | os.PathLike[str],
    classes: ClassMap | None = None,
    image_ids: Collection[str] | None = None,
    split: str | None = None,
    *,
    stems: Collection[str] | None = None,
) -> DetectionSet:
    """`read_data` of a folder with `format="voc"`."""
    return read_data(path, classes, image_ids, split, "voc", stems=stems)


def read_split(
    split: Split, classes: ClassMap | None = None, image_ids: Collection[str] | None = None
) -> DetectionSet:
    """Reads one split of `find_splits`, sorted by name; classes and image_ids as in `read_data`.

    Raises:
        DataError: holds every issue.
    """
    validator = Validator(ClassMap() if classes is None else classes)
    return validator.detection_set(split.read(validator.issues, image_ids))


def read_splits(splits: Sequence[Split], classes: ClassMap) -> dict[str, DetectionSet]:
    """Name of the split → samples; those of one name are merged.

    Raises:
        DataError: holds every issue of every split; `maskwatch data check` explains and fixes them.
    """
    sets: dict[str, list[DetectionSet]] = {}
    problems: list[str] = []
    for split in splits:
        with collecting(problems):
            sets.setdefault(split.name, []).append(read_split(split, classes))
    if problems:
        raise DataError(problems)
    return {name: merge(mine) for name, mine in sets.items()}


def find_all_splits(paths: Iterable[Path], format: str | None = None) -> list[Split]:
    """The splits of several data sets; a path of a folder named train, val or test is that split.

    Raises:
        DataError: holds what is wrong with each path.
        OptionError: there is no such format.
    """
    splits: list[Split] = []
    problems: list[str] = []
    for path in paths:
        with collecting(problems):
            named = split_of(path.resolve().name)
            splits += [replace(split, name=split.name or named) for split in find_splits(path, format)]
    if problems:
        raise DataError(problems)
    return splits


def choose_splits(path: Path, splits: list[Split], name: str | None = None) -> list[Split]:
    """The splits of a name, which may be None for a data set of one split.

    Raises:
        DataError: there is no such split, or several and `name` is None.
    """
    names = dict.fromkeys(split.name for split in splits)
    known = ", ".join(one or "(in no split)" for one in names)
    if name is not None and any(names):
        if name not in names:
            raise DataError([f"{path}: no split {name!r}, it has {known}; name one of them"])
        return [split for split in splits if split.name == name]
    if len(names) > 1:
        raise DataError([f"{path}: holds the splits {known}; name one with --split, or give its own folder"])
    return splits


def found_classes(splits: Sequence[Split], images: Iterable[RawImage] | None = None) -> ClassMap:
    """The mask classes if the data names any of them; else its own, in the format's order or by frequency.

    Args:
        images: the annotations of the splits; None reads them.
    """
    written = _written(splits, images)
    default = ClassMap()
    if not written or any(default.find(name) is not None for name in written):
        return default
    listed = [name for name in _listed(splits) if name in written]
    return _class_map([*listed, *(name for name, _ in written.most_common())])


def written_classes(splits: Sequence[Split]) -> ClassMap:
    """Every class name in the data, in the format's order, else alphabetical."""
    return _class_map([*_listed(splits), *sorted(_written(splits))] or ["object"])


def _written(splits: Sequence[Split], images: Iterable[RawImage] | None = None) -> Counter[str]:
    raws = images if images is not None else (raw for split in splits for raw in split.read([]))
    return Counter(item.name for raw in raws for item in raw.objects if item.name)


def _listed(splits: Sequence[Split]) -> list[str]:
    return [name for split in splits for name in split.class_names()]


def _class_map(names: Iterable[str]) -> ClassMap:
    """One class for all spellings of a name, called by the first of them."""
    classes: dict[str, str] = {}
    for name in names:
        classes.setdefault(normalize(name), name)
    return ClassMap(list(classes.values()))
