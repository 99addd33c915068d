"""Data sets at an address: copied once, then only what changed; from fsspec's memory and a real server."""

from __future__ import annotations

import functools
import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from drawn_data import draw_faces
from maskwatch.data import read_data
from maskwatch.data.remote import local_path
from maskwatch.errors import MissingExtraError, SourceError

fsspec = pytest.importorskip("fsspec", reason="data at an address needs fsspec ([train])")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MASKWATCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def drawn(tmp_path: Path) -> Path:
    draw_faces(tmp_path / "faces", 3)
    return tmp_path / "faces"


@pytest.fixture
def memory(drawn: Path) -> Iterator[Any]:
    """fsspec's memory with the data set at memory://bucket/faces; counts the files that are fetched."""
    store = fsspec.filesystem("memory")
    for path in drawn.iterdir():
        store.pipe_file(f"/bucket/faces/train/{path.name}", path.read_bytes())
    yield store
    store.store.clear()
    store.pseudo_dirs[:] = [""]


@pytest.fixture
def fetched(memory: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    names: list[str] = []
    get_file = type(memory).get_file

    def counted(self: Any, path: str, target: str, **options: Any) -> None:
        names.append(path.rpartition("/")[2])
        get_file(self, path, target, **options)

    monkeypatch.setattr(type(memory), "get_file", counted)
    return names


ADDRESS = "memory://bucket/faces"


def test_only_changes_are_copied(memory: Any, fetched: list[str], drawn: Path) -> None:
    first = read_data(ADDRESS, split="train")
    assert sorted(fetched) == ["0.png", "0.xml", "1.png", "1.xml", "2.png", "2.xml"]
    assert first.class_counts() == read_data(drawn).class_counts()
    fetched.clear()
    folder = local_path(ADDRESS)
    assert fetched == []
    assert folder.name == "faces"

    memory.pipe_file("/bucket/faces/train/1.xml", (drawn / "0.xml").read_bytes())
    memory.rm("/bucket/faces/train/2.png")
    memory.rm("/bucket/faces/train/2.xml")
    (folder / "train" / "0.png").write_bytes(b"cut")  # not what was copied
    again = read_data(ADDRESS, split="train")
    assert sorted(fetched) == ["0.png", "1.xml"]
    assert [sample.image_id for sample in again.samples] == ["0.png", "1.png"]
    assert sorted(path.name for path in (folder / "train").iterdir()) == ["0.png", "0.xml", "1.png", "1.xml"]


def test_an_interrupted_copy_goes_on(
    memory: Any, fetched: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = type(memory).get_file

    def broken(self: Any, path: str, target: str, **options: Any) -> None:
        if path.endswith("2.png"):
            Path(target).write_bytes(b"half")
            raise ConnectionError("https://user:secret@store reset the connection")
        whole(self, path, target, **options)

    with monkeypatch.context() as patch:
        patch.setattr(type(memory), "get_file", broken)
        with pytest.raises(SourceError, match="run it again to go on") as error:
            local_path(ADDRESS)
    assert "secret" not in str(error.value)
    fetched.clear()
    folder = local_path(ADDRESS)
    assert sorted(fetched)[0] == "2.png", "what was copied before is kept"
    assert len(list(folder.rglob("*.*"))) == 6, "no part is left"


def test_a_killed_copy_goes_on(memory: Any, fetched: list[str], cache: Path) -> None:
    """A kill leaves a part, and a line of the index that is cut short."""
    folder = local_path(ADDRESS)
    index = folder.parent / ".index"
    lines = index.read_text().splitlines(keepends=True)
    index.write_text("".join(lines[:4]) + lines[4][:20])
    (folder / "train" / ".0123.part").write_bytes(b"half")
    fetched.clear()
    local_path(ADDRESS)
    assert sorted(fetched) == ["2.png", "2.xml"]
    assert not list(folder.rglob("*.part"))


def test_a_file_that_is_cut_is_no_copy(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(memory), "get_file", lambda self, path, target: Path(target).write_bytes(b"12"))
    with pytest.raises(SourceError, match=r"0\.png has 2 of \d+ bytes"):
        local_path(ADDRESS)


def test_names_stay_in_the_folder(memory: Any, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    found = [{"name": "/bucket/faces/../../evil.png", "size": 1, "type": "file"}]
    monkeypatch.setattr(type(memory), "ls", lambda *_, **__: found)
    with pytest.raises(SourceError, match="leads out of the folder"):
        local_path(ADDRESS)
    assert not list(cache.rglob("evil*"))


def test_a_folder_that_cannot_be_listed_deletes_no_copy(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, ls = local_path(ADDRESS), type(memory).ls

    def broken(self: Any, path: str, detail: bool = True, **options: Any) -> Any:
        if path.endswith("train"):
            raise ConnectionError("reset")
        return ls(self, path, detail=detail, **options)

    monkeypatch.setattr(type(memory), "ls", broken)
    with pytest.raises(SourceError, match="ConnectionError: reset"):
        local_path(ADDRESS)
    assert len(list(folder.rglob("*.*"))) == 6


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("memory://bucket/nothing", "holds no file, or is not there"),
        ("memory://bucket/faces/train/0.png", "is one file; name its folder"),
        ("nonsense://bucket/faces", "Protocol not known: nonsense"),
        ("http://user:secret@127.0.0.1:9/faces", "check the address, the network and the credentials"),
    ],
)
@pytest.mark.usefixtures("memory")
def test_addresses_that_give_no_data(address: str, message: str) -> None:
    with pytest.raises(SourceError) as error:
        local_path(address)
    assert message in str(error.value)
    assert "secret" not in str(error.value)


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(SourceError, match="needs the package s3fs; run: pip install s3fs"):
        local_path("s3://bucket/faces")
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'maskwatch\[train\]'"):
        local_path("s3://bucket/faces")


def test_a_file_address_is_no_copy(drawn: Path, cache: Path) -> None:
    assert local_path(drawn.as_uri()) == drawn
    assert local_path(drawn) == drawn
    assert not cache.exists()


class _Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """Python's own web server, with an index of each folder."""
    handler = functools.partial(_Handler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()


def test_commands_read_from_a_web_server(server: str, drawn: Path, tmp_path: Path) -> None:
    """Two processes at once: one copies, the other waits."""
    pytest.importorskip("aiohttp", reason="fsspec reads http with aiohttp")
    (drawn / "2.png").rename(drawn / "two faces.png")
    (drawn / "2.xml").rename(drawn / "two faces.xml")
    command = [sys.executable, "-m", "maskwatch", "data", "stats", f"{server}/faces", "--json", "-"]
    environment = os.environ | {"MASKWATCH_CACHE": str(tmp_path / "cache")}
    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        for _ in range(2)
    ]
    for process in processes:
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        assert '"": 3' in out
    assert len(list((tmp_path / "cache").rglob("*.png"))) == 3
