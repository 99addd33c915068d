"""Fetches over http(s), with passwords, redirects, and limits of size, time and hosts.

urllib instead of requests: it sends a password only to a server that asks for it, and trusts the certificates
of the system.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
import urllib.request
from collections.abc import Callable, Mapping
from functools import partial
from typing import IO, Any, TypeAlias
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit
from urllib.request import Request

from maskwatch._version import __version__
from maskwatch.errors import SourceError
from maskwatch.net.address_guard import Networks, checked_address
from maskwatch.net.addresses import Address, without_credentials

MAX_BYTES = 256 << 20
TIMEOUT_S = 20.0
"""Longest silence of the server; a whole fetch may take three times as long."""

MAX_REDIRECTS = 10
MAX_GUARDED_REDIRECTS = 3

_CHUNK = 1 << 16

_Check: TypeAlias = Callable[[str, int], str]


def fetch(
    url: str,
    *,
    max_bytes: int = MAX_BYTES,
    timeout_s: float = TIMEOUT_S,
    total_s: float | None = None,
    networks: Networks | None = None,
) -> bytes:
    """The bytes of a picture at an http(s) URL, which may contain a user and a password.

    Args:
        url: http or https.
        max_bytes: limit of the file's size.
        timeout_s: longest silence of the server.
        total_s: limit for everything together; None for three times `timeout_s`.
        networks: None for a URL of this machine's user. For one of a client: only hosts in the public
            internet or in these networks are allowed, also after a redirect, without a user and without
            proxies of the environment.

    Raises:
        SourceError: the server cannot be reached, is not allowed, refuses or is too slow, or the file is too
            large.
    """
    shown = without_credentials(url)
    cutoff = _Cutoff(3 * timeout_s if total_s is None else total_s)
    try:
        with cutoff, open_url(url, timeout_s, {"Accept": "image/*"}, networks, cutoff.add) as response:
            return _read(response, shown, max_bytes, cutoff)
    except HTTPError as error:
        with error:
            said = f"the server says {error.code} {error.reason}"
            raise SourceError(f"{shown}: {said}; check the URL") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        if cutoff.over:
            raise SourceError(f"{shown}: the server is too slow; download the file and pass that") from None
        reason = error.reason if isinstance(error, URLError) else str(error) or type(error).__name__
        raise SourceError(f"{shown}: cannot be fetched ({reason}); check the URL and the network") from None


def open_url(
    url: str,
    timeout_s: float,
    headers: Mapping[str, str],
    networks: Networks | None = None,
    opened: Callable[[socket.socket], None] = lambda sock: None,
) -> http.client.HTTPResponse:
    """Opens an http(s) URL; user and password go to its own server only, and only when it asks for them.

    Follows redirects, but neither away from http(s) nor from https to http.

    Args:
        url, timeout_s, networks: as for `fetch`.
        headers: of the request.
        opened: called with the socket of each connection.

    Raises:
        SourceError: the URL, a redirect or a host is not allowed.
        OSError, http.client.HTTPException, ValueError: as `urllib.request.urlopen`; an invalid URL.
    """
    shown, address = without_credentials(url), Address.parse(url)
    if address.scheme not in ("http", "https"):
        raise SourceError(f"{shown}: only http and https addresses can be fetched; check the URL")
    at = _ascii_url(address.bare)
    check = None if networks is None else partial(checked_address, networks=networks, url=shown)
    # Only these, so that urllib opens no file, FTP or unchecked connection.
    handlers: list[urllib.request.BaseHandler] = [
        _Connections(check, opened),
        _Redirects(MAX_REDIRECTS if networks is None else MAX_GUARDED_REDIRECTS),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
    ]
    if networks is None:
        known = urllib.request.HTTPPasswordMgrWithDefaultRealm()
        if address.user is not None:
            known.add_password(None, at, address.user, address.password or "")
        handlers += [
            urllib.request.HTTPBasicAuthHandler(known),
            urllib.request.HTTPDigestAuthHandler(known),
            urllib.request.ProxyHandler(),
        ]
    elif address.user is not None:
        raise SourceError(f"{shown}: carries a user name; name an address that needs none")
    request = Request(at, headers={"User-Agent": f"maskwatch/{__version__}", **headers})
    opener = urllib.request.OpenerDirector()
    for handler in handlers:
        opener.add_handler(handler)
    response: http.client.HTTPResponse = opener.open(request, timeout=timeout_s)
    return response


class _Redirects(urllib.request.HTTPRedirectHandler):
    def __init__(self, most: int) -> None:
        self._most, self._count = most, 0

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: http.client.HTTPMessage, newurl: str
    ) -> Request | None:
        shown, scheme = without_credentials(req.full_url), urlsplit(newurl).scheme
        self._count += 1
        if scheme not in ("http", "https") or (req.type == "https" and scheme == "http"):
            fp.close()
            wrong = "which is not encrypted" if scheme == "http" else "which is not an http(s) address"
            raise SourceError(f"{shown}: leads to {without_credentials(newurl)}, {wrong}; check the URL")
        if self._count > self._most:
            fp.close()
            raise SourceError(f"{shown}: more than {self._most} redirects; name the last address")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _Connections(urllib.request.HTTPSHandler):
    """Opens the HTTP and HTTPS connections of one fetch."""

    def __init__(self, check: _Check | None, opened: Callable[[socket.socket], None]) -> None:
        super().__init__()
        self._check, self._opened = check, opened

    def http_open(self, req: Request) -> http.client.HTTPResponse:
        return self.do_open(partial(self._connection, _Connection), req)

    def https_open(self, req: Request) -> http.client.HTTPResponse:
        return self.do_open(partial(self._connection, _SecureConnection), req)

    http_request = urllib.request.HTTPSHandler.https_request

    def _connection(self, kind: type[_Connection], host: str, **options: Any) -> _Connection:
        connection = kind(host, **options)
        connection.check, connection.opened = self._check, self._opened
        return connection


class _Connection(http.client.HTTPConnection):
    """Connects to the checked address, instead of resolving the name again."""

    check: _Check | None
    opened: Callable[[socket.socket], None]

    def connect(self) -> None:
        if self.check is None:
            super().connect()
        else:
            address = self.check(self.host, self.port)
            self.sock = socket.create_connection((address, self.port), timeout=self.timeout)
        self.opened(self.sock)


class _SecureConnection(http.client.HTTPSConnection, _Connection):
    """The order of the bases makes HTTPSConnection encrypt the connection of `_Connection`."""

    def connect(self) -> None:
        super().connect()
        self.opened(self.sock)


class _Cutoff:
    """Closes the connections of one fetch after a time; a socket's timeout starts again with every byte."""

    def __init__(self, seconds: float) -> None:
        self.over = seconds <= 0
        self._sockets: list[socket.socket] = []
        self._timer = threading.Timer(max(0.0, seconds), self._cut)

    def __enter__(self) -> _Cutoff:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        self._timer.join()

    def add(self, sock: socket.socket) -> None:
        self._sockets.append(sock)
        if self.over:
            raise TimeoutError

    def _cut(self) -> None:
        self.over = True
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


def _read(response: http.client.HTTPResponse, shown: str, max_bytes: int, cutoff: _Cutoff) -> bytes:
    data, expected = bytearray(), response.length
    while chunk := response.read1(_CHUNK):
        data += chunk
        if max(len(data), expected or 0) > max_bytes:
            most = f"{max_bytes / (1 << 20):g} MiB" if max_bytes >= 1 << 20 else f"{max_bytes} bytes"
            raise SourceError(f"{shown}: more than {most}; scale the picture down first")
    if cutoff.over:
        raise TimeoutError
    if expected is not None and len(data) < expected:
        raise SourceError(f"{shown}: cut off after {len(data)} of {expected} bytes; try again")
    return bytes(data)


def _ascii_url(url: str) -> str:
    """Escapes blanks and non-ASCII letters as a browser does; encodes those of the host as IDNA."""
    scheme, _, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    try:
        host = host if host.isascii() else host.encode("idna").decode("ascii")
    except UnicodeError as error:
        shown = without_credentials(url)
        raise SourceError(f"{shown}: the host name is not valid ({error}); check the URL") from None
    return f"{scheme}://{host}{slash}" + quote(path, safe="%/:=&?~#+!$,;'@()*[]-._")
