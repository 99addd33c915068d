"""The page: the files that `web/` is built into, and the headers under which a browser runs them.

The built files are package data in `static/`; `make page` makes them in a checkout. Without them a plain page
says how to get them, and the API works.

Starlette's `StaticFiles` lacks what the page needs: it serves no precompressed file (the WebAssembly is kept
as gzip only), sets no security or immutable-cache headers, takes media types from the system's table, serves
every file of the folder, and, mounted at `/`, turns the 405 of other routes into 404.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fastapi import FastAPI, Request, Response

STATIC = Path(__file__).parents[1] / "static"
"""Folder of the built pages."""

INDEX = "index.html"
"""The page of the service."""

# Explicit: browsers must not guess (nosniff), and the answers of `mimetypes` depend on the system.
_MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".wasm": "application/wasm",
}

# Everything comes from the service itself. 'wasm-unsafe-eval' allows only the compilation of WebAssembly; the
# user's pictures are blob: addresses.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self' blob:; "
    "media-src 'self' blob:; connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)

SECURITY_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    # Both together allow SharedArrayBuffer, which WebAssembly threads need.
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

_IMMUTABLE = "public, max-age=31536000, immutable"  # a file below assets/ has its hash in its name
_REVALIDATE = "no-cache"

_NOT_BUILT = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Maskwatch</title></head>
<body>
<h1>Maskwatch</h1>
<p>The service runs, but this installation has no page: it was made from a checkout without Node.js.</p>
<p>To get the page: install Node.js 20.19 or later, then run <code>make page</code> in the checkout
(or <code>MASKWATCH_PAGE=require pip install .</code>) and start the service again.</p>
<p>The API still works: <a href="openapi.json">openapi.json</a>.</p>
</body>
</html>
"""


@dataclass(frozen=True)
class _File:
    """A file of the page; the content of a `compressed` one is gzip."""

    content: bytes
    media_type: str
    headers: Mapping[str, str]
    compressed: bool

    async def __call__(self, request: Request) -> Response:
        if self.headers["ETag"] in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=self.headers)
        content, headers = self.content, dict(self.headers)
        if self.compressed:
            headers["Vary"] = "Accept-Encoding"
            if "gzip" in request.headers.get("accept-encoding", ""):
                headers["Content-Encoding"] = "gzip"
            else:
                content = gzip.decompress(content)
        return Response(content, media_type=self.media_type, headers=headers)


def page_is_built(folder: Path = STATIC, index: str = INDEX) -> bool:
    """Whether this installation has the page."""
    return (folder / index).is_file()


def mount_page(app: FastAPI, *, folder: Path = STATIC, index: str = INDEX) -> None:
    """Serves a page at `/` and its files beside it; they need no token, since they hold nothing private.

    Args:
        app: gets one route for each file.
        folder: of the built pages.
        index: file of the page; other pages of the folder are left out.
    """
    for path, file in _files(folder, index).items():
        app.add_api_route(
            path, file.__call__, methods=["GET", "HEAD"], include_in_schema=False, response_model=None
        )


def _files(folder: Path, index: str) -> dict[str, _File]:
    """Path of the address → file. They are some 4 MB, so they stay in memory."""
    if not page_is_built(folder, index):
        return {"/": _file("/", _NOT_BUILT.encode(), ".html", compressed=False)}
    files = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        if name.endswith(".html") and name != index:
            continue
        address = "/" if name == index else f"/{name.removesuffix('.gz')}"
        suffix = Path(name.removesuffix(".gz")).suffix
        if suffix in _MEDIA_TYPES:  # the stamp of the build has none
            files[address] = _file(address, path.read_bytes(), suffix, compressed=name.endswith(".gz"))
    return files


def _file(address: str, content: bytes, suffix: str, *, compressed: bool) -> _File:
    headers = {
        **SECURITY_HEADERS,
        "Cache-Control": _IMMUTABLE if address.startswith("/assets/") else _REVALIDATE,
        "ETag": f'"{hashlib.sha256(content).hexdigest()[:32]}"',
    }
    return _File(content, _MEDIA_TYPES[suffix], headers, compressed)
