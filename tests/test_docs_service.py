"""docs/service.md: its examples run against a service, and say what stands here."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the extra serve is not installed")
pytest.importorskip("httpx2", reason="the extra client is not installed")

from serving import TOKEN, command

PAGE = (Path(__file__).parents[1] / "docs" / "service.md").read_text("utf-8")


def blocks(kind: str, *holding: str) -> list[str]:
    """Code blocks of a language that hold all of these."""
    found = re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
    return [block for block in found if all(text in block for text in holding)]


def only(kind: str, *holding: str) -> str:
    (block,) = blocks(kind, *holding)
    return block


@pytest.fixture(scope="module")
def url(tiny_model: Path) -> Iterator[str]:
    with command(tiny_model, token=TOKEN) as running:
        yield running.address


@pytest.fixture
def surroundings(url: str, tmp_path: Path, street: np.ndarray) -> dict[str, Any]:
    """A folder with the pictures that the page names, and the variables that it sets."""
    grey = np.full_like(street, 90)
    for name, image in (("door.jpg", street), ("hall.jpg", grey)):
        cv2.imwrite(str(tmp_path / name), image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 100])
    (tmp_path / "torn.jpg").write_bytes((tmp_path / "door.jpg").read_bytes()[:200])
    names = {"MASKWATCH_TOKEN": TOKEN, "MASKWATCH_URL": url, "OMP_NUM_THREADS": "1"}
    return {"cwd": tmp_path, "env": {**os.environ, **names}}


def run(words: list[str], surroundings: dict[str, Any]) -> str:
    done = subprocess.run(words, capture_output=True, text=True, timeout=40, **surroundings)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def python(
    surroundings: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[str], str]:
    """Runs Python here, which spares the loading of it all; gives what it printed."""
    monkeypatch.chdir(surroundings["cwd"])
    for name in ("MASKWATCH_TOKEN", "MASKWATCH_URL"):
        monkeypatch.setenv(name, surroundings["env"][name])

    def run_here(code: str) -> str:
        exec(compile(code, "service.md", "exec"), {"__name__": "__main__"})
        return capsys.readouterr().out

    return run_here


def curl(code: str, surroundings: dict[str, Any]) -> str:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    return run(["sh", "-euc", code], surroundings)


def node(code: str, surroundings: dict[str, Any], *options: str) -> str:
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    (surroundings["cwd"] / "example.mjs").write_text(code)
    return run(["node", "--no-warnings", *options, "example.mjs"], surroundings)


def test_curl_records(surroundings: dict[str, Any]) -> None:
    answer = json.loads(curl(only("sh", "curl", "door.jpg", "hall.jpg"), surroundings))
    assert answer["schema"] == "maskwatch.detections/1"
    assert answer["model"]["thresholds"] == {"mask": 0.5, "no_mask": 0.6, "mask_incorrect": 0.3}
    door, hall = answer["results"]
    assert (door["source"], hall["source"]) == ("door.jpg", "hall.jpg")
    assert {face["class"] for face in door["detections"]} == {"mask", "no_mask", "mask_incorrect"}
    assert hall["detections"] == answer["failures"] == []


def test_curl_drawn_picture(surroundings: dict[str, Any], street: np.ndarray) -> None:
    curl(only("sh", "curl", "drawn.jpg"), surroundings)
    drawn = cv2.imread(str(surroundings["cwd"] / "drawn.jpg"))
    assert drawn.shape == street.shape
    assert (np.abs(drawn[..., ::-1].astype(int) - street) > 40).any()


def test_curl_models(surroundings: dict[str, Any]) -> None:
    answer = json.loads(curl(only("sh", "curl", "/v1/models"), surroundings))
    assert [model["name"] for model in answer["models"]] == ["tiny"]


def test_python_client(python: Callable[[str], str]) -> None:
    lines = python(only("python", "torn.jpg")).splitlines()
    assert sorted(line.split()[:2] for line in lines[:-1]) == [
        ["door.jpg", "mask"],
        ["door.jpg", "mask_incorrect"],
        ["door.jpg", "no_mask"],
    ]
    assert "door.jpg mask (16.0, 0.0, 32.0, 16.0)" in lines
    assert lines[-1] == "not read: torn.jpg"
    for name in ("door.jpg", "hall.jpg"):
        assert cv2.imread(f"drawn-{name}").shape == (64, 64, 3)


def test_python_stream(python: Callable[[str], str], street: np.ndarray) -> None:
    writer = cv2.VideoWriter("film.mp4", cv2.VideoWriter.fourcc(*"mp4v"), 10, (64, 64))
    for _ in range(4):
        writer.write(np.ascontiguousarray(street[..., ::-1]))
    writer.release()
    rows = [line.split(" ", 2) for line in python(only("python", "film.mp4")).splitlines()]
    assert rows[-1][0] == "4"
    assert len(rows) + sum(int(dropped) for _, dropped, _ in rows) == 4
    assert "'mask'" in rows[0][2]


def test_python_async(python: Callable[[str], str]) -> None:
    assert python(only("python", "AsyncClient")) == "3 0\n"


def test_python_alone(python: Callable[[str], str]) -> None:
    assert python(only("python", "urllib")) == "door.jpg ['no_mask']\n"


def test_javascript(surroundings: dict[str, Any]) -> None:
    door, hall = node(only("javascript", "FormData"), surroundings).splitlines()
    assert sorted(door.split()) == ["door.jpg", "mask", "mask_incorrect", "no_mask"]
    assert hall.strip() == "hall.jpg"


def test_javascript_stream(surroundings: dict[str, Any]) -> None:
    version = node("console.log(process.versions.node.split('.')[0])", surroundings)
    if int(version) < 20:
        pytest.skip(f"node {version.strip()} has no WebSocket")
    options = ["--experimental-websocket"] if int(version) < 22 else []
    words = node(only("javascript", "WebSocket"), surroundings, *options).split()
    assert words[0] == "1"
    assert sorted(words[1:]) == ["mask", "mask_incorrect", "no_mask"]


def test_every_example_is_tried() -> None:
    assert len(blocks("python")) == 4
    assert len(blocks("javascript")) == 2
    assert len(blocks("sh", "curl")) == 3


def test_limits_of_the_page() -> None:
    from maskwatch.serve.settings import ServiceLimits

    rows = dict(re.findall(r"^\| `--([\w-]+)` \| .* \| ([^|]+) \|$", PAGE, flags=re.MULTILINE))
    limits = ServiceLimits()
    numbers = {
        "max-bytes": f"{limits.max_bytes >> 20} MiB",
        "max-pixels": f"{limits.max_pixels // 1_000_000} megapixels",
        "max-images": str(limits.max_images),
        "queue": str(limits.queue),
        "timeout": f"{limits.timeout_s:g}",
        "max-uploads": str(limits.max_uploads),
        "upload-bytes": f"{limits.most_upload_bytes // limits.max_bytes} times `--max-bytes`",
        "max-streams": str(limits.max_streams),
        "rate": "none",
    }
    assert {name: rows[name] for name in numbers} == numbers
