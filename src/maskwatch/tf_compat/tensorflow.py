"""TensorFlow, imported on first use and in the right order."""

from __future__ import annotations

import contextlib
import sys
from typing import Any

from maskwatch.errors import MissingExtraError


def load_tensorflow(feature: str) -> Any:
    """The module.

    Args:
        feature: what needs it, for the message.

    Raises:
        MissingExtraError: it is not installed.
    """
    # Triton comes first: it and TensorFlow both bring an LLVM, and the process dies when Triton is loaded
    # after TensorFlow.
    if "tensorflow" not in sys.modules:
        with contextlib.suppress(ImportError):
            import triton  # type: ignore[import-untyped, unused-ignore]  # noqa: F401
    try:
        import tensorflow
    except ModuleNotFoundError as error:
        raise MissingExtraError(feature, "tf") from error
    return tensorflow
