"""Runs a detector over a data set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

from maskwatch.data.dataset import DetectionSet
from maskwatch.errors import LabelError
from maskwatch.media.images import UInt8Array, read_image

if TYPE_CHECKING:
    import supervision as sv

BATCH_SIZE = 8
"""Pictures held in memory and handed over at once."""

Result = TypeVar("Result")


class Named(Protocol):
    """A detector with its class names."""

    @property
    def class_names(self) -> tuple[str, ...]: ...


class DetectorLike(Named, Protocol):
    """What can be evaluated: a `Detector`, a checkpoint, or anything that is called like them."""

    def __call__(self, images: list[UInt8Array], /) -> list[sv.Detections]: ...


def predict(
    detector: DetectorLike,
    detection_set: DetectionSet,
    batch_size: int = BATCH_SIZE,
    progress: Callable[[int, int], object] | None = None,
) -> list[sv.Detections]:
    """Detections for each sample, in the order of the set.

    Args:
        detector: should let all scores pass (`threshold=0.0`), as `coco_evaluate` wants them.
        detection_set: its pictures are read with `read_image`, so that boxes fit the picture as shown.
        batch_size: pictures handed over at once.
        progress: called with the number of pictures done and in all, after each batch.

    Raises:
        LabelError: the detector has other classes than the data set, or in another order.
        ImageError: a picture cannot be read.
    """
    return in_batches(detector, detector, detection_set, batch_size, progress)


def predict_all(
    detectors: Sequence[DetectorLike],
    detection_set: DetectionSet,
    batch_size: int = BATCH_SIZE,
    progress: Callable[[int, int], object] | None = None,
) -> list[list[sv.Detections]]:
    """As `predict`, of several detectors with the same classes; each picture is read once for all of them."""

    def run(images: list[UInt8Array]) -> list[tuple[sv.Detections, ...]]:
        return list(zip(*(detector(images) for detector in detectors), strict=True))

    rows = in_batches(run, detectors[0], detection_set, batch_size, progress)
    return [[row[number] for row in rows] for number in range(len(detectors))]


def in_batches(
    run: Callable[[list[UInt8Array]], list[Result]],
    detector: Named,
    detection_set: DetectionSet,
    batch_size: int = BATCH_SIZE,
    progress: Callable[[int, int], object] | None = None,
) -> list[Result]:
    """What `run` gives for each sample; the other arguments and errors are those of `predict`."""
    check_classes(detector, detection_set.class_names)
    results: list[Result] = []
    for start in range(0, len(detection_set), batch_size):
        batch = detection_set.samples[start : start + batch_size]
        results += run([read_image(sample.image_path) for sample in batch])
        if progress is not None:
            progress(len(results), len(detection_set))
    return results


def check_classes(detector: Named, class_names: tuple[str, ...]) -> None:
    """Makes sure that class ids mean the same to a detector and a data set.

    Raises:
        LabelError: the detector has other classes, or in another order.
    """
    if tuple(detector.class_names) != class_names:
        raise LabelError(
            f"the model knows {', '.join(detector.class_names)}, the data set was read as "
            f"{', '.join(class_names)}; read it with the classes of the model, in their order"
        )
