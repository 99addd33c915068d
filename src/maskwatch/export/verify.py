"""Compares a written model file with the network that it came from, image by image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from maskwatch.errors import ExportError
from maskwatch.export.compare import (
    BOX_TOLERANCE,
    SCORE_TOLERANCE,
    Boxes,
    Match,
    NmsOptions,
    is_valid_nms,
    match,
)
from maskwatch.export.nms_graph import CLASS_AGNOSTIC
from maskwatch.export.photographs import BATCH, Photograph
from maskwatch.media.images import UInt8Array, fit
from maskwatch.models import CANDIDATES, IOU_THRESHOLD, MAX_DETECTIONS, Calibration, ModelMetadata
from maskwatch.network import Network, preprocess
from maskwatch.network.boxes import decode
from maskwatch.network.postprocess import best_pairs, calibrate, select, vote
from maskwatch.runtimes.base import RawDetections
from maskwatch.runtimes.onnx_runtime import OnnxRuntime

NEAR_ZERO = 1e-6
"""A threshold that leaves a hundred detections to compare on nearly every image."""

SPARE = 500
"""Pairs beyond the `CANDIDATES` best that the file may have taken instead, where scores are equal."""


@dataclass(frozen=True)
class Verification:
    """What was compared, and the largest differences.

    photographs: their names; detections: number compared, with all options and batches together; ties: number
    of these where torch and the file kept another one of two equals; box_difference: pixels of the input.
    """

    photographs: tuple[str, ...]
    detections: int = 0
    ties: int = 0
    box_difference: float = 0.0
    score_difference: float = 0.0

    def __str__(self) -> str:
        ties = f" ({self.ties} of them another one of two equals)" if self.ties else ""
        return (
            f"compared with torch on {len(self.photographs)} pictures: {', '.join(self.photographs)}\n"
            f"batches of 1 and {BATCH}, NMS over all classes and in each, the file's thresholds and near 0\n"
            f"{self.detections} detections{ties}, largest differences {self.box_difference:.2g} pixels and "
            f"{self.score_difference:.2g} in score"
        )


@dataclass(frozen=True)
class _TorchOutput:
    """Of an image: all boxes (A, 4), not clipped, and their scores (A, C)."""

    boxes_xyxy: torch.Tensor
    scores: torch.Tensor
    voting: bool
    calibration: Calibration

    def detections(self, options: NmsOptions, size_hw: tuple[int, int]) -> Boxes:
        found = select(
            self.boxes_xyxy,
            self.scores,
            size_hw,
            torch.from_numpy(options.thresholds),
            class_agnostic=options.class_agnostic,
            voting=self.voting,
            calibration=self.calibration,
        )
        return Boxes(found.boxes_xyxy.numpy(), found.scores.numpy(), found.class_ids.numpy())

    def pairs(self) -> Boxes:
        """Every pair of box and class that may be a detection, including equals at the end of the list."""
        pairs = best_pairs(self.boxes_xyxy, self.scores, CANDIDATES + SPARE)
        voted = None
        if self.voting:
            voted = vote(pairs, pairs.take(torch.arange(min(CANDIDATES, len(pairs.scores))))).numpy()
        scores = calibrate(pairs.scores, pairs.class_ids, self.calibration)
        own = pairs.scores.numpy()
        return Boxes(pairs.boxes_xyxy.numpy(), scores.numpy(), pairs.class_ids.numpy(), voted, own)


def verify(
    path: str | Path, network: Network, metadata: ModelMetadata, photographs: Sequence[Photograph]
) -> Verification:
    """Runs a model file and its network on the same images and compares every detection.

    Args:
        path: the written file, which ONNX Runtime runs on as many threads as torch uses.
        photographs: at least one.

    Raises:
        ExportError: they differ by more than the tolerances of `compare`, the output breaks the contract, or
            there is nothing to compare. The message names the largest difference.
        ModelFileError: ONNX Runtime cannot load or run the file.
    """
    result = Verification(tuple(photo.name for photo in photographs))
    fitted = [fit(photo.image_rgb, metadata.input_size, metadata.resize)[0] for photo in photographs]
    runtime = OnnxRuntime(path, torch.get_num_threads())
    for row, output, options, found in _comparisons(runtime, network, metadata, fitted):
        result = _with(result, result.photographs[row], output, found, options, metadata)
    if result.detections == 0:
        raise ExportError(
            f"no score above {NEAR_ZERO} on {', '.join(result.photographs)}, so that there is nothing to "
            "compare and nothing was written; export a trained checkpoint"
        )
    return result


def _comparisons(
    runtime: OnnxRuntime, network: Network, metadata: ModelMetadata, fitted: Sequence[UInt8Array]
) -> Iterator[tuple[int, _TorchOutput, NmsOptions, Boxes]]:
    """Index of the image, torch's output for it, options, and the file's detections with these."""
    for size in (1, BATCH):
        for start in range(0, len(fitted), size):
            batch = np.stack(fitted[start : start + size])
            outputs = _torch_outputs(network, batch, metadata)
            for options, raw in _file_outputs(runtime, batch, metadata):
                for row, output in enumerate(outputs):
                    yield start + row, output, options, unpad(raw, row)


def unpad(raw: RawDetections, row: int) -> Boxes:
    """The detections of one image; raises ExportError where padding, order or number break the contract."""
    count = int(raw.num_detections[row])
    scores, classes = raw.scores[row], raw.classes[row]
    valid = (
        0 <= count <= MAX_DETECTIONS
        and raw.boxes.shape[1:] == (MAX_DETECTIONS, 4)
        and (np.diff(scores[:count]) <= 0).all()
        and (classes[:count] >= 0).all()
        and not raw.boxes[row, count:].any()
        and not scores[count:].any()
        and (classes[count:] == -1).all()
    )
    if not valid:
        raise ExportError(
            f"the written model pads its {count} detections in another way than the contract says; "
            "nothing was written; report this with the versions of torch and onnx"
        )
    return Boxes(raw.boxes[row, :count], scores[:count], classes[:count])


def _torch_outputs(network: Network, batch: UInt8Array, metadata: ModelMetadata) -> list[_TorchOutput]:
    with torch.inference_mode():
        encodings, logits = network(preprocess(torch.from_numpy(batch)))
        boxes_xyxy = decode(encodings, network.anchors_xyxy(metadata.input_size))  # (N, A, 4)
        scores = logits[..., 1:].sigmoid()  # (N, A, C)
    return [
        _TorchOutput(*pair, metadata.box_voting, metadata.calibration)
        for pair in zip(boxes_xyxy, scores, strict=True)
    ]


def _file_outputs(
    runtime: OnnxRuntime, batch: UInt8Array, metadata: ModelMetadata
) -> Iterator[tuple[NmsOptions, RawDetections]]:
    own = np.array(metadata.thresholds, np.float32)
    # Without options the file uses its defaults.
    yield NmsOptions(own, CLASS_AGNOSTIC), runtime(batch)
    for thresholds in (own, np.full_like(own, NEAR_ZERO)):
        for class_agnostic in (True, False):
            raw = runtime(batch, thresholds, IOU_THRESHOLD, class_agnostic)
            yield NmsOptions(thresholds, class_agnostic), raw


def _with(
    result: Verification,
    name: str,
    output: _TorchOutput,
    found: Boxes,
    options: NmsOptions,
    metadata: ModelMetadata,
) -> Verification:
    """The verification so far with one more comparison."""
    expected = output.detections(options, metadata.input_size)
    pairs = match(expected, found)
    different = len(pairs.missing) + len(pairs.added)
    if different and not is_valid_nms(found, output.pairs(), options, metadata.input_size):
        raise ExportError(
            f"the written model does not find on {name} what torch finds: "
            f"{_largest_difference(expected, found, pairs, metadata.classes)} "
            f"(tolerances {BOX_TOLERANCE} pixels, {SCORE_TOLERANCE} in score). Nothing was written; "
            "report this with the versions of torch, onnx and onnxruntime"
        )
    return replace(
        result,
        detections=result.detections + len(found),
        ties=result.ties + len(pairs.added),
        box_difference=max(result.box_difference, pairs.box_difference),
        score_difference=max(result.score_difference, pairs.score_difference),
    )


def _largest_difference(expected: Boxes, found: Boxes, pairs: Match, classes: Sequence[str]) -> str:
    """The unmatched detection whose nearest counterpart is farthest, as text."""
    texts = [_nearest(expected, row, found, "torch", "the file", classes) for row in pairs.missing]
    texts += [_nearest(found, row, expected, "the file", "torch", classes) for row in pairs.added]
    return max(texts)[1]


def _nearest(
    boxes: Boxes, row: int, others: Boxes, name: str, other_name: str, classes: Sequence[str]
) -> tuple[float, str]:
    """Distance in pixels to the other program's nearest box of the same class, and that as text."""
    corners = ", ".join(f"{value:.1f}" for value in boxes.boxes_xyxy[row])
    label = classes[boxes.class_ids[row]]
    text = f"{name} has {label} with score {boxes.scores[row]:.5f} at [{corners}], "
    same = np.flatnonzero(others.class_ids == boxes.class_ids[row])
    if not len(same):
        return np.inf, f"{text}{other_name} has no {label}"
    gaps = np.abs(others.boxes_xyxy[same] - boxes.boxes_xyxy[row]).max(-1)
    nearest = int(gaps.argmin())
    score_gap = abs(float(others.scores[same[nearest]]) - float(boxes.scores[row]))
    apart = f"{gaps[nearest]:.3g} pixels and {score_gap:.3g} in score"
    return float(gaps[nearest]), f"{text}the nearest {label} of {other_name} is off by {apart}"
