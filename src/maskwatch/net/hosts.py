"""Names of hosts: which of them are this machine, for a server that only it reaches and for its clients."""

from __future__ import annotations

import contextlib
import ipaddress
import re
import socket

_NUMBERS = re.compile(r"[0-9a-f.x]+", re.ASCII | re.IGNORECASE)


def is_loopback(host: str) -> bool:
    """Whether a name means this machine without anybody being asked: localhost, or a loopback address.

    An address counts in every spelling, IPv6 with or without brackets. A name that leads here by way of a
    name server does not: its owner can have it lead elsewhere at any time (DNS rebinding).
    """
    name = host.lower().removesuffix(".")
    if name == "localhost" or name.endswith(".localhost"):  # RFC 6761, section 6.3
        return True
    address = _address(name)
    return address is not None and address.is_loopback


def leads_to_loopback(host: str) -> bool:
    """Whether a name means this machine, or has no other addresses than this machine's own."""
    if is_loopback(host):
        return True
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return False
    return all(is_loopback(str(entry[4][0])) for entry in found)


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    name = name[1:-1] if name.startswith("[") and name.endswith("]") else name
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return _short_address(name)
    return getattr(address, "ipv4_mapped", None) or address


def _short_address(name: str) -> ipaddress.IPv4Address | None:
    """127.1, 0x7f.1, 2130706433: what a resolver takes for an address, and never for a name."""
    if _NUMBERS.fullmatch(name):
        with contextlib.suppress(OSError):
            return ipaddress.IPv4Address(socket.inet_aton(name))
    return None
