"""Optimised models of ONNX Runtime in the user's cache folder: loading one takes a third of the time.

An entry is used for the same model, version of ONNX Runtime and CPU only, and where its SHA-256 is right.
The number of threads changes nothing in it. Where the cache fails, the model is optimised as without one.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime as ort

from maskwatch.system import cpu_name

ENTRIES = 8
"""The least recently used ones beyond these are deleted."""

_DIGEST_BYTES = 32


def cached_session(
    model: bytes, cache: Path, open_session: Callable[[bytes, ort.SessionOptions], Any]
) -> ort.InferenceSession:
    """A session of an optimised model from the cache, which gets one where it has none.

    Args:
        model: content of the model file.
        cache: folder, which is made where it does not exist.
        open_session: makes a session of a model with these options; its errors are passed on.
    """
    key = hashlib.sha256("\0".join((ort.__version__, cpu_name())).encode())
    key.update(model)
    path = cache / f"{key.hexdigest()[:40]}.bin"
    optimised = _read(path)
    if optimised is not None:
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        with contextlib.suppress(Exception):  # ONNX Runtime's exceptions share no base class
            return open_session(optimised, options)
    try:
        folder = tempfile.TemporaryDirectory(dir=_made(cache), ignore_cleanup_errors=True)
    except OSError:
        return open_session(model, ort.SessionOptions())
    with folder:
        written = Path(folder.name, "model.onnx")
        options = ort.SessionOptions()
        options.optimized_model_filepath = str(written)
        try:
            session = open_session(model, options)
        except Exception:  # perhaps only because the disk is full
            return open_session(model, ort.SessionOptions())
        with contextlib.suppress(OSError):
            _store(written.read_bytes(), Path(folder.name, "entry"), path)
    return session


def _made(cache: Path) -> Path:
    cache.mkdir(parents=True, exist_ok=True)
    return cache


def _read(path: Path) -> bytes | None:
    try:
        content = path.read_bytes()
        os.utime(path)
    except OSError:
        return None
    digest, optimised = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    return optimised if hashlib.sha256(optimised).digest() == digest else None


def _store(optimised: bytes, part: Path, path: Path) -> None:
    part.write_bytes(hashlib.sha256(optimised).digest() + optimised)
    part.replace(path)
    delete_oldest(path.parent, "*.bin", ENTRIES)


def delete_oldest(cache: Path, pattern: str, kept: int) -> None:
    """Deletes the files of a cache folder that fit the pattern, but for the newest; raises OSError."""
    newest_first = sorted(cache.glob(pattern), key=lambda entry: entry.stat().st_mtime, reverse=True)
    for old in newest_first[kept:]:
        old.unlink()
