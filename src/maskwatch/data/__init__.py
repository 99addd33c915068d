"""Data sets: found, read, checked, repaired, split and written."""

from __future__ import annotations

import warnings
from typing import Any

from maskwatch.data.corrections import correct, correct_all, read_corrections
from maskwatch.data.dataset import DetectionSet, Sample, merge, rename
from maskwatch.data.formats.base import Split
from maskwatch.data.formats.search import find_splits
from maskwatch.data.read import read_data, read_split, read_voc

__all__ = [
    "DetectionSet",
    "Sample",
    "Split",
    "correct",
    "correct_all",
    "find_splits",
    "merge",
    "read_corrections",
    "read_data",
    "read_split",
    "read_voc",
    "rename",
]

_FORMER_NAMES: dict[str, Any] = {"Part": Split, "find_parts": find_splits, "read_part": read_split}


def __getattr__(name: str) -> Any:
    if name not in _FORMER_NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    new = _FORMER_NAMES[name]
    warnings.warn(f"maskwatch.data.{name} is now {new.__name__}", DeprecationWarning, stacklevel=2)
    return new
