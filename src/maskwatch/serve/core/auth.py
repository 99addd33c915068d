"""Authentication: the service's tokens, and signed URL tokens for what a browser opens without headers.

The API calls a signed URL token a ticket.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from maskwatch.errors import OptionError
from maskwatch.serve.settings import read_tokens

URL_TOKEN_S = 60  # lifetime of a URL token. What it opened stays open
_URL_TOKEN = re.compile(
    r"(?P<payload>v1\.(?P<expires>\d{1,12})\.[A-Za-z0-9_-]{1,32})\.(?P<signature>[A-Za-z0-9_-]{43})"
)


class TokenFile:
    """The tokens in a file, read again when it changes, so that they can be replaced without a restart.

    Args:
        path: a file with a token in each line.

    Raises:
        OptionError: it cannot be read, or holds no usable token.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._stamp = path, _stamp(path)  # taken before reading: a later change shows
        self._tokens = read_tokens(path)

    def __call__(self) -> Sequence[str]:
        """The tokens; those of before while the file is missing or unusable."""
        stamp = _stamp(self._path)
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._tokens = read_tokens(self._path)
            except OptionError as error:
                print(f"{error}; until then the tokens of before count", file=sys.stderr, flush=True)
        return self._tokens


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """Differs after a change. Orchestrators replace the file, through symbolic links."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_mtime_ns, stat.st_size


class Authenticator:
    """Checks tokens. URL tokens are signed, not stored, so that every worker and every replica with the same
    tokens accepts those of another.

    Args:
        token: the secret that clients send, or a function that gives those that count now; None accepts every
            request.
        now: the clock, in seconds since 1970.
    """

    def __init__(
        self, token: str | Callable[[], Sequence[str]] | None, now: Callable[[], float] = time.time
    ) -> None:
        single = () if token is None else (str(token),)
        self._tokens = token if callable(token) else lambda: single
        self._now = now
        self.required = token is not None
        """Whether clients need a token at all."""

    def accepts(self, authorization: str | None) -> bool:
        """Whether the header `Authorization` carries a token; takes equally long for every wrong one."""
        if not self.required:
            return True
        scheme, _, given = (authorization or "").partition(" ")
        # Digests, since the time of compare_digest depends on the length. All are compared, for equal times.
        sent = hashlib.sha256(given.strip().encode()).digest()
        right = [hashlib.sha256(token.encode()).digest() for token in self._tokens()]
        equal = [hmac.compare_digest(one, sent) for one in right]
        return True in equal and scheme.lower() == "bearer"

    def issue_url_token(self) -> str:
        """A new URL token, signed with the first token."""
        payload = f"v1.{int(self._now()) + URL_TOKEN_S}.{secrets.token_urlsafe(8)}"
        return f"{payload}.{_signature((*self._tokens(), 'open')[0], payload)}"

    def accepts_url_token(self, url_token: str | None) -> bool:
        """Whether a URL token has a signature of ours and has not expired."""
        if not self.required:
            return True
        found = _URL_TOKEN.fullmatch(url_token or "")
        if found is None:
            return False
        ours = [_signature(token, found["payload"]) for token in self._tokens()]
        equal = [hmac.compare_digest(one, found["signature"]) for one in ours]
        return True in equal and self._now() <= int(found["expires"])


def _signature(token: str, payload: str) -> str:
    # With a derived key, so that a signature reveals nothing about the token itself.
    key = hmac.digest(token.encode(), b"maskwatch ticket", "sha256")
    digest = hmac.digest(key, payload.encode(), "sha256")
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
