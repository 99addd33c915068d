"""The benchmark of load runs and adds up; how fast anything is, no test asserts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="the extra serve is not installed")

from benchmark_module import load_benchmark


def test_it_runs(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    benchmark = load_benchmark("service_load", monkeypatch)
    words = f"--model {tiny_model} --seconds 0.2 --rounds 1 --connections 1 3 -- --queue 2 --max-images 2"
    assert benchmark.main(words.split()) == 0
    printed = capsys.readouterr().out
    rows = [line.strip("| ").split(" | ") for line in printed.splitlines() if line.startswith("| ")][2:]
    assert [row[0] for row in rows] == [
        "bare `Detector`",
        "1 connection",
        "3 connections",
        "10 times the highest rate",
    ]
    for _, sent, answered, _, p50, p95, p99, shed, broken, cpu in rows[1:]:
        assert float(sent) >= float(answered) > 0 or int(shed) == 0
        assert float(p50) <= float(p95) <= float(p99)
        assert int(shed) >= int(broken) == 0
        assert cpu == "nan" or int(cpu) >= 0
    assert int(rows[1][-3]) == 0  # one connection alone is never one too many
    assert "options of serve: --queue 2 --max-images 2" in printed
    assert re.search(r"^At saturation \d+% of the bare detector's rate \(median of 1 rounds", printed, re.M)
    assert "% were refused with 503, 0 of them without Retry-After; 0 got another answer" in printed


def test_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    benchmark = load_benchmark("service_load", monkeypatch)
    load = benchmark.Load(
        "x", sending_s=1.0, elapsed_s=2.0, cpu_s=1.5, latencies_s=[0.1] * 8 + [0.3, 0.5], shed=5, broken=1
    )
    assert load.row(0.5) == "| x | 16.0 | 5.0 | 50% | 100 | 410 | 482 | 5 | 1 | 150 |"
    load.add(benchmark.Load("x", sending_s=1.0, elapsed_s=2.0, latencies_s=[0.1] * 6, shed_without_time=2))
    assert (load.sent, load.rate, load.shed_without_time) == (22, 4.0, 2)


def test_what_it_comes_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ratios are of one round; the two bare rates differ by a factor of two, and the service keeps up."""
    benchmark = load_benchmark("service_load", monkeypatch)

    def load(rate: int, seconds: float, shed: int = 0) -> object:
        return benchmark.Load("1 connection", 1.0, 1.0, 0.5, [seconds] * rate, shed)

    rounds = [
        benchmark.Round(10.0, 0.1, [load(9, 0.1)], load(8, 0.2, shed=72)),
        benchmark.Round(20.0, 0.2, [load(18, 0.1)], load(16, 0.2, shed=144)),
    ]
    text = benchmark.report(rounds)
    assert "| bare `Detector` | | 15.0 | 100% | | | | | | 150 |" in text
    assert (
        "At saturation 90% of the bare detector's rate (median of 2 rounds, in which it was 10.0 to 20.0"
        in text
    )
    assert "90% were refused with 503" in text
    assert "is 2.0 times that of 1 connection (200 and 100 ms)" in text


def test_a_missing_picture(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    benchmark = load_benchmark("service_load", monkeypatch)
    assert benchmark.main(["--image", "missing.jpg"]) == 2
    assert "missing.jpg" in capsys.readouterr().err
