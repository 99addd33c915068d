"""The models of a service, loaded and described."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from maskwatch.detector import Detector, Threshold
from maskwatch.errors import OptionError
from maskwatch.models import load_model_file
from maskwatch.runtimes.choice import RuntimeSettings
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
            "backend": asdict(self.detector.backend),
            "bytes": self.size,
            "sha256": self.sha256,
        }


class ModelRegistry:
    """The models of a service.

    Attributes:
        by_name: in the order of the settings, the default one first.

    Raises:
        ModelFileError, OptionError, LabelError: as `Detector`; or two models have one name.
    """

    def __init__(self, settings: ServeSettings) -> None:
        # The inference workers of all processes together fill the cores.
        share = usable_cores() // (settings.workers * settings.inference_workers)
        runtime = replace(settings.runtime, threads=settings.threads or max(1, share))
        self.by_name: dict[str, LoadedModel] = {}
        for name_or_path in settings.models:
            model = _load(name_or_path, settings.threshold, runtime)
            if (other := self.by_name.get(model.name)) is not None:
                text = f"its name {model.name!r} is that of {other.path}"
                raise OptionError(f"--model {name_or_path}: {text}; serve one of them")
            self.by_name[model.name] = model

    def select(self, name: str | None) -> LoadedModel:
        """The model of that name, the default one for None; `Problem` 422 if there is none."""
        names = list(self.by_name)
        if name is not None and name not in names:
            raise Problem(422, f"model {name!r} is not served; choose one of {', '.join(names)}")
        return self.by_name[name or names[0]]

    def detector_of(self, name_or_path: str) -> Detector | None:
        """The detector that has already loaded a model, given as an embedded name or a path."""
        path = load_model_file(name_or_path).path.resolve()
        return next((model.detector for model in self.by_name.values() if model.path.resolve() == path), None)


def _load(name_or_path: str, threshold: Threshold | None, runtime: RuntimeSettings) -> LoadedModel:
    path = load_model_file(name_or_path).path
    data = path.read_bytes()
    detector = Detector(name_or_path, threshold=threshold, **asdict(runtime))
    detector.run(np.zeros((1, *detector.input_size, 3), np.uint8))  # warm-up
    return LoadedModel(detector, path, hashlib.sha256(data).hexdigest(), len(data))
