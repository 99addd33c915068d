"""The benchmark runs and adds up; how fast anything is, no test asserts."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest

from benchmark_module import load_benchmark


@pytest.fixture
def latency(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return load_benchmark("latency", monkeypatch)


@pytest.mark.usefixtures("tiny_embedded")
def test_table_and_json(latency: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "latency.json"
    assert latency.main(["--runs", "5", "--threads", "1", "--json", str(target)]) == 0
    printed = capsys.readouterr().out
    assert "maskwatch-640" in printed
    assert all(stage in printed for stage in latency.STAGES)

    result = json.loads(target.read_text("utf-8"))
    assert [row["model"] for row in result["models"]] == ["maskwatch-640", "maskwatch-320"]
    for row in result["models"]:
        times = row["median_ms"]
        assert list(times) == ["decode", "resize", "network", "nms", "post", "total"]
        assert min(times[stage] for stage in times if stage != "nms") > 0
        assert row["total_p90_ms"] >= times["total"]


def test_errors_are_one_line(latency: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert latency.main(["--image", str(tmp_path / "none.jpg")]) == 2
    assert "none.jpg" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("values", "share", "wanted"), [([3, 1, 2], 0.5, 2), ([1] * 9 + [7], 0.9, 1), ([5], 0.9, 5)]
)
def test_percentile(latency: ModuleType, values: list[float], share: float, wanted: float) -> None:
    assert latency.percentile(values, share) == wanted
