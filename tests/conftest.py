"""Fixtures that more than one test file uses."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from postgres import Postgres

# Numbers in tests are those of the reference. Tests of other runtimes name them.
os.environ.setdefault("MASKWATCH_RUNTIME", "onnxruntime")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As a job in the background: the programs that tests start would ignore Ctrl-C as well.
    signal.signal(signal.SIGINT, signal.default_int_handler)

if "PYTEST_XDIST_WORKER" in os.environ:
    # The processes share the cores: threads of PyTorch that wait for one another would only take them away.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first, so that no process is left with one at the end.

    Slow tests count for no coverage: tracing PyTorch's exporter makes them take half as long again.
    """
    slow = [item for item in items if item.get_closest_marker("slow")]
    for item in slow:
        item.add_marker(pytest.mark.no_cover)
    paths = {item.path for item in slow}
    items.sort(key=lambda item: item.path not in paths)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with data sets, weights and oracles that lies beside a checkout."""
    folder = Path(__file__).parents[1].parent / "shared"
    if not folder.is_dir():
        pytest.skip("../shared with the data sets is not there")
    return folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file that finds coloured cells, see tiny_model.py; network size 64."""
    pytest.importorskip("onnx", reason="the tests write their own model files with onnx")
    from tiny_model import metadata, write_tiny_model

    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny.onnx", metadata())


@pytest.fixture
def tiny_embedded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Puts two tiny models of 64 and 32 pixels in the place of the embedded ones; gives their folder."""
    pytest.importorskip("onnx", reason="the tests write their own model files with onnx")
    from tiny_model import metadata, write_tiny_model

    folder = tmp_path / "weights"
    for size, name in ((64, "maskwatch-640"), (32, "maskwatch-320")):
        write_tiny_model(folder / f"{name}.onnx", metadata(size, name))
    monkeypatch.setattr("maskwatch.models._WEIGHTS", folder)
    return folder


@pytest.fixture(scope="session")
def street() -> np.ndarray:
    """A grey picture (64, 64, 3) with one green, one red and one blue cell of 16 pixels."""
    image = np.full((64, 64, 3), 90, np.uint8)
    image[0:16, 16:32] = (0, 255, 0)
    image[32:48, 0:16] = (255, 0, 0)
    image[48:64, 48:64] = (0, 0, 255)
    return image


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server; skips where it or the extra is not installed."""
    pytest.importorskip("psycopg", reason="the extra postgres is not installed")
    from postgres import Postgres

    one = Postgres()
    yield one
    one.close()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """In memory where that is possible: syncing is fast, and what a killed program wrote stays there too."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory) as name:
        yield Path(name)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    """Where events go: a file that does not exist yet, then an empty schema on a server."""
    if request.param == "sqlite":
        return tmp_path / "events.sqlite"
    server: Postgres = request.getfixturevalue("postgres")
    return server.new_schema()
