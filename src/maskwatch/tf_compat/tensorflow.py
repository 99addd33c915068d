"""TensorFlow: imported on first use, quietly and after Triton, and kept out of TensorBoard's writer."""

from __future__ import annotations

import contextlib
import os
import sys
import types
from typing import Any

from maskwatch.errors import MissingExtraError

# Without these TensorFlow prints notes about the CPU to standard error. A value that the user set stays.
_QUIET = {"TF_CPP_MIN_LOG_LEVEL": "2", "TF_ENABLE_ONEDNN_OPTS": "0"}


def load_tensorflow(feature: str) -> Any:
    """The module; raises MissingExtraError, which names the feature, where it is not installed."""
    # Triton first: both contain an LLVM, and the process dies when Triton is loaded after TensorFlow.
    if "tensorflow" not in sys.modules:
        for name, value in _QUIET.items():
            os.environ.setdefault(name, value)
        with contextlib.suppress(ImportError):
            import triton  # type: ignore[import-untyped, unused-ignore]  # noqa: F401
    try:
        import tensorflow
    except ModuleNotFoundError as error:
        raise MissingExtraError(feature, "tf") from error
    return tensorflow


def keep_out_of_tensorboard() -> None:
    """TensorBoard's writer uses its own file code, also where TensorFlow is installed.

    TensorFlow takes five seconds to load and prints notes into the progress of a training. The module is
    TensorBoard's switch for that (`tensorboard/compat/__init__.py`); event files are the same.
    """
    sys.modules.setdefault("tensorboard.compat.notf", types.ModuleType("notf"))
