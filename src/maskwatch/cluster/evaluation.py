"""Predictions for an evaluation on a cluster; matching and everything after it stays where it was."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import cv2
import pyarrow as pa
import ray
import ray.data
from ray.data import ActorPoolStrategy

from maskwatch.cluster.detection import ClusterOptions
from maskwatch.cluster.session import configure, connect, map_blocks
from maskwatch.data.dataset import DetectionSet
from maskwatch.errors import ClusterError, MaskwatchError
from maskwatch.evaluation.predictor import BATCH_SIZE, DetectorLike, check_classes
from maskwatch.media.images import read_image

if TYPE_CHECKING:
    import supervision as sv


class PredictWorker:
    """Runs detectors over batches of pictures, the same batches as on one machine.

    Args:
        detectors: a reference to a pickled sequence of them.
        cpus: that the actor has.
    """

    def __init__(self, detectors: ray.ObjectRef[bytes], cpus: int) -> None:
        cv2.setNumThreads(cpus)
        self._detectors: Sequence[DetectorLike] = pickle.loads(ray.get(detectors))

    def __call__(self, batch: pa.Table) -> pa.Table:
        """One batch of pictures → its number, and the pickled predictions or error."""
        (row,) = batch.to_pylist()
        found: Any
        try:
            images = [read_image(path, name=name) for path, name in pickle.loads(row["paths"])]
            found = [detector(images) for detector in self._detectors]
        except MaskwatchError as error:
            found = error
        return pa.table({"number": [row["number"]], "found": [pickle.dumps(found)]})


def predict_all(
    detectors: Sequence[DetectorLike],
    detection_set: DetectionSet,
    batch_size: int = BATCH_SIZE,
    progress: Callable[[int, int], object] | None = None,
    *,
    options: ClusterOptions | None = None,
) -> list[list[sv.Detections]]:
    """As `evaluation.predictor.predict_all`, on a cluster; every node sees the pictures under their paths.

    Args:
        detectors: that can be pickled, such as `Detector`.

    Raises:
        LabelError, ImageError: as there.
        ClusterError: there is no cluster, or some batches failed.
    """
    options = options or ClusterOptions()
    check_classes(detectors[0].class_names, detection_set.class_names)
    connect(options.address)
    configure()
    samples = detection_set.samples
    starts = range(0, len(samples), batch_size)
    paths = [(sample.image_path.absolute(), str(sample.image_path)) for sample in samples]
    batches = [paths[start : start + batch_size] for start in starts]
    blocks = [
        pa.table({"number": [number], "paths": [pickle.dumps(batch)]}) for number, batch in enumerate(batches)
    ]
    results: list[Any] = [None] * len(batches)
    done = 0
    for row in _run(blocks, detectors, options).iter_rows():
        results[row["number"]] = pickle.loads(row["found"])
        done += len(batches[row["number"]])
        if progress is not None:
            progress(done, len(samples))
    _check(results)
    return [[found for batch in results for found in batch[number]] for number in range(len(detectors))]


def _run(
    blocks: list[pa.Table], detectors: Sequence[DetectorLike], options: ClusterOptions
) -> ray.data.Dataset:
    share: dict[str, Any] = {"num_gpus": options.gpus} if options.gpus else {"num_cpus": options.cpus}
    return map_blocks(
        ray.data.from_arrow(blocks),
        PredictWorker,
        fn_constructor_args=(ray.put(pickle.dumps(list(detectors))), options.cpus),
        compute=ActorPoolStrategy(min_size=1, max_size=options.workers),
        **share,
    )


def _check(results: Sequence[Any]) -> None:
    for result in results:
        if isinstance(result, MaskwatchError):
            raise result
    missing = sum(result is None for result in results)
    if missing:
        raise ClusterError(f"{missing} of {len(results)} batches failed on the cluster; see Ray's logs")
