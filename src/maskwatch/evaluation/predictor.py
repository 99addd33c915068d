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
"""Pictures per call of the detector, all in memory."""

Result = TypeVar("Result")


class DetectorLike(Protocol):
    """What can be evaluated: a `Detector`, a checkpoint, or any callable with class names."""

    @property
    def class_names(self) -> tuple[str, ...]: ...

    def __call__(self, images: list[UInt8Array], /) -> list[sv.Detections]: ...


class PredictAll(Protocol):
    """What runs detectors over a data set: `predict_all`, or the same on a cluster."""

    def __call__(
        self,
        detectors: Sequence[DetectorLike],
        detection_set: DetectionSet,
        batch_size: int = BATCH_SIZE,
        progress: Callable[[int, int], object] | None = None,
        /,
    ) -> list[list[sv.Detections]]: ...


def predict(
    detector: DetectorLike,
    detection_set: DetectionSet,
    batch_size: int = BATCH_SIZE,
    progress: Callable[[int, int], object] | None = None,
) -> list[sv.Detections]:
    """Detections for each sample, in the order of the set.

    Args:
        detector: with `threshold=0.0`, since `coco_evaluate` needs detections of all scores.
        detection_set: its pictures are read with `read_image`, so that boxes fit the picture as shown.
        batch_size: pictures per call of the detector.
        progress: called with the number of pictures done and in all, after each batch.

    Raises:
        LabelError: the detector has other classes than the data set, or in another order.
        ImageError: a picture cannot be read.
    """
    check_classes(detector.class_names, detection_set.class_names)
    return in_batches(detector, detection_set, batch_size, progress)


def predict_all(
    detectors: Sequence[DetectorLike],
    detection_set: DetectionSet,
    batch_size: int = BATCH_SIZE,
    progress: Callable[[int, int], object] | None = None,
) -> list[list[sv.Detections]]:
    """`predict` for several detectors with the same classes; reads each picture once for all of them."""
    check_classes(detectors[0].class_names, detection_set.class_names)

    def run(images: list[UInt8Array]) -> list[tuple[sv.Detections, ...]]:
        return list(zip(*(detector(images) for detector in detectors), strict=True))

    rows = in_batches(run, detection_set, batch_size, progress)
    return [[row[number] for row in rows] for number in range(len(detectors))]


def in_batches(
    run: Callable[[list[UInt8Array]], list[Result]],
    detection_set: DetectionSet,
    batch_size: int = BATCH_SIZE,
    progress: Callable[[int, int], object] | None = None,
) -> list[Result]:
    """The result of `run` for each sample, whatever its classes.

    Raises:
        ImageError: a picture cannot be read.
    """
    results: list[Result] = []
    for start in range(0, len(detection_set), batch_size):
        batch = detection_set.samples[start : start + batch_size]
        results += run([read_image(sample.image_path) for sample in batch])
        if progress is not None:
            progress(len(results), len(detection_set))
    return results


def check_classes(model_classes: Sequence[str], data_classes: Sequence[str]) -> None:
    """Checks that class ids mean the same to a model and a data set.

    Raises:
        LabelError: the classes differ, or their order.
    """
    if tuple(model_classes) != tuple(data_classes):
        raise LabelError(
            f"the model knows {', '.join(model_classes)}, the data set was read as "
            f"{', '.join(data_classes)}; read it with the classes of the model, in their order"
        )
