"""Which runtime, device and precision a model runs on.

The order of `auto` depends on what is installed and on the processor only, so that the same machine gives the
same results every time. A measurement counts only where a user stored it with `maskwatch bench --write`.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import onnxruntime as ort
import platformdirs

from maskwatch.errors import MissingExtraError, ModelFileError, OptionError
from maskwatch.runtimes.base import SERVER_BACKEND, Backend, BackendUnavailableError, Runtime
from maskwatch.runtimes.onnx_runtime import PROVIDERS, OnnxRuntime
from maskwatch.runtimes.openvino import OpenVino, has_device, native_precision
from maskwatch.runtimes.stored_choice import stored_backend
from maskwatch.system import usable_cores

AUTO = "auto"

MAX_WORKERS = 8
"""Calls at once on a folder of pictures; each takes memory for a picture and its layers."""

BACKENDS = (
    Backend("onnxruntime", "cuda", "float32"),
    Backend("openvino", "cpu", "bfloat16"),
    Backend("onnxruntime", "cpu", "float32"),
    Backend("openvino", "cpu", "float32"),
    Backend("openvino", "gpu", "float16"),
    Backend("openvino", "gpu", "float32"),
    Backend("openvino", "npu", "float16"),
    Backend("onnxruntime", "tensorrt", "float16"),
    Backend("onnxruntime", "tensorrt", "float32"),
    Backend("onnxruntime", "coreml", "float32"),
    Backend("onnxruntime", "directml", "float32"),
    Backend("onnxruntime", "openvino", "float32"),
)
"""All that can be asked for, in the order in which "auto" takes them; the third is always there."""

_log = logging.getLogger("maskwatch")


@dataclass(frozen=True)
class RuntimeSettings:
    """What to run a model on: the first of `BACKENDS` that fits and is there, or a model server.

    The environment variables MASKWATCH_RUNTIME, MASKWATCH_DEVICE and MASKWATCH_PRECISION replace "auto".

    Attributes:
        runtime, device, precision: as in `Backend`, or "auto"; for `runtime` also the address of a model
            server, see `ModelServer`, which leaves device and precision to that.
        threads: of one call; None for one per core.

    Raises:
        OptionError: a value is unknown, or no backend has this combination.
    """

    runtime: str = AUTO
    device: str = AUTO
    precision: str = AUTO
    threads: int | None = None

    def __post_init__(self) -> None:
        for field in fields(Backend):
            value = getattr(self, field.name)
            if value == AUTO:
                value = os.environ.get(f"MASKWATCH_{field.name.upper()}") or AUTO
                object.__setattr__(self, field.name, value)
            if field.name == "runtime" and self.server is not None:
                from maskwatch.runtimes.kserve import parse_server  # loads HTTP, which others do without

                parse_server(value)
                continue
            known = dict.fromkeys(getattr(backend, field.name) for backend in BACKENDS)
            if value not in (AUTO, *known):
                raise OptionError(f"{field.name} {value!r} is unknown; use {', '.join((AUTO, *known))}")
        if self.server is not None:
            if (self.device, self.precision) != (AUTO, AUTO):
                raise OptionError(
                    f"{self.device}, {self.precision}: a model server decides that itself; leave out device "
                    "and precision"
                )
        elif not any(map(self.fits, BACKENDS)):
            raise OptionError(
                f"there is no {self.runtime}, {self.device}, {self.precision}; leave out one of runtime, "
                "device and precision"
            )

    @property
    def server(self) -> str | None:
        """The address of a model server."""
        return self.runtime if "://" in self.runtime else None

    def fits(self, backend: Backend) -> bool:
        """Whether these settings allow it."""
        pairs = ((getattr(self, field.name), getattr(backend, field.name)) for field in fields(Backend))
        return all(wanted in (AUTO, value) for wanted, value in pairs)

    def for_workers(self) -> RuntimeSettings:
        """These settings for calls that come from several threads at once: each takes few cores.

        A GPU is left alone, and so is a number of threads. A model server has calls from as many at once.
        """
        if self.threads is not None or first_installed(self).device not in ("cpu", SERVER_BACKEND.device):
            return self
        return replace(self, threads=math.ceil(usable_cores() / MAX_WORKERS))


REFERENCE = RuntimeSettings("onnxruntime", "cpu", "float32")
"""What evaluation and export use, so that their numbers do not depend on the machine."""


def open_runtime(path: str | Path, settings: RuntimeSettings) -> Runtime:
    """Loads a model file on the first backend that fits the settings, is installed, and works.

    The log "maskwatch" gets a line with the reason where an installed one does not work.

    Raises:
        ModelFileError: the file cannot be loaded.
        ModelServerError: the model server cannot be reached, or has another model.
        OptionError: `threads` is less than 1, or what was asked for is not there.
    """
    if settings.server is not None:
        from maskwatch.runtimes.kserve import ModelServer

        return ModelServer(path, settings.server)
    installed = _to_try(settings)
    for backend, following in zip(installed, [*installed[1:], None], strict=True):
        try:
            return _open(path, backend, settings.threads)
        except (BackendUnavailableError, MissingExtraError, ModelFileError) as error:
            if following is None:
                raise
            _log.warning("%s does not work, taking %s: %s", backend, following, error)
    raise AssertionError("at least one backend fits")


def first_installed(settings: RuntimeSettings) -> Backend:
    """What these settings take, unless it turns out not to work."""
    return _to_try(settings)[0] if settings.server is None else SERVER_BACKEND


def _to_try(settings: RuntimeSettings) -> list[Backend]:
    fitting = list(filter(settings.fits, BACKENDS))
    stored = chosen_backend()
    if stored in fitting:
        fitting = [stored, *(backend for backend in fitting if backend != stored)]
    # Where none is installed, opening the first one raises the reason.
    return list(filter(_is_installed, fitting)) or fitting[:1]


def chosen_backend() -> Backend | None:
    """What `maskwatch bench --write` stored for this machine, as long as it is valid and installed."""
    stored = stored_backend(runtime_versions())
    return stored if stored in BACKENDS and _is_installed(stored) else None


def runtime_versions() -> dict[str, str]:
    """The runtimes on this machine and their versions."""
    names = ("onnxruntime", "openvino") if find_spec("openvino") is not None else ("onnxruntime",)
    return {name: _version(name) for name in names}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:  # another package provides the module, such as onnxruntime-gpu
        return "of unknown version"


def installed_backends() -> Iterator[Backend]:
    """What "auto" can choose from on this machine, in its order."""
    return filter(_is_installed, BACKENDS)


def _is_installed(backend: Backend) -> bool:
    """Whether it is worth a try: no line tells that a CPU lacks bfloat16, or that CUDA is not installed."""
    if backend.runtime == "onnxruntime":
        return PROVIDERS[backend.device] in ort.get_available_providers()
    if find_spec("openvino") is None or not has_device(backend.device):
        return False
    return backend.precision != "bfloat16" or native_precision() == "bfloat16"


def _open(path: str | Path, backend: Backend, threads: int | None) -> Runtime:
    cache = platformdirs.user_cache_path("maskwatch") / backend.runtime
    if backend.runtime == "openvino":
        return OpenVino(path, threads, device=backend.device, precision=backend.precision, cache=cache)
    return OnnxRuntime(path, threads, device=backend.device, precision=backend.precision, cache=cache)
