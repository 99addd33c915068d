"""How the page gets into the package."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

from maskwatch.labels import PALETTE_RGB

ROOT = Path(__file__).parents[1]
WEB = ROOT / "web"
STATIC = ROOT / "src" / "maskwatch" / "serve" / "static"
BUILT = "src/maskwatch/serve/static/index.html"


@pytest.fixture(scope="module")
def hook() -> ModuleType:
    pytest.importorskip("hatchling", reason="hatchling builds the package")
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with sources of a page, and an `npm` that writes down how it was called."""
    (tmp_path / "web" / "node_modules").mkdir(parents=True)
    (tmp_path / "web" / "package.json").write_text("{}")
    (tmp_path / "web" / "package-lock.json").write_text("{}")
    (tmp_path / BUILT).parent.mkdir(parents=True)
    tools = tmp_path / "tools"
    tools.mkdir()
    npm = tools / "npm"
    npm.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n[ "$1" = ci ] || touch {tmp_path}/{BUILT}\n')
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    return tmp_path


def calls(checkout: Path) -> list[str]:
    file = checkout / "calls"
    return file.read_text().splitlines() if file.exists() else []


@pytest.mark.skipif(sys.platform == "win32", reason="the npm of this test is a shell script")
class TestBuildPage:
    def test_installs_and_builds(self, hook: ModuleType, checkout: Path) -> None:
        assert hook.build_page(checkout, print) is None
        assert calls(checkout) == ["ci", "run build"]

    def test_does_nothing_when_up_to_date(self, hook: ModuleType, checkout: Path) -> None:
        (checkout / BUILT).write_text("page")
        assert hook.build_page(checkout, print) is None
        assert calls(checkout) == []

    def test_builds_again_after_a_change(self, hook: ModuleType, checkout: Path) -> None:
        (checkout / BUILT).write_text("page")
        os.utime(checkout / BUILT, (1000, 1000))
        (checkout / "web" / "node_modules" / ".package-lock.json").write_text("{}")
        assert hook.build_page(checkout, print) is None
        assert calls(checkout) == ["run build"]

    def test_says_when_node_is_missing(
        self, hook: ModuleType, checkout: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PATH", str(checkout))
        assert hook.build_page(checkout, print) == "Node.js (npm) is not installed"

    def test_gives_what_npm_said(self, hook: ModuleType, checkout: Path) -> None:
        (checkout / "tools" / "npm").write_text("#!/bin/sh\necho no network; exit 1\n")
        assert hook.build_page(checkout, print) == "npm ci failed:\nno network\n"

    def test_takes_a_page_without_sources(self, hook: ModuleType, checkout: Path) -> None:
        shutil.rmtree(checkout / "web")
        assert hook.build_page(checkout, print) == "neither the page nor its sources are there"
        (checkout / BUILT).write_text("page")
        assert hook.build_page(checkout, print) is None


def build_wheel(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A wheel of this checkout."""
    pytest.importorskip("hatchling", reason="hatchling builds the package")
    return subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_the_wheel_holds_the_page(tmp_path: Path) -> None:
    if not (STATIC / "index.html").is_file() and shutil.which("npm") is None:
        pytest.skip("the page is not built and Node.js is not installed")
    done = build_wheel(tmp_path, MASKWATCH_PAGE="require")
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        names = [name.removeprefix("maskwatch/serve/static/") for name in wheel.namelist()]
        index = wheel.read("maskwatch/serve/static/index.html").decode()
    assert "licenses.txt" in names
    assert [name for name in names if re.fullmatch(r"assets/ort-wasm-simd-threaded-[\w-]+\.wasm\.gz", name)]
    assert [name for name in names if re.fullmatch(r"assets/detect\.worker-[\w-]+\.js", name)]
    wanted = re.findall(r'(?:src|href)="\./([^"]+)"', index)
    assert len(wanted) >= 4
    assert set(wanted) <= set(names)


def test_a_wish_that_is_none_is_refused(tmp_path: Path) -> None:
    done = build_wheel(tmp_path, MASKWATCH_PAGE="perhaps")
    assert done.returncode != 0
    assert "MASKWATCH_PAGE is 'perhaps'; set it to one of auto, require, skip" in done.stderr + done.stdout


def test_the_lock_file_names_no_address_of_a_registry() -> None:
    lock = json.loads((WEB / "package-lock.json").read_text("utf-8"))
    packages = {name: entry for name, entry in lock["packages"].items() if name}
    assert len(packages) > 20
    assert [name for name, entry in packages.items() if "resolved" in entry] == []
    assert [name for name, entry in packages.items() if "integrity" not in entry] == []


def test_the_page_and_the_package_draw_in_the_same_colours() -> None:
    text = (WEB / "src" / "labels.ts").read_text("utf-8")
    colors = re.findall(r"^  \[(\d+), (\d+), (\d+)\],$", text, flags=re.MULTILINE)
    assert tuple(tuple(int(value) for value in color) for color in colors) == PALETTE_RGB


# Odd and even factors, halves, one side shrunk and the other grown, only a little smaller, much larger.
SIZES = (
    ((37, 23), (16, 10)), ((64, 48), (32, 24)), ((96, 96), (32, 32)), ((100, 60), (64, 38)),
    ((20, 30), (64, 96)), ((31, 17), (64, 35)), ((100, 20), (64, 64)), ((33, 100), (64, 64)),
    ((64, 64), (63, 63)), ((5, 3), (64, 38)), ((48, 72), (12, 18)), ((1, 90), (1, 64)),
)  # fmt: skip


def resize_cases() -> list[dict[str, object]]:
    random = np.random.default_rng(1)
    cases = []
    for source_wh, target_wh in SIZES:
        image = random.integers(0, 256, (source_wh[1], source_wh[0], 3), np.uint8)
        shrinks = target_wh[0] * target_wh[1] < source_wh[0] * source_wh[1]
        method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        expected = cv2.resize(image, target_wh, interpolation=method).reshape(-1).tolist()
        pixels = image.reshape(-1).tolist()
        cases.append({"from": source_wh, "to": target_wh, "pixels": pixels, "expected": expected})
    return cases


@pytest.mark.slow
def test_the_tests_of_the_page(tmp_path: Path) -> None:
    npm = shutil.which("npm")
    if npm is None or not (WEB / "node_modules" / "vitest").is_dir():
        pytest.skip("Vitest is not installed; run: npm --prefix web ci")
    cases = tmp_path / "cases.json"
    cases.write_text(json.dumps(resize_cases()))
    done = subprocess.run(
        [npm, "test"], cwd=WEB, capture_output=True, text=True, check=False,
        env={**os.environ, "MASKWATCH_RESIZE_CASES": str(cases), "NO_COLOR": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"Tests +\d+ passed", done.stdout)
    assert "skipped" not in done.stdout
