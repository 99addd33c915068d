"""The benchmarks of watching run and add up; how fast anything is, no test asserts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmark_module import load_benchmark


def test_delay(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    benchmark = load_benchmark("live_delay", monkeypatch)
    assert benchmark.main(["--seconds", "0.6", "--detector-ms", "50", "--stream", "mjpeg"]) == 0
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| ")][2:]
    assert [row[0] for row in rows] == [f"| {name}" for name in benchmark.READERS]
    for row in rows:
        assert row[1] == "50"
        assert int(row[2]) >= 1
        assert int(row[4]) >= 50  # the detector alone takes that


def test_a_delay_row(monkeypatch: pytest.MonkeyPatch) -> None:
    benchmark = load_benchmark("live_delay", monkeypatch)
    run = benchmark.Run("x", 10, [0.1] * 10 + [0.3] * 9 + [0.5], 7)
    assert run.row() == "| x | 10 | 20 | 7 | 200 | 310 | 400 |"


def test_memory(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    if not Path("/proc/self/status").exists():
        pytest.skip("no /proc/self/status, from which the memory is read")
    benchmark = load_benchmark("live_memory", monkeypatch)
    assert benchmark.main(["--seconds", "2.5", "--cut-every", "0.3", "--stream", "mjpeg"]) == 0
    printed = capsys.readouterr().out
    mib = re.search(r"^\| \d+ \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| -?[\d.]+ \|$", printed, re.M)
    assert mib is not None
    assert all(10 < float(value) <= float(mib[4]) for value in mib.groups())
    source = re.search(r"^\| mjpeg \| (\d+) \| (\d+) \| (\d+) \|$", printed, re.M)
    assert source is not None
    frames, passed_over, reconnects = map(int, source.groups())
    assert frames > passed_over
    assert reconnects >= 1


def test_slope(monkeypatch: pytest.MonkeyPatch) -> None:
    benchmark = load_benchmark("live_memory", monkeypatch)
    seconds = [float(second) for second in range(100)]
    mib = [50.0] * 20 + [60 + second / 10 for second in range(80)]
    assert benchmark.Memory(seconds, mib, []).slope() == pytest.approx(360)
    assert "| 99 | 50.0 | 60.0 | 67.9 | 67.9 | 360.0 |" in benchmark.Memory(seconds, mib, []).table()
