"""Addresses that a client names → bytes, without letting it reach what only this machine can reach.

A name is resolved once, every address it has is checked, and the connection goes to the checked address
itself: a name server that answers differently the second time (DNS rebinding) changes nothing. Redirects are
followed by hand, each checked in the same way. Proxies of the environment are not used.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from typing import TypeAlias
from urllib.parse import SplitResult, urljoin, urlsplit

from maskwatch._version import __version__
from maskwatch.errors import SourceError
from maskwatch.net.addresses import without_credentials
from maskwatch.net.download import ascii_url

MAX_REDIRECTS = 3

_REDIRECTS = (301, 302, 303, 307, 308)
_CHUNK = 1 << 16
_NAT64 = ipaddress.ip_network("64:ff9b::/96")  # RFC 6052: an IPv4 address in the last 32 bits

_Address: TypeAlias = "ipaddress.IPv4Address | ipaddress.IPv6Address"
Networks: TypeAlias = "Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]"


def fetch(url: str, max_bytes: int, timeout_s: float, networks: Networks = ()) -> bytes:
    """Content of an http(s) address in the public internet, or in one of the named networks.

    Args:
        timeout_s: for everything together.

    Raises:
        SourceError: no such address, one that may not be asked, too large or too slow.
    """
    deadline = time.monotonic() + timeout_s
    at, url = ascii_url(url), without_credentials(url)
    for _ in range(MAX_REDIRECTS + 1):
        connection = _connect(url, at, deadline, networks)
        try:
            with _cut_off(connection, _left(url, deadline)):
                target, data = _get(connection, url, at, max_bytes, deadline)
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = str(error) or type(error).__name__
            raise SourceError(f"{url}: cannot be fetched ({reason}); check the address") from None
        finally:
            connection.close()
        if target is None:
            return data
        at = ascii_url(urljoin(at, target))
    raise SourceError(f"{url}: more than {MAX_REDIRECTS} redirects; name the last address")


def is_public(address: _Address) -> bool:
    """Whether an address is one of the public internet, also where an IPv4 address hides in an IPv6 one."""
    inner = _hidden(address)
    if inner is not None:
        return is_public(inner)
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


def _hidden(address: _Address) -> ipaddress.IPv4Address | None:
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if address.teredo is not None:
        return address.teredo[1]
    return address.ipv4_mapped or address.sixtofour


def _connect(url: str, at: str, deadline: float, networks: Networks) -> http.client.HTTPConnection:
    parts, port = _parts(url, at)
    assert parts.hostname is not None
    address = _checked(url, parts.hostname, port, networks)
    connection: http.client.HTTPConnection
    try:
        connected = socket.create_connection((address, port), timeout=_left(url, deadline))
    except OSError as error:
        raise SourceError(f"{url}: no connection ({error}); check the address") from None
    if parts.scheme == "http":
        connection = http.client.HTTPConnection(parts.hostname, port)
        connection.sock = connected
        return connection
    try:
        secured = ssl.create_default_context().wrap_socket(connected, server_hostname=parts.hostname)
    except (OSError, ValueError) as error:
        connected.close()
        raise SourceError(f"{url}: no secure connection ({error}); check its certificate") from None
    connection = http.client.HTTPSConnection(parts.hostname, port)
    connection.sock = secured
    return connection


def _parts(url: str, at: str) -> tuple[SplitResult, int]:
    try:
        parts = urlsplit(at)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
    except ValueError:
        raise SourceError(f"{url}: no address; check its host and port") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SourceError(
            f"{url}: leads to {without_credentials(at)}, which is not http(s); name a picture on a web server"
        )
    if parts.username is not None:
        raise SourceError(f"{url}: carries a user name; name an address that needs none")
    return parts, port


def _checked(url: str, host: str, port: int, networks: Networks) -> str:
    """The first address of a host, once all of them have been found harmless."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise SourceError(f"{url}: host {host!r} is not known ({error}); check the address") from None
    texts = [str(entry[4][0]) for entry in found]
    for text in texts:
        address = ipaddress.ip_address(text.partition("%")[0])
        if not (is_public(address) or any(address in network for network in networks)):
            raise SourceError(
                f"{url}: host {host!r} has the private address {address}, which is not asked; "
                "send the picture itself, or start the service with --url-network"
            )
    return texts[0]


def _get(
    connection: http.client.HTTPConnection, url: str, at: str, max_bytes: int, deadline: float
) -> tuple[str | None, bytes]:
    """Where the server redirects to, or its content."""
    parts = urlsplit(at)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    headers = {"User-Agent": f"maskwatch/{__version__}", "Connection": "close", "Accept": "image/*"}
    connection.request("GET", path, headers=headers)
    with connection.getresponse() as response:
        if response.status in _REDIRECTS and response.headers["Location"]:
            return response.headers["Location"], b""
        if response.status != 200:
            raise SourceError(f"{url}: the server says {response.status}; check the address")
        return None, _read(response, url, max_bytes, deadline)


@contextlib.contextmanager
def _cut_off(connection: http.client.HTTPConnection, seconds: float) -> Iterator[None]:
    """Ends the connection after so long: a time limit of a socket begins anew with every byte."""
    sock = connection.sock

    def cut() -> None:
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, cut)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()


def _read(response: http.client.HTTPResponse, url: str, max_bytes: int, deadline: float) -> bytes:
    data, expected = bytearray(), response.length
    while chunk := response.read1(_CHUNK):
        data += chunk
        if max(len(data), expected or 0) > max_bytes:
            raise SourceError(f"{url}: more than {max_bytes} bytes; name a smaller picture")
    _left(url, deadline)
    if expected is not None and len(data) < expected:
        raise SourceError(f"{url}: cut off after {len(data)} of {expected} bytes; try again")
    return bytes(data)


def _left(url: str, deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise SourceError(f"{url}: the server is too slow; send the picture itself")
    return left
