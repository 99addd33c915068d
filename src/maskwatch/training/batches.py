"""Which images make up which batch, and the data sets that load them.

Everything random about a batch follows from the seed and the number of its step, not from the state of a
generator, so that a resumed training continues with the same batches.
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
from maskwatch.errors import RecipeError
from maskwatch.labels import MASK_CLASSES
from maskwatch.media.images import Placement, fit, read_image
from maskwatch.training.augment import STRONG, WEAK, augment_multiscale, augment_ssd
from maskwatch.training.copy_paste import FaceClasses, SourceFace
from maskwatch.training.crops import IGNORE_CLASS, TrainingSample
from maskwatch.training.recipe import Recipe

# Of decoded images that all loaders of a machine cache together: small data sets are decoded once.
CACHE_BYTES = 3 * 2**30
# Images in a batch of a validation.
VALIDATION_BATCH = 8
# Smallest side of a face to copy the mask from, in pixels of its image.
MIN_SOURCE_SIDE = 48.0


class SampleKey(NamedTuple):
    """One image of one batch: `image` is its index in the data set, `size` the side of the crop."""

    step: int
    slot: int
    image: int
    size: int


class Batch(NamedTuple):
    """images (N, S, S, 3) uint8; for each the boxes (G, 4) float32 in pixels and class ids (G,) int64.

    Ignore regions are among the boxes, with the class id `IGNORE_CLASS`.
    """

    images: Tensor
    boxes_xyxy: list[Tensor]
    class_ids: list[Tensor]


class StepSampler(Sampler[list[SampleKey]]):
    """Yields the keys of each batch from a given step on, for one of several processes.

    Args:
        order: image indices of one pass over the data, repeats included.
        recipe: sizes, batch sizes and seed.
        first_step: called at the start of each epoch; returns the step to continue from.
        rank, world_size: this process and the number of processes; each takes a whole `batch_size`.
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
        self._shuffled = (-1, order)  # number and order of the latest pass over the data

    def __len__(self) -> int:
        return self.recipe.validate_every

    def __iter__(self) -> Iterator[list[SampleKey]]:
        step = self.first_step()
        end = (step // len(self) + 1) * len(self)
        yield from map(self.keys, range(step, end))

    def keys(self, step: int) -> list[SampleKey]:
        """Keys of one step."""
        counts = self.recipe.batch_sizes
        cycle, phase = divmod(step, len(counts))
        before = (cycle * sum(counts) + sum(counts[:phase])) * self.world_size
        count, size = counts[phase], self.recipe.train_sizes[phase]
        slots = range(self.rank * count, (self.rank + 1) * count)
        return [SampleKey(step, slot, self._image(before + slot), size) for slot in slots]

    def _image(self, position: int) -> int:
        number, index = divmod(position, len(self.order))
        if self._shuffled[0] != number:
            rng = np.random.default_rng((self.recipe.seed, number))
            self._shuffled = number, rng.permutation(self.order)
        return int(self._shuffled[1][index])


def balanced_order(
    detection_set: DetectionSet, power: float, seed: int, data_weights: Sequence[float] = ()
) -> npt.NDArray[np.int64]:
    """Indices of one pass, images with rare classes and of data sets with a large weight more than once.

    An image appears w (f_max / f) ** power times. w is the weight of its data set, 1 for the smallest one; f
    is the share of its rarest class among the images, weighted by w. The fraction is rounded at random, once.
    After repeat-factor sampling (Gupta et al. 2019, section 4.1).

    Args:
        detection_set: its `Sample.dataset_index` counts the weights.
        power, seed: `class_balance` and `seed` of the recipe.
        data_weights: one for each data set; () for equal ones.

    Raises:
        RecipeError: a data set has no weight.
    """
    weights = _image_weights(detection_set, data_weights)
    present = np.zeros((len(detection_set), len(detection_set.class_names)), bool)
    for row, sample in zip(present, detection_set.samples, strict=True):
        row[sample.class_ids[~sample.ignore]] = True
    share = weights @ present / weights.sum()
    factors = (share.max(initial=0) / np.maximum(share, 1e-9)) ** power
    repeats = weights * np.where(present, factors, 1.0).max(1, initial=1.0)
    whole = np.floor(repeats + np.random.default_rng(seed).random(len(repeats))).astype(int)
    return np.repeat(np.arange(len(repeats)), whole)


def _image_weights(detection_set: DetectionSet, data_weights: Sequence[float]) -> npt.NDArray[np.float64]:
    """For each image (N,) that of its data set, as a multiple of the smallest one."""
    if not data_weights:
        return np.ones(len(detection_set))
    indices = [sample.dataset_index for sample in detection_set.samples]
    if max(indices, default=0) >= len(data_weights):
        raise RecipeError(
            f"data_weights has {len(data_weights)} numbers for at least {max(indices) + 1} data sets; give "
            "one for each, in their order"
        )
    return np.array(data_weights)[indices] / min(data_weights)


class TrainingDataset(Dataset[TrainingSample]):
    """Augmented images of a set, looked up by `SampleKey`.

    Args:
        detection_set, recipe: the images, and how to augment them.
        loaders: processes of this machine that load images; each has a copy of this object and its share of
            `CACHE_BYTES`.
    """

    def __init__(self, detection_set: DetectionSet, recipe: Recipe, loaders: int = 1) -> None:
        self.samples, self.recipe = detection_set.samples, recipe
        self._cache_bytes = CACHE_BYTES // loaders
        self._classes: FaceClasses | None = None
        if set(MASK_CLASSES) <= set(detection_set.class_names):
            mask, no_mask, mask_incorrect = map(detection_set.class_names.index, MASK_CLASSES)
            self._sources = sorted(_large_faces(detection_set, mask), key=lambda face: _smaller_side(face[1]))
            self._source_sides = [_smaller_side(box_xyxy) for _, box_xyxy in self._sources]
            pick_source = self._pick_source if self._sources else None
            self._classes = FaceClasses(mask, no_mask, mask_incorrect, pick_source)
        self._cache: dict[int, npt.NDArray[np.uint8]] = {}
        self._cached_bytes = 0

    def __getitem__(self, key: SampleKey) -> TrainingSample:
        labels = self.samples[key.image]
        rng = np.random.default_rng((self.recipe.seed, key.step, key.slot))
        class_ids = np.where(labels.ignore, IGNORE_CLASS, labels.class_ids)
        sample = TrainingSample(self._read(key.image), labels.boxes_xyxy, class_ids)
        if (augment := self.recipe.augment) != "scale":
            flips, crops = augment in ("ssd", "flip"), augment in ("ssd", "crop")
            return augment_ssd(sample, key.size, rng, self.recipe.resize, flips=flips, crops=crops)
        config = WEAK if key.step >= self.recipe.no_aug_start else STRONG
        return augment_multiscale(sample, key.size, self.recipe.size, rng, config, self._classes)

    def _pick_source(self, rng: np.random.Generator, side: float) -> SourceFace:
        """A face with sides of at least this length; one of the largest where few are."""
        large = min(int(np.searchsorted(self._source_sides, side)), int(0.9 * len(self._sources)))
        image, box_xyxy = self._sources[int(rng.integers(large, len(self._sources)))]
        return SourceFace(self._read(image), box_xyxy)

    def _read(self, index: int) -> npt.NDArray[np.uint8]:
        if index in self._cache:
            return self._cache[index]
        image = read_image(self.samples[index].image_path)
        if self._cached_bytes + image.nbytes <= self._cache_bytes:
            self._cache[index] = image
            self._cached_bytes += image.nbytes
        return image


def _large_faces(detection_set: DetectionSet, class_id: int) -> list[tuple[int, npt.NDArray[np.float32]]]:
    """Image index and box (4,) of every large face of a class."""
    return [
        (image, box)
        for image, sample in enumerate(detection_set.samples)
        for box, face_class, ignore in zip(sample.boxes_xyxy, sample.class_ids, sample.ignore, strict=True)
        if face_class == class_id and not ignore and _smaller_side(box) >= MIN_SOURCE_SIDE
    ]


def _smaller_side(box_xyxy: npt.NDArray[np.float32]) -> float:
    return float((box_xyxy[2:] - box_xyxy[:2]).min())


def collate(samples: Sequence[TrainingSample]) -> Batch:
    """Stacks samples of one size."""
    return Batch(
        torch.from_numpy(np.stack([sample.image for sample in samples])),
        [torch.from_numpy(sample.boxes_xyxy) for sample in samples],
        [torch.from_numpy(sample.class_ids) for sample in samples],
    )


class ValidationBatch(NamedTuple):
    """images (N, S, S, 3) uint8 at the network's size, and the placement of each on its canvas."""

    images: Tensor
    placements: list[Placement]


class ValidationDataset(Dataset[tuple[npt.NDArray[np.uint8], Placement]]):
    """The images of a set, resized as the exported model will see them."""

    def __init__(self, detection_set: DetectionSet, recipe: Recipe) -> None:
        self.samples, self.recipe = detection_set.samples, recipe

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[npt.NDArray[np.uint8], Placement]:
        image = read_image(self.samples[index].image_path)
        return fit(image, (self.recipe.size, self.recipe.size), self.recipe.resize)


def validation_batches(count: int, rank: int = 0, world_size: int = 1) -> list[list[int]]:
    """Indices of the batches of one of several processes, which take turns.

    One without a batch takes the first: each must take part in the validation.
    """
    starts = range(0, count, VALIDATION_BATCH)
    batches = [list(range(start, min(start + VALIDATION_BATCH, count))) for start in starts]
    return batches[rank::world_size] or batches[:1]


def collate_validation(items: Sequence[tuple[npt.NDArray[np.uint8], Placement]]) -> ValidationBatch:
    images, placements = zip(*items, strict=True)
    return ValidationBatch(torch.from_numpy(np.stack(images)), list(placements))
