"""Addresses (`scheme://…`): recognised, parsed with any password, and shown without it."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, unquote

_SCHEME = re.compile(r"(?<![\w+.:@/-])[A-Za-z][A-Za-z0-9+.-]+://")  # two letters or more: C:// is a disk
# Also without a slash: a typing error must not show a password.
_ANY_SCHEME = re.compile(r"(?<![\w+.:@/-])(?:[A-Za-z][A-Za-z0-9+.-]*://|(?:rtsps?|https?|mqtts?):/?(?!/))")
_HOST = r"\[[0-9A-Fa-f:.]+(?:%[\w.~-]+)?\]|\w(?:[\w.-]*\w)?\.?"
_SERVER = re.compile(rf"({_HOST})(?::(\d{{0,5}}))?(?=[/?#]|$)")
_IPV6 = re.compile(r"^\[[0-9A-Fa-f:.]+(?:%[\w.~-]+)?\](?::\d*)?")
_QUERY = re.compile(r"/.*?\?(?=[\w.-]+=)", re.DOTALL)
_HIGHEST_PORT = 65535

# How certainly a text is a server.
_NONE, _WORD, _WORD_AND_PORT, _NAME, _IP = range(5)

_HIDDEN = "***"
# Recorders carry passwords in the query or even in the path: /user=admin&password=secret&channel=1
_FIELD = (
    r"(?<![A-Za-z])((?:user(?:name)?|usr|login|pass(?:word|wd|phrase)?|pwd|pw|token|key|api_?key|secret|auth"
    r"|sig(?:nature)?)=)"
)
_PATH_SECRET = re.compile(rf"{_FIELD}[^&;/\s]*", re.IGNORECASE)
_QUERY_SECRET = re.compile(rf"{_FIELD}[^&\s]*", re.IGNORECASE)
# rtsp://admin:secret/…, without a server
_NO_PORT = re.compile(r"^([^/?#:\s\[]+):(?!\d*(?:[/?#:\s,;)'\"]|$))[^/\s]*")


@dataclass(frozen=True)
class Address:
    """A parsed address.

    User and password may contain any character, as it is or percent-encoded; only `%` before two hexadecimal
    digits must be written `%25`. They end at the last `@` before the server. The server ends as in RFC 3986,
    section 3.2, unless that leaves none: `admin:Ge/heim` is not a host and port, so that `/` belongs to a
    password. An `@` in a path or query stays there.

    Attributes:
        scheme: in lower case.
        user, password: decoded; None without one.
        host: without the brackets of IPv6.
        port: None without one.
        rest: path, query and fragment, unchanged.
    """

    scheme: str
    user: str | None
    password: str | None = field(repr=False)
    host: str
    port: int | None
    rest: str = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> Address:
        """Parses an address; raises `ValueError`, with a message that does not show it."""
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
        """Host and port, as in an address."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port is None else f"{host}:{self.port}"

    @property
    def path(self) -> str:
        """The path, unchanged."""
        return re.split("[?#]", self.rest, maxsplit=1)[0]

    @property
    def bare(self) -> str:
        """The address without user and password."""
        return f"{self.scheme}://{self.server}{self.rest}"

    @property
    def url(self) -> str:
        """The address with user and password percent-encoded, for libraries."""
        if self.user is None:
            return self.bare
        password = "" if self.password is None else f":{_encode(self.password)}"
        return f"{self.scheme}://{_encode(self.user)}{password}@{self.server}{self.rest}"


def is_address(text: str) -> bool:
    """Whether a text is `scheme://…`, and not an existing file."""
    return _SCHEME.match(text) is not None and not exists(text)


def exists(text: str) -> bool:
    """Whether a file or folder of this name exists; False for names that no file system takes."""
    try:
        return Path(text).exists()
    except (OSError, ValueError):
        return False


def without_credentials(text: str) -> str:
    """A text with users and passwords in its addresses replaced by `***`, in case of doubt too much of it."""
    starts = [match.end() for match in _ANY_SCHEME.finditer(text)]
    ends = [*starts[1:], len(text)]
    head = text[: starts[0]] if starts else text
    return _hide_fields(head) + "".join(
        _hide_fields(_hide_userinfo(text[begin:end])) for begin, end in zip(starts, ends, strict=False)
    )


def shown_argument(text: str) -> str:
    """An invalid argument, for an error message; it may be an address without its scheme."""
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
    """Index of the `@` after user and password, in the text after `scheme://`; -1 without one."""
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
    # In admin:12/34@10.0.0.5/live the word could be a host; the IP address settles it. A path on the web may
    # also contain user@example.org; that of a camera (RTSP) does not.
    settled = _NAME if scheme in ("rtsp", "rtsps") else _IP
    return best if rank == _NONE or _rank(after, best) >= max(settled, rank + 1) else own


def _authority(after: str) -> str:
    """User, host and port by the standard, without an IPv6 address at the beginning."""
    return re.sub("[/?].*", "", _IPV6.sub("", after), flags=re.DOTALL)


def _rank(after: str, at: int) -> int:
    """How certainly a server follows the `@` at this index, or the beginning (-1)."""
    server = _SERVER.match(after, at + 1)
    if server is None or (at < 0 and server[2] == ""):  # `admin:/`: a missing port is not written like that
        return _NONE
    host = server[1].strip("[]").partition("%")[0]
    try:
        ipaddress.ip_address(host)
    except ValueError:
        if host.lower() == "localhost":
            return _IP
        # At the beginning, a port proves nothing: `admin:12` may be a user and a password.
        return _NAME if "." in host else _WORD_AND_PORT if server[2] and at >= 0 else _WORD
    return _IP


def _encode(text: str) -> str:
    return quote(text, safe="", errors="surrogateescape")


def _decode(text: str) -> str:
    return unquote(text, errors="surrogateescape")
