"""Fetches a file over http(s), with limits on its size and on the time it may take."""

from __future__ import annotations

import http.client
import time
from collections.abc import Mapping
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit
from urllib.request import (
    HTTPBasicAuthHandler,
    HTTPDigestAuthHandler,
    HTTPPasswordMgrWithDefaultRealm,
    HTTPRedirectHandler,
    Request,
    build_opener,
)

from maskwatch._version import __version__
from maskwatch.errors import SourceError
from maskwatch.net.addresses import Address, without_credentials

MAX_BYTES = 256 << 20
TIMEOUT_S = 20.0
"""Longest silence of the server; the whole download may take three times as long."""

_CHUNK = 1 << 16


def download(url: str, *, max_bytes: int = MAX_BYTES, timeout_s: float = TIMEOUT_S) -> bytes:
    """Content of an http(s) URL, which may carry a user and a password.

    Raises:
        SourceError: the server is not there, refuses, is too slow, or the file is larger than `max_bytes`.
    """
    shown = without_credentials(url)
    try:
        with open_url(url, timeout_s=timeout_s) as response:
            return _read(response, shown, max_bytes, time.monotonic() + 3 * timeout_s)
    except HTTPError as error:
        with error:
            raise SourceError(
                f"{shown}: the server says {error.code} {error.reason}; check the URL"
            ) from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = error.reason if isinstance(error, URLError) else str(error) or type(error).__name__
        raise SourceError(f"{shown}: cannot be fetched ({reason}); check the URL and the network") from None


def open_url(
    url: str,
    *,
    timeout_s: float,
    headers: Mapping[str, str] = {},
) -> http.client.HTTPResponse:
    """Asks for an http(s) URL; user and password go to its own server only, once that asks for them.

    Redirects are followed, but neither away from http(s) nor from https to http.

    Raises:
        SourceError: a redirect leads there.
        OSError, http.client.HTTPException, ValueError: as `urllib.request.urlopen`, and for what is no URL.
    """
    address = Address.parse(url)
    at = ascii_url(address.bare)
    known = HTTPPasswordMgrWithDefaultRealm()
    if address.user is not None:
        known.add_password(None, at, address.user, address.password or "")
    opener = build_opener(HTTPBasicAuthHandler(known), HTTPDigestAuthHandler(known), _Redirects)
    request = Request(at, headers={"User-Agent": f"maskwatch/{__version__}", **headers})
    response: http.client.HTTPResponse = opener.open(request, timeout=timeout_s)
    return response


class _Redirects(HTTPRedirectHandler):
    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: http.client.HTTPMessage, newurl: str
    ) -> Request | None:
        scheme = urlsplit(newurl).scheme
        if scheme not in ("http", "https") or (req.type == "https" and scheme == "http"):
            fp.close()
            wrong = "which is not encrypted" if scheme == "http" else "which is no http(s) address"
            shown, to = without_credentials(req.full_url), without_credentials(newurl)
            raise SourceError(f"{shown}: leads to {to}, {wrong}; check the URL")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _read(response: http.client.HTTPResponse, url: str, max_bytes: int, deadline: float) -> bytes:
    data = bytearray()
    expected = response.length
    while chunk := response.read1(_CHUNK):
        data += chunk
        if max(len(data), expected or 0) > max_bytes:
            raise SourceError(f"{url}: more than {max_bytes / (1 << 20):g} MiB; download it, scale it down")
        if time.monotonic() > deadline:
            raise SourceError(f"{url}: the server is too slow; download the file first")
    if expected is not None and len(data) < expected:
        raise SourceError(f"{url}: cut off after {len(data)} of {expected} bytes; try again")
    return bytes(data)


def ascii_url(url: str) -> str:
    """Escapes what a browser's address bar would: blanks and letters beyond ASCII, but not the host's."""
    head, slashes, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    try:
        host = host.encode("idna").decode("ascii") if not host.isascii() else host
    except UnicodeError as error:
        shown = without_credentials(url)
        raise SourceError(f"{shown}: the host name is not valid ({error}); check the URL") from None
    return head + slashes + host + slash + quote(path, safe="%/:=&?~#+!$,;'@()*[]-._")
