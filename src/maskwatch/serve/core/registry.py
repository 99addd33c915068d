"""The models of a service, loaded and described."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from maskwatch.detector import Detector
from maskwatch.errors import OptionError
from maskwatch.models import load_model_file
from maskwatch.serve.core.problem import Problem
from maskwatch.serve.settings import ServeSettings
from maskwatch.system import usable_cores


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A loaded model.

    Attributes:
        path: its file.
        sha256: of the file, in hexadecimal.
        size: of the file in bytes.
    """

    detector: Detector
    path: Path
    sha256: str
    size: int

    @property
    def name(self) -> str:
        return self.detector.name

    @property
    def version_key(self) -> str:
        """Differs between files, so that an address with it can be cached without limit."""
        return self.sha256[:16]

    def summary(self, thresholds: dict[str, float]) -> dict[str, Any]:
        """The `model` member of a record."""
        about = self.detector.metadata
        return {
            "name": about.name,
            "version": about.version,
            "classes": list(about.classes),
            "thresholds": thresholds,
        }

    def describe(self) -> dict[str, Any]:
        """Its entry in `GET /v1/models`."""
        about = self.detector.metadata
        return {
            **self.summary(self.detector.thresholds),
            "input_size": list(about.input_size),
            "resize": about.resize,
            "box_voting": about.box_voting,
            "trained_on": about.trained_on,
            "file": f"/v1/models/{about.name}.onnx?v={self.version_key}",
            "bytes": self.size,
            "sha256": self.sha256,
        }


class ModelRegistry:
    """Models by name, the default one first.

    Raises:
        ModelFileError, OptionError, LabelError: as `Detector`; or two models have one name.
    """

    def __init__(self, settings: ServeSettings) -> None:
        threads = settings.threads or _threads_per_call(settings)
        self._models: dict[str, LoadedModel] = {}
        for name_or_path in settings.models:
            model = _load(name_or_path, settings, threads)
            if model.name in self._models:
                raise OptionError(
                    f"--model {name_or_path}: its name {model.name!r} is that of "
                    f"{self._models[model.name].path}; serve one of them"
                )
            self._models[model.name] = model

    def __iter__(self) -> Iterator[LoadedModel]:
        return iter(self._models.values())

    @property
    def default(self) -> LoadedModel:
        return next(iter(self))

    def find(self, name: str) -> LoadedModel | None:
        """The model of that name, if there is one."""
        return self._models.get(name)

    def select(self, name: str | None) -> LoadedModel:
        """The model of that name, the default one for None.

        Raises:
            Problem: 422, there is none.
        """
        if name is None:
            return self.default
        if name not in self._models:
            raise Problem(422, f"model {name!r} is not served; choose one of {', '.join(self._models)}")
        return self._models[name]

    def detector_of(self, name_or_path: str) -> Detector | None:
        """The detector that has already loaded a model, given as an embedded name or a path."""
        path = load_model_file(name_or_path).path.resolve()
        return next((model.detector for model in self if model.path.resolve() == path), None)


def _threads_per_call(settings: ServeSettings) -> int:
    """Threads for one call, so that all inference workers of all processes together fill the cores."""
    return max(1, usable_cores() // (settings.workers * settings.inference_workers))


def _load(name_or_path: str, settings: ServeSettings, threads: int) -> LoadedModel:
    path = load_model_file(name_or_path).path
    data = path.read_bytes()
    detector = Detector(name_or_path, threshold=settings.threshold, threads=threads)
    detector.run(np.zeros((1, *detector.input_size, 3), np.uint8))  # warm-up
    return LoadedModel(detector, path, hashlib.sha256(data).hexdigest(), len(data))
