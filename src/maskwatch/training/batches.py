"""Which pictures make up which batch, and how they reach the network.

Everything random about a batch follows from the seed and the number of its step, not from a generator that
lives on: a training that was killed takes up with the very batches it would have seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from maskwatch.data import DetectionSet
from maskwatch.labels import MASK_CLASSES
from maskwatch.media.images import Placement, fit, read_image
from maskwatch.training.augment import (
    IGNORE_CLASS,
    MILD,
    STRONG,
    Donor,
    FaceClasses,
    View,
    scale_view,
    ssd_view,
)
from maskwatch.training.recipe import Recipe

# Decoded pictures that all loaders of a machine keep together, so that small data sets are decoded once.
CACHE_BYTES = 3 * 2**30
# Smallest side of a face whose mask is worth putting on others, in pixels of its picture.
LEAST_DONOR = 48.0


class Key(NamedTuple):
    """One picture of one batch: its number in the data set, and where it stands."""

    step: int
    slot: int
    picture: int
    size: int


class Batch(NamedTuple):
    """images (N, S, S, 3) uint8; for each the boxes (G, 4) float32 in pixels and class ids (G,) int64.

    Ignore regions are among the boxes, with the class id `IGNORE_CLASS`.
    """

    images: Tensor
    boxes_xyxy: list[Tensor]
    class_ids: list[Tensor]


class StepSampler(Sampler[list[Key]]):
    """Yields the keys of each batch from a given step on, for one of several processes.

    Args:
        order: picture indices of one pass over the data, repeats included.
        recipe: sizes, batch sizes and seed.
        first_step: asked at the start of each epoch for the step to go on from.
        rank, world_size: which share of each batch; every process takes a whole `batch_size`.
    """

    def __init__(
        self,
        order: npt.NDArray[np.int64],
        recipe: Recipe,
        first_step: Callable[[], int] = lambda: 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.order, self.recipe, self.first_step = order, recipe, first_step
        self.rank, self.world_size = rank, world_size
        self._shuffled = (-1, order)  # the pass over the data that was looked at last, and its order

    def __len__(self) -> int:
        return self.recipe.validate_every

    def __iter__(self) -> Iterator[list[Key]]:
        step = self.first_step()
        end = (step // len(self) + 1) * len(self)
        for at in range(step, end):
            yield self.keys(at)

    def keys(self, step: int) -> list[Key]:
        """Keys of one step."""
        counts = self.recipe.batch_sizes
        cycle, place = divmod(step, len(counts))
        before = (cycle * sum(counts) + sum(counts[:place])) * self.world_size
        count = counts[place]
        slots = range(self.rank * count, (self.rank + 1) * count)
        return [
            Key(step, slot, self._picture(before + slot), self.recipe.train_sizes[place]) for slot in slots
        ]

    def _picture(self, position: int) -> int:
        number, place = divmod(position, len(self.order))
        if self._shuffled[0] != number:
            rng = np.random.default_rng((self.recipe.seed, number))
            self._shuffled = number, rng.permutation(self.order)
        return int(self._shuffled[1][place])


def balanced_order(detection_set: DetectionSet, power: float, seed: int) -> npt.NDArray[np.int64]:
    """Indices of one pass, pictures with rare classes more than once.

    A picture comes (f_max / f) ** power times, f being the share of pictures with its rarest class; the
    fraction is rounded by chance, once. After repeat-factor sampling (Gupta et al. 2019, section 4.1).
    """
    present = np.zeros((len(detection_set), len(detection_set.class_names)), bool)
    for row, sample in zip(present, detection_set.samples, strict=True):
        row[sample.class_ids[~sample.ignore]] = True
    share = present.mean(0)
    factors = (share.max(initial=0) / np.maximum(share, 1e-9)) ** power
    repeats = np.where(present, factors, 1.0).max(1, initial=1.0)
    whole = np.floor(repeats + np.random.default_rng(seed).random(len(repeats))).astype(int)
    return np.repeat(np.arange(len(repeats)), whole)


class TrainViews(Dataset[View]):
    """Augmented views of the pictures of a set, looked up by `Key`.

    Args:
        detection_set, recipe: what to show and how.
        loaders: processes of this machine that load pictures; each has a copy of this object, and its share
            of `CACHE_BYTES`.
    """

    def __init__(self, detection_set: DetectionSet, recipe: Recipe, loaders: int = 1) -> None:
        self.samples, self.recipe = detection_set.samples, recipe
        self._cache_bytes = CACHE_BYTES // loaders
        names = detection_set.class_names
        self._faces: FaceClasses | None = None
        if set(MASK_CLASSES) <= set(names):
            mask, bare, incorrect = map(names.index, MASK_CLASSES)
            self._donors = _large_faces(detection_set, mask)
            self._faces = FaceClasses(mask, bare, incorrect, self._donor if self._donors else None)
        self._cache: dict[int, npt.NDArray[np.uint8]] = {}
        self._cached_bytes = 0

    def __getitem__(self, key: Key) -> View:
        sample = self.samples[key.picture]
        rng = np.random.default_rng((self.recipe.seed, key.step, key.slot))
        class_ids = np.where(sample.ignore, IGNORE_CLASS, sample.class_ids)
        view = View(self._read(key.picture), sample.boxes_xyxy, class_ids)
        if (augment := self.recipe.augment) != "scale":
            flips, crops = augment in ("ssd", "flip"), augment in ("ssd", "crop")
            return ssd_view(view, key.size, rng, self.recipe.resize, flips=flips, crops=crops)
        strength = MILD if key.step >= self.recipe.mild_begin else STRONG
        return scale_view(view, key.size, self.recipe.size, rng, strength, self._faces)

    def _donor(self, rng: np.random.Generator) -> Donor:
        picture, box_xyxy = self._donors[int(rng.integers(len(self._donors)))]
        return Donor(self._read(picture), box_xyxy)

    def _read(self, index: int) -> npt.NDArray[np.uint8]:
        image = self._cache.get(index)
        if image is None:
            image = read_image(self.samples[index].image_path)
            if self._cached_bytes + image.nbytes <= self._cache_bytes:
                self._cache[index] = image
                self._cached_bytes += image.nbytes
        return image


def _large_faces(detection_set: DetectionSet, class_id: int) -> list[tuple[int, npt.NDArray[np.float32]]]:
    """Picture and box (4,) of every large face of a class."""
    return [
        (picture, box)
        for picture, sample in enumerate(detection_set.samples)
        for box, face_class, ignore in zip(sample.boxes_xyxy, sample.class_ids, sample.ignore, strict=True)
        if face_class == class_id and not ignore and (box[2:] - box[:2]).min() >= LEAST_DONOR
    ]


def collate(views: Sequence[View]) -> Batch:
    """Stacks views of one size."""
    return Batch(
        torch.from_numpy(np.stack([view.image for view in views])),
        [torch.from_numpy(view.boxes_xyxy) for view in views],
        [torch.from_numpy(view.class_ids) for view in views],
    )


class Fitted(NamedTuple):
    """Pictures at network size, (N, H, W, 3) uint8, and where they went on it."""

    images: Tensor
    placements: list[Placement]


class ValidationViews(Dataset[tuple[npt.NDArray[np.uint8], Placement]]):
    """The pictures of a set, resized as the exported model will see them."""

    def __init__(self, detection_set: DetectionSet, recipe: Recipe) -> None:
        self.samples, self.recipe = detection_set.samples, recipe

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[npt.NDArray[np.uint8], Placement]:
        image = read_image(self.samples[index].image_path)
        return fit(image, (self.recipe.size, self.recipe.size), self.recipe.resize)


def collate_fitted(items: Sequence[tuple[npt.NDArray[np.uint8], Placement]]) -> Fitted:
    return Fitted(torch.from_numpy(np.stack([image for image, _ in items])), [p for _, p in items])
