"""How the page's files are served, and what stands there where it was not built."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="the service needs the extra 'serve'")

from fastapi import FastAPI
from starlette.testclient import TestClient

from maskwatch.serve.api.page import CONTENT_SECURITY_POLICY, mount_page, page_is_built

WASM = b"\0asm" * 100


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "assets").mkdir()
    (tmp_path / "index.html").write_text("<h1>the page</h1>")
    (tmp_path / "assets" / "main-1a2b.js").write_text("start()")
    (tmp_path / "assets" / "glue-3c4d.mjs").write_text("glue()")
    (tmp_path / "assets" / "run-5e6f.wasm.gz").write_bytes(gzip.compress(WASM))
    (tmp_path / "notes").write_text("of no known type")
    return tmp_path


@pytest.fixture
def client(folder: Path) -> Iterator[TestClient]:
    app = FastAPI()
    mount_page(app, folder=folder)
    with TestClient(app) as client:
        yield client


def test_every_file_has_its_type_and_the_headers(client: TestClient) -> None:
    types = {
        "/": "text/html; charset=utf-8",
        "/assets/main-1a2b.js": "text/javascript; charset=utf-8",
        "/assets/glue-3c4d.mjs": "text/javascript; charset=utf-8",
        "/assets/run-5e6f.wasm": "application/wasm",
    }
    for path, media_type in types.items():
        answer = client.get(path)
        assert (answer.status_code, answer.headers["content-type"]) == (200, media_type)
        assert answer.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
        assert answer.headers["cross-origin-opener-policy"] == "same-origin"
        assert answer.headers["cross-origin-embedder-policy"] == "require-corp"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"


def test_the_policy_lets_nothing_inline_or_foreign_run() -> None:
    assert "unsafe-inline" not in CONTENT_SECURITY_POLICY
    assert "'unsafe-eval'" not in CONTENT_SECURITY_POLICY
    assert "http" not in CONTENT_SECURITY_POLICY
    assert CONTENT_SECURITY_POLICY.startswith("default-src 'none'; script-src 'self' 'wasm-unsafe-eval';")


def test_files_with_a_hash_in_their_name_are_kept_for_ever(client: TestClient) -> None:
    assert (
        client.get("/assets/main-1a2b.js").headers["cache-control"] == "public, max-age=31536000, immutable"
    )
    assert client.get("/").headers["cache-control"] == "no-cache"


def test_what_has_not_changed_is_not_sent_again(client: TestClient) -> None:
    etag = client.get("/").headers["etag"]
    again = client.get("/", headers={"If-None-Match": etag})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
    assert client.get("/", headers={"If-None-Match": '"another"'}).status_code == 200


def test_packed_files_are_unpacked_for_who_cannot(client: TestClient) -> None:
    packed = client.get("/assets/run-5e6f.wasm")
    plain = client.get("/assets/run-5e6f.wasm", headers={"Accept-Encoding": "identity"})
    assert packed.headers["content-encoding"] == "gzip"
    assert int(packed.headers["content-length"]) < len(WASM)
    assert "content-encoding" not in plain.headers
    assert packed.content == plain.content == WASM
    assert packed.headers["vary"] == plain.headers["vary"] == "Accept-Encoding"


def test_nothing_else_of_the_folder_is_served(client: TestClient) -> None:
    for path in (
        "/notes",
        "/assets/run-5e6f.wasm.gz",
        "/index.html",
        "/assets/../notes",
        "/assets/%2e%2e/notes",
    ):
        assert client.get(path).status_code == 404, path


def test_head(client: TestClient) -> None:
    answer = client.head("/assets/main-1a2b.js")
    assert (answer.status_code, answer.content, answer.headers["content-length"]) == (200, b"", "7")


def test_without_a_build_the_page_says_how_to_get_it(tmp_path: Path) -> None:
    assert not page_is_built(tmp_path)
    app = FastAPI()
    mount_page(app, folder=tmp_path)
    with TestClient(app) as client:
        answer = client.get("/")
        assert answer.status_code == 200
        assert "make page" in answer.text
        assert answer.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
