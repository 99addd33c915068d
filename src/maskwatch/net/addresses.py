"""Addresses (`scheme://…`): distinguished from files, parsed with any password, and shown without it."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, unquote

_SCHEME = re.compile(r"(?<![\w+.:@/-])[A-Za-z][A-Za-z0-9+.-]+://")  # of two letters or more: C:// is a disk
# Also with a slash missing: a typing error must not show a password.
_ANY_SCHEME = re.compile(r"(?<![\w+.:@/-])(?:[A-Za-z][A-Za-z0-9+.-]*://|(?:rtsps?|https?|mqtts?):/?(?!/))")
_HOST = r"\[[0-9A-Fa-f:.]+(?:%[\w.~-]+)?\]|\w(?:[\w.-]*\w)?\.?"
_SERVER = re.compile(rf"({_HOST})(?::(\d{{0,5}}))?(?=[/?#]|$)")
_IPV6 = re.compile(r"^\[[0-9A-Fa-f:.]+(?:%[\w.~-]+)?\](?::\d*)?")
_QUERY = re.compile(r"/.*?\?(?=[\w.-]+=)", re.DOTALL)
_HIGHEST_PORT = 65535

# How much a text looks like a server.
_NONE, _WORD, _WORD_AND_PORT, _NAME, _IP = range(5)

_HIDDEN = "***"
# Recorders carry passwords in the query or even in the path: /user=admin&password=secret&channel=1
_FIELD = (
    r"(?<![A-Za-z])((?:user(?:name)?|usr|login|pass(?:word|wd|phrase)?|pwd|pw|token|key|api_?key|secret|auth"
    r"|sig(?:nature)?)=)"
)
_PATH_SECRET = re.compile(rf"{_FIELD}[^&;/\s]*", re.IGNORECASE)
_QUERY_SECRET = re.compile(rf"{_FIELD}[^&\s]*", re.IGNORECASE)
# rtsp://admin:secret/…, whose server was forgotten
_NO_PORT = re.compile(r"^([^/?#:\s\[]+):(?!\d*(?:[/?#:\s,;)'\"]|$))[^/\s]*")


@dataclass(frozen=True)
class Address:
    """An address, taken apart.

    User and password are what stands before the last `@` in front of the server. They may hold any character,
    as it is or percent-encoded; only a `%` before two hexadecimal digits must be written `%25`. The server
    ends where RFC 3986, section 3.2, has it, unless that leaves none: `admin:Ge/heim` is no host and port, so
    that `/` is one of a password. An `@` in a path or a query stays there.

    Attributes:
        scheme: in small letters.
        user, password: decoded; None where there is none.
        host: without the brackets of IPv6.
        port: None where none is given.
        rest: path, query and fragment as they were.
    """

    scheme: str
    user: str | None
    password: str | None = field(repr=False)
    host: str
    port: int | None
    rest: str = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> Address:
        """Reads an address.

        Raises:
            ValueError: it is none, or names no server; the message holds nothing of it.
        """
        match = _SCHEME.match(text)
        if match is None:
            raise ValueError("no scheme://")
        scheme, after = match[0][:-3].lower(), text[match.end() :]
        at = _end_of_userinfo(after, scheme)
        server = _SERVER.match(after, at + 1)
        port = int(server[2]) if server and server[2] else None
        if server is None or (port is not None and not 0 < port <= _HIGHEST_PORT):
            raise ValueError("no host and port")
        user, colon, password = after[: max(at, 0)].partition(":")
        return cls(
            scheme,
            _decode(user) if at >= 0 else None,
            _decode(password) if colon else None,
            server[1].strip("[]"),
            port,
            after[server.end() :],
        )

    @property
    def server(self) -> str:
        """Host and port as they stand in an address."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port is None else f"{host}:{self.port}"

    @property
    def path(self) -> str:
        """The path as it is; empty where there is none."""
        return re.split("[?#]", self.rest, maxsplit=1)[0]

    @property
    def bare(self) -> str:
        """The address without user and password."""
        return f"{self.scheme}://{self.server}{self.rest}"

    @property
    def url(self) -> str:
        """The address with user and password percent-encoded, as libraries take it."""
        if self.user is None:
            return self.bare
        password = "" if self.password is None else f":{_encode(self.password)}"
        return f"{self.scheme}://{_encode(self.user)}{password}@{self.server}{self.rest}"


def is_address(text: str) -> bool:
    """Whether a text is an address: `scheme://…`, and no file of that name exists."""
    return _SCHEME.match(text) is not None and not exists(text)


def exists(text: str) -> bool:
    """Whether a text names a file or folder; one that no file system takes does not."""
    try:
        return Path(text).exists()
    except (OSError, ValueError):
        return False


def without_credentials(text: str) -> str:
    """A text with the users and passwords of the addresses in it replaced by `***`.

    Where a password may end in more than one place, rather too much is hidden than too little.
    """
    starts = [match.end() for match in _ANY_SCHEME.finditer(text)]
    ends = [*starts[1:], len(text)]
    head = text[: starts[0]] if starts else text
    return _hide_fields(head) + "".join(
        _hide_fields(_hide_userinfo(text[begin:end])) for begin, end in zip(starts, ends, strict=False)
    )


def shown_argument(text: str) -> str:
    """Something that names nothing, for an error message: it may be an address without its beginning."""
    shown = without_credentials(text)
    return shown if shown != text or not re.search(":.*@", text) else f"{_HIDDEN}{text[text.rindex('@') :]}"


def _hide_fields(text: str) -> str:
    path, mark, query = text.partition("?")
    return _PATH_SECRET.sub(rf"\1{_HIDDEN}", path) + mark + _QUERY_SECRET.sub(rf"\1{_HIDDEN}", query)


def _hide_userinfo(after: str) -> str:
    at = _end_of_userinfo(after)
    certain = _rank(after, at) >= (_IP if at >= 0 else _NAME)
    if not certain and re.search("[:@]", _authority(after)):
        at = after.rfind("@")
    return f"{_HIDDEN}{after[at:]}" if at >= 0 else _NO_PORT.sub(rf"\1:{_HIDDEN}", after)


def _end_of_userinfo(after: str, scheme: str = "") -> int:
    """The place of the `@` behind user and password in what follows `scheme://`; -1 where there is none."""
    own = re.match("[^/?]*", after).group().rfind("@")  # type: ignore[union-attr]  # it matches always
    if own < 0 and ":" not in _authority(after):
        return -1
    rank = _rank(after, own)
    if rank > (_NAME if own >= 0 else _WORD):
        return own
    later = [match.start() for match in re.finditer("@", after) if match.start() > own]
    query = _QUERY.search(after)
    before = [at for at in later if query is None or at < query.end()] or later
    best = max(before, key=lambda at: (_rank(after, at), at), default=own)
    # In admin:12/34@10.0.0.5/live the word could be a host; the IP address settles it. On the web a path may
    # hold user@example.org as well, of a camera's RTSP it does not.
    settled = _NAME if scheme in ("rtsp", "rtsps") else _IP
    return best if rank == _NONE or _rank(after, best) >= max(settled, rank + 1) else own


def _authority(after: str) -> str:
    """What the standard takes for user, host and port, without an IPv6 address in front."""
    return re.sub("[/?].*", "", _IPV6.sub("", after), flags=re.DOTALL)


def _rank(after: str, at: int) -> int:
    """How much what stands behind an `@`, or at the beginning (-1), looks like a server."""
    server = _SERVER.match(after, at + 1)
    if server is None or (at < 0 and server[2] == ""):  # `admin:/`: a missing port is not written like that
        return _NONE
    host = server[1].strip("[]").partition("%")[0]
    try:
        ipaddress.ip_address(host)
    except ValueError:
        if host.lower() == "localhost":
            return _IP
        # `admin:12` says nothing, since it may be the beginning of a user and a password.
        return _NAME if "." in host else _WORD_AND_PORT if server[2] and at >= 0 else _WORD
    return _IP


def _encode(text: str) -> str:
    return quote(text, safe="", errors="surrogateescape")


def _decode(text: str) -> str:
    return unquote(text, errors="surrogateescape")
