"""The small-data benchmark, on drawn pictures and for a few steps."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
from safetensors.torch import save_file

from benchmark_module import load_benchmark
from drawn_data import draw_faces


@pytest.fixture
def small_data(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    pytest.importorskip("lightning", reason="the benchmark trains")
    return load_benchmark("small_data", monkeypatch)


def test_table_gives_mean_spread_and_ratio(small_data: ModuleType) -> None:
    one, two = (dict.fromkeys(small_data.SCORES, value) for value in (0.2, 0.3))
    lines = list(small_data.table({"seed": [one, two], "default": [two]}, {"seed": 64, "default": 32}))
    assert lines[2].startswith("| `seed` | 2 | 64 | 0.250 (0.200 to 0.300) |")
    assert lines[3].startswith("| `default` | 1 | 32 | 0.300 |")
    assert lines[-1] == "\nAP of `default` is 1.20 times that of `seed`."


def test_recipes_keep_what_makes_them(small_data: ModuleType) -> None:
    seed, default = small_data.entry("seed", 320, 8000, None, 3), small_data.entry("default", 320, 100, 16, 3)
    assert (seed.images, default.images) == (64000, 1600)
    assert (seed.recipe.loss, seed.recipe.schedule_steps) == ("ssd", 50000)
    assert (default.recipe.loss, default.recipe.train_sizes) == ("gfl", (320,))
    assert seed.recipe.seed == default.recipe.seed == 3


def test_runs_are_trained_once_and_measured(
    small_data: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for part in ("train", "test"):
        draw_faces(tmp_path / part, 4)
        (tmp_path / f"small_{part}.txt").write_text("0\n1\n2\n")
    from maskwatch.network import SSD

    save_file(SSD(90).state_dict(), tmp_path / "start.safetensors")
    arguments = [
        *("--data", tmp_path, "--start", tmp_path / "start.safetensors", "--out", tmp_path / "runs"),
        *("--size", 64, "--seed-steps", 2, "--default-steps", 2, "--default-batch", 2),
    ]
    assert small_data.main([str(argument) for argument in arguments]) == 0
    first = capsys.readouterr()
    assert "| `default` | 1 | 4 |" in first.out
    assert (tmp_path / "runs" / "seed-64-1" / "last.ckpt").exists()
    assert small_data.main([str(argument) for argument in arguments]) == 0
    assert "0.0 minutes" in capsys.readouterr().err


def test_missing_data_is_one_message(
    small_data: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert small_data.main(["--data", str(tmp_path), "--start", "nowhere"]) == 2
    assert "small_train.txt: cannot be read" in capsys.readouterr().err
