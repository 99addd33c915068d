"""What a detector would show at any thresholds, without running its network again.

A model file applies the thresholds first, then NMS over all classes, then box voting (`export.nms_graph`).
So a box below its own threshold makes room for boxes of other classes: what is shown at some thresholds is
not a subset of what is shown at lower ones. Thresholds are therefore chosen on candidates, the boxes before
these three steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from maskwatch.boxes import box_iou
from maskwatch.data.dataset import DetectionSet
from maskwatch.detector import Detector
from maskwatch.evaluation.predictor import BATCH_SIZE, Named, in_batches
from maskwatch.media.images import Placement, UInt8Array
from maskwatch.models import CANDIDATE_TENSORS, IOU_THRESHOLD
from maskwatch.network.postprocess import MAX_DETECTIONS, TensorDetections, vote
from maskwatch.runtimes import open_tensors

if TYPE_CHECKING:
    import supervision as sv

FLOOR = 0.05
"""Candidates with lower scores are left out: a picture has a thousand of them."""


@dataclass(frozen=True)
class Candidates:
    """Of one picture, K boxes with a class each, best first.

    Attributes:
        boxes_xyxy: (K, 4) the boxes that NMS compares, in pixels of the network's input.
        placed_xyxy: (K, 4) the boxes that are shown for them, in pixels of the picture.
        scores: (K,) float32.
        class_ids: (K,).
    """

    boxes_xyxy: npt.NDArray[np.float32]
    placed_xyxy: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    class_ids: npt.NDArray[np.integer[Any]]

    @classmethod
    def of_pairs(
        cls, pairs: TensorDetections, placement: Placement, size_hw: tuple[int, int], *, voting: bool
    ) -> Candidates:
        """From all pairs of a box and a class before NMS, on the network's canvas of H×W pixels."""
        found = pairs.take(pairs.scores > FLOOR)
        placed = (vote(found, pairs) if voting else found.boxes_xyxy).numpy()
        limits = np.array([size_hw[1], size_hw[0]] * 2, np.float32)
        return cls(
            found.boxes_xyxy.numpy(),
            placement.to_original(placed.clip(0, limits)).reshape(-1, 4),
            found.scores.numpy(),
            found.class_ids.numpy(),
        )

    @classmethod
    def of_detections(cls, found: sv.Detections) -> Candidates:
        """From detections of all scores, for a detector without candidates."""
        assert found.confidence is not None
        assert found.class_id is not None
        rows = np.argsort(-found.confidence, kind="stable")
        rows = rows[found.confidence[rows] > FLOOR]
        boxes = found.xyxy[rows].astype(np.float32)
        return cls(boxes, boxes, found.confidence[rows].astype(np.float32), found.class_id[rows])

    def shown(self, thresholds: npt.NDArray[np.float32]) -> list[int]:
        """Indices among K of what is shown at thresholds (C,), best first; no threshold is below `FLOOR`."""
        left = self.scores > thresholds[self.class_ids]
        kept: list[int] = []
        while len(kept) < MAX_DETECTIONS and left.any():
            first = int(left.argmax())
            kept.append(first)
            left &= ~self._overlapped(first)
        return [row for row in kept if self._real[row]]

    def _overlapped(self, row: int) -> npt.NDArray[np.bool_]:
        """(K,) which boxes NMS suppresses for one, itself included."""
        if row not in self._known:
            self._known[row] = box_iou(self.boxes_xyxy[row : row + 1], self.boxes_xyxy)[0] > IOU_THRESHOLD
            self._known[row][row] = True  # also where it has no area
        return self._known[row]

    @cached_property
    def _known(self) -> dict[int, npt.NDArray[np.bool_]]:
        return {}

    @cached_property
    def _real(self) -> npt.NDArray[np.bool_]:
        """(K,) whether it has an area in the picture, and not only in the padding of the letterbox."""
        return np.asarray((self.placed_xyxy[:, 2:] > self.placed_xyxy[:, :2]).all(1))


class GivesCandidates(Named, Protocol):
    """A detector that gives its candidates."""

    def candidates(self, images: list[UInt8Array], /) -> list[Candidates]: ...


def gather(
    detector: Detector | GivesCandidates,
    detection_set: DetectionSet,
    batch_size: int = BATCH_SIZE,
    progress: Callable[[int, int], object] | None = None,
) -> list[Candidates]:
    """Candidates for each sample. Arguments and errors are those of `predict`."""
    return in_batches(_source(detector), detector, detection_set, batch_size, progress)


def _source(detector: Detector | GivesCandidates) -> Callable[[list[UInt8Array]], list[Candidates]]:
    if not isinstance(detector, Detector):
        return detector.candidates
    find = _open(detector)
    if find is not None:
        return find
    every = detector.variant(threshold=0.0, class_agnostic=False)
    return lambda images: [Candidates.of_detections(found) for found in every(images)]


def _open(detector: Detector) -> Callable[[list[UInt8Array]], list[Candidates]] | None:
    """The graph of a model file up to its candidates; None for a file without tensors of these names."""
    import onnx

    model = onnx.load(str(detector.path))
    if not {*CANDIDATE_TENSORS} <= {name for node in model.graph.node for name in node.output}:
        return None
    del model.graph.output[:]
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in CANDIDATE_TENSORS)
    run = open_tensors(model.SerializeToString(), CANDIDATE_TENSORS)

    def find(images: list[UInt8Array]) -> list[Candidates]:
        batch, placements = detector.prepare(images)
        return [
            Candidates.of_pairs(pairs, placement, detector.input_size, voting=detector.metadata.box_voting)
            for pairs, placement in zip(_pairs(run(batch)), placements, strict=True)
        ]

    return find


def _pairs(arrays: Sequence[npt.NDArray[Any]]) -> list[TensorDetections]:
    import torch

    tensors = [torch.from_numpy(array) for array in arrays]
    return [TensorDetections(*picture) for picture in zip(*tensors, strict=True)]
