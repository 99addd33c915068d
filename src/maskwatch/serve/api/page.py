"""The page: the files that `web/` is built into, and the headers under which a browser runs them.

The built files are package data in `static/`; in a checkout `make page` makes them. Where they are missing,
a plain page says so, and the API works all the same.
"""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from pathlib import Path

from fastapi import FastAPI, Request, Response

from maskwatch.serve.settings import ServeSettings

STATIC = Path(__file__).parents[1] / "static"
"""Where the build puts the page."""

# Named, since a browser that may not guess (nosniff) depends on them, and what `mimetypes` says depends on
# the system.
_MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".wasm": "application/wasm",
}

# Everything comes from the service itself, and nothing runs that is not a file of it. 'wasm-unsafe-eval' lets
# WebAssembly be compiled and nothing else; pictures of the user are blob: addresses.
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self' 'wasm-unsafe-eval'",
        "style-src 'self'",
        "img-src 'self' blob:",
        "media-src 'self' blob:",
        "connect-src 'self'",
        "worker-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)

SECURITY_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    # Both together give the page memory that threads may share, which WebAssembly's threads need.
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

_FOR_EVER = "public, max-age=31536000, immutable"  # a file below assets/ has its hash in its name
_ASK_AGAIN = "no-cache"

_NOT_BUILT = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Maskwatch</title></head>
<body>
<h1>Maskwatch</h1>
<p>The service runs, but this installation has no page: it was made from a checkout without Node.js.</p>
<p>To get the page: install Node.js 20.19 or later, then run <code>make page</code> in the checkout
(or <code>MASKWATCH_PAGE=require pip install .</code>) and start the service again.</p>
<p>The API works all the same: <a href="v1/models">v1/models</a>, <a href="openapi.json">openapi.json</a>.</p>
</body>
</html>
"""


@dataclass(frozen=True)
class _File:
    content: bytes
    media_type: str
    cache: str
    packed: bool = False  # the content is gzip of what the browser asked for

    @property
    def etag(self) -> str:
        return f'"{hashlib.sha256(self.content).hexdigest()[:32]}"'


def page_is_built(folder: Path = STATIC) -> bool:
    """Whether this installation has the page."""
    return (folder / "index.html").is_file()


def mount_page(app: FastAPI, settings: ServeSettings | None = None, *, folder: Path = STATIC) -> None:
    """Serves the page at `/` and its files beside it; needs no token, since it holds nothing of the user.

    Args:
        app: gets one route for each file.
        settings: of the service; the page asks the API for what it has to know, so none of them matters here.
        folder: where the page was built.
    """
    for path, file in _files(folder).items():
        _add(app, path, file)


def _files(folder: Path) -> dict[str, _File]:
    """Path of the address → file. They are some 4 MB, so they stay in memory."""
    if not page_is_built(folder):
        return {"/": _File(_NOT_BUILT.encode(), _MEDIA_TYPES[".html"], _ASK_AGAIN)}
    files = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        packed = name.endswith(".gz")
        name = name.removesuffix(".gz")
        media_type = _MEDIA_TYPES.get(Path(name).suffix)
        if media_type is None:  # the stamp of the build
            continue
        cache = _FOR_EVER if name.startswith("assets/") else _ASK_AGAIN
        address = "/" if name == "index.html" else f"/{name}"
        files[address] = _File(path.read_bytes(), media_type, cache, packed)
    return files


def _add(app: FastAPI, path: str, file: _File) -> None:
    headers = {**SECURITY_HEADERS, "Cache-Control": file.cache, "ETag": file.etag}

    async def serve(request: Request) -> Response:
        if file.etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        if not file.packed:
            return Response(file.content, media_type=file.media_type, headers=headers)
        if "gzip" in request.headers.get("accept-encoding", ""):
            content, encoding = file.content, {"Content-Encoding": "gzip"}
        else:
            content, encoding = gzip.decompress(file.content), {}
        return Response(
            content, media_type=file.media_type, headers={**headers, **encoding, "Vary": "Accept-Encoding"}
        )

    app.add_api_route(path, serve, methods=["GET", "HEAD"], include_in_schema=False, response_model=None)
