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
class Model:
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
        """Another file has another one: names what may be cached for ever."""
        return self.sha256[:16]

    def head(self, thresholds: dict[str, float]) -> dict[str, Any]:
        """What records say of the model that made them."""
        about = self.detector.metadata
        return {
            "name": about.name,
            "version": about.version,
            "classes": list(about.classes),
            "thresholds": thresholds,
        }

    def describe(self) -> dict[str, Any]:
        """What `GET /v1/models` says of it."""
        about = self.detector.metadata
        return {
            **self.head(self.detector.thresholds),
            "input_size": list(about.input_size),
            "resize": about.resize,
            "box_voting": about.box_voting,
            "trained_on": about.trained_on,
            "file": f"/v1/models/{about.name}.onnx?v={self.version_key}",
            "bytes": self.size,
            "sha256": self.sha256,
        }


class Shelf:
    """Models by name, the default one first.

    Raises:
        ModelFileError, OptionError, LabelError: as `Detector`; or two models have one name.
    """

    def __init__(self, settings: ServeSettings) -> None:
        threads = settings.threads or share_of_cores(settings.workers, settings.lanes)
        self._models: dict[str, Model] = {}
        for wanted in settings.models:
            model = _load(wanted, settings, threads)
            if model.name in self._models:
                raise OptionError(
                    f"--model {wanted}: its name {model.name!r} is that of {self._models[model.name].path}; "
                    "serve one of them"
                )
            self._models[model.name] = model

    def __iter__(self) -> Iterator[Model]:
        return iter(self._models.values())

    @property
    def default(self) -> Model:
        return next(iter(self))

    def pick(self, name: str | None) -> Model:
        """The model of that name, the default one for None.

        Raises:
            Problem: 422, there is none.
        """
        if name is None:
            return self.default
        if name not in self._models:
            raise Problem(422, f"model {name!r} is not served; choose one of {', '.join(self._models)}")
        return self._models[name]

    def of_file(self, name_or_path: str) -> Detector | None:
        """The detector that has loaded a model already, by the name of an embedded one or by path."""
        path = load_model_file(name_or_path).path.resolve()
        return next((model.detector for model in self if model.path.resolve() == path), None)

    def find(self, name: str) -> Model | None:
        """The model of that name, if there is one."""
        return self._models.get(name)


def share_of_cores(workers: int, lanes: int) -> int:
    """Threads for one call, so that all lanes of all workers together fill the cores."""
    return max(1, usable_cores() // (workers * lanes))


def _load(wanted: str, settings: ServeSettings, threads: int) -> Model:
    path = load_model_file(wanted).path
    data = path.read_bytes()
    detector = Detector(wanted, threshold=settings.threshold, threads=threads)
    detector.run(np.zeros((1, *detector.input_size, 3), np.uint8))  # or the first client would wait for it
    return Model(detector, path, hashlib.sha256(data).hexdigest(), len(data))
