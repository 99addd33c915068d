"""Optimised models in the cache folder."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from maskwatch.errors import ModelFileError
from maskwatch.models import load_model_file
from maskwatch.runtimes import session_cache
from maskwatch.runtimes.onnx_runtime import OnnxRuntime


def entries(cache: Path) -> list[Path]:
    return sorted(cache.iterdir()) if cache.is_dir() else []


def check_same(model: Path, cache: Path, street: np.ndarray) -> None:
    plain, cached = OnnxRuntime(model), OnnxRuntime(model, cache=cache)
    for options in ({}, {"score_thresholds": np.full(3, 0.95, np.float32), "class_agnostic": False}):
        expected, found = plain(street[None], **options), cached(street[None], **options)
        for name in ("boxes", "scores", "classes", "num_detections"):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def test_the_second_session_is_read_from_the_cache_and_gives_the_same(
    tiny_model: Path, tmp_path: Path, street: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "new" / "cache"
    check_same(tiny_model, cache, street)
    (entry,) = entries(cache)
    written = entry.stat().st_ino
    monkeypatch.setattr(session_cache, "_store", lambda *_: pytest.fail("made again"))
    check_same(tiny_model, cache, street)
    assert [path.stat().st_ino for path in entries(cache)] == [written]


@pytest.mark.parametrize(
    "damage", [lambda data: b"", lambda data: data[:-1], lambda data: data[:40] + b"x" + data[41:]]
)
def test_a_damaged_entry_is_made_again(damage, tiny_model: Path, tmp_path: Path, street: np.ndarray) -> None:  # type: ignore[no-untyped-def]
    OnnxRuntime(tiny_model, cache=tmp_path)
    (entry,) = entries(tmp_path)
    whole = entry.read_bytes()
    entry.write_bytes(damage(whole))
    check_same(tiny_model, tmp_path, street)
    assert entry.read_bytes() == whole


def test_an_entry_that_does_not_load_is_made_again(
    tiny_model: Path, tmp_path: Path, street: np.ndarray
) -> None:
    OnnxRuntime(tiny_model, cache=tmp_path)
    (entry,) = entries(tmp_path)
    whole = entry.read_bytes()
    session_cache._store(b"not a model", tmp_path / "part", entry)
    check_same(tiny_model, tmp_path, street)
    assert entry.read_bytes() == whole


def test_without_a_place_for_it_there_is_no_cache(
    tiny_model: Path, tmp_path: Path, street: np.ndarray
) -> None:
    (tmp_path / "file").write_bytes(b"")
    check_same(tiny_model, tmp_path / "file", street)
    check_same(tiny_model, tmp_path / "file" / "below", street)


def test_version_and_cpu_are_part_of_the_key(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    OnnxRuntime(tiny_model, cache=tmp_path)
    monkeypatch.setattr(session_cache, "cpu_name", lambda: "another")
    OnnxRuntime(tiny_model, cache=tmp_path)
    monkeypatch.setattr(session_cache.ort, "__version__", "99")
    OnnxRuntime(tiny_model, cache=tmp_path)
    assert len(entries(tmp_path)) == 3


def test_the_least_recently_used_entries_are_deleted(tiny_model: Path, tmp_path: Path) -> None:
    for number in range(session_cache.ENTRIES + 2):
        path = tmp_path / f"{number}.bin"
        path.write_bytes(b"")
        os.utime(path, (number, number))
    OnnxRuntime(tiny_model, cache=tmp_path)
    left = {path.name for path in entries(tmp_path)}
    assert len(left) == session_cache.ENTRIES
    assert not left & {"0.bin", "1.bin", "2.bin"}


def test_compiled_models_of_openvino_do_not_pile_up(tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="needs the extra openvino")
    from maskwatch.runtimes.openvino import OpenVino

    for number in range(2 * session_cache.ENTRIES + 3):
        path = tmp_path / f"{number}.blob"
        path.write_bytes(b"")
        os.utime(path, (number, number))
    OpenVino(load_model_file("maskwatch-320").path, cache=tmp_path)
    left = {path.name for path in tmp_path.glob("*.blob")}
    assert len(left) == 2 * session_cache.ENTRIES
    assert not left & {"0.blob", "1.blob", "2.blob"}


def test_a_broken_model_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"\x08\x0a\x3a\x00")
    with pytest.raises(ModelFileError, match="ONNX Runtime cannot load it"):
        OnnxRuntime(path, cache=tmp_path / "cache")
    assert entries(tmp_path / "cache") == []
