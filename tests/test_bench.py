"""`maskwatch bench`: what is measured, the table, the recommendation, and the backend that it stores."""

from __future__ import annotations

import dataclasses
import json
import logging
import sys
import threading
from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from maskwatch import bench
from maskwatch.bench import Measurement, agree, recommend, run_bench, table, throughput, worker_counts
from maskwatch.boxes import BoxDetections
from maskwatch.cli.app import main
from maskwatch.runtimes import choice
from maskwatch.runtimes.base import Backend, BackendUnavailableError
from maskwatch.runtimes.choice import REFERENCE, RuntimeSettings
from maskwatch.runtimes.stored_choice import forget_backend, store_backend, stored_path
from tiny_model import metadata

CPU = Backend("onnxruntime", "cpu", "float32")
FAST = Backend("openvino", "cpu", "bfloat16")
GPU = Backend("openvino", "gpu", "float16")
IMAGE = np.zeros((8, 8, 3), np.uint8)


@pytest.fixture(autouse=True)
def own_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("RUNTIME", "DEVICE", "PRECISION"):
        monkeypatch.delenv(f"MASKWATCH_{name}", raising=False)
    monkeypatch.setattr("platformdirs.user_config_path", lambda name: tmp_path / "config" / name)
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: tmp_path / "cache" / name)


class FakeDetector:
    """Finds one face at a place, with a score; each call takes some seconds of a fake clock."""

    thresholds: Mapping[str, float] = {"mask": 0.5}
    metadata = metadata()

    def __init__(self, backend: Backend, x: float = 0.0, score: float = 0.9, cost: Any = None) -> None:
        self.backend, self._x, self._score, self._cost = backend, x, score, cost

    def variant(self, threshold: Mapping[str, float]) -> FakeDetector:
        other = FakeDetector(self.backend, self._x, self._score, self._cost)
        other.thresholds = threshold
        return other

    def detect_boxes(self, image_rgb: np.ndarray) -> BoxDetections:
        if self._cost:
            self._cost(self.backend)
        found = int(self._score > self.thresholds["mask"])
        box_xyxy = np.float32([[self._x, 0, self._x + 100, 80]])[:found]
        scores, class_ids = np.float32([self._score])[:found], np.zeros(found, np.int64)
        return BoxDetections(box_xyxy, scores, class_ids, {"class_name": np.array(["mask"])[:found]})


def measured(
    backend: Backend, *times_ms: float, model: str = "m", agrees: bool = True, **more: Any
) -> Measurement:
    rates = {1: 1000 / times_ms[0], 2: 1500 / times_ms[0]} if times_ms else {}
    return Measurement(model, backend, list(times_ms), rates, 123.4, agrees, **more)


# ---- Agreement and recommendation -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("backend", "x", "score", "same"),
    [
        (FAST, 0, 0.9, True),
        (FAST, 1.9, 0.86, True),
        (FAST, 2.1, 0.9, False),  # the tolerance is 2 % of 100 pixels
        (FAST, 0, 0.84, False),
        (Backend("openvino", "cpu", "float32"), 0.1, 0.9, False),
    ],
)
def test_agreement_is_within_the_tolerance(backend: Backend, x: float, score: float, same: bool) -> None:
    assert agree(FakeDetector(CPU), FakeDetector(backend, x, score), IMAGE) is same  # type: ignore[arg-type]


def test_files_in_int8_have_a_tolerance_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeDetector, "metadata", dataclasses.replace(metadata(), precision="int8"))
    exact = Backend("openvino", "cpu", "float32")
    assert agree(FakeDetector(CPU), FakeDetector(exact, 1.9, 0.86), IMAGE)  # type: ignore[arg-type]
    assert not agree(FakeDetector(CPU), FakeDetector(exact, 2.1), IMAGE)  # type: ignore[arg-type]
    (one,) = run_bench(
        ["m"], [CPU], [IMAGE], 0.01,
        open_detector=lambda model, backend, threads: FakeDetector(backend), memory_of=lambda *_: 7.0,  # type: ignore[arg-type, return-value]
    )  # fmt: skip
    assert one.int8
    assert next(table([one])) == "m (int8):"


def test_a_face_at_the_threshold_may_be_missing() -> None:
    for first, second, same in ((0.51, 0.49, True), (0.49, 0.51, True), (0.6, 0.4, False), (0.4, 0.6, False)):
        pair = FakeDetector(CPU, score=first), FakeDetector(FAST, score=second)
        assert agree(*pair, IMAGE) is same  # type: ignore[arg-type]


def test_the_fastest_that_agrees_for_every_model_is_recommended() -> None:
    slow, fast = measured(CPU, 100), measured(FAST, 50)
    assert recommend([slow, fast]) == FAST
    assert recommend([slow, measured(FAST, 50, agrees=False)]) == CPU
    other = [measured(CPU, 10, model="n"), measured(FAST, 9, model="n", agrees=False)]
    assert recommend([slow, fast, *other]) == CPU
    assert recommend([slow, measured(FAST, error="broken")]) == CPU
    assert recommend([measured(FAST, error="broken")]) is None


# ---- Measuring --------------------------------------------------------------------------------------------


def test_models_and_backends_take_turns_until_the_time_is_over() -> None:
    now, calls = [0.0], []
    costs = {CPU: 0.2, FAST: 0.1}

    def cost(backend: Backend) -> None:
        calls.append(backend)
        now[0] += costs[backend]

    def open_detector(model: str, backend: Backend, threads: int | None) -> FakeDetector:
        if backend == GPU:
            raise BackendUnavailableError("device 'gpu': none here")
        return FakeDetector(backend, cost=cost)

    def run(seconds: float) -> list[Measurement]:
        now[0] = 0.0
        return run_bench(
            ["m"], [FAST, CPU, GPU], [IMAGE], seconds, open_detector=open_detector,  # type: ignore[arg-type]
            memory_of=lambda *_: 7.0, clock=lambda: now[0],
        )  # fmt: skip

    fast, cpu, gpu = run(20)
    assert 14 < now[0] < 16  # memory takes none of this clock
    assert (fast.median_ms, cpu.p95_ms) == (pytest.approx(100), pytest.approx(200))
    assert len(fast.times_ms) == len(cpu.times_ms) > bench.MIN_ROUNDS
    assert fast.pictures_per_s[1] == pytest.approx(10)
    assert (fast.agrees, fast.memory_mb) == (True, 7.0)
    assert (gpu.absent, gpu.error, gpu.times_ms) == (True, "device 'gpu': none here", [])
    calls.clear()
    fast, cpu, _ = run(0.1)
    assert len(fast.times_ms) == bench.MIN_ROUNDS
    assert fast.memory_mb is None
    assert calls[8:16] == [FAST, FAST, CPU, CPU] * 2  # after four calls for each agreement


def test_throughput_counts_the_calls_of_all_threads() -> None:
    lock, ticks, names = threading.Lock(), count(), set()

    def cost(_: Backend) -> None:
        with lock:
            names.add(threading.current_thread().name)

    def clock() -> float:
        with lock:
            return next(ticks) / 100

    rate = throughput(FakeDetector(CPU, cost=cost), [IMAGE], 3, 1.0, clock)  # type: ignore[arg-type]
    assert 80 < rate < 101
    assert 1 <= len(names) <= 3


def test_workers() -> None:
    assert [worker_counts(cores) for cores in (1, 2, 4, 64)] == [[1], [1, 2], [1, 2, 4], [1, 2, 8]]
    assert bench.percentile([3, 1, 2, 4], 0.5) == 2


def test_memory_is_that_of_a_process_of_its_own(tiny_model: Path) -> None:
    assert 0 < (bench.peak_growth_mb(str(tiny_model), CPU, IMAGE) or 0) < 500
    assert bench.peak_growth_mb("no such model", CPU, IMAGE) is None


# ---- The table --------------------------------------------------------------------------------------------


def test_table_fits_80_columns_and_names_what_differs() -> None:
    tensorrt = Backend("onnxruntime", "tensorrt", "float16")
    rows = [
        measured(CPU, 1234.56, 2000.0, ap=0.4),
        measured(FAST, 56.0, 57.0, ap=0.41),
        measured(tensorrt, 5.0, agrees=False),
        measured(Backend("openvino", "npu", "float16"), error="fails: " + "x" * 100),
        measured(GPU, error="device 'gpu': none here", absent=True),
    ]
    lines = list(table(rows))
    assert max(map(len, lines)) <= 80
    assert lines[0] == "m:"
    assert lines[1].split() == ["ms", "p95", "1/s", "2/s", "MB", "AP"]
    assert lines[2] == "onnxruntime tensorrt float16    5.0    5.0  200.0  300.0    123      - *"
    assert lines[3].split() == [
        *["openvino", "cpu", "bfloat16", "56.5", "57.0", "17.9", "26.8", "123", "0.410"]
    ]
    assert lines[5].startswith("openvino npu float16          fails: xxx")
    assert "not on this machine: openvino gpu float16" in lines
    assert "*: detections differ" in lines[-1]
    assert not [line for line in table(rows[:2]) if "*" in line or "not on" in line]


# ---- The command ------------------------------------------------------------------------------------------


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs the command with the measurements of `rows` and returns what it prints."""

    def run(*arguments: object, rows: list[Measurement] | None = None) -> str:
        rows = [measured(CPU, 100.0), measured(FAST, 50.0)] if rows is None else rows
        monkeypatch.setattr(bench, "run_bench", lambda *_: rows)
        with pytest.raises(SystemExit) as ended:
            main(["bench", *map(str, arguments)])
        printed = capsys.readouterr()
        return printed.out + printed.err if ended.value.code else printed.out

    return run


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> set[Backend]:
    """What counts as installed."""
    backends: set[Backend] = {CPU, GPU}
    monkeypatch.setattr(choice, "_is_installed", backends.__contains__)
    return backends


def test_a_real_run(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(choice, "installed_backends", lambda: iter([CPU]))
    with pytest.raises(SystemExit) as ended:
        main(["bench", str(tiny_model), "--seconds", "0.05", "--json", "-"])
    assert ended.value.code == 0
    printed = capsys.readouterr()
    record = json.loads(printed.out)
    assert record["schema"] == "maskwatch.bench/1"
    (result,) = record["results"]
    assert result["agrees"] is True
    assert result["int8"] is False
    assert result["median_ms"] > 0
    assert record["recommended"] == {"runtime": "onnxruntime", "device": "cpu", "precision": "float32"}
    assert "onnxruntime cpu float32" in printed.err


def test_options_to_use_are_printed(run: Callable[..., str], installed: set[Backend]) -> None:
    installed.add(FAST)
    slow = [measured(CPU, 10.0), measured(FAST, 50.0)]
    assert "use: --runtime onnxruntime --device cpu --precision float32" in run(rows=slow)
    assert "auto takes it already" in run()
    assert "no backend agrees" in run("--write", rows=[measured(FAST, 1.0, agrees=False)])
    assert not stored_path().exists()


def test_stored_backend_is_taken_until_it_is_forgotten(
    run: Callable[..., str], installed: set[Backend]
) -> None:
    installed.add(FAST)
    printed = run("--write", rows=[measured(CPU, 10.0), measured(FAST, 50.0)])
    assert f"auto takes it from now on: {stored_path()}" in printed
    assert choice.first_installed(RuntimeSettings()) == CPU
    assert choice.first_installed(RuntimeSettings(precision="bfloat16")) == FAST
    assert "auto follows its fixed order again" in run("--forget")
    assert choice.first_installed(RuntimeSettings()) == FAST
    assert "nothing was stored" in run("--forget")


def test_wrong_options(run: Callable[..., str], tmp_path: Path) -> None:
    assert "--seconds 0 is not between" in run("--seconds", "0")
    assert "contradict each other" in run("--write", "--forget")
    assert "no such file" in run("--image", tmp_path / "none.jpg")
    (tmp_path / "a.json").touch()
    assert "exists already" in run("--json", tmp_path / "a.json")
    assert "name one picture or video" in run("--image", Path(__file__).parents[1] / "examples")


def test_ap_on_annotated_pictures(
    run: Callable[..., str], tiny_model: Path, street: np.ndarray, tmp_path: Path
) -> None:
    pytest.importorskip("pycocotools", reason="AP needs pycocotools")
    Image.fromarray(street).save(tmp_path / "a.png")
    corners = "<xmin>16</xmin><ymin>0</ymin><xmax>32</xmax><ymax>16</ymax>"
    face = f"<object><name>mask</name><bndbox>{corners}</bndbox></object>"
    (tmp_path / "a.xml").write_text(f"<annotation>{face}</annotation>")
    rows = [measured(CPU, 10.0, model=str(tiny_model)), measured(FAST, error="broken", model=str(tiny_model))]
    lines = run("--data", tmp_path, rows=rows).splitlines()
    assert lines[1].split()[-1] == "AP"
    assert lines[2].split()[-1] == "1.000"


def test_ap_needs_the_extra(run: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    assert "pip install 'maskwatch[train]'" in run("--data", ".")


def test_a_video_gives_its_first_frames(tmp_path: Path) -> None:
    from maskwatch.cli.bench import _pictures
    from maskwatch.media.videos import video_writer

    with video_writer(tmp_path / "a.mp4", 10) as write:
        for _ in range(12):
            write(np.zeros((48, 64, 3), np.uint8))
    assert [image.shape for image in _pictures(tmp_path / "a.mp4")] == [(48, 64, 3)] * 8


# ---- The stored backend -----------------------------------------------------------------------------------


def test_models_and_version_name_a_stored_backend(
    installed: set[Backend], capsys: pytest.CaptureFixture[str]
) -> None:
    installed.add(FAST)
    for arguments in (["models"], ["--version", "--verbose"]):
        for stored in (True, False):
            if stored:
                store_backend(GPU, choice.runtime_versions())
            else:
                forget_backend()
            with pytest.raises(SystemExit):
                main(arguments)
            lines = capsys.readouterr().out.splitlines()
            assert (lines[-1] == f"stored by maskwatch bench --write: {GPU}") is stored
            assert any(
                line.endswith(str(GPU if stored else FAST)) and line[:2] in ("ta", "th") for line in lines
            )


def test_another_version_or_cpu_makes_it_void(
    installed: set[Backend], monkeypatch: pytest.MonkeyPatch
) -> None:
    store_backend(GPU, choice.runtime_versions())
    assert choice.first_installed(RuntimeSettings()) == GPU
    assert choice.first_installed(REFERENCE) == CPU
    with monkeypatch.context() as patch:
        patch.setattr(choice, "runtime_versions", lambda: {"onnxruntime": "99.0"})
        assert choice.first_installed(RuntimeSettings()) == CPU
    with monkeypatch.context() as patch:
        patch.setattr("maskwatch.runtimes.stored_choice.cpu_name", lambda: "another")
        assert choice.first_installed(RuntimeSettings()) == CPU
    installed.remove(GPU)
    assert choice.first_installed(RuntimeSettings()) == CPU


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"schema": "maskwatch.backend/2"}', '{"schema": 1}', "\0\xff"]
)
def test_a_broken_file_is_ignored_with_one_line(
    text: str, installed: set[Backend], caplog: pytest.LogCaptureFixture
) -> None:
    path = store_backend(GPU, choice.runtime_versions())
    path.write_text(text, "latin-1")
    with caplog.at_level(logging.WARNING, "maskwatch"):
        assert choice.first_installed(RuntimeSettings()) == CPU
    (line,) = caplog.messages
    assert line.endswith("write it again with: maskwatch bench --write")
    assert str(path) in line
