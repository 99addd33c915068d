"""What every runtime is: a model file in, a call from pictures to detections out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from maskwatch.errors import OptionError
from maskwatch.media.images import FloatArray, UInt8Array

OUTPUTS = ("boxes", "scores", "classes", "num_detections")
OPTIONAL_INPUTS = ("score_thresholds", "iou_threshold", "class_agnostic")


TOLERANCES = {
    "float32": (1e-4, 1e-4),
    "bfloat16": (0.02, 0.05),
    "float16": (0.02, 0.05),
    "int8": (0.02, 0.05),
}
"""By precision, int8 for files in int8: how far a detection may be from that of ONNX Runtime on the CPU in
float32, with the same file: each corner, as a share of the box's longer side, and the score."""


class BackendUnavailableError(OptionError):
    """This machine lacks a runtime, a device or a precision."""


@dataclass(frozen=True)
class RawDetections:
    """Output of a model file, padded to M detections for each of N pictures.

    Attributes:
        boxes: float32 (N, M, 4) xyxy in pixels of the network's input; zeros where unused.
        scores: float32 (N, M), descending; zeros where unused.
        classes: int64 (N, M); −1 where unused.
        num_detections: int64 (N,).
    """

    boxes: FloatArray
    scores: FloatArray
    classes: npt.NDArray[np.int64]
    num_detections: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Backend:
    """What a model runs on.

    Attributes:
        runtime: "onnxruntime", "openvino" or, for a model server, "kserve".
        device: "cpu", "cuda" … (`choice.BACKENDS`), or "remote".
        precision: of the network's arithmetic: "float32", "bfloat16" or "float16". Decoding, thresholds and
            NMS are always in float32. "unknown" for a model server.
    """

    runtime: str
    device: str
    precision: str

    def __str__(self) -> str:
        return f"{self.runtime}, {self.device}, {self.precision}"


SERVER_BACKEND = Backend("kserve", "remote", "unknown")
"""Of a model server, which itself chooses device and precision."""


class Model(Protocol):
    """A loaded model."""

    def __call__(
        self,
        images_nhwc: UInt8Array,
        score_thresholds: FloatArray | None = None,
        iou_threshold: float | None = None,
        class_agnostic: bool | None = None,
    ) -> RawDetections:
        """Runs the model on uint8 (N, H, W, 3) RGB; None keeps an option at the file's default.

        Raises:
            ModelFileError: the runtime fails on these pictures.
            ModelServerError: the model server fails.
        """
        ...


class Runtime(Model, Protocol):
    """A loaded model file; may be called from several threads at once."""

    backend: Backend


def check_threads(threads: int | None) -> None:
    """Raises `OptionError` where `threads` is less than 1."""
    if threads is not None and threads < 1:
        raise OptionError(f"threads is {threads}; pass 1 or more, or leave it out for one a core")


def option_feeds(
    score_thresholds: FloatArray | None, iou_threshold: float | None, class_agnostic: bool | None
) -> dict[str, npt.NDArray[np.generic]]:
    """The optional inputs of a model file that are given, by name."""
    feeds: dict[str, npt.NDArray[np.generic]] = {}
    if score_thresholds is not None:
        feeds["score_thresholds"] = np.asarray(score_thresholds, np.float32)
    if iou_threshold is not None:
        feeds["iou_threshold"] = np.array([iou_threshold], np.float32)
    if class_agnostic is not None:
        feeds["class_agnostic"] = np.array([class_agnostic], np.bool_)
    return feeds
