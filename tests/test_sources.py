"""From what the user types to pictures and videos, and downloads from a server on this machine."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import os
import re
import threading
import time
import traceback
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePath
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image

from certificates import make_certificate, server_context
from maskwatch.errors import ImageError, SourceError
from maskwatch.media.sources import Source, find_sources, read_stdin, shown_name
from maskwatch.net.fetch import fetch


def picture(path: Path, kind: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (6, 4), (1, 2, 3)).save(path, kind)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with pictures on two levels and the usual company."""
    root = tmp_path / "album"
    for name in ("b.png", "a.JPG", "deep/er one/ünï.webp", "deep/c.bmp", ".hidden.png", ".cache/x.png"):
        picture(root / name, "PNG")
    for name in ("notes.txt", "a.xml", "no_suffix", "deep/film.MP4", "phone.heic"):
        (root / name).write_bytes(b"x")
    return root


def names(sources: list[Source], root: Path) -> list[str]:
    return [str(source.path.relative_to(root)) for source in sources if source.path]


def test_a_folder_gives_pictures_and_videos_of_all_levels(folder: Path) -> None:
    sources = find_sources([str(folder)])
    assert names(sources, folder) == [
        "a.JPG",
        "b.png",
        "phone.heic",
        "deep/c.bmp",
        "deep/film.MP4",
        "deep/er one/ünï.webp",
    ]
    assert [source.kind for source in sources] == ["picture"] * 4 + ["video", "picture"]
    assert [str(source.relative) for source in sources] == names(sources, folder)


def test_several_folders_keep_apart(folder: Path, tmp_path: Path) -> None:
    picture(tmp_path / "other/b.png")
    relatives = [str(source.relative) for source in find_sources([str(folder), str(tmp_path / "other")])]
    assert relatives.count("album/b.png") == relatives.count("other/b.png") == 1


def test_a_file_is_taken_whatever_its_suffix(folder: Path) -> None:
    odd = picture(folder / "picture.dat", "PNG")
    kinds = [find_sources([str(path)])[0].kind for path in (odd, folder / "no_suffix", folder / "a.JPG")]
    assert kinds == ["picture", "video", "picture"]
    assert find_sources([str(folder / "a.JPG")])[0].relative == PurePath("a.JPG")


def test_each_file_comes_once(folder: Path) -> None:
    (folder / "link.png").symlink_to(folder / "b.png")
    again = [str(folder / "b.png"), str(folder / "deep/../b.png"), str(folder / "*.png"), str(folder)]
    found = names(find_sources(again), folder)
    assert len(found) == 6
    assert found[0] == "b.png"


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [("*.png", ["b.png"]), ("**/*.bmp", ["deep/c.bmp"]), ("[ab].*", ["a.JPG", "a.xml", "b.png"])],
)
def test_globs(folder: Path, pattern: str, expected: list[str]) -> None:
    sources = find_sources([f"{folder}/{pattern}"])
    assert names(sources, folder) == expected
    assert [str(source.relative) for source in sources] == expected


def test_a_name_with_brackets_is_a_name_first(folder: Path) -> None:
    path = picture(folder / "[a].png")
    assert names(find_sources([str(path)]), folder) == ["[a].png"]


def test_results_of_an_earlier_run_are_left_out(folder: Path) -> None:
    picture(folder / "out/b.png")
    assert "out/b.png" in names(find_sources([str(folder)]), folder)
    assert "out/b.png" not in names(find_sources([str(folder)], leave_out=folder / "out"), folder)
    assert "out/b.png" not in names(find_sources([f"{folder}/**/*.png"], leave_out=folder / "out"), folder)
    # Named on its own it is meant; that it would be overwritten is said elsewhere.
    assert len(find_sources([str(folder / "out/b.png")], leave_out=folder / "out")) == 1
    assert len(find_sources([str(folder)], leave_out=folder)) == 7


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("gone.jpg", "'gone.jpg': no such file or folder; check the path"),
        ("", "'': no such file"),
        ("gone/*.jpg", "matches no file"),
        ("rtsp://camera/1", "only http and https URLs"),
        ("a" * 5000, "no such file"),
        ("nul\0byte", "no such file"),
    ],
)
def test_what_is_not_there(spec: str, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        find_sources([spec])


def test_a_folder_without_pictures(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(SourceError, match="no picture or video in this folder"):
        find_sources([str(tmp_path)])


def test_nothing_named() -> None:
    with pytest.raises(SourceError, match="nothing to do"):
        find_sources([])


def test_a_folder_that_cannot_be_listed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("er one"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    sources = find_sources([str(folder)])
    assert [source.kind for source in sources][-1] == "unreadable"
    with pytest.raises(SourceError, match="er one: the folder cannot be listed"):
        sources[-1].load_picture()


def test_links_that_lead_nowhere_are_named(folder: Path) -> None:
    (folder / "loop.png").symlink_to(folder / "loop.png")
    (folder / "dangling.png").symlink_to(folder / "gone")
    by_name = {source.path.name: source for source in find_sources([str(folder)]) if source.path}
    for name in ("loop.png", "dangling.png"):
        with pytest.raises(ImageError, match=name):
            by_name[name].load_picture()


def test_bytes_that_are_no_text_in_a_name() -> None:
    assert shown_name(os.fsdecode(b"b\xff.jpg")) == r"b\xff.jpg"
    assert shown_name("ünï ☃") == "ünï ☃"


class FakeStdin:
    def __init__(self, data: bytes, terminal: bool = False) -> None:
        self.buffer = io.BytesIO(data)
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


def test_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", FakeStdin(picture(tmp_path / "a.png").read_bytes()))
    (source,) = find_sources(["-", "-"])
    assert source.load_picture().shape == (4, 6, 3)
    with pytest.raises(ImageError, match="-: the file is empty"):
        source.load_picture()


def test_standard_input_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", FakeStdin(b"", terminal=True))
    with pytest.raises(SourceError, match="nothing is piped"):
        read_stdin()
    monkeypatch.setattr("sys.stdin", FakeStdin(b"x" * 11))
    monkeypatch.setattr("maskwatch.net.fetch.MAX_BYTES", 10)
    with pytest.raises(SourceError, match="-: more than"):
        read_stdin()


class Handler(BaseHTTPRequestHandler):
    """Answers by path; `picture` is set by the fixture."""

    picture = b""
    agents: tuple[str, ...] = ()

    def do_GET(self) -> None:
        Handler.agents += (self.headers["User-Agent"],)
        if self.path == "/moved.png":
            self.send_response(302)
            self.send_header("Location", "/a.png")
            self.end_headers()
        elif self.path.startswith(("/a.png", "/%C3%BC%20b.png")):
            self._send(self.picture, len(self.picture))
        elif self.path == "/cut.png":
            self._send(self.picture, len(self.picture) + 50)
        elif self.path == "/huge.png":
            self._send(b"\x89PNG", 10**12)
        elif self.path == "/endless.png":
            self._send(b"x" * 100_000, None)
        elif self.path == "/slow.png":
            self._send(b"", None)
            for _ in range(20):
                self.wfile.write(b"x")
                self.wfile.flush()
                time.sleep(0.05)
        elif self.path == "/silent.png":
            time.sleep(1)
        else:
            self.send_error(404)

    def _send(self, data: bytes, length: int | None) -> None:
        self.send_response(200)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


class QuietServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that hangs up is part of these tests."""


@contextlib.contextmanager
def served(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Host and port of a server that answers so."""
    server = QuietServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    Handler.picture = picture(tmp_path_factory.mktemp("www") / "a.png").read_bytes()
    with served(Handler) as host:
        yield f"http://{host}"


@pytest.mark.parametrize("path", ["a.png", "a.png?size=3&x=[1]", "moved.png", "ü b.png"])
def test_pictures_over_http(server: str, path: str) -> None:
    (source,) = find_sources([f"{server}/{path}"])
    assert source.name == f"{server}/{path}"
    np.testing.assert_array_equal(source.load_picture(), np.full((4, 6, 3), (1, 2, 3)))
    assert Handler.agents[-1].startswith("maskwatch/")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/x/a%20b.png?y=1", "a b.png"),
        ("/", "picture"),
        ("/a/..", "picture"),
        ("/%2e%2e%2fetc", "etc"),
        ("/a:b", "a_b"),
    ],
)
def test_file_names_of_urls_stay_in_the_folder(path: str, name: str) -> None:
    assert find_sources([f"http://host{path}"])[0].relative == PurePath(name)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("gone.png", "the server says 404 Not Found; check the URL"),
        ("cut.png", "cut off after|cannot be fetched"),
        ("huge.png", "more than 32768 bytes"),
        ("endless.png", "more than 32768 bytes"),
        ("silent.png", "cannot be fetched|too slow"),
        ("slow.png", "too slow"),
    ],
)
def test_downloads_that_fail(server: str, path: str, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        fetch(f"{server}/{path}", max_bytes=1 << 15, timeout_s=0.2)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/a.png", "http://", "http://[::1", "http://a b/c", "https://.../x"]
)
def test_servers_that_are_not_there(url: str) -> None:
    with pytest.raises(SourceError, match="check the URL"):
        fetch(url, timeout_s=2)


def test_an_encrypted_address_does_not_lead_to_another_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: str
) -> None:
    certificate, key = make_certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))

    class Redirect(BaseHTTPRequestHandler):
        to = ""

        def do_GET(self) -> None:
            self.send_response(302)
            self.send_header("Location", self.to)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    https = QuietServer(("127.0.0.1", 0), Redirect)
    https.socket = server_context(certificate, key).wrap_socket(https.socket, server_side=True)
    thread = threading.Thread(target=https.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        url = f"https://127.0.0.1:{https.server_port}/a.png"
        before = len(Handler.agents)
        for to, reason in ((f"{server}/a.png", "not encrypted"), ("ftp://127.0.0.1/a.png", "not an http")):
            Redirect.to = to
            with pytest.raises(SourceError, match=f"leads to {to}, which is {reason}"):
                fetch(url)
        assert len(Handler.agents) == before  # was not even asked
    finally:
        https.shutdown()
        thread.join()
        https.server_close()


def test_a_url_that_is_none() -> None:
    with pytest.raises(SourceError, match="this is not a URL"):
        find_sources(["http://[::1/a.png"])


def test_a_page_is_no_picture(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Handler, "picture", b"<html>")
    with pytest.raises(ImageError, match=r"/a\.png: not a picture"):
        find_sources([f"{server}/a.png"])[0].load_picture()


class SignIn(BaseHTTPRequestHandler):
    """Gives `picture` to whoever signs in as admin with `password`, in the way that the path names."""

    picture = b""
    password = ""

    def do_GET(self) -> None:
        given, way = self.headers["Authorization"] or "", self.path.strip("/").partition(".")[0]
        if way == "moved":
            self._answer(302, Location=f"http://localhost:{self.server.server_address[1]}/basic.png")
        elif (way == "basic" and given == self.basic()) or (way == "digest" and self.digest_is_right(given)):
            self._answer(200, self.picture)
        elif way == "basic":
            self._answer(401, WWW_Authenticate='Basic realm="camera"')
        else:
            self._answer(401, WWW_Authenticate='Digest realm="camera", nonce="abc", qop="auth"')

    def basic(self) -> str:
        return "Basic " + base64.b64encode(f"admin:{self.password}".encode()).decode()

    def digest_is_right(self, given: str) -> bool:
        """RFC 2617, 3.2.2.1, from the password as it is."""
        said = dict(re.findall(r'(\w+)="?([^",]*)"?', given))
        one, two = (
            hashlib.md5(text.encode()).hexdigest()
            for text in (f"admin:camera:{self.password}", f"GET:{said.get('uri')}")
        )
        middle = ":".join(said.get(name, "") for name in ("nonce", "nc", "cnonce", "qop"))
        return said.get("response") == hashlib.md5(f"{one}:{middle}:{two}".encode()).hexdigest()

    def _answer(self, status: int, data: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Host and port of a server that wants a password."""
    SignIn.picture = picture(tmp_path_factory.mktemp("www") / "a.png").read_bytes()
    with served(SignIn) as host:
        yield host


@pytest.mark.parametrize("password", ["geheim", "Ge#h/e?i@m: [1]", "100%", "p%40ss"])
@pytest.mark.parametrize("way", ["basic", "digest"])
def test_any_password_of_a_picture(guarded: str, password: str, way: str) -> None:
    SignIn.password = unquote(password)
    (source,) = find_sources([f"http://admin:{password}@{guarded}/{way}.png?to=a@b"])
    assert source.name == f"http://***@{guarded}/{way}.png?to=a@b"
    assert str(source.relative) == f"{way}.png"
    assert source.load_picture().shape == (4, 6, 3)


def test_no_error_shows_the_password(guarded: str) -> None:
    SignIn.password = "another"
    for text in (
        f"http://admin:Ge#heim@{guarded}/basic.png",
        f"http://admin:Ge/heim@{guarded}/digest.png",
        "http://admin:Ge#heim@camera.invalid/a.png",
        "http://admin:Ge?heim@127.0.0.1:1/a.png",
        "http://admin:Ge#heim@/a.png",
        "ftp://admin:Ge#heim@host/a.png",
    ):
        with pytest.raises(SourceError) as caught:
            find_sources([text])[0].load_picture()
        chain = "".join(traceback.format_exception(caught.value, chain=True))
        assert str(caught.value).startswith(f"{text.partition('://')[0]}://***@")
        assert "heim" not in str(caught.value)
        assert "heim" not in chain.replace(text, "")
        assert "The above exception" not in chain


def test_a_redirect_to_another_server_gets_no_password(guarded: str) -> None:
    SignIn.password = "geheim"
    with pytest.raises(SourceError, match="401"):
        find_sources([f"http://admin:geheim@{guarded}/moved.png"])[0].load_picture()


@pytest.mark.parametrize(
    "name", ["08:15:04.jpg", "cam:1/a.png", "file:a.png", "http:a.png", "C:\\a.png", "x:y/"]
)
def test_an_existing_path_is_that_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    picture(Path(f"{name}b.png") if name.endswith("/") else Path(name), "PNG")
    assert find_sources([name])[0].load_picture().shape == (4, 6, 3)
    with pytest.raises(SourceError, match="no such file or folder"):
        find_sources([f"{name}x".replace("/x", "/x.png")])
