"""Who may use the service: its token, and tickets for addresses that a browser opens without headers."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable

TICKET_S = 60
"""How long a ticket opens anything. What it opened stays open."""

_TICKET = re.compile(r"(?P<signed>v1\.(?P<until>\d{1,12})\.[A-Za-z0-9_-]{1,32})\.(?P<mark>[A-Za-z0-9_-]{43})")


class Tokens:
    """Checks tokens and tickets. Tickets are signed, not stored, so that every worker knows those of another.

    Args:
        token: what a client must know; None lets everybody in.
        now: the clock, in seconds since 1970.
    """

    def __init__(self, token: str | None, now: Callable[[], float] = time.time) -> None:
        self._token = None if token is None else token.encode()
        # Of its own, so that a ticket's mark says nothing about the token's other uses.
        self._key = hmac.digest(self._token or b"open", b"maskwatch ticket", "sha256")
        self._now = now

    @property
    def asked(self) -> bool:
        """Whether a token is asked for at all."""
        return self._token is not None

    def admits(self, authorization: str | None) -> bool:
        """Whether the header `Authorization` carries the token; takes as long for every wrong one."""
        if self._token is None:
            return True
        scheme, _, given = (authorization or "").partition(" ")
        # Digests, since compare_digest tells lengths apart.
        right, wrong = (hashlib.sha256(part).digest() for part in (self._token, given.strip().encode()))
        return hmac.compare_digest(right, wrong) and scheme.lower() == "bearer"

    def ticket(self) -> str:
        """A new ticket."""
        signed = f"v1.{int(self._now()) + TICKET_S}.{secrets.token_urlsafe(8)}"
        return f"{signed}.{self._mark(signed)}"

    def admits_ticket(self, ticket: str | None) -> bool:
        """Whether a ticket is ours and not too old."""
        if self._token is None:
            return True
        found = _TICKET.fullmatch(ticket or "")
        if found is None or not hmac.compare_digest(self._mark(found["signed"]), found["mark"]):
            return False
        return self._now() <= int(found["until"])

    def _mark(self, signed: str) -> str:
        digest = hmac.digest(self._key, signed.encode(), "sha256")
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
