"""The benchmarks of speed and memory run and add up; how fast anything is, no test asserts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from benchmark_module import load_benchmark
from camera_servers import why_no_rtsp
from drawn_data import draw_faces

# ---- What all share --------------------------------------------------------------------------------------


def test_tables_and_errors(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    command = load_benchmark("command", monkeypatch)
    assert command.head("| name | ms | p95 |") == ("| name | ms | p95 |", "| --- | ---: | ---: |")
    assert command.row("x", 1) == "| x | 1 |"

    def breaks_off(options: object) -> Iterator[str]:
        yield "one line"
        raise OSError("the disk is full")

    assert command.run(breaks_off, command.parser_of("Title.\n\nMore."), []) == 2
    assert capsys.readouterr() == ("one line\n", "error: the disk is full\n")


# ---- One picture (MODEL_CARD.md) ---------------------------------------------------------------------------


@pytest.fixture
def latency(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return load_benchmark("latency", monkeypatch)


@pytest.mark.usefixtures("tiny_embedded")
def test_latency_table_and_json(
    latency: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "latency.json"
    assert latency.main(["--runs", "5", "--threads", "1", "--json", str(target)]) == 0
    printed = capsys.readouterr().out
    assert "maskwatch-640" in printed
    assert all(stage in printed for stage in latency.STAGES)

    result = json.loads(target.read_text("utf-8"))
    assert [row["model"] for row in result["models"]] == ["maskwatch-640", "maskwatch-320"]
    assert [row["network_ratio"] for row in result["models"]][:1] == [1]
    # OpenVINO needs candidates, which tiny models lack.
    assert all("no tensor candidate_boxes" in problem for problem in result["not_run"])
    for row in result["models"]:
        times = row["median_ms"]
        assert list(times) == ["decode", "resize", "network", "nms", "post", "total"]
        assert min(times[stage] for stage in times if stage != "nms") > 0
        assert row["total_p90_ms"] >= times["total"]


@pytest.mark.slow
def test_latency_sets_runtimes_side_by_side(latency: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    assert latency.main(["--runs", "1", "--model", "maskwatch-320", "--json", "-"]) == 0
    result = json.loads(capsys.readouterr().out)
    ratios = {(row["runtime"], row["precision"]): row["network_ratio"] for row in result["models"]}
    assert ratios.keys() >= {("onnxruntime", "float32"), ("openvino", "float32")}
    assert ratios["onnxruntime", "float32"] == 1
    assert ratios["openvino", "float32"] not in (0, 1)
    assert result["not_run"] == []


def test_busy_waiting(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    benchmark = load_benchmark("busy_waiting", monkeypatch)
    options = ["--model", str(tiny_model), "--pauses", "0", "0.01", "--seconds", "0"]
    assert benchmark.main(options) == 0
    assert len(re.findall(r"(\| \d+\.\d+ ){6}\|", capsys.readouterr().out)) == 2


def test_latency_errors_are_one_line(
    latency: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert latency.main(["--image", str(tmp_path / "none.jpg")]) == 2
    assert "none.jpg" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("values", "share", "wanted"), [([3, 1, 2], 0.5, 2), ([1] * 9 + [7], 0.9, 1), ([5], 0.9, 5)]
)
def test_percentile(latency: ModuleType, values: list[float], share: float, wanted: float) -> None:
    assert latency.percentile(values, share) == wanted


# ---- First detection, folders, reduced pictures (docs/speed.md) ----------------------------------------


def test_first_detection(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    benchmark = load_benchmark("first_detection", monkeypatch)
    source = str(benchmark.ROOT / "src")
    options = ["--runs", "1", "--cold", "--against", source, "--options", "--model", str(tiny_model)]
    assert benchmark.main(options) == 0
    printed = capsys.readouterr().out
    assert len(re.findall(r"\| (?:warm|cold) \| \d", printed)) == 2
    assert re.search(r"this tree takes \d\.\d\d of the time of", printed)


def test_folder(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    benchmark = load_benchmark("folder", monkeypatch)
    assert benchmark.main(["--model", str(tiny_model), "--side", "64", "--count", "3", "--rounds", "1"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("3 pictures")
    assert len(re.findall(r"\| \d+\.\d \| \d+\.\d\d \|", printed)) == 6


def test_reduced_pictures(
    tiny_model: Path, tmp_path: Path, street: np.ndarray,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    benchmark = load_benchmark("reduced_pictures", monkeypatch)
    Image.fromarray(street).save(tmp_path / "a.png")
    assert benchmark.main([str(tmp_path), "--model", str(tiny_model)]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("3 boxes")
    assert "| reduced | " in printed
    assert "inf" not in printed


# ---- Training (docs/speed.md) ------------------------------------------------------------------------------


def test_training_speed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    benchmark = load_benchmark("training_speed", monkeypatch)
    draw_faces(tmp_path / "faces", 3)
    settings = ("size=128", "train_sizes=[128]", "batch_size=2")
    options = [option for setting in settings for option in ("--set", setting)]
    assert benchmark.main([str(tmp_path / "faces"), "--rounds", "1", *options]) == 0
    rows = re.findall(r"\| (\w+) \| (\d+\.\d) \| (\d+\.\d) \| \d+\.\d\d \|", capsys.readouterr().out)
    assert [part for part, *_ in rows] == [*benchmark.PARTS, "sum", "elapsed"]
    *parts, total, _ = [float(after) for *_, after in rows]
    assert total == pytest.approx(sum(parts), abs=1)


# ---- The data check (docs/data.md) -------------------------------------------------------------------------


@pytest.mark.slow
def test_data_check_prints_one_line(
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


# ---- Watching (docs/camera.md) -----------------------------------------------------------------------------


def test_live_delay(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
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


def test_live_memory(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
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


def test_memory_slope(monkeypatch: pytest.MonkeyPatch) -> None:
    benchmark = load_benchmark("live_memory", monkeypatch)
    seconds = [float(second) for second in range(100)]
    mib = [50.0] * 20 + [60 + second / 10 for second in range(80)]
    assert benchmark.Memory(seconds, mib, []).slope() == pytest.approx(360)
    assert "| 99 | 50.0 | 60.0 | 67.9 | 67.9 | 360.0 |" in benchmark.Memory(seconds, mib, []).table()


def test_cameras(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if why_no_rtsp():
        pytest.skip(why_no_rtsp())
    benchmark = load_benchmark("cameras", monkeypatch)
    size = ["--width", "192", "--height", "108", "--mbit", "0.2", "--key-every", "1"]
    length = ["--seconds", "1.5", "--warm-up", "0.2", "--most", "1", "--models"]
    assert benchmark.main([*size, *length, str(tiny_model)]) == 0
    printed = capsys.readouterr().out
    (found,) = re.findall(rf"^\| {tiny_model} \| 1 \| (\d+)% \| ([-\d |]+) \|$", printed, re.M)
    times = [int(time) for time in found[1].split(" | ")]
    assert int(found[0]) > 0
    assert times[-1] == pytest.approx(sum(times[:-1]), abs=3)
    assert times[0] > 0
    assert "served; first to scale" in printed


def test_the_search_for_the_most_cameras(monkeypatch: pytest.MonkeyPatch) -> None:
    benchmark = load_benchmark("cameras", monkeypatch)
    cost = {"decode": 0.1, "convert": 0.01, "detect": 0.5, "track": 0.01, "other": 0.01}

    def serve(cameras: int) -> object:
        return benchmark.Step("x", cameras, min(1.0, 6.2 / cameras), cost)

    steps = list(benchmark.most_served(serve, 64))
    assert [step.cameras for step in steps] == [1, 2, 4, 8, 6, 7]
    assert benchmark.summary(steps).startswith("x: 6 served; first to scale (79% of the time): the network")
    assert steps[0].row() == "| x | 1 | 100% | 100 | 10 | 500 | 10 | 10 | 630 |"
    assert [step.cameras for step in benchmark.most_served(serve, 5)] == [1, 2, 4, 5]
    assert [step.cameras for step in benchmark.most_served(serve, 4)] == [1, 2, 4]
    none = benchmark.Step("x", 1, 0.5, cost)
    assert benchmark.summary([none]).startswith("x: 0 served")


# ---- The service (docs/production.md) ----------------------------------------------------------------------


@pytest.fixture
def service_load(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    pytest.importorskip("fastapi", reason="the extra serve is not installed")
    return load_benchmark("service_load", monkeypatch)


def test_service_load_runs(
    service_load: ModuleType, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = f"--model {tiny_model} --seconds 0.2 --rounds 1 --connections 1 3 -- --queue 2 --max-images 2"
    assert service_load.main(words.split()) == 0
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


def test_a_load_row(service_load: ModuleType) -> None:
    load = service_load.Load(
        "x", sending_s=1.0, elapsed_s=2.0, cpu_s=1.5, latencies_s=[0.1] * 8 + [0.3, 0.5], shed=5, broken=1
    )
    assert load.row(0.5) == "| x | 16.0 | 5.0 | 50% | 100 | 410 | 482 | 5 | 1 | 150 |"
    load.add(service_load.Load("x", sending_s=1.0, elapsed_s=2.0, latencies_s=[0.1] * 6, shed_without_time=2))
    assert (load.sent, load.rate, load.shed_without_time) == (22, 4.0, 2)


def test_the_summary_of_rounds(service_load: ModuleType) -> None:
    """Ratios are of one round; the two bare rates differ by a factor of two, and the service keeps up."""

    def load(rate: int, seconds: float, shed: int = 0) -> object:
        return service_load.Load("1 connection", 1.0, 1.0, 0.5, [seconds] * rate, shed)

    rounds = [
        service_load.Round(10.0, 0.1, [load(9, 0.1)], load(8, 0.2, shed=72)),
        service_load.Round(20.0, 0.2, [load(18, 0.1)], load(16, 0.2, shed=144)),
    ]
    text = service_load.report(rounds)
    assert "| bare `Detector` | | 15.0 | 100% | | | | | | 150 |" in text
    assert (
        "At saturation 90% of the bare detector's rate (median of 2 rounds, in which it was 10.0 to 20.0"
        in text
    )
    assert "90% were refused with 503" in text
    assert "is 2.0 times that of 1 connection (200 and 100 ms)" in text


def test_a_missing_picture(service_load: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert service_load.main(["--image", "missing.jpg"]) == 2
    assert "missing.jpg" in capsys.readouterr().err
