"""Guards against requests to private hosts (SSRF), and recognises this machine.

A name is resolved once, all its addresses are checked, and the connection goes to a checked address: a name
server that answers differently the second time (DNS rebinding) changes nothing.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
import socket
from collections.abc import Sequence
from typing import TypeAlias

from maskwatch.errors import SourceError

Networks: TypeAlias = "Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]"
_Address: TypeAlias = "ipaddress.IPv4Address | ipaddress.IPv6Address"

_NAT64 = ipaddress.ip_network("64:ff9b::/96")  # RFC 6052: an IPv4 address in the last 32 bits
_NUMBERS = re.compile(r"[0-9a-f.x]+", re.ASCII | re.IGNORECASE)


def checked_address(host: str, port: int, networks: Networks, url: str) -> str:
    """The first address of a host, if all are public or in one of the networks; `url` is for messages.

    Raises:
        SourceError: the host is not known, or one of its addresses is private.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise SourceError(f"{url}: host {host!r} is not known ({error}); check the address") from None
    texts = [str(entry[4][0]) for entry in found]
    for text in texts:
        address = ipaddress.ip_address(text.partition("%")[0])
        if not (is_public(address) or any(address in network for network in networks)):
            raise SourceError(
                f"{url}: host {host!r} has the private address {address}, which is not allowed; "
                "send the picture itself, or start the service with --url-network"
            )
    return texts[0]


def is_public(address: _Address) -> bool:
    """Whether an address, or an IPv4 address embedded in it, is one of the public internet."""
    if (embedded := _embedded(address)) is not None:
        return is_public(embedded)
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


def is_loopback(host: str) -> bool:
    """Whether a name is localhost, or a loopback address in any spelling, IPv6 with or without brackets.

    A name that resolves to this machine is not: its owner can change that at any time (DNS rebinding).
    """
    name = host.lower().removesuffix(".")
    if name == "localhost" or name.endswith(".localhost"):  # RFC 6761, section 6.3
        return True
    address = _address(name)
    return address is not None and address.is_loopback


def leads_to_loopback(host: str) -> bool:
    """Whether a name is, or resolves to, loopback addresses only."""
    if is_loopback(host):
        return True
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return False
    return all(is_loopback(str(entry[4][0])) for entry in found)


def _embedded(address: _Address) -> ipaddress.IPv4Address | None:
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if address.teredo is not None:
        return address.teredo[1]
    return address.ipv4_mapped or address.sixtofour


def _address(name: str) -> _Address | None:
    name = name[1:-1] if name.startswith("[") and name.endswith("]") else name
    with contextlib.suppress(ValueError):
        address = ipaddress.ip_address(name)
        return getattr(address, "ipv4_mapped", None) or address
    if _NUMBERS.fullmatch(name):  # 127.1, 0x7f.1, 2130706433: a resolver takes them for addresses, not names
        with contextlib.suppress(OSError):
            return ipaddress.IPv4Address(socket.inet_aton(name))
    return None
