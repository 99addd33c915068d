"""Runs model files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from maskwatch.errors import ModelFileError, OptionError
from maskwatch.media.images import FloatArray, UInt8Array
from maskwatch.text import first_line

_FATAL = 4  # ONNX Runtime's log severity; errors come as exceptions anyway
_OUTPUTS = ("boxes", "scores", "classes", "num_detections")
_OPTIONAL_INPUTS = {"score_thresholds", "iou_threshold", "class_agnostic"}


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


class OnnxRuntime:
    """Runs a model file with ONNX Runtime on the CPU; may be called from several threads at once.

    Args:
        path: the model file.
        threads: of one call; None for one per core.

    Raises:
        ModelFileError: ONNX Runtime cannot load the file, or its inputs or outputs are not those of a
            Maskwatch model.
        OptionError: `threads` is less than 1.
    """

    def __init__(self, path: str | Path, threads: int | None = None) -> None:
        if threads is not None and threads < 1:
            raise OptionError(f"threads is {threads}; pass 1 or more, or leave it out for one a core")
        self._path = Path(path)
        try:
            self._session = _session(str(path), threads)
        except Exception as error:  # its exceptions share no base class
            raise ModelFileError(
                f"{path}: ONNX Runtime cannot load it ({first_line(error)}); "
                "export it again or upgrade onnxruntime"
            ) from error
        self._check_signature()

    def __call__(
        self,
        images_nhwc: UInt8Array,
        score_thresholds: FloatArray | None = None,
        iou_threshold: float | None = None,
        class_agnostic: bool | None = None,
    ) -> RawDetections:
        """Runs the model on uint8 (N, H, W, 3) RGB; None keeps an option at the file's default."""
        feeds: dict[str, npt.NDArray[Any]] = {"images": images_nhwc}
        if score_thresholds is not None:
            feeds["score_thresholds"] = np.asarray(score_thresholds, np.float32)
        if iou_threshold is not None:
            feeds["iou_threshold"] = np.array([iou_threshold], np.float32)
        if class_agnostic is not None:
            feeds["class_agnostic"] = np.array([class_agnostic], np.bool_)
        try:
            return RawDetections(*self._session.run(_OUTPUTS, feeds))
        except Exception as error:
            raise ModelFileError(
                f"{self._path}: failed on pictures of shape {images_nhwc.shape} ({first_line(error)}); "
                "export it again"
            ) from error

    def _check_signature(self) -> None:
        required = {node.name for node in self._session.get_inputs()}
        optional = {node.name for node in self._session.get_overridable_initializers()}
        outputs = {node.name for node in self._session.get_outputs()}
        if required == {"images"} and optional >= _OPTIONAL_INPUTS and outputs >= {*_OUTPUTS}:
            return
        raise ModelFileError(
            f"{self._path}: its inputs {sorted(required | optional)} and outputs {sorted(outputs)} are not "
            "those of a Maskwatch model; write it with: maskwatch export"
        )


def open_runtime(name: str, path: str | Path, threads: int | None = None) -> OnnxRuntime:
    """Loads a model file; raises as `OnnxRuntime`, and `OptionError` if `name` is not "onnxruntime"."""
    if name != "onnxruntime":
        raise OptionError(f"runtime {name!r} is unknown; use 'onnxruntime'")
    return OnnxRuntime(path, threads)


def open_tensors(
    model: bytes, names: Sequence[str], threads: int | None = None
) -> Callable[[UInt8Array], list[npt.NDArray[Any]]]:
    """Makes a function that runs an ONNX model on uint8 (N, H, W, 3) RGB and returns its outputs `names`."""
    session = _session(model, threads)
    return lambda images_nhwc: list(session.run(list(names), {"images": images_nhwc}))


def _session(model: str | bytes, threads: int | None) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = _FATAL
    options.intra_op_num_threads = threads or 0
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
