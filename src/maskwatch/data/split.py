"""Splits a data set into training, validation and test images without leaks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from maskwatch.data.dataset import DetectionSet
from maskwatch.data.quality.duplicates import find_duplicates, groups
from maskwatch.data.quality.probe import probe_images
from maskwatch.errors import DataError, OptionError


def near_duplicates(
    paths: Sequence[Path], progress: Callable[[int, int], None] | None = None
) -> list[list[int]]:
    """Indices of images in groups of near-duplicates; an image without one is a group of one.

    Args:
        progress: called with the number of images done and of all.

    Raises:
        DataError: names every image that cannot be read.
    """
    probes = probe_images(paths, None, progress)
    broken = [f"{probe.path}: {probe.reason}" for probe in probes if probe.reason is not None]
    if broken:
        raise DataError(broken)
    pairs = find_duplicates([probe.fingerprint for probe in probes])
    return groups(len(paths), [(pair.first, pair.second) for pair in pairs])


def split_groups(
    detection_set: DetectionSet, groups: Sequence[Sequence[int]], shares: Mapping[str, float], seed: int = 1
) -> dict[str, list[int]]:
    """Indices of the samples of each split; a group stays together.

    Iterative stratification (Sechidis et al., "On the stratification of multi-label data", ECML 2011), with
    groups instead of samples: the class with the fewest boxes left is dealt first, each of its groups to the
    split that lacks most of it. Pictures without a box come last.

    Args:
        detection_set: the samples.
        groups: indices that stay together (near-duplicates); each index in one group.
        shares: split → its share of the pictures, above 0; scaled to add up to 1.
        seed: the same seed gives the same splits.

    Raises:
        OptionError: a share is not positive, or there are fewer groups than splits.
    """
    if not shares or min(shares.values()) <= 0:
        raise OptionError(f"shares {dict(shares)} are not all positive; write for example 80,10,10")
    if len(groups) < len(shares):
        text = f"{len(groups)} groups of pictures cannot fill {len(shares)} splits; give more pictures"
        raise OptionError(text)
    share = np.array(list(shares.values()), np.float64) / sum(shares.values())  # (S,)
    boxes = _boxes(detection_set, groups)  # (groups, C)
    pictures = np.array([len(group) for group in groups], np.float64)
    dealt = _deal(boxes, pictures, share, np.random.default_rng(seed))
    return {
        name: sorted(
            index for group, where in zip(groups, dealt, strict=True) if where == s for index in group
        )
        for s, name in enumerate(shares)
    }


def _boxes(detection_set: DetectionSet, groups: Sequence[Sequence[int]]) -> npt.NDArray[np.float64]:
    classes = len(detection_set.class_names)
    counts = [np.bincount(sample.counted().class_ids, minlength=classes) for sample in detection_set.samples]
    return np.array([np.sum([counts[index] for index in group], axis=0) for group in groups], np.float64)


def _deal(
    boxes: npt.NDArray[np.float64],
    pictures: npt.NDArray[np.float64],
    share: npt.NDArray[np.float64],
    rng: np.random.Generator,
) -> npt.NDArray[np.intp]:
    dealt = np.full(len(boxes), -1, np.intp)
    # Boxes and pictures that each split lacks, as shares of its due. Boxes alone would give one split a few
    # full pictures and another many empty ones.
    boxes_due = np.maximum(share[:, None] * boxes.sum(0), 1e-9)  # (S, C)
    pictures_due = share * pictures.sum()  # (S,)
    lack, room = np.ones_like(boxes_due), np.ones_like(pictures_due)
    order = rng.permutation(len(boxes))
    while (dealt < 0).any():
        left = boxes[dealt < 0].sum(0)
        some = np.flatnonzero(left)
        if some.size:
            rarest = some[left[some].argmin()]
            mine = [g for g in order if dealt[g] < 0 and boxes[g, rarest]]
            mine.sort(key=lambda g: -boxes[g, rarest])  # large groups first, while there is room
        else:
            rarest, mine = None, [g for g in order if dealt[g] < 0]
        for g in mine:
            need = room if rarest is None else lack[:, rarest] + room
            s = int(need.argmax())
            dealt[g] = s
            lack[s] -= boxes[g] / boxes_due[s]
            room[s] -= pictures[g] / pictures_due[s]
    return dealt
