"""OpenVINO: faster on Intel's and newer AMD CPUs, above all where they compute in bfloat16.

The model file stays what it is. Its graph is cut at the candidates (`models.CANDIDATE_TENSORS`): the network
runs in the wanted precision, what follows in float32, because bfloat16 has a step of 2 pixels at 300.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from pathlib import Path
from typing import Any

import numpy.typing as npt

from maskwatch.errors import MissingExtraError, ModelFileError
from maskwatch.media.images import FloatArray, UInt8Array
from maskwatch.models import CANDIDATE_TENSORS
from maskwatch.runtimes.base import (
    OPTIONAL_INPUTS,
    OUTPUTS,
    Backend,
    BackendUnavailableError,
    RawDetections,
    check_threads,
    option_feeds,
)
from maskwatch.runtimes.session_cache import ENTRIES, delete_oldest
from maskwatch.system import usable_cores
from maskwatch.text import first_line

_ELEMENT_TYPES = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}
_CAPABILITIES = {"float32": "FP32", "bfloat16": "BF16", "float16": "FP16"}


class OpenVino:
    """Runs a model file with OpenVINO; may be called from several threads at once.

    Args:
        path: the model file.
        threads: of one call; None for one per core.
        device: "cpu", "gpu" (of Intel) or "npu".
        precision: "float32", "bfloat16" or "float16".
        cache: folder for compiled networks, which then load faster the next time; None for no cache.

    Raises:
        MissingExtraError: OpenVINO is not installed.
        ModelFileError: OpenVINO cannot load the file, or it is not a Maskwatch model.
        BackendUnavailableError: this machine lacks the device, or the device the precision.
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
        ov = _openvino()
        self._path = Path(path)
        self.backend = Backend("openvino", device, precision)
        core = _core()
        name = _device(core, device, precision)
        options: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
        if threads is not None and device == "cpu":
            # Calls of several threads at once run on a stream each.
            streams = max(1, usable_cores() // threads)
            options = {"NUM_STREAMS": streams, "INFERENCE_NUM_THREADS": streams * threads}
        if cache is not None:
            options["CACHE_DIR"] = str(cache)
        try:
            network, postprocessing, defaults = _cut(ov, core, str(path))
            element_type = {"INFERENCE_PRECISION_HINT": _ELEMENT_TYPES[precision]}
            self._network = core.compile_model(network, name, options | element_type)
            exact = {"INFERENCE_PRECISION_HINT": "f32"}
            self._postprocessing = core.compile_model(postprocessing, "CPU", options | exact)
        except RuntimeError as error:
            raise ModelFileError(
                f"{path}: OpenVINO cannot load it ({first_line(error)}); use runtime 'onnxruntime'"
            ) from error
        if cache is not None:
            with contextlib.suppress(OSError):  # another process may do the same
                delete_oldest(cache, "*.blob", 2 * ENTRIES)  # each model is compiled in two parts
        self._defaults = defaults
        self._requests = threading.local()  # a request computes one batch at a time

    def __call__(
        self,
        images_nhwc: UInt8Array,
        score_thresholds: FloatArray | None = None,
        iou_threshold: float | None = None,
        class_agnostic: bool | None = None,
    ) -> RawDetections:
        """Runs the model on uint8 (N, H, W, 3) RGB; None keeps an option at the file's default."""
        options = self._defaults | option_feeds(score_thresholds, iou_threshold, class_agnostic)
        network, postprocessing = self._own_requests()
        try:
            candidates = network.infer([images_nhwc], share_inputs=True, share_outputs=True)
            feeds = [options[name] for name in OPTIONAL_INPUTS] + list(candidates.values())
            found = postprocessing.infer(feeds, share_inputs=True)
        except RuntimeError as error:
            raise ModelFileError(
                f"{self._path}: OpenVINO failed on pictures of shape {images_nhwc.shape} "
                f"({first_line(error)}); use runtime 'onnxruntime'"
            ) from error
        return RawDetections(*found.values())

    def _own_requests(self) -> tuple[Any, Any]:
        """The requests of this thread."""
        if not hasattr(self._requests, "pair"):
            models = (self._network, self._postprocessing)
            self._requests.pair = tuple(model.create_infer_request() for model in models)
        network, postprocessing = self._requests.pair
        return network, postprocessing


def has_device(device: str) -> bool:
    """Whether OpenVINO finds this device; raises `MissingExtraError` without OpenVINO."""
    return device in _devices(_core())


def native_precision() -> str:
    """The precision that OpenVINO itself takes on this CPU: "bfloat16" where it has the instructions.

    Raises:
        MissingExtraError: OpenVINO is not installed.
    """
    hint = _core().get_property("CPU", "INFERENCE_PRECISION_HINT").get_type_name()
    return {element: name for name, element in _ELEMENT_TYPES.items()}.get(hint, "float32")


@functools.cache
def _core() -> Any:
    """The one of this process; making it loads the plugins of all devices."""
    return _openvino().Core()


def _openvino() -> Any:
    try:
        import openvino
    except ImportError as error:
        raise MissingExtraError(f"runtime 'openvino' ({error})", "openvino") from None
    return openvino


def _devices(core: Any) -> set[str]:
    """A machine with two GPUs has GPU.0 and GPU.1, and GPU means the first."""
    return {name.split(".")[0].lower() for name in core.available_devices}


def _device(core: Any, device: str, precision: str) -> str:
    """OpenVINO's name of a device that has the precision."""
    name, there = device.upper(), _devices(core)
    if device not in there:
        raise BackendUnavailableError(
            f"device {device!r}: OpenVINO finds none here, only {', '.join(sorted(there))}; install its "
            "driver or use 'cpu'"
        )
    if _CAPABILITIES[precision] not in core.get_property(name, "OPTIMIZATION_CAPABILITIES"):
        raise BackendUnavailableError(
            f"precision {precision!r}: this {device} has no instructions for it; use 'float32'"
        )
    return name


def read_model(core: Any, path: str) -> Any:
    """A model file as OpenVINO's CPU plugin computes it rightly.

    The plugin (2026.4) merges a mean without `keepdims` with the sum of (N, A) and (A,) that follows, and
    then adds the wrong numbers from N = 2 on, so that two scales took boxes of the wrong sizes in batches. A
    mean that keeps its axis is not merged.
    """
    from openvino import opset13

    model = core.read_model(path)
    for node in model.get_ops():
        if node.get_type_name() != "ReduceMean" or node.get_attributes()["keep_dims"]:
            continue
        source, axes = (node.input(place).get_source_output() for place in range(2))
        mean = opset13.squeeze(opset13.reduce_mean(source, axes, keep_dims=True), axes)
        names = node.output(0).get_names()
        for reader in list(node.output(0).get_target_inputs()):
            reader.replace_source_output(mean.output(0))
        mean.output(0).set_names(names)
    return model


def _cut(ov: Any, core: Any, path: str) -> tuple[Any, Any, dict[str, npt.NDArray[Any]]]:
    """The network up to the candidates, what follows, and the defaults of the optional inputs.

    OpenVINO reads an optional input as a constant; here it is an input again.
    """
    model = read_model(core, path)
    outputs = {
        name: output for node in model.get_ops() for output in node.outputs() for name in output.get_names()
    }
    for name in (*CANDIDATE_TENSORS, *OPTIONAL_INPUTS):
        if name not in outputs:
            raise ModelFileError(
                f"{path}: has no tensor {name}; use runtime 'onnxruntime', or export it again"
            )
    candidates = [outputs[name] for name in CANDIDATE_TENSORS]
    defaults = {name: outputs[name].get_node().get_data().copy() for name in OPTIONAL_INPUTS}
    # A copy, as tensors are replaced below.
    network = ov.Model(candidates, model.get_parameters(), "network").clone()
    results = [model.output(name).get_node() for name in OUTPUTS]
    parameters = []
    for output in (*(outputs[name] for name in OPTIONAL_INPUTS), *candidates):
        parameter = ov.op.Parameter(output.get_element_type(), output.get_partial_shape())
        for reader in list(output.get_target_inputs()):
            reader.replace_source_output(parameter.output(0))
        parameters.append(parameter)
    return network, ov.Model(results, parameters, "postprocessing"), defaults
