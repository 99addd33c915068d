"""Finds every face in a photograph or a video and says whether it wears a mask.

>>> from maskwatch import Detector
>>> detections = Detector()("photo.jpg")

The public names load on first use, so that `import maskwatch` itself stays fast.
"""

from __future__ import annotations

import os
import sys
import warnings
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any

from maskwatch._version import __version__
from maskwatch.errors import MaskwatchError

# From 1.29 on, ONNX Runtime sends telemetry unless this is set before its first import:
# https://github.com/microsoft/onnxruntime/pull/27379. Maskwatch has no telemetry.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from maskwatch.detector import Detector
    from maskwatch.drawing.annotate import draw
    from maskwatch.media.images import read_image
    from maskwatch.models import embedded_models, load_model_file
    from maskwatch.records import to_records

__all__ = [
    "Detector",
    "MaskwatchError",
    "__version__",
    "draw",
    "embedded_models",
    "load_model_file",
    "read_image",
    "to_records",
]

_MODULE_OF = {
    "Detector": "maskwatch.detector",
    "draw": "maskwatch.drawing.annotate",
    "embedded_models": "maskwatch.models",
    "load_model_file": "maskwatch.models",
    "read_image": "maskwatch.media.images",
    "to_records": "maskwatch.records",
}

# Old name → new name of each documented module that has moved.
_MOVED = {
    "maskwatch.blur": "maskwatch.drawing.blur",
    "maskwatch.images": "maskwatch.media.images",
    "maskwatch.render": "maskwatch.drawing.annotate",
    "maskwatch.videos": "maskwatch.media.videos",
}


class _MovedModules:
    """Finds a moved module under its old name, and warns; as the last finder, it slows no other import."""

    @classmethod
    def find_spec(cls, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        return ModuleSpec(name, cls()) if name in _MOVED else None  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> None:
        """Leaves it to Python."""

    def exec_module(self, module: ModuleType) -> None:
        new = _MOVED[module.__name__]
        warnings.warn(f"{module.__name__} is now {new}; import that", DeprecationWarning, stacklevel=2)
        moved = import_module(new)
        module.__getattr__ = lambda name: getattr(moved, name)  # type: ignore[method-assign]


sys.meta_path.append(_MovedModules)


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return globals().setdefault(name, getattr(import_module(_MODULE_OF[name]), name))


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
