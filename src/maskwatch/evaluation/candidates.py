"""What a detector would show at any thresholds, without another run of its network.

A model file calibrates scores and applies the thresholds first, then NMS over all classes, then box voting
(`export.nms_graph`).
So a box below its threshold suppresses no box of another class, and higher thresholds may show boxes that
lower ones do not. Thresholds are therefore chosen on candidates, the boxes before these three steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from maskwatch.boxes import box_iou
from maskwatch.data.dataset import DetectionSet
from maskwatch.detector import Detector
from maskwatch.evaluation.predictor import BATCH_SIZE, check_classes, in_batches
from maskwatch.media.images import Placement, UInt8Array
from maskwatch.models import CANDIDATE_TENSORS, IOU_THRESHOLD, MAX_DETECTIONS, Calibration
from maskwatch.runtimes.onnx_runtime import open_tensors

if TYPE_CHECKING:
    import supervision as sv

    from maskwatch.network.postprocess import TensorDetections

FLOOR = 0.05
"""Candidates with lower scores, before calibration too, are left out: a picture has a thousand of them."""

Bools: TypeAlias = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Candidates:
    """Of one picture, K boxes with a class each, by falling score of the network.

    Attributes:
        boxes_xyxy: (K, 4) the boxes that NMS compares, in pixels of the network's input.
        output_xyxy: (K, 4) the boxes that are shown for them, in pixels of the picture.
        network_scores: (K,) float32, before calibration; NMS goes by them.
        scores: (K,) float32, calibrated; thresholds are in these.
        class_ids: (K,).
    """

    boxes_xyxy: npt.NDArray[np.float32]
    output_xyxy: npt.NDArray[np.float32]
    network_scores: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    class_ids: npt.NDArray[np.integer[Any]]

    @classmethod
    def of_pairs(
        cls,
        pairs: TensorDetections,
        placement: Placement,
        size_hw: tuple[int, int],
        *,
        voting: bool,
        calibration: Calibration = (),
    ) -> Candidates:
        """From all pairs of a box and a class before NMS, with the network's scores, on its canvas of H×W
        pixels."""
        from maskwatch.network.postprocess import calibrate, vote

        calibrated = calibrate(pairs.scores, pairs.class_ids, calibration)
        counted = (pairs.scores > FLOOR) | (calibrated > FLOOR)
        found = pairs.take(counted)
        placed = (vote(found, pairs) if voting else found.boxes_xyxy).numpy()
        limits = np.array([size_hw[1], size_hw[0]] * 2, np.float32)
        return cls(
            found.boxes_xyxy.numpy(),
            placement.to_original(placed.clip(0, limits)).reshape(-1, 4),
            found.scores.numpy(),
            calibrated[counted].numpy(),
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
        scores = found.confidence[rows].astype(np.float32)
        return cls(boxes, boxes, scores, scores, found.class_id[rows])

    def calibrated(self, calibration: Calibration) -> Candidates:
        """The same boxes with other scores; those that are left out for their network's score stay out."""
        import torch

        from maskwatch.network.postprocess import calibrate

        scores = calibrate(
            torch.from_numpy(self.network_scores), torch.from_numpy(self.class_ids), calibration
        )
        return replace(self, scores=scores.numpy())

    def shown(self, thresholds: npt.NDArray[np.float32]) -> list[int]:
        """Indices among K of what is shown at thresholds (C,) of at least `FLOOR`, best first."""
        left = self.scores > thresholds[self.class_ids]
        kept: list[int] = []
        while len(kept) < MAX_DETECTIONS and left.any():
            first = int(left.argmax())
            kept.append(first)
            left &= ~self._suppressed_by(first)
        return sorted((row for row in kept if self._in_picture[row]), key=lambda row: -self.scores[row])

    def detections(self, rows: Sequence[int]) -> sv.Detections:
        """The boxes at these indices as they are shown, with calibrated scores."""
        import supervision as sv

        at = np.array(rows, np.int64)
        return sv.Detections(
            self.output_xyxy[at], confidence=self.scores[at], class_id=self.class_ids[at].astype(int)
        )

    def _suppressed_by(self, row: int) -> Bools:
        """(K,) which boxes NMS removes once it keeps this one, itself included."""
        if row not in self._suppressed:
            iou = box_iou(self.boxes_xyxy[row : row + 1], self.boxes_xyxy)[0]
            iou[row] = 1  # also where it has no area
            self._suppressed[row] = iou > IOU_THRESHOLD
        return self._suppressed[row]

    @cached_property
    def _suppressed(self) -> dict[int, Bools]:
        return {}

    @cached_property
    def _in_picture(self) -> Bools:
        """(K,) whether it has an area in the picture, and not only in the padding of the letterbox."""
        return np.asarray((self.output_xyxy[:, 2:] > self.output_xyxy[:, :2]).all(1))


class CandidateDetector(Protocol):
    """A detector with a method for its candidates."""

    @property
    def class_names(self) -> tuple[str, ...]: ...

    def candidates(self, images: list[UInt8Array], /) -> list[Candidates]: ...


def gather(
    detector: Detector | CandidateDetector,
    detection_set: DetectionSet,
    batch_size: int = BATCH_SIZE,
    progress: Callable[[int, int], object] | None = None,
) -> list[Candidates]:
    """Candidates for each sample. Arguments and errors are those of `predict`."""
    check_classes(detector.class_names, detection_set.class_names)
    find = _of_model_file(detector) if isinstance(detector, Detector) else detector.candidates
    return in_batches(find, detection_set, batch_size, progress)


def _of_model_file(detector: Detector) -> Callable[[list[UInt8Array]], list[Candidates]]:
    """Runs the graph up to its candidates; of a file without tensors of these names, takes detections."""
    import onnx
    import torch

    from maskwatch.network.postprocess import TensorDetections

    model = onnx.load(str(detector.path))
    if not {*CANDIDATE_TENSORS} <= {name for node in model.graph.node for name in node.output}:
        every = detector.variant(threshold=0.0, class_agnostic=False)
        return lambda images: [Candidates.of_detections(found) for found in every(images)]
    del model.graph.output[:]
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in CANDIDATE_TENSORS)
    run = open_tensors(model.SerializeToString(), CANDIDATE_TENSORS)

    def find(images: list[UInt8Array]) -> list[Candidates]:
        batch, placements = detector.prepare(images)
        size_hw, about = detector.input_size, detector.metadata
        pictures = zip(*map(torch.from_numpy, run(batch)), strict=True)
        return [
            Candidates.of_pairs(
                TensorDetections(*picture),
                placement,
                size_hw,
                voting=about.box_voting,
                calibration=about.calibration,
            )
            for picture, placement in zip(pictures, placements, strict=True)
        ]

    return find
