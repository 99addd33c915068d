"""ONNX Runtime: the runtime of the base install, whose results in float32 on a CPU are the reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt
import onnxruntime as ort

from maskwatch.errors import ModelFileError
from maskwatch.media.images import FloatArray, UInt8Array
from maskwatch.runtimes.base import (
    OPTIONAL_INPUTS,
    OUTPUTS,
    Backend,
    BackendUnavailableError,
    RawDetections,
    check_threads,
    option_feeds,
)
from maskwatch.runtimes.session_cache import cached_session
from maskwatch.text import first_line

_FATAL = 4  # ONNX Runtime's log severity; errors come as exceptions anyway
_SPINNING = "session.intra_op.allow_spinning"
_CPU = "CPUExecutionProvider"

PROVIDERS = {
    "cpu": _CPU,
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "directml": "DmlExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
}
"""Execution provider of each device. Operators that a provider lacks run on the CPU."""

_FLOAT16 = {"TensorrtExecutionProvider": {"trt_fp16_enable": True}}
"""Options of the providers that can compute a float32 file in float16."""


class OnnxRuntime:
    """Runs a model file with ONNX Runtime; may be called from several threads at once.

    Args:
        path: the model file.
        threads: of one call; None for one per core, which wait busily for work: a little faster, at twice
            the processor time.
        device: a key of `PROVIDERS`.
        precision: "float32", or "float16" where the device has it.
        cache: folder for optimised models, which the CPU loads faster the next time; None for no cache.

    Raises:
        ModelFileError: ONNX Runtime cannot load the file, or its inputs or outputs are not those of a
            Maskwatch model.
        BackendUnavailableError: this build of ONNX Runtime, or this machine, lacks the device.
        OptionError: `threads` is less than 1.
    """

    def __init__(
        self,
        path: str | Path,
        threads: int | None = None,
        *,
        device: str = "cpu",
        precision: str = "float32",
        cache: Path | None = None,
    ) -> None:
        check_threads(threads)
        self._path = Path(path)
        provider = _provider(device, precision)
        try:
            if cache is None or device != "cpu":
                self._session = _session(str(path), ort.SessionOptions(), threads, provider)
            else:
                self._session = cached_session(
                    self._path.read_bytes(), cache, lambda model, o: _session(model, o, threads, provider)
                )
        except Exception as error:  # its exceptions share no base class
            raise ModelFileError(
                f"{path}: ONNX Runtime cannot load it ({first_line(error)}); "
                "export it again or upgrade onnxruntime"
            ) from error
        if self._session.get_providers()[0] != provider[0]:  # it falls back to the CPU silently
            raise BackendUnavailableError(
                f"device {device!r}: ONNX Runtime cannot load its {provider[0]} here; install the libraries "
                "that it needs, or use device 'cpu'"
            )
        self.backend = Backend("onnxruntime", device, precision)
        self._check_signature()

    def __call__(
        self,
        images_nhwc: UInt8Array,
        score_thresholds: FloatArray | None = None,
        iou_threshold: float | None = None,
        class_agnostic: bool | None = None,
    ) -> RawDetections:
        """Runs the model on uint8 (N, H, W, 3) RGB; None keeps an option at the file's default."""
        feeds = {"images": images_nhwc, **option_feeds(score_thresholds, iou_threshold, class_agnostic)}
        try:
            return RawDetections(*self._session.run(OUTPUTS, feeds))
        except Exception as error:
            raise ModelFileError(
                f"{self._path}: failed on pictures of shape {images_nhwc.shape} ({first_line(error)}); "
                "export it again"
            ) from error

    def _check_signature(self) -> None:
        required = {node.name for node in self._session.get_inputs()}
        optional = {node.name for node in self._session.get_overridable_initializers()}
        outputs = {node.name for node in self._session.get_outputs()}
        if required == {"images"} and optional >= {*OPTIONAL_INPUTS} and outputs >= {*OUTPUTS}:
            return
        raise ModelFileError(
            f"{self._path}: its inputs {sorted(required | optional)} and outputs {sorted(outputs)} are not "
            "those of a Maskwatch model; write it with: maskwatch export"
        )


def open_tensors(
    model: bytes, names: Sequence[str], threads: int | None = None
) -> Callable[[UInt8Array], list[npt.NDArray[Any]]]:
    """Makes a function that runs an ONNX model on uint8 (N, H, W, 3) RGB and returns its outputs `names`."""
    session = _session(model, ort.SessionOptions(), threads, (_CPU, {}))
    return lambda images_nhwc: list(session.run(list(names), {"images": images_nhwc}))


def _provider(device: str, precision: str) -> tuple[str, dict[str, Any]]:
    """Execution provider and its options."""
    name = PROVIDERS[device]
    if name not in ort.get_available_providers():
        there = ", ".join(key for key, value in PROVIDERS.items() if value in ort.get_available_providers())
        raise BackendUnavailableError(
            f"device {device!r} is not in this build of ONNX Runtime, which has {there}; "
            f"install the onnxruntime package with {name}, or use device 'cpu'"
        )
    if precision == "float32":
        return name, {}
    if precision == "float16" and name in _FLOAT16:
        return name, _FLOAT16[name]
    raise BackendUnavailableError(
        f"precision {precision!r}: ONNX Runtime has none on device {device!r}; use 'float32', or runtime "
        "'openvino'"
    )


def _session(
    model: str | bytes,
    options: ort.SessionOptions,
    threads: int | None,
    provider: tuple[str, dict[str, Any]],
) -> ort.InferenceSession:
    options.log_severity_level = _FATAL
    options.intra_op_num_threads = threads or 0
    if threads is not None:
        # Others want the cores too: decoders, other calls. Threads that wait busily would keep them.
        options.add_session_config_entry(_SPINNING, "0")
    providers = [provider] if provider[0] == _CPU else [provider, _CPU]
    return ort.InferenceSession(model, options, providers=providers)
