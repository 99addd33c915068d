"""A network in torch behind the call of `maskwatch.Detector`."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from maskwatch.errors import OptionError
from maskwatch.evaluation.candidates import Candidates
from maskwatch.media.images import Placement, ResizeRule, fit
from maskwatch.models import Calibration
from maskwatch.network import Network, TwoScales, preprocess
from maskwatch.network.boxes import decode
from maskwatch.network.postprocess import TensorDetections, best_pairs, detect
from maskwatch.training.checkpoint import Checkpoint, load_checkpoint

if TYPE_CHECKING:
    import supervision as sv


class TorchDetector:
    """Called as `maskwatch.Detector` is: images in, `sv.Detections` out."""

    def __init__(
        self,
        network: Network,
        class_names: Sequence[str],
        size_hw: tuple[int, int],
        resize: ResizeRule = "letterbox",
        *,
        class_agnostic: bool = True,
        score_threshold: float | Sequence[float] = 1e-8,
        voting: bool = False,
    ) -> None:
        self.network, self.class_names = network.eval(), tuple(class_names)
        self.input_size, self.resize = size_hw, resize
        self.class_agnostic, self.score_threshold, self.voting = class_agnostic, score_threshold, voting
        self.calibration: Calibration = ()

    @classmethod
    def load(
        cls, path: str | Path, size_hw: tuple[int, int] | None = None, *, class_agnostic: bool
    ) -> TorchDetector:
        """From a checkpoint file; as `of`, and raises as `load_checkpoint`."""
        return cls.of(load_checkpoint(path), size_hw, class_agnostic=class_agnostic)

    @classmethod
    def of(
        cls,
        checkpoint: Checkpoint,
        size_hw: tuple[int, int] | None = None,
        *,
        class_agnostic: bool,
        two_scales: bool = False,
    ) -> TorchDetector:
        """From a checkpoint, at the size of its recipe or another one; with a second pass at half of it.

        `class_agnostic` has no default: COCO's numbers need NMS within each class, a user sees one box for a
        face, and AP differs by several hundredths.

        Raises:
            OptionError: the network cannot take that size.
        """
        recipe = checkpoint.recipe
        size_hw = size_hw or (recipe.size, recipe.size)
        network = TwoScales(checkpoint.network) if two_scales else checkpoint.network
        if any(side <= 0 or side % network.size_multiple for side in size_hw):
            raise OptionError(
                f"size {size_hw[0]}x{size_hw[1]}: give multiples of {network.size_multiple}, e.g. 640"
            )
        return cls(
            network,
            checkpoint.class_names,
            size_hw,
            recipe.resize,
            class_agnostic=class_agnostic,
            voting=recipe.box_voting,
        )

    def variant(self, *, threshold: Mapping[str, float]) -> TorchDetector:
        """The same network with other thresholds and class-agnostic NMS, as `Detector.variant`."""
        other = copy.copy(self)
        other.score_threshold = [threshold[name] for name in self.class_names]
        other.class_agnostic = True
        return other

    def calibrated(self, calibration: Calibration) -> TorchDetector:
        """The same network with calibrated scores."""
        other = copy.copy(self)
        other.calibration = calibration
        return other

    def candidates(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[Candidates]:
        """The candidates of each image, before thresholds and NMS."""
        encodings, logits, placements = self._run(images)
        anchors = self.network.anchors_xyxy(self.input_size).to(encodings.device)
        boxes_xyxy = decode(encodings.float(), anchors)  # (N, A, 4)
        scores = logits[..., 1:].float().sigmoid()  # (N, A, C)
        return [
            Candidates.of_pairs(
                best_pairs(*pair),
                placement,
                self.input_size,
                voting=self.voting,
                calibration=self.calibration,
            )
            for *pair, placement in zip(boxes_xyxy, scores, placements, strict=True)
        ]

    def _run(self, images: Sequence[npt.NDArray[np.uint8]]) -> tuple[Tensor, Tensor, list[Placement]]:
        fitted = [fit(image, self.input_size, self.resize) for image in images]
        batch = torch.from_numpy(np.stack([image for image, _ in fitted]))
        with torch.inference_mode():
            encodings, logits = self.network(preprocess(batch))
        return encodings, logits, [placement for _, placement in fitted]

    def __call__(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[sv.Detections]:
        """uint8 RGB images (h, w, 3) of any size → detections in their own pixels."""
        encodings, logits, placements = self._run(images)
        found = detect(
            encodings,
            logits,
            self.network.anchors_xyxy(self.input_size),
            self.input_size,
            score_threshold=self.score_threshold,
            class_agnostic=self.class_agnostic,
            voting=self.voting,
            calibration=self.calibration,
        )
        return to_supervision(found, placements, self.class_names)


def to_supervision(
    found: Sequence[TensorDetections], placements: Sequence[Placement], class_names: Sequence[str]
) -> list[sv.Detections]:
    """Detections on the canvas → `sv.Detections` in pixels of the original images."""
    import supervision as sv

    names = np.array(class_names)
    results = []
    for detections, placement in zip(found, placements, strict=True):
        boxes_xyxy = placement.to_original(detections.boxes_xyxy.cpu().numpy()).reshape(-1, 4)
        inside = (boxes_xyxy[:, 2:] > boxes_xyxy[:, :2]).all(1)  # not only in the letterbox's padding
        scores = detections.scores.cpu().numpy().astype(np.float32)[inside]
        class_ids = detections.class_ids.cpu().numpy()[inside]
        data = {"class_name": names[class_ids]}
        results.append(sv.Detections(boxes_xyxy[inside], confidence=scores, class_id=class_ids, data=data))
    return results
