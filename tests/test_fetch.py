"""Data sets from a server: cut and resumed, changed in between, refused, and unpacked all or nothing."""

from __future__ import annotations

import hashlib
import io
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from maskwatch.cli.data import fetch
from maskwatch.data.download import KNOWN, fetch_data
from maskwatch.errors import OptionError, OutputError, SourceError
from maskwatch.net.resume import fetch_file
from maskwatch.outputs import MARK

NOW = (0.0, 0.0, 0.0)


def archive(**more: bytes) -> bytes:
    """A zip of 200 kB that does not shrink, with everything in one folder."""
    noise = np.random.default_rng(0).integers(0, 255, 100_000, dtype=np.uint8).tobytes()
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as packed:
        packed.writestr("set/a.jpg", noise)
        packed.writestr("set/B.PNG", noise[::-1])
        packed.writestr("set/a.xml", "<annotation/>")
        for name, content in more.items():
            packed.writestr(f"set/{name}", content)
    return file.getvalue()


@dataclass
class Behaviour:
    """What the server does, and what it was asked."""

    content: bytes
    etag: str | None = '"one"'
    modified: str | None = None
    ranges: bool = True
    status: int = 200
    length: bool = True
    cuts: list[int] = field(default_factory=list)  # bytes after which each answer stops, one after the other
    asked: list[tuple[str | None, str | None]] = field(default_factory=list)
    redirect: str | None = None


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    behaviour: Behaviour

    def do_GET(self) -> None:
        does = self.behaviour
        asked, condition = self.headers.get("Range"), self.headers.get("If-Range")
        does.asked.append((asked, condition))
        self.close_connection = True
        if does.redirect:
            self._head(302, {"Location": does.redirect, "Content-Length": "0"})
            return
        if does.status != 200:
            self._head(does.status, {"Content-Length": "0"})
            return
        start, whole = 0, does.content
        if asked and does.ranges and condition in (does.etag, does.modified):
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start >= len(whole):
                self._head(416, {"Content-Range": f"bytes */{len(whole)}", "Content-Length": "0"})
                return
        fields = {"ETag": does.etag, "Last-Modified": does.modified}
        if does.length:
            fields["Content-Length"] = str(len(whole) - start)
        if start:
            fields["Content-Range"] = f"bytes {start}-{len(whole) - 1}/{len(whole)}"
        self._head(206 if start else 200, {key: value for key, value in fields.items() if value})
        stop = does.cuts.pop(0) if does.cuts else len(whole)
        self.wfile.write(whole[start : start + stop])

    def _head(self, status: int, fields: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in fields.items():
            self.send_header(key, value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


class Server:
    def __init__(self) -> None:
        self.does = Behaviour(archive())
        handler = type("Bound", (Handler,), {"behaviour": self.does})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/my%20set.zip"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    one = Server()
    yield one
    one.close()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


WHOLE = [MARK, "B.PNG", "a.jpg", "a.xml"]


def test_whole(server: Server, here: Path) -> None:
    steps: list[tuple[int, int | None]] = []
    found = fetch_data(server.url, progress=lambda done, total: steps.append((done, total)))
    size = len(server.does.content)
    assert found.folder == Path("my set")
    assert found.sha256 == hashlib.sha256(server.does.content).hexdigest()
    assert (found.pinned, found.pictures, found.annotations) == (False, 2, {".xml": 1})
    assert names(here) == ["my set", *(f"my set/{name}" for name in WHOLE)]
    assert steps[0] == (0, size)
    assert steps[-1] == (size, size)
    mark = (here / "my set" / MARK).read_text().splitlines()
    assert mark[:2] == [f"url {server.url}", f"sha256 {found.sha256}"]


def test_a_password_is_neither_shown_nor_stored(server: Server, here: Path) -> None:
    url = server.url.replace("//", "//anna:Ge#heim@") + "?token=geheim"
    server.does.cuts = [50_000]
    with pytest.raises(SourceError) as caught:
        fetch_data(url, pauses_s=())
    assert str(caught.value).startswith("http://***@127.0.0.1:")
    stored = [path for path in here.rglob("*") if path.is_file()]
    assert len(stored) == 2
    fetch_data(url, pauses_s=())
    assert server.does.asked[-1] == ("bytes=50000-", '"one"')
    stored += [path for path in here.rglob("*") if path.is_file()]
    assert not [path for path in stored if path.is_file() and b"heim" in path.read_bytes()]
    assert "heim" not in str(caught.value)


def test_cut_connections_go_on(server: Server, tmp_path: Path) -> None:
    server.does.cuts = [50_000, 10, 70_000]
    fetch_data(server.url, tmp_path / "out", pauses_s=NOW)
    assert server.does.asked == [
        (None, None),
        ("bytes=50000-", '"one"'),
        ("bytes=50010-", '"one"'),
        ("bytes=120010-", '"one"'),
    ]
    assert names(tmp_path / "out") == WHOLE
    assert names(tmp_path)[0] == "out", "no part is left"


def test_a_second_run_goes_on(server: Server, tmp_path: Path) -> None:
    server.does.cuts = [50_000, 0, 0]
    with pytest.raises(
        SourceError, match=r"cut after 50000 of \d+ bytes, 3 times in a row; 50000 bytes .*run it again"
    ):
        fetch_data(server.url, tmp_path / "out", pauses_s=(0.0, 0.0))
    assert names(tmp_path) == ["out.archive.part", "out.archive.part.json"]
    server.does.asked.clear()
    digest = hashlib.sha256(server.does.content).hexdigest()
    assert fetch_data(server.url, tmp_path / "out", sha256=digest.upper(), pauses_s=NOW).pinned
    assert server.does.asked == [("bytes=50000-", '"one"')]
    assert names(tmp_path / "out") == WHOLE


def test_last_modified_will_do(server: Server, tmp_path: Path) -> None:
    server.does.etag, server.does.modified = 'W/"weak"', "Mon, 02 Mar 2020 10:00:00 GMT"
    server.does.cuts = [50_000]
    fetch_data(server.url, tmp_path / "out", pauses_s=NOW)
    assert server.does.asked[1] == ("bytes=50000-", "Mon, 02 Mar 2020 10:00:00 GMT")


def test_without_validator_it_starts_anew(server: Server, tmp_path: Path) -> None:
    server.does.etag = None
    server.does.cuts = [50_000]
    fetch_data(server.url, tmp_path / "out", pauses_s=NOW)
    assert server.does.asked == [(None, None), (None, None)]
    assert names(tmp_path / "out") == WHOLE


def test_a_server_without_ranges(server: Server, tmp_path: Path) -> None:
    server.does.ranges = False
    server.does.cuts = [150_000, 60_000]
    fetch_data(server.url, tmp_path / "out", pauses_s=NOW)
    assert [asked for asked, _ in server.does.asked] == [None, "bytes=150000-", "bytes=60000-"]
    assert names(tmp_path / "out") == WHOLE


def test_another_file_in_between(server: Server, tmp_path: Path) -> None:
    server.does.cuts = [50_000]
    with pytest.raises(SourceError, match="run it again"):
        fetch_data(server.url, tmp_path / "out", pauses_s=())
    server.does.content, server.does.etag = archive(new=b"1"), '"two"'
    found = fetch_data(server.url, tmp_path / "out", pauses_s=())
    assert server.does.asked[-1] == ("bytes=50000-", '"one"')
    assert found.sha256 == hashlib.sha256(server.does.content).hexdigest()
    assert (tmp_path / "out/new").read_bytes() == b"1"


def test_a_part_of_another_address_is_not_gone_on_with(server: Server, tmp_path: Path) -> None:
    server.does.cuts = [50_000]
    with pytest.raises(SourceError, match="run it again"):
        fetch_data(server.url, tmp_path / "out", pauses_s=())
    fetch_data(server.url + "?other", tmp_path / "out", pauses_s=())
    assert server.does.asked[-1] == (None, None)


@pytest.mark.parametrize("state", ["", "[]", "{}", '{"url": 3}', '{"url": "x", "more": 1}'])
def test_a_damaged_state_starts_anew(server: Server, tmp_path: Path, state: str) -> None:
    (tmp_path / "f.part").write_bytes(b"wrong")
    (tmp_path / "f.part.json").write_text(state)
    fetch_file(server.url, tmp_path / "f", pauses_s=())
    assert (tmp_path / "f").read_bytes() == server.does.content
    assert names(tmp_path) == ["f"]


def test_all_had_come_but_nobody_had_looked(server: Server, tmp_path: Path) -> None:
    server.does.cuts = [50_000]
    with pytest.raises(SourceError, match="run it again"):
        fetch_file(server.url, tmp_path / "f", pauses_s=())
    (tmp_path / "f.part").write_bytes(server.does.content)
    fetch_file(server.url, tmp_path / "f", pauses_s=())
    assert server.does.asked[-1] == (f"bytes={len(server.does.content)}-", '"one"')
    assert (tmp_path / "f").read_bytes() == server.does.content


def test_a_part_longer_than_the_file_is_thrown_away(server: Server, tmp_path: Path) -> None:
    server.does.cuts = [50_000]
    with pytest.raises(SourceError, match="run it again"):
        fetch_file(server.url, tmp_path / "f", pauses_s=())
    (tmp_path / "f.part").write_bytes(server.does.content + b"more")
    fetch_file(server.url, tmp_path / "f", pauses_s=NOW)
    assert (tmp_path / "f").read_bytes() == server.does.content


def test_a_server_that_does_not_say_how_long(server: Server, tmp_path: Path) -> None:
    server.does.length = False
    fetch_file(server.url, tmp_path / "f", pauses_s=())
    assert (tmp_path / "f").read_bytes() == server.does.content


def test_a_wrong_checksum(server: Server, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=f"is [0-9a-f]{{64}} and not {'0' * 64}, so the file was deleted"):
        fetch_data(server.url, tmp_path / "out", sha256="0" * 64, pauses_s=())
    assert names(tmp_path) == []


@pytest.mark.parametrize(("status", "goes"), [(404, 1), (403, 1), (503, 4)])
def test_refusals(server: Server, tmp_path: Path, status: int, goes: int) -> None:
    server.does.status = status
    with pytest.raises(SourceError, match=f"the server says {status}"):
        fetch_data(server.url, tmp_path / "out", pauses_s=NOW)
    assert len(server.does.asked) == goes
    assert names(tmp_path) == []


def test_no_server(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"cannot be fetched .*check the URL and the network"):
        fetch_data("http://127.0.0.1:9/x.zip", tmp_path / "out")
    with pytest.raises(SourceError, match="cannot be fetched"):
        fetch_data("http://127.0.0.1:port/x.zip", tmp_path / "out")


def test_a_redirect_away_from_http(server: Server, tmp_path: Path) -> None:
    server.does.redirect = "file:///etc/passwd"
    with pytest.raises(SourceError, match="302"):
        fetch_data(server.url, tmp_path / "out", pauses_s=())


@pytest.mark.parametrize(
    "content", [b"<html>moved</html>", archive()[:90_000], archive(**{"../../evil": b"1"})]
)
def test_what_cannot_be_unpacked_leaves_nothing(server: Server, tmp_path: Path, content: bytes) -> None:
    server.does.content = content
    with pytest.raises(SourceError, match=r"neither zip|broken archive|leads out"):
        fetch_data(server.url, tmp_path / "in" / "out", pauses_s=())
    assert names(tmp_path) == ["in"]


def test_what_exists_stays(server: Server, tmp_path: Path) -> None:
    mine = tmp_path / "out"
    mine.mkdir()
    fetch_data(server.url, mine)  # an empty folder is no loss
    (mine / "note").write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        fetch_data(server.url, mine)
    fetch_data(server.url, mine, force=True)
    assert names(mine) == WHOLE
    (mine / MARK).unlink()
    with pytest.raises(OutputError, match="not made by maskwatch"):
        fetch_data(server.url, mine, force=True)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match="not made by maskwatch"):
        fetch_data(server.url, tmp_path / "file", force=True)
    assert len(server.does.asked) == 2, "refused before anything is fetched"


def test_a_failed_replacement_keeps_the_old(server: Server, tmp_path: Path) -> None:
    fetch_data(server.url, tmp_path / "out")
    server.does.content = archive(**{"../../evil": b"1"})
    with pytest.raises(SourceError, match="leads out"):
        fetch_data(server.url, tmp_path / "out", force=True)
    assert names(tmp_path / "out") == WHOLE


def test_several_folders_stay_as_they_are(server: Server, tmp_path: Path) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as packed:
        packed.writestr("train/train/a.jpg", "1")
        packed.writestr("val/a.jpg", "1")
    server.does.content = file.getvalue()
    fetch_data(server.url, tmp_path / "out")
    assert names(tmp_path / "out") == [MARK, "train", "train/train", "train/train/a.jpg", "val", "val/a.jpg"]


def test_a_folder_that_holds_its_own_name(server: Server, tmp_path: Path) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as packed:
        packed.writestr("set/set/a.jpg", "1")
    server.does.content = file.getvalue()
    fetch_data(server.url, tmp_path / "out")
    assert names(tmp_path / "out") == [MARK, "set", "set/a.jpg"]


def test_no_room(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("maskwatch.net.resume.shutil.disk_usage", lambda path: usage)
    with pytest.raises(OutputError, match="0 MB are missing and 0 MB are free; make room"):
        fetch_data(server.url, tmp_path / "out", pauses_s=())


def test_names_and_checksums(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"'face_mask' is neither .* known: face_mask_dataset"):
        fetch_data("face_mask")
    with pytest.raises(OptionError, match=r"'ftp://x/y.zip' is neither"):
        fetch_data("ftp://x/y.zip")
    with pytest.raises(OptionError, match="'abc' is not a SHA-256"):
        fetch_data("face_mask_dataset", sha256="abc")
    assert KNOWN["face_mask_dataset"].endswith("/releases/download/v1.0.0/face_mask_dataset.zip")


@pytest.fixture
def app() -> typer.Typer:
    one = typer.Typer()
    one.command()(fetch)
    return one


def test_what_the_command_says(server: Server, here: Path, app: typer.Typer) -> None:
    digest = hashlib.sha256(server.does.content).hexdigest()
    done = CliRunner().invoke(app, [server.url], catch_exceptions=False)
    assert done.stdout.splitlines() == [
        f"sha256: {digest}",
        "no checksum was known to compare it with; pin this one with --sha256 next time",
        "my set: 2 pictures, 1 .xml file",
        "next: maskwatch data check 'my set'",
    ]
    done = CliRunner().invoke(app, [server.url, "--out", "b", "--sha256", digest], catch_exceptions=False)
    assert done.stdout.splitlines()[0] == f"sha256: {digest} (as expected)"
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as packed:
        packed.writestr("readme.md", "1")
    server.does.content = file.getvalue()
    done = CliRunner().invoke(app, [server.url, "--out", "c"], catch_exceptions=False)
    assert done.stdout.splitlines()[2:] == [
        "c: 0 pictures, no annotation files",
        "no pictures are in it; check whether this is the archive you want",
    ]
