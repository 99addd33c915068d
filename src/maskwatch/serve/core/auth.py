"""Authentication: the service's token, and signed URL tokens for what a browser opens without headers.

The API calls a signed URL token a ticket.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable

URL_TOKEN_S = 60  # lifetime of a URL token. What it opened stays open
_URL_TOKEN = re.compile(
    r"(?P<payload>v1\.(?P<expires>\d{1,12})\.[A-Za-z0-9_-]{1,32})\.(?P<signature>[A-Za-z0-9_-]{43})"
)


class Authenticator:
    """Checks tokens. URL tokens are signed, not stored, so that every worker accepts those of another.

    Args:
        token: the secret that clients send; None accepts every request.
        now: the clock, in seconds since 1970.
    """

    def __init__(self, token: str | None, now: Callable[[], float] = time.time) -> None:
        self._token = None if token is None else token.encode()
        # A derived key, so that a signature reveals nothing about the token itself.
        self._key = hmac.digest(self._token or b"open", b"maskwatch ticket", "sha256")
        self._now = now

    @property
    def required(self) -> bool:
        """Whether clients need a token at all."""
        return self._token is not None

    def accepts(self, authorization: str | None) -> bool:
        """Whether the header `Authorization` carries the token; takes equally long for every wrong one."""
        if self._token is None:
            return True
        scheme, _, given = (authorization or "").partition(" ")
        # Digests, since the time of compare_digest depends on the length.
        right, sent = (hashlib.sha256(part).digest() for part in (self._token, given.strip().encode()))
        return hmac.compare_digest(right, sent) and scheme.lower() == "bearer"

    def issue_url_token(self) -> str:
        """A new URL token."""
        payload = f"v1.{int(self._now()) + URL_TOKEN_S}.{secrets.token_urlsafe(8)}"
        return f"{payload}.{self._signature(payload)}"

    def accepts_url_token(self, token: str | None) -> bool:
        """Whether a URL token has our signature and has not expired."""
        if self._token is None:
            return True
        found = _URL_TOKEN.fullmatch(token or "")
        if found is None or not hmac.compare_digest(self._signature(found["payload"]), found["signature"]):
            return False
        return self._now() <= int(found["expires"])

    def _signature(self, payload: str) -> str:
        digest = hmac.digest(self._key, payload.encode(), "sha256")
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
