"""The benchmark of the data check runs; how fast anything is, no test asserts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmark_module import load_benchmark
from drawn_data import draw_faces


@pytest.mark.slow
def test_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    benchmark = load_benchmark("data_check", monkeypatch)
    # Decoding in processes finds this file by name, which a loaded module does not have there.
    monkeypatch.setattr(benchmark, "decoding_seconds", lambda paths: float(len(paths)))
    draw_faces(tmp_path / "faces", 3)
    assert benchmark.main([str(tmp_path / "faces"), "--repeats", "1"]) == 0
    printed = capsys.readouterr().out
    assert re.fullmatch(r"3 pictures: decoding 3\.0 s, check [\d.]+ s, ratio [\d.]+ \([\d. to]+\)\n", printed)
    assert benchmark.main([str(tmp_path / "none")]) == 2
    assert "does not exist" in capsys.readouterr().err
